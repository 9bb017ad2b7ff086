// 3x3 convolutions of stride 1 by Winograd's minimal filtering (Lavin and Gray,
// "Fast Algorithms for Convolutional Neural Networks", 2015): a tile of TILE x
// TILE outputs takes (TILE+2)² products for each pair of channels instead of 9
// TILE². The products for one of the (TILE+2)² frequencies are a matrix product
// over all tiles, so all arithmetic but the transforms is matrix products.
//
//	y  = Aᵀ [ (G w Gᵀ) . (Bᵀ x B) ] A       forward; backward data with rotated weights
//	dw = Gᵀ [ (Bᵀ x B) . (A dy Aᵀ) ] G      summed over tiles
//
// Kernels exist for AVX-512: float32 with tiles of 2 and of 4, bfloat16 (with
// AVX512_BF16) with tiles of 2. In bfloat16 transformed values are rounded
// before they are multiplied, see docs/numerics.md; sums are float32.
#ifndef SWAV_WINOGRAD_H
#define SWAV_WINOGRAD_H

#include "geometry.h"

// What follows the sums of a forward pass: y = max(0, conv + bias + y).
typedef struct {
	const float *bias; // NULL: none
	int residual, relu;
} swav_winograd_after;

// One data type and tile size. g is the geometry of the convolution with kernel
// 3, stride 1; channels are multiples of 16. Sizes are in bytes.
typedef struct {
	int64_t (*weights_size)(const swav_geometry *g);
	int64_t (*forward_scratch)(const swav_geometry *g, int nt);
	int64_t (*gradient_scratch)(const swav_geometry *g);
	// weights transforms float32 OIHW [out][in][3][3] to u. With back, g is the geometry
	// of the way back (from dy to dx), whose weights are w [in][out][3][3], rotated.
	void (*weights)(void *u, const float *w, const swav_geometry *g, int back, int nt);
	void (*forward)(void *y, const void *x, const void *u, swav_winograd_after after, void *scratch, const swav_geometry *g, int nt);
	// gradient adds to dw, OIHW.
	void (*gradient)(float *dw, const void *x, const void *dy, void *scratch, const swav_geometry *g, int nt);
} swav_winograd;

// swav_choose_winograd returns the kernels for a tile of 2 or 4, for a processor
// with AVX-512 and, for bfloat16, its dot product; NULL where there are none, or
// where direct convolutions are faster (AMX).
const swav_winograd *swav_choose_winograd(int bf16, int tile);

// Go cannot call through a C function pointer.
static inline int64_t winograd_weights_size(const swav_winograd *k, const swav_geometry *g) { return k->weights_size(g); }
static inline int64_t winograd_forward_scratch(const swav_winograd *k, const swav_geometry *g, int nt) { return k->forward_scratch(g, nt); }
static inline int64_t winograd_gradient_scratch(const swav_winograd *k, const swav_geometry *g) { return k->gradient_scratch(g); }
static inline void winograd_weights(const swav_winograd *k, void *u, const float *w, const swav_geometry *g, int back, int nt) { k->weights(u, w, g, back, nt); }
static inline void winograd_forward(const swav_winograd *k, void *y, const void *x, const void *u, swav_winograd_after after, void *scratch, const swav_geometry *g, int nt) { k->forward(y, x, u, after, scratch, g, nt); }
static inline void winograd_gradient(const swav_winograd *k, float *dw, const void *x, const void *dy, void *scratch, const swav_geometry *g, int nt) { k->gradient(dw, x, dy, scratch, g, nt); }

#endif
