// The CPU backend's own kernels: what oneDNN does not have, or does not fuse.
// The same source is compiled for several instruction sets (kernels_*.c); the
// table of the best one that this processor has is chosen at run time.
//
// Activations are rows x channels, row-major, float32 or bfloat16 (suffix f, b).
// Results are the same to the bit for the same number of threads: work is split
// by thread number and partial sums are added in that order.
#ifndef SWAV_KERNELS_H
#define SWAV_KERNELS_H

#include <stddef.h>
#include <stdint.h>

typedef struct {
	int64_t offset, len;
	double decay;
	int32_t adapt;
} swav_segment;

// One set of functions for activations of one type.
typedef struct {
	// sums[0:c] = sum of x, sums[c:2c] = sum of x²; scratch holds partial sums.
	void (*norm_sums)(const void *x, int64_t rows, int64_t c, double *sums, double *scratch, int nt);
	// y = relu(scale (x - mean) + shift + residual); residual may be NULL.
	void (*norm_apply)(void *y, const void *x, const void *residual, const float *mean, const float *scale, const float *shift, int64_t rows, int64_t c, int relu, int nt);
	// sums[0:c] = sum of g, sums[c:2c] = sum of g (x - mean), where g = dy + dy2,
	// zero where y <= 0; dy2 and y may be NULL.
	void (*norm_backward_sums)(const void *dy, const void *dy2, const void *y, const void *x, const float *mean, int64_t rows, int64_t c, double *sums, double *scratch, int nt);
	// dx = a g + b (x - mean) + k; dres = g where not NULL.
	void (*norm_backward)(void *dx, void *dres, const void *dy, const void *dy2, const void *y, const void *x, const float *mean, const float *a, const float *b, const float *k, int64_t rows, int64_t c, int nt);
	void (*max_pool)(void *y, uint8_t *index, const void *x, int64_t n, int64_t h, int64_t w, int64_t c, int64_t oh, int64_t ow, int kernel, int stride, int pad, int nt);
	void (*max_pool_backward)(void *dx, const void *dy, const uint8_t *index, int64_t n, int64_t h, int64_t w, int64_t c, int64_t oh, int64_t ow, int kernel, int stride, int pad, int nt);
	void (*avg_pool)(float *y, const void *x, int64_t n, int64_t places, int64_t c, int nt);
	void (*avg_pool_backward)(void *dx, const float *dy, int64_t n, int64_t places, int64_t c, int nt);
	void (*add)(void *dst, const void *a, const void *b, int64_t n, int nt);
} swav_activation_kernels;

typedef struct {
	const char *isa;
	swav_activation_kernels f, b;
	void (*round_bf16)(uint16_t *dst, const float *src, int64_t n, int nt);
	void (*widen_bf16)(float *dst, const uint16_t *src, int64_t n, int nt);
	void (*copy)(void *dst, const void *src, int64_t bytes, int nt);
	void (*accumulate)(float *dst, const float *src, int64_t n, int nt);
	void (*scale)(float *x, float s, int64_t n, int nt);
	double (*sum_squares)(const float *x, int64_t n, int nt);
	void (*add_bias)(float *y, const float *b, int64_t rows, int64_t c, int nt);
	void (*column_sums)(float *db, const float *dy, int64_t rows, int64_t c, int nt);
	void (*normalize)(float *y, float *norms, const float *x, int64_t rows, int64_t c, int nt);
	void (*normalize_backward)(float *dx, const float *dy, const float *y, const float *norms, int64_t rows, int64_t c, int nt);
	void (*normalize_rows)(float *w, int64_t rows, int64_t c, int nt);
	// Sinkhorn in parts, between which ranks meet. With v the factors of the samples,
	// 1 / (e u): e = exp((s - top)/epsilon) and its column sums; column sums of e v;
	// codes = u e v. parts is scratch, k a thread.
	void (*range)(const float *x, int64_t n, float *least, float *most);
	void (*exp_scores)(float *e, double *sums, double *parts, const float *s, int64_t rows, int64_t k, float top, float inv_epsilon, int nt);
	void (*weigh)(double *sums, double *parts, const float *e, const float *u, int64_t rows, int64_t k, int nt);
	void (*codes)(float *codes, const float *e, const float *u, int64_t rows, int64_t k, int hard, int nt);
	// loss of rows of scores; row_loss has one entry a row.
	void (*swap_loss)(double *row_loss, float *dscores, const float *scores, const float *const *codes, const int32_t *assign, int n_assign, int64_t views, int64_t batch, int64_t k, float inv_temperature, int nt);
	// loss of columns of scores, rows of which are stride apart; row r has
	// labels[r % batch], negative where it does not count.
	void (*cluster_loss)(double *row_loss, float *dscores, const float *scores, const float *labels, int64_t rows, int64_t batch, int64_t stride, int64_t k, float weight, float inv_temperature, int nt);
	// partial sums of squares of blocks of w and g: out[2i], out[2i+1].
	void (*block_norms)(double *out, const float *w, const float *g, const int64_t *offsets, const int64_t *lens, int64_t blocks, int nt);
	// m = momentum m + factor (g + decay w); w -= lr m, per block.
	void (*sgd)(float *w, float *m, const float *g, const int64_t *offsets, const int64_t *lens, const float *factors, const float *decays, int64_t blocks, float lr, float momentum, int nt);
	// m = beta1 m + gain1 g; v = beta2 v + gain2 g²; w = w (1 - lr decay) -
	// lr c1 m / (sqrt(c2 v) + eps), per block.
	void (*adamw)(float *w, float *m, float *v, const float *g, const int64_t *offsets, const int64_t *lens, const float *decays, int64_t blocks, float lr, float beta1, float beta2, float gain1, float gain2, float eps, float c1, float c2, int nt);
	// Of a search for nearest neighbours (search_body.h), on the calling thread.
	// search_queries and search_refs are how many lie together: m queries
	// [m / queries][k][queries], n references [n / refs][k][refs], whole tiles.
	// search_above writes for query i which references have a product above
	// bounds[i], in rising order, to index[i n:], the products to sims[i n:] and how
	// many they are to counts[i].
	int32_t search_queries, search_refs;
	void (*search_above)(const float *q, int64_t m, const float *r, int64_t n, int64_t k, const float *bounds, uint32_t *index, float *sims, int32_t *counts);
	// The same for k pairs of bfloat16, the first of a pair in the low half; NULL where
	// the instruction set has no products of bfloat16.
	void (*search_above_bf16)(const uint32_t *q, int64_t m, const uint32_t *r, int64_t n, int64_t k, const float *bounds, uint32_t *index, float *sims, int32_t *counts);
	// d[i] = q · row index[i] of x [·][k].
	void (*search_dots)(double *d, const float *q, const float *x, int64_t k, const uint32_t *index, int64_t n);
} swav_kernels;

extern const swav_kernels swav_kernels_base;
#if defined(__x86_64__)
extern const swav_kernels swav_kernels_avx2, swav_kernels_avx512, swav_kernels_avx512bf16;
#endif

// swav_choose_kernels returns the table for this processor, or the named one
// ("" for the best; NULL if it does not exist or cannot run here).
const swav_kernels *swav_choose_kernels(const char *isa);

#endif
