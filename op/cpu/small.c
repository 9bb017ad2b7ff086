//go:build cgo

#include "small.h"

#include <omp.h>
#include <stdlib.h>

#if defined(__x86_64__) && defined(__gnu_linux__) && defined(__GNUC__) && !defined(__clang__)
#define CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define CLONES
#endif

enum { LANES = 16 }; // output channels of one pass

// One row of output pixels. w is [out blocks][kernel][kernel][in][LANES]. A
// product of two float32 is exact in float64, so the sum is all but exact.
CLONES static void conv_row(float *y, const float *x, const float *w, const swav_small_params *p, int64_t row) {
	int64_t tap = p->in * LANES;
	for (int64_t block = 0; block * LANES < p->out; block++) {
		const float *wb = w + block * p->kernel * p->kernel * tap;
		int64_t lanes = p->out - block * LANES < LANES ? p->out - block * LANES : LANES;
		for (int64_t col = 0; col < p->out_width; col++) {
			double sum[LANES] = {0};
			for (int64_t r = 0; r < p->kernel; r++) {
				int64_t h = row * p->stride + r - p->pad;
				if (h < 0 || h >= p->height)
					continue;
				for (int64_t s = 0; s < p->kernel; s++) {
					int64_t c = col * p->stride + s - p->pad;
					if (c < 0 || c >= p->width)
						continue;
					const float *pixel = x + (h * p->width + c) * p->in;
					const float *wt = wb + (r * p->kernel + s) * tap;
					for (int64_t i = 0; i < p->in; i++) {
						double v = pixel[i];
						for (int j = 0; j < LANES; j++)
							sum[j] += v * wt[i * LANES + j];
					}
				}
			}
			float *out = y + col * p->out + block * LANES;
			for (int64_t j = 0; j < lanes; j++)
				out[j] = (float)sum[j];
		}
	}
}

void swav_small_pack(float *packed, const float *w, const swav_small_params *p) {
	int64_t taps = p->kernel * p->kernel, blocks = (p->out + LANES - 1) / LANES;
	for (int64_t b = 0; b < blocks; b++)
		for (int64_t t = 0; t < taps; t++)
			for (int64_t i = 0; i < p->in; i++)
				for (int64_t j = 0; j < LANES; j++) {
					int64_t o = b * LANES + j;
					packed[((b * taps + t) * p->in + i) * LANES + j] = o < p->out ? w[(o * p->in + i) * taps + t] : 0;
				}
}

int64_t swav_small_packed(const swav_small_params *p) {
	return (p->out + LANES - 1) / LANES * LANES * p->kernel * p->kernel * p->in;
}

void swav_small_forward(float *y, const float *x, const float *packed, const swav_small_params *p, int nt) {
#pragma omp parallel for collapse(2) num_threads(nt) schedule(static)
	for (int64_t n = 0; n < p->batch; n++)
		for (int64_t row = 0; row < p->out_height; row++)
			conv_row(y + (n * p->out_height + row) * p->out_width * p->out, x + n * p->height * p->width * p->in, packed, p, row);
}
