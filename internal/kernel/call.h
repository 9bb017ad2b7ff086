// Go cannot call through a C function pointer, so each kernel has a trampoline.
#ifndef SWAV_PIXELS_CALL_H
#define SWAV_PIXELS_CALL_H

#include "kernels.h"

static inline const char *k_isa(const swav_pixels *k) { return k->isa; }
// The arrays of a swav_taps come one by one: Go hands over no pointers to pointers.
#define TAPS const int32_t *first, const int32_t *count, const int32_t *weights, const int16_t *halves, int64_t n, int64_t width, int64_t chunks
#define T \
	&(swav_taps) { first, count, weights, halves, n, width, chunks }
static inline void k_resize_rows(const swav_pixels *k, uint8_t *dst, const uint8_t *src, int64_t len, int64_t rows, int64_t stride, int64_t c, TAPS) { k->resize_rows(dst, src, len, rows, stride, c, T); }
static inline void k_resize_columns(const swav_pixels *k, uint8_t *dst, const uint8_t *src, int64_t w, int64_t planes, int64_t rows, int64_t base, TAPS) { k->resize_columns(dst, src, w, planes, rows, base, T); }
static inline void k_towards(const swav_pixels *k, uint8_t *pix, int64_t n, uint8_t from, float f) { k->towards(pix, n, from, f); }
static inline uint64_t k_sum(const swav_pixels *k, const uint8_t *pix, int64_t n) { return k->sum(pix, n); }
static inline uint64_t k_sum_luma(const swav_pixels *k, const uint8_t *rgb, int64_t n) { return k->sum_luma(rgb, n); }
static inline void k_saturate(const swav_pixels *k, uint8_t *rgb, int64_t n, float f) { k->saturate(rgb, n, f); }
static inline void k_grey(const swav_pixels *k, uint8_t *rgb, int64_t n) { k->grey(rgb, n); }
static inline void k_shift_hue(const swav_pixels *k, uint8_t *rgb, int64_t n, uint8_t shift) { k->shift_hue(rgb, n, shift); }
static inline void k_solarize(const swav_pixels *k, uint8_t *pix, int64_t n) { k->solarize(pix, n); }
static inline void k_blur(const swav_pixels *k, uint8_t *pix, uint8_t *tmp, int64_t w, int64_t h, int64_t planes, int64_t r, uint32_t ww, uint32_t fw) { k->blur(pix, tmp, w, h, planes, r, ww, fw); }
static inline void k_normalise(const swav_pixels *k, float *dst, const uint8_t *pix, int64_t n, int64_t planes, int64_t channels, const float *scale, const float *shift) { k->normalise(dst, pix, n, planes, channels, scale, shift); }
#undef TAPS
#undef T

#endif
