//go:build cgo

#include "peak.h"

#include <omp.h>
#include <stdlib.h>
#include <string.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

enum { REPEATS = 5 };

// loop does n rounds of multiply-accumulates on registers and returns how many
// operations one round is; sink keeps the compiler from dropping them.
typedef int (*loop)(int64_t n, float *sink);

// Twelve independent sums hide the latency of every processor so far.
#define SUMS 12

static int plain_loop(int64_t n, float *sink) {
	typedef float V __attribute__((vector_size(16)));
	V a[SUMS] = {0}, x = {1.5f, 1.5f, 1.5f, 1.5f}, y = {1e-9f, 1e-9f, 1e-9f, 1e-9f};
	for (int64_t k = 0; k < n; k++)
		for (int i = 0; i < SUMS; i++)
			a[i] = a[i] * y + x;
	for (int i = 0; i < SUMS; i++)
		*sink += a[i][0];
	return 2 * 4 * SUMS;
}

#if defined(__x86_64__)

__attribute__((target("avx2,fma"))) static int avx2_loop(int64_t n, float *sink) {
	__m256 a[SUMS], x = _mm256_set1_ps(1.5f), y = _mm256_set1_ps(1e-9f);
	for (int i = 0; i < SUMS; i++)
		a[i] = _mm256_setzero_ps();
	for (int64_t k = 0; k < n; k++)
#pragma GCC unroll 12
		for (int i = 0; i < SUMS; i++)
			a[i] = _mm256_fmadd_ps(a[i], y, x);
	for (int i = 0; i < SUMS; i++)
		*sink += _mm256_cvtss_f32(a[i]);
	return 2 * 8 * SUMS;
}

__attribute__((target("avx512f"))) static int avx512_loop(int64_t n, float *sink) {
	__m512 a[SUMS], x = _mm512_set1_ps(1.5f), y = _mm512_set1_ps(1e-9f);
	for (int i = 0; i < SUMS; i++)
		a[i] = _mm512_setzero_ps();
	for (int64_t k = 0; k < n; k++)
#pragma GCC unroll 12
		for (int i = 0; i < SUMS; i++)
			a[i] = _mm512_fmadd_ps(a[i], y, x);
	for (int i = 0; i < SUMS; i++)
		*sink += _mm512_cvtss_f32(a[i]);
	return 2 * 16 * SUMS;
}

__attribute__((target("avx512f,avx512bw,avx512bf16"))) static int bf16_loop(int64_t n, float *sink) {
	__m512 a[SUMS];
	__m512bh x = (__m512bh)_mm512_set1_epi16(0x3f80), y = (__m512bh)_mm512_set1_epi16(0x3080);
	for (int i = 0; i < SUMS; i++)
		a[i] = _mm512_setzero_ps();
	for (int64_t k = 0; k < n; k++)
#pragma GCC unroll 12
		for (int i = 0; i < SUMS; i++)
			a[i] = _mm512_dpbf16_ps(a[i], x, y);
	for (int i = 0; i < SUMS; i++)
		*sink += _mm512_cvtss_f32(a[i]);
	return 2 * 32 * SUMS;
}

#endif

static double best(loop f, int nt) {
	double most = 0;
	float out = 0;
	for (int r = 0; r < REPEATS; r++) {
		int64_t n = 1 << 23;
		int each = 0;
		double start = omp_get_wtime();
#pragma omp parallel num_threads(nt) reduction(+ : out) reduction(max : each)
		each = f(n, &out);
		double rate = (double)n * each * nt / (omp_get_wtime() - start);
		most = rate > most ? rate : most;
	}
	return out > 1e30f ? 0 : most;
}

double swav_peak_fp32(int nt) {
#if defined(__x86_64__)
	if (__builtin_cpu_supports("avx512f"))
		return best(avx512_loop, nt);
	if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
		return best(avx2_loop, nt);
#endif
	return best(plain_loop, nt);
}

double swav_peak_bf16(int nt) {
#if defined(__x86_64__)
	if (__builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("avx512bw"))
		return best(bf16_loop, nt);
#endif
	(void)nt;
	return 0;
}

double swav_peak_bandwidth(int nt) {
	const int64_t n = 256 << 20;
	char *x = malloc((size_t)n), *y = malloc((size_t)n);
	double most = 0;
	if (x && y) {
		memset(x, 1, (size_t)n);
		memset(y, 1, (size_t)n);
		for (int r = 0; r < REPEATS; r++) {
			double start = omp_get_wtime();
#pragma omp parallel for num_threads(nt) schedule(static)
			for (int t = 0; t < nt; t++) {
				int64_t from = n / nt * t;
				float *restrict to = (float *)(y + from);
				const float *restrict src = (const float *)(x + from);
				for (int64_t i = 0; i < n / nt / 4; i++)
					to[i] = src[i] + 1;
			}
			double rate = 2.0 * (double)n / (omp_get_wtime() - start);
			most = rate > most ? rate : most;
		}
	}
	free(x);
	free(y);
	return most;
}
