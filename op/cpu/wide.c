//go:build cgo

// Everything but convolutions on float64 activations.
#include "wide.h"

#include <math.h>
#include <omp.h>
#include <string.h>

enum { SMALL = 8192, COLS = 64 };

void swav_wide_from_float(double *dst, const float *src, int64_t n, int nt) {
#pragma omp parallel for simd num_threads(nt) if (n > SMALL) schedule(static)
	for (int64_t i = 0; i < n; i++)
		dst[i] = src[i];
}

void swav_wide_to_float(float *dst, const double *src, int64_t n, int nt) {
#pragma omp parallel for simd num_threads(nt) if (n > SMALL) schedule(static)
	for (int64_t i = 0; i < n; i++)
		dst[i] = (float)src[i];
}

void swav_wide_add(double *dst, const double *a, const double *b, int64_t n, int nt) {
#pragma omp parallel for simd num_threads(nt) if (n > SMALL) schedule(static)
	for (int64_t i = 0; i < n; i++)
		dst[i] = a[i] + b[i];
}

void swav_wide_norm_sums(double *sums, const double *x, int64_t rows, int64_t c, int nt) {
#pragma omp parallel for num_threads(nt) if (rows * c > SMALL) schedule(static)
	for (int64_t from = 0; from < c; from += COLS) {
		int64_t n = from + COLS < c ? COLS : c - from;
		double s[COLS] = {0}, q[COLS] = {0};
		for (int64_t r = 0; r < rows; r++)
			for (int64_t i = 0; i < n; i++) {
				double v = x[r * c + from + i];
				s[i] += v;
				q[i] += v * v;
			}
		memcpy(sums + from, s, sizeof *s * (size_t)n);
		memcpy(sums + c + from, q, sizeof *q * (size_t)n);
	}
}

void swav_wide_norm_apply(double *y, const double *x, const double *residual, const double *moments, const float *gamma, const float *beta, int64_t rows, int64_t c, int relu, int nt) {
#pragma omp parallel for num_threads(nt) if (rows * c > SMALL) schedule(static)
	for (int64_t r = 0; r < rows; r++)
		for (int64_t i = 0; i < c; i++) {
			double v = gamma[i] * (x[r * c + i] - moments[i]) * moments[c + i] + beta[i];
			if (residual)
				v += residual[r * c + i];
			y[r * c + i] = relu && v < 0 ? 0 : v; // keeps NaN
		}
}

// The backward passes are written once for all combinations of optional
// operands; called with constants, each becomes a loop without branches.
#define FOR_ALL(call)               \
	do {                        \
		if (dy2 && y)       \
			call(1, 1); \
		else if (dy2)       \
			call(1, 0); \
		else if (y)         \
			call(0, 1); \
		else                \
			call(0, 0); \
	} while (0)

// g = dy + dy2, zero where a ReLU was closed.
WIDE_INLINE double incoming(const double *dy, const double *dy2, const double *y, int64_t at, int has_dy2, int relu) {
	double g = has_dy2 ? dy[at] + dy2[at] : dy[at];
	return relu && y[at] <= 0 ? 0 : g;
}

WIDE_INLINE void sums_columns(double *restrict sums, const double *dy, const double *dy2, const double *y, const double *x, const double *moments, int64_t rows, int64_t c, int64_t from, int has_dy2, int relu) {
	int64_t n = from + COLS < c ? COLS : c - from;
	double s[COLS] = {0}, q[COLS] = {0};
	for (int64_t r = 0; r < rows; r++)
#pragma omp simd
		for (int64_t i = 0; i < n; i++) {
			int64_t at = r * c + from + i;
			double g = incoming(dy, dy2, y, at, has_dy2, relu);
			s[i] += g;
			q[i] += g * (x[at] - moments[from + i]);
		}
	for (int64_t i = 0; i < n; i++) {
		sums[from + i] = s[i];
		sums[c + from + i] = q[i] * moments[c + from + i];
	}
}

