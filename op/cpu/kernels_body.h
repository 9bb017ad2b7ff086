// One instruction set's kernels; the including file defines TABLE and ISA.

#pragma GCC optimize("no-math-errno", "no-trapping-math")

#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

#include "vector.h"

// Loops shorter than this many elements run on the calling thread: waking the
// others costs more.
#define SMALL 16384

static inline float from_b(uint16_t v) {
	union { uint32_t u; float f; } x = {.u = (uint32_t)v << 16};
	return x.f;
}

// Nearest even; NaN stays NaN. Branch-free so that it vectorises.
static inline uint16_t to_b(float v) {
	union { float f; uint32_t u; } x = {.f = v};
	uint32_t r = x.u + 0x7fff + (x.u >> 16 & 1);
	r = v != v ? x.u | 0x400000 : r;
	return (uint16_t)(r >> 16);
}

// e^x for x <= 88; 0 below -87. Relative error below 3e-7: Cody-Waite reduction
// and a polynomial of degree 6.
static inline float exp_f(float x) {
	float keep = x < -87.0f ? 0.0f : 1.0f;
	x = x < -87.0f ? -87.0f : x > 88.0f ? 88.0f : x;
	float n = __builtin_rintf(x * 1.44269504f);
	float r = x - n * 0.693359375f;
	r = r + n * 2.12194440e-4f;
	float p = 1.9875691e-4f;
	p = p * r + 1.3981999e-3f;
	p = p * r + 8.3334519e-3f;
	p = p * r + 4.1665795e-2f;
	p = p * r + 1.6666665e-1f;
	p = p * r + 5.0000001e-1f;
	p = p * r * r + r + 1.0f;
	union { int32_t i; float f; } s = {.i = ((int32_t)n + 127) << 23};
	return p * s.f * keep;
}

// The part of n that thread t of nt works on, in whole units.
static inline void split(int64_t n, int64_t unit, int t, int nt, int64_t *from, int64_t *to) {
	int64_t units = (n + unit - 1) / unit;
	*from = units * t / nt * unit;
	*to = units * (t + 1) / nt * unit;
	if (*to > n)
		*to = n;
}

// Columns that a loop takes at a time.
#define COLS 64

// Batch norm takes rows of few channels several at a time, as one virtual row,
// so that inner loops are long.
#define SUM_COLS (4 * VL)
#define ROW_COLS 256
static inline int64_t fold(int64_t c, int64_t cols) { return c >= cols ? 1 : cols / c; }

// The rows whose sums are taken in float32 before they go to float64.
#define CHUNK 32

// Scratch memory of a thread that sums two values a column, in doubles for each
// column: the sums, and those of a chunk in float32.
#define SUMS_SCRATCH 3

static inline float *clear_sums(double *s, int64_t c) {
	memset(s, 0, sizeof *s * SUMS_SCRATCH * (size_t)c);
	return (float *)(s + 2 * c);
}

static inline void flush_sums(double *s, float *chunk, int64_t n) {
	for (int64_t j = 0; j < n; j++) {
		s[j] += chunk[j];
		chunk[j] = 0;
	}
}

// src[c], repeated k times in buf.
static inline const float *repeat(float *buf, const float *src, int64_t c, int64_t k) {
	if (k == 1)
		return src;
	for (int64_t i = 0; i < k * c; i++)
		buf[i] = src[i % c];
	return buf;
}

#define ACC float

#define T float
#define NAME(f) f##_f
#define VALUE(v) (v)
#define ROUND(v) (v)
#define LOAD(p) v_load_f(p)
#define STORE(p, v) v_store_f(p, v)
#define LOAD_PART(p, n) v_load_part_f(p, n)
#define STORE_PART(p, v, n) v_store_part_f(p, v, n)
#include "norm_body.h"
#include "pool_body.h"
#undef T
#undef NAME
#undef VALUE
#undef ROUND
#undef LOAD
#undef STORE
#undef LOAD_PART
#undef STORE_PART

