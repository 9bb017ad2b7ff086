// Small float32 convolutions, summed in float64 (small.go says why).
#ifndef SWAV_SMALL_H
#define SWAV_SMALL_H

#include <stdint.h>

typedef struct {
	int64_t batch, height, width, in, out, out_height, out_width, kernel, stride, pad;
} swav_small_params;

int64_t swav_small_packed(const swav_small_params *p); // elements of the packed weights
void swav_small_pack(float *packed, const float *w, const swav_small_params *p);
void swav_small_forward(float *y, const float *x, const float *packed, const swav_small_params *p, int nt);

#endif