WIDE_CLONES static void backward_sums(double *sums, const double *dy, const double *dy2, const double *y, const double *x, const double *moments, int64_t rows, int64_t c, int64_t from) {
#define SUMS(has_dy2, relu) sums_columns(sums, dy, dy2, y, x, moments, rows, c, from, has_dy2, relu)
	FOR_ALL(SUMS);
#undef SUMS
}

void swav_wide_norm_backward_sums(double *sums, const double *dy, const double *dy2, const double *y, const double *x, const double *moments, int64_t rows, int64_t c, int nt) {
#pragma omp parallel for num_threads(nt) if (rows * c > SMALL) schedule(static)
	for (int64_t from = 0; from < c; from += COLS)
		backward_sums(sums, dy, dy2, y, x, moments, rows, c, from);
}

// dx may be dy or dy2, and so may dresidual: each element is read before it is
// written, which is all that simd wants to know.
WIDE_INLINE void backward_rows(double *dx, double *dresidual, const double *dy, const double *dy2, const double *y, const double *x, const double *moments, const float *gamma, const double *sums, double inv, int64_t from, int64_t to, int64_t c, int has_dy2, int relu) {
	for (int64_t r = from; r < to; r++) {
#pragma omp simd
		for (int64_t i = 0; i < c; i++) {
			int64_t at = r * c + i;
			double g = incoming(dy, dy2, y, at, has_dy2, relu), xhat = (x[at] - moments[i]) * moments[c + i];
			dx[at] = gamma[i] * moments[c + i] * (g - sums[i] * inv - xhat * sums[c + i] * inv);
			if (dresidual)
				dresidual[at] = g;
		}
	}
}

WIDE_CLONES static void backward(double *dx, double *dresidual, const double *dy, const double *dy2, const double *y, const double *x, const double *moments, const float *gamma, const double *sums, double inv, int64_t from, int64_t to, int64_t c) {
#define ROWS(has_dy2, relu)                                                                                                    \
	do {                                                                                                                   \
		if (dresidual)                                                                                                 \
			backward_rows(dx, dresidual, dy, dy2, y, x, moments, gamma, sums, inv, from, to, c, has_dy2, relu);    \
		else                                                                                                           \
			backward_rows(dx, 0, dy, dy2, y, x, moments, gamma, sums, inv, from, to, c, has_dy2, relu);            \
	} while (0)
	FOR_ALL(ROWS);
#undef ROWS
}

void swav_wide_norm_backward(double *dx, double *dresidual, const double *dy, const double *dy2, const double *y, const double *x, const double *moments, const float *gamma, const double *sums, double count, int64_t rows, int64_t c, int nt) {
#pragma omp parallel for num_threads(nt) if (rows * c > SMALL) schedule(static)
	for (int64_t from = 0; from < rows; from += COLS)
		backward(dx, dresidual, dy, dy2, y, x, moments, gamma, sums, 1 / count, from, from + COLS < rows ? from + COLS : rows, c);
}

#define T double
#define ACC double
#define NAME(f) f##_wide
#define VALUE(v) (v)
#define ROUND(v) (v)
#include "pool_body.h"

void swav_wide_max_pool(double *y, uint8_t *index, const double *x, int64_t n, int64_t h, int64_t w, int64_t c, int64_t oh, int64_t ow, int kernel, int stride, int pad, int nt) {
	max_pool_wide(y, index, x, n, h, w, c, oh, ow, kernel, stride, pad, nt);
}

void swav_wide_max_pool_backward(double *dx, const double *dy, const uint8_t *index, int64_t n, int64_t h, int64_t w, int64_t c, int64_t oh, int64_t ow, int kernel, int stride, int pad, int nt) {
	max_pool_backward_wide(dx, dy, index, n, h, w, c, oh, ow, kernel, stride, pad, nt);
}

void swav_wide_avg_pool(float *y, const double *x, int64_t n, int64_t places, int64_t c, int nt) {
	avg_pool_wide(y, x, n, places, c, nt);
}

void swav_wide_avg_pool_backward(double *dx, const float *dy, int64_t n, int64_t places, int64_t c, int nt) {
	avg_pool_backward_wide(dx, dy, n, places, c, nt);
}