#define T uint16_t
#define NAME(f) f##_b
#define VALUE(v) from_b(v)
#define ROUND(v) to_b(v)
#define LOAD(p) v_load_b(p)
#define STORE(p, v) v_store_b(p, v)
#define LOAD_PART(p, n) v_load_part_b(p, n)
#define STORE_PART(p, v, n) v_store_part_b(p, v, n)
#include "norm_body.h"
#include "pool_body.h"
#undef T
#undef NAME
#undef VALUE
#undef ROUND
#undef LOAD
#undef STORE
#undef LOAD_PART
#undef STORE_PART

static void round_bf16(uint16_t *restrict dst, const float *restrict src, int64_t n, int nt) {
#pragma omp parallel for simd num_threads(nt) if (n > SMALL) schedule(static)
	for (int64_t i = 0; i < n; i++)
		dst[i] = to_b(src[i]);
}

static void widen_bf16(float *restrict dst, const uint16_t *restrict src, int64_t n, int nt) {
#pragma omp parallel for simd num_threads(nt) if (n > SMALL) schedule(static)
	for (int64_t i = 0; i < n; i++)
		dst[i] = from_b(src[i]);
}

static void copy(void *dst, const void *src, int64_t bytes, int nt) {
#pragma omp parallel num_threads(nt) if (bytes > 4 * SMALL)
	{
		int64_t from, to;
		split(bytes, 4096, omp_get_thread_num(), omp_get_num_threads(), &from, &to);
		if (to > from) {
			if (src)
				memcpy((char *)dst + from, (const char *)src + from, to - from);
			else
				memset((char *)dst + from, 0, to - from);
		}
	}
}

static void accumulate(float *restrict dst, const float *restrict src, int64_t n, int nt) {
#pragma omp parallel for simd num_threads(nt) if (n > SMALL) schedule(static)
	for (int64_t i = 0; i < n; i++)
		dst[i] += src[i];
}

static void scale(float *x, float s, int64_t n, int nt) {
#pragma omp parallel for simd num_threads(nt) if (n > SMALL) schedule(static)
	for (int64_t i = 0; i < n; i++)
		x[i] *= s;
}

// Sums of products go from float32 to float64 every 256 elements.
static double dot_product(const float *x, const float *y, int64_t n) {
	double sum = 0;
	for (int64_t i = 0; i < n; i += 256) {
		int64_t end = i + 256 < n ? i + 256 : n;
		float s = 0;
#pragma omp simd reduction(+ : s)
		for (int64_t j = i; j < end; j++)
			s += x[j] * y[j];
		sum += s;
	}
	return sum;
}

static double squares(const float *x, int64_t n) { return dot_product(x, x, n); }

// Squares in float64, for values beyond float32's squares.
static double wide_squares(const float *x, int64_t n) {
	double sum = 0;
#pragma omp simd reduction(+ : sum)
	for (int64_t i = 0; i < n; i++)
		sum += (double)x[i] * x[i];
	return sum;
}

static double sum_squares(const float *x, int64_t n, int nt) {
	enum { BLOCK = 65536 };
	int64_t blocks = (n + BLOCK - 1) / BLOCK;
	double *part = malloc(sizeof *part * (blocks ? blocks : 1)), sum = 0;
	if (!part)
		return NAN;
#pragma omp parallel for num_threads(nt) if (n > SMALL) schedule(static)
	for (int64_t b = 0; b < blocks; b++)
		part[b] = wide_squares(x + b * BLOCK, b * BLOCK + BLOCK < n ? BLOCK : n - b * BLOCK);
	for (int64_t b = 0; b < blocks; b++)
		sum += part[b];
	free(part);
	return sum;
}

static void add_bias(float *y, const float *restrict b, int64_t rows, int64_t c, int nt) {
#pragma omp parallel for num_threads(nt) if (rows * c > SMALL) schedule(static)
	for (int64_t r = 0; r < rows; r++) {
		float *restrict row = y + r * c;
		for (int64_t i = 0; i < c; i++)
			row[i] += b[i];
	}
}

static void column_sums(float *db, const float *dy, int64_t rows, int64_t c, int nt) {
#pragma omp parallel for num_threads(nt) if (rows * c > SMALL) schedule(static)
	for (int64_t from = 0; from < c; from += COLS) {
		int64_t n = from + COLS < c ? COLS : c - from;
		double sum[COLS] = {0};
		for (int64_t r = 0; r < rows; r++)
			for (int64_t i = 0; i < n; i++)
				sum[i] += dy[r * c + from + i];
		for (int64_t i = 0; i < n; i++)
			db[from + i] += (float)sum[i];
	}
}

