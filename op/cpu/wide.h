// Operators on float64 activations: what a plan too small to be slow computes
// with (package engine, widening), and the CPU's answer to precision fp64.
// Convolutions run at about a third of the processor's float64 peak; nothing
// here depends on the number of threads, which share out results, not sums.
#ifndef SWAV_WIDE_H
#define SWAV_WIDE_H

#include "geometry.h"

// Compiled for several instruction sets, of which the loader takes the best.
#if defined(__x86_64__) && defined(__gnu_linux__) && defined(__GNUC__) && !defined(__clang__)
#define WIDE_CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define WIDE_CLONES
#endif
#define WIDE_INLINE static inline __attribute__((always_inline))

// Elements of the packed weights, forward or (back) for the gradient of the
// input, and of the scratch memory that any pass wants.
int64_t swav_wide_packed(const swav_geometry *p, int back);
int64_t swav_wide_scratch(const swav_geometry *p);
// w is float32 OIHW.
void swav_wide_pack(double *packed, const float *w, const swav_geometry *p, int back);
void swav_wide_forward(double *y, const double *x, const double *packed, double *scratch, const swav_geometry *p, int nt);
void swav_wide_backward_data(double *dx, const double *dy, const double *packed, double *scratch, const swav_geometry *p, int nt);
// swav_wide_backward_weights adds to dw, float32 OIHW.
void swav_wide_backward_weights(float *dw, const double *x, const double *dy, double *scratch, const swav_geometry *p, int nt);

void swav_wide_from_float(double *dst, const float *src, int64_t n, int nt);
void swav_wide_to_float(float *dst, const double *src, int64_t n, int nt);
void swav_wide_add(double *dst, const double *a, const double *b, int64_t n, int nt);

// Batch norm over rows x c; sums, moments and their use as in op.BatchNorm.
// residual, dy2 and dresidual may be NULL, y where there is no ReLU.
void swav_wide_norm_sums(double *sums, const double *x, int64_t rows, int64_t c, int nt);
void swav_wide_norm_apply(double *y, const double *x, const double *residual, const double *moments, const float *gamma, const float *beta, int64_t rows, int64_t c, int relu, int nt);
void swav_wide_norm_backward_sums(double *sums, const double *dy, const double *dy2, const double *y, const double *x, const double *moments, int64_t rows, int64_t c, int nt);
void swav_wide_norm_backward(double *dx, double *dresidual, const double *dy, const double *dy2, const double *y, const double *x, const double *moments, const float *gamma, const double *sums, double count, int64_t rows, int64_t c, int nt);

void swav_wide_max_pool(double *y, uint8_t *index, const double *x, int64_t n, int64_t h, int64_t w, int64_t c, int64_t oh, int64_t ow, int kernel, int stride, int pad, int nt);
void swav_wide_max_pool_backward(double *dx, const double *dy, const uint8_t *index, int64_t n, int64_t h, int64_t w, int64_t c, int64_t oh, int64_t ow, int kernel, int stride, int pad, int nt);
void swav_wide_avg_pool(float *y, const double *x, int64_t n, int64_t places, int64_t c, int nt);
void swav_wide_avg_pool_backward(double *dx, const float *dy, int64_t n, int64_t places, int64_t c, int nt);

#endif
