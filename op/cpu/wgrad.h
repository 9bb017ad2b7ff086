// The gradient of convolution weights by our own kernel, where it beats oneDNN's
// (AVX-512, at least 16 input channels).
#ifndef SWAV_WGRAD_H
#define SWAV_WGRAD_H

#include "geometry.h"

// Bytes of scratch memory, aligned to 64.
int64_t swav_wgrad_scratch(const swav_geometry *p, int nt);
// swav_wgrad adds the gradient to dw, float32 OIHW; x and dy are NHWC, bfloat16
// or float32. The processor has AVX-512, for bfloat16 with its dot product.
void swav_wgrad(float *dw, const void *x, const void *dy, void *scratch, const swav_geometry *p, int bf16, int nt);

#endif