static void normalize(float *y, float *norms, const float *x, int64_t rows, int64_t c, int nt) {
#pragma omp parallel for num_threads(nt) if (rows * c > SMALL) schedule(static)
	for (int64_t r = 0; r < rows; r++) {
		double norm = sqrt(squares(x + r * c, c));
		if (!(norm >= 1e-12)) // keeps NaN
			norm = norm < 1e-12 ? 1e-12 : norm;
		norms[r] = (float)norm;
		float inv = (float)(1 / norm);
		for (int64_t i = 0; i < c; i++)
			y[r * c + i] = x[r * c + i] * inv;
	}
}

static void normalize_backward(float *dx, const float *dy, const float *y, const float *norms, int64_t rows, int64_t c, int nt) {
#pragma omp parallel for num_threads(nt) if (rows * c > SMALL) schedule(static)
	for (int64_t r = 0; r < rows; r++) {
		const float *g = dy + r * c, *u = y + r * c;
		double radial = 0;
		for (int64_t i = 0; i < c; i++)
			radial += (double)g[i] * u[i];
		float inv = 1 / norms[r], rad = (float)radial;
		for (int64_t i = 0; i < c; i++)
			dx[r * c + i] = (g[i] - u[i] * rad) * inv;
	}
}

static void normalize_rows(float *w, int64_t rows, int64_t c, int nt) {
#pragma omp parallel for num_threads(nt) if (rows * c > SMALL) schedule(static)
	for (int64_t r = 0; r < rows; r++) {
		double norm = squares(w + r * c, c);
		if (norm == 0)
			continue;
		float inv = (float)(1 / sqrt(norm));
		for (int64_t i = 0; i < c; i++)
			w[r * c + i] *= inv;
	}
}

static void range(const float *x, int64_t n, float *least, float *most) {
	float lo = INFINITY, hi = -INFINITY, bad = 0;
#pragma omp simd reduction(min : lo) reduction(max : hi) reduction(+ : bad)
	for (int64_t i = 0; i < n; i++) {
		lo = x[i] < lo ? x[i] : lo;
		hi = x[i] > hi ? x[i] : hi;
		bad += x[i] == x[i] ? 0.0f : 1.0f;
	}
	*least = bad > 0 ? NAN : lo;
	*most = bad > 0 ? NAN : hi;
}

// sum_parts adds up what n threads have summed for k columns, thread t a share of them.
static void sum_parts(double *restrict sums, const double *restrict parts, int64_t k, int t, int n) {
	int64_t from, to;
	split(k, COLS, t, n, &from, &to);
	for (int64_t i = from; i < to; i++) {
		sums[i] = parts[i];
		for (int j = 1; j < n; j++)
			sums[i] += parts[j * k + i];
	}
}

static void exp_scores(float *e, double *sums, double *parts, const float *s, int64_t rows, int64_t k, float top, float inv_epsilon, int nt) {
#pragma omp parallel num_threads(nt) if (rows * k > SMALL)
	{
		int t = omp_get_thread_num(), n = omp_get_num_threads();
		double *restrict part = parts + t * k;
		int64_t from, to;
		split(rows, 1, t, n, &from, &to);
		memset(part, 0, sizeof *part * k);
		for (int64_t r = from; r < to; r++) {
			float *restrict row = e + r * k;
			const float *restrict score = s + r * k;
#pragma omp simd
			for (int64_t i = 0; i < k; i++)
				row[i] = exp_f((score[i] - top) * inv_epsilon);
			for (int64_t i = 0; i < k; i++)
				part[i] += row[i];
		}
#pragma omp barrier
		sum_parts(sums, parts, k, t, n);
	}
}

