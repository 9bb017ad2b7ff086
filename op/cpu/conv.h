// Convolutions by oneDNN: the narrowest interface that the Go side needs.
// Activations are NHWC, weights float32 OIHW at the border and in the library's
// own layout within. Functions return 0 or a dnnl_status_t.
#ifndef SWAV_CONV_H
#define SWAV_CONV_H

#include <stddef.h>

#include "geometry.h"

typedef struct swav_dnn swav_dnn;   // engine, stream and scratch memory of one backend
typedef struct swav_conv swav_conv; // one compiled convolution

typedef struct {
	swav_geometry g;
	int bf16;      // activations are bfloat16, otherwise float32
	int inference; // only forward
	int no_data;   // no backward data
	int no_weights; // no backward weights
	int bias, residual, relu; // forward: y = max(0, conv + bias + y); with bias only
} swav_conv_params;

// threads of the calling thread's OpenMP pool, which oneDNN uses.
int swav_dnn_create(swav_dnn **out, int threads);
void swav_dnn_destroy(swav_dnn *d);
const char *swav_dnn_version(void);

// swav_conv_create compiles; impl gets the library's names of the three
// implementations, for people and for choosing.
int swav_conv_create(swav_conv **out, swav_dnn *d, const swav_conv_params *p, char *impl, size_t impl_size);
void swav_conv_destroy(swav_conv *c);
int swav_conv_weights(swav_conv *c, const float *w);
// swav_conv_share makes c use the packed weights of from, if all its layouts are
// the same, and tells whether it does. Then from packs for both.
int swav_conv_share(swav_conv *c, const swav_conv *from);
int swav_conv_forward(swav_conv *c, void *y, const void *x);
// bias is float32 [out]; with a residual, y holds it before.
int swav_conv_forward_bias(swav_conv *c, void *y, const void *x, const float *bias);
int swav_conv_backward_data(swav_conv *c, void *dx, const void *dy);
// swav_conv_backward_weights adds to dw.
int swav_conv_backward_weights(swav_conv *c, float *dw, const void *x, const void *dy);

// swav_gemm computes c = a b + beta c on row-major matrices; ta, tb transpose.
int swav_gemm(int ta, int tb, int64_t m, int64_t n, int64_t k, const float *a, int64_t lda, const float *b, int64_t ldb, float beta, float *c, int64_t ldc);
// swav_gemm_alone is swav_gemm on the calling thread alone.
int swav_gemm_alone(int ta, int tb, int64_t m, int64_t n, int64_t k, const float *a, int64_t lda, const float *b, int64_t ldb, float beta, float *c, int64_t ldc);

#endif
