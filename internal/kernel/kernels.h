// Loops over the 8-bit pixels of one view: resize, colour, blur, normalise. The
// same source (body.h) is compiled for several instruction sets; the table of
// the best one that this processor has is chosen at run time. Set in kernel.go says
// what each function computes; all give the same bits as the plain Go beside them.
#ifndef SWAV_PIXELS_H
#define SWAV_PIXELS_H

#include <stddef.h>
#include <stdint.h>

// Resampling weights of one axis, see Taps in taps.go.
typedef struct {
	const int32_t *first, *count, *weights;
	const int16_t *halves;
	int64_t n, width, chunks;
} swav_taps;

typedef struct {
	const char *isa;
	void (*resize_rows)(uint8_t *dst, const uint8_t *src, int64_t len, int64_t rows, int64_t stride, int64_t c, const swav_taps *t);
	void (*resize_columns)(uint8_t *dst, const uint8_t *src, int64_t width, int64_t planes, int64_t rows, int64_t base, const swav_taps *t);
	void (*towards)(uint8_t *pix, int64_t n, uint8_t from, float f);
	uint64_t (*sum)(const uint8_t *pix, int64_t n);
	uint64_t (*sum_luma)(const uint8_t *rgb, int64_t n);
	void (*saturate)(uint8_t *rgb, int64_t n, float f);
	void (*grey)(uint8_t *rgb, int64_t n);
	void (*shift_hue)(uint8_t *rgb, int64_t n, uint8_t shift);
	void (*solarize)(uint8_t *pix, int64_t n);
	void (*blur)(uint8_t *pix, uint8_t *tmp, int64_t w, int64_t h, int64_t planes, int64_t r, uint32_t ww, uint32_t fw);
	void (*normalise)(float *dst, const uint8_t *pix, int64_t n, int64_t planes, int64_t channels, const float *scale, const float *shift);
} swav_pixels;

extern const swav_pixels swav_pixels_base;
#if defined(__x86_64__)
extern const swav_pixels swav_pixels_avx2, swav_pixels_avx512;
#endif

// swav_pixels_table returns table number i of those that this processor can run,
// best first, or NULL.
const swav_pixels *swav_pixels_table(int i);

#endif