static void weigh(double *sums, double *parts, const float *e, const float *u, int64_t rows, int64_t k, int nt) {
#pragma omp parallel num_threads(nt) if (rows * k > SMALL)
	{
		int t = omp_get_thread_num(), n = omp_get_num_threads();
		double *restrict part = parts + t * k;
		int64_t from, to;
		split(rows, 1, t, n, &from, &to);
		memset(part, 0, sizeof *part * k);
		for (int64_t r = from; r < to; r++) {
			const float *restrict row = e + r * k;
			double v = 1 / dot_product(row, u, k);
			for (int64_t i = 0; i < k; i++)
				part[i] += v * row[i];
		}
#pragma omp barrier
		sum_parts(sums, parts, k, t, n);
	}
}

static void codes(float *out, const float *e, const float *u, int64_t rows, int64_t k, int hard, int nt) {
#pragma omp parallel for num_threads(nt) if (rows * k > SMALL) schedule(static)
	for (int64_t r = 0; r < rows; r++) {
		const float *row = e + r * k;
		float *restrict q = out + r * k;
		if (!hard) {
			float v = (float)(1 / dot_product(row, u, k));
			for (int64_t i = 0; i < k; i++)
				q[i] = row[i] * u[i] * v;
			continue;
		}
		int64_t best = 0;
		for (int64_t i = 1; i < k; i++)
			if (row[i] * u[i] > row[best] * u[best])
				best = i;
		memset(q, 0, sizeof *q * k);
		q[best] = 1;
	}
}

static inline float largest(const float *s, int64_t k) {
	float top = -INFINITY;
#pragma omp simd reduction(max : top)
	for (int64_t i = 0; i < k; i++)
		top = s[i] > top ? s[i] : top;
	return top;
}

// g = exp((s - top)/temperature); returns the sum.
static inline double exponentials(float *restrict g, const float *restrict s, int64_t k, float top, float inv_temperature) {
	double norm = 0;
	for (int64_t i = 0; i < k; i += 256) {
		int64_t end = i + 256 < k ? i + 256 : k;
		float sum = 0;
#pragma omp simd reduction(+ : sum)
		for (int64_t j = i; j < end; j++) {
			g[j] = exp_f((s[j] - top) * inv_temperature);
			sum += g[j];
		}
		norm += sum;
	}
	return norm;
}

static void swap_loss(double *row_loss, float *dscores, const float *scores, const float *const *codes, const int32_t *assign, int n_assign, int64_t views, int64_t batch, int64_t k, float inv_temperature, int nt) {
	const float weight = 1.0f / ((float)batch * (float)(views - 1) * (float)n_assign);
#pragma omp parallel for num_threads(nt) if (views * batch * k > SMALL) schedule(static)
	for (int64_t r = 0; r < views * batch; r++) {
		int64_t view = r / batch, b = r % batch;
		const float *s = scores + r * k;
		float *restrict g = dscores + r * k;
		float top = largest(s, k);
		double norm = exponentials(g, s, k, top, inv_temperature);
		// loss = sum of q (log norm - (s - top)/temperature); gradient
		// (mass softmax - sum of q) weight / temperature.
		double mass = 0, dot = 0;
		for (int a = 0; a < n_assign; a++) {
			if (assign[a] == view)
				continue;
			const float *q = codes[a] + b * k;
			for (int64_t i = 0; i < k; i += 256) {
				int64_t end = i + 256 < k ? i + 256 : k;
				float m = 0, d = 0;
#pragma omp simd reduction(+ : m, d)
				for (int64_t j = i; j < end; j++) {
					m += q[j];
					d += q[j] * (s[j] - top);
				}
				mass += m;
				dot += d;
			}
		}
		row_loss[r] = (mass * log(norm) - dot * inv_temperature) * weight;
		float soft = (float)(mass / norm), scale = weight * inv_temperature;
		for (int64_t i = 0; i < k; i++)
			g[i] *= soft;
		for (int a = 0; a < n_assign; a++) {
			if (assign[a] == view)
				continue;
			const float *restrict q = codes[a] + b * k;
			for (int64_t i = 0; i < k; i++)
				g[i] -= q[i];
		}
		for (int64_t i = 0; i < k; i++)
			g[i] *= scale;
	}
}

