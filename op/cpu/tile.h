// The inner loop of weight gradients: a tile of ROWS x COLS sums in registers
// runs over n steps of two packed panels,
//
//	x   [step][ROWS]
//	dy  [step][COLS]
//
// where an element is a float, or a pair of bfloat16 of two pixels, the unit
// that the processor's dot product takes. Fresh sums begin at zero.
#ifndef SWAV_TILE_H
#define SWAV_TILE_H

#include <immintrin.h>
#include <stdint.h>

enum { ROWS = 8, COLS = 32 };

static inline int64_t up(int64_t n, int64_t unit) { return (n + unit - 1) / unit; }
static inline int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

#define TARGET32 __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq")))
#define TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")))

// LOAD_SUMS loads the sums [ROWS][COLS] into a and asks for the next tile's.
#define LOAD_SUMS                                                                    \
	__m512 a[ROWS][2];                                                               \
	_Pragma("GCC unroll 8") for (int i = 0; i < ROWS; i++) {                         \
		a[i][0] = fresh ? _mm512_setzero_ps() : _mm512_loadu_ps(sums + i * COLS);                                  \
		a[i][1] = fresh ? _mm512_setzero_ps() : _mm512_loadu_ps(sums + i * COLS + 16);                            \
	}                                                                                \
	for (int i = 0; i < 2 * ROWS; i++)                                               \
		_mm_prefetch((const char *)(sums + ROWS * COLS + 16 * i), _MM_HINT_T0)

#define STORE_SUMS                                                                   \
	_Pragma("GCC unroll 8") for (int i = 0; i < ROWS; i++) {                         \
		_mm512_storeu_ps(sums + i * COLS, a[i][0]);                                  \
		_mm512_storeu_ps(sums + i * COLS + 16, a[i][1]);                             \
	}

TARGET static inline void tile_bf16(float *sums, const uint32_t *x, const uint32_t *dy, int64_t n, int fresh) {
	LOAD_SUMS;
	for (int64_t k = 0; k < n; k++) {
		__m512bh d0 = (__m512bh)_mm512_loadu_si512(dy + k * COLS), d1 = (__m512bh)_mm512_loadu_si512(dy + k * COLS + 16);
#pragma GCC unroll 8
		for (int i = 0; i < ROWS; i++) {
			__m512bh v = (__m512bh)_mm512_set1_epi32((int)x[k * ROWS + i]);
			a[i][0] = _mm512_dpbf16_ps(a[i][0], d0, v);
			a[i][1] = _mm512_dpbf16_ps(a[i][1], d1, v);
		}
	}
	STORE_SUMS
}

TARGET32 static inline void tile_fp32(float *sums, const float *x, const float *dy, int64_t n, int fresh) {
	LOAD_SUMS;
	for (int64_t k = 0; k < n; k++) {
		__m512 d0 = _mm512_loadu_ps(dy + k * COLS), d1 = _mm512_loadu_ps(dy + k * COLS + 16);
#pragma GCC unroll 8
		for (int i = 0; i < ROWS; i++) {
			__m512 v = _mm512_set1_ps(x[k * ROWS + i]);
			a[i][0] = _mm512_fmadd_ps(d0, v, a[i][0]);
			a[i][1] = _mm512_fmadd_ps(d1, v, a[i][1]);
		}
	}
	STORE_SUMS
}

// ahead asks for a part of n bytes that will soon be read: the at-th of parts.
static inline void ahead(const void *p, int64_t n, int64_t at, int64_t parts) {
	for (int64_t i = n * at / parts / 64 * 64; i < n * (at + 1) / parts; i += 64)
		_mm_prefetch((const char *)p + i, _MM_HINT_T1);
}

#undef LOAD_SUMS
#undef STORE_SUMS

#endif