static void cluster_loss(double *row_loss, float *dscores, const float *scores, const float *labels, int64_t rows, int64_t batch, int64_t stride, int64_t k, float weight, float inv_temperature, int nt) {
#pragma omp parallel for num_threads(nt) if (rows * k > SMALL) schedule(static)
	for (int64_t r = 0; r < rows; r++) {
		const float *s = scores + r * stride;
		float *restrict g = dscores + r * stride;
		row_loss[r] = 0;
		if (labels[r % batch] < 0) {
			memset(g, 0, sizeof *g * k);
			continue;
		}
		int64_t label = (int64_t)labels[r % batch], after = label + 1;
		float top = largest(s, k);
		// The label's gradient is minus the sum of the others': softmax - 1 has few
		// digits where the prediction is sure.
		double rest = exponentials(g, s, label, top, inv_temperature) + exponentials(g + after, s + after, k - after, top, inv_temperature);
		double norm = rest + exp_f((s[label] - top) * inv_temperature);
		row_loss[r] = (log(norm) - (double)(s[label] - top) * inv_temperature) * weight;
		double scale = (double)weight * inv_temperature;
		float soft = (float)(scale / norm);
		for (int64_t i = 0; i < k; i++)
			g[i] *= soft;
		g[label] = (float)(-scale * (rest / norm));
	}
}

static void block_norms(double *out, const float *w, const float *g, const int64_t *offsets, const int64_t *lens, int64_t blocks, int nt) {
#pragma omp parallel for num_threads(nt) if (blocks > 1) schedule(static)
	for (int64_t b = 0; b < blocks; b++) {
		out[2 * b] = squares(w + offsets[b], lens[b]);
		out[2 * b + 1] = squares(g + offsets[b], lens[b]);
	}
}

static void sgd(float *w, float *m, const float *g, const int64_t *offsets, const int64_t *lens, const float *factors, const float *decays, int64_t blocks, float lr, float momentum, int nt) {
#pragma omp parallel for num_threads(nt) if (blocks > 1) schedule(static)
	for (int64_t b = 0; b < blocks; b++) {
		float *restrict wb = w + offsets[b], *restrict mb = m + offsets[b];
		const float *restrict gb = g + offsets[b];
		float factor = factors[b], decay = decays[b];
		for (int64_t i = 0; i < lens[b]; i++) {
			mb[i] = momentum * mb[i] + factor * (gb[i] + decay * wb[i]);
			wb[i] -= lr * mb[i];
		}
	}
}

static void adamw(float *w, float *m, float *v, const float *g, const int64_t *offsets, const int64_t *lens, const float *decays, int64_t blocks, float lr, float beta1, float beta2, float gain1, float gain2, float eps, float c1, float c2, int nt) {
#pragma omp parallel for num_threads(nt) if (blocks > 1) schedule(static)
	for (int64_t b = 0; b < blocks; b++) {
		float *restrict wb = w + offsets[b], *restrict mb = m + offsets[b], *restrict vb = v + offsets[b];
		const float *restrict gb = g + offsets[b];
		float keep = 1 - lr * decays[b];
		for (int64_t i = 0; i < lens[b]; i++) {
			mb[i] = beta1 * mb[i] + gain1 * gb[i];
			vb[i] = beta2 * vb[i] + gain2 * gb[i] * gb[i];
			wb[i] = wb[i] * keep - lr * (mb[i] * c1) / (__builtin_sqrtf(vb[i] * c2) + eps);
		}
	}
}

#include "search_body.h"

#define ACTIVATION(s)                                                                                                         \
	{                                                                                                                         \
		norm_sums_##s, norm_apply_##s, norm_backward_sums_##s, norm_backward_##s, max_pool_##s, max_pool_backward_##s,        \
		avg_pool_##s, avg_pool_backward_##s, add_##s                                                                          \
	}

const swav_kernels TABLE = {
	ISA, ACTIVATION(f), ACTIVATION(b), round_bf16, widen_bf16, copy, accumulate, scale, sum_squares, add_bias, column_sums,
	normalize, normalize_backward, normalize_rows, range, exp_scores, weigh, codes, swap_loss, cluster_loss,
	block_norms, sgd, adamw, Q_ROWS, R_COLS, search_above, search_above_bf16, search_dots,
};
