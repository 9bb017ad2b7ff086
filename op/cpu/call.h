// Go cannot call through a C function pointer, so each kernel of the chosen
// table has a trampoline; t tells that activations are bfloat16.
#ifndef SWAV_CALL_H
#define SWAV_CALL_H

#include "kernels.h"

#define TBL(k, bf16) ((bf16) ? &(k)->b : &(k)->f)
static inline const char *k_isa(const swav_kernels *k) { return k->isa; }
static inline void k_norm_sums(const swav_kernels *k, int t, const void *x, int64_t rows, int64_t c, double *sums, double *scratch, int nt) { TBL(k, t)->norm_sums(x, rows, c, sums, scratch, nt); }
static inline void k_norm_apply(const swav_kernels *k, int t, void *y, const void *x, const void *r, const float *mean, const float *scale, const float *shift, int64_t rows, int64_t c, int relu, int nt) { TBL(k, t)->norm_apply(y, x, r, mean, scale, shift, rows, c, relu, nt); }
static inline void k_norm_backward_sums(const swav_kernels *k, int t, const void *dy, const void *dy2, const void *y, const void *x, const float *mean, int64_t rows, int64_t c, double *sums, double *scratch, int nt) { TBL(k, t)->norm_backward_sums(dy, dy2, y, x, mean, rows, c, sums, scratch, nt); }
static inline void k_norm_backward(const swav_kernels *k, int t, void *dx, void *dres, const void *dy, const void *dy2, const void *y, const void *x, const float *mean, const float *a, const float *b, const float *kk, int64_t rows, int64_t c, int nt) { TBL(k, t)->norm_backward(dx, dres, dy, dy2, y, x, mean, a, b, kk, rows, c, nt); }
static inline void k_max_pool(const swav_kernels *k, int t, void *y, uint8_t *index, const void *x, int64_t n, int64_t h, int64_t w, int64_t c, int64_t oh, int64_t ow, int kernel, int stride, int pad, int nt) { TBL(k, t)->max_pool(y, index, x, n, h, w, c, oh, ow, kernel, stride, pad, nt); }
static inline void k_max_pool_backward(const swav_kernels *k, int t, void *dx, const void *dy, const uint8_t *index, int64_t n, int64_t h, int64_t w, int64_t c, int64_t oh, int64_t ow, int kernel, int stride, int pad, int nt) { TBL(k, t)->max_pool_backward(dx, dy, index, n, h, w, c, oh, ow, kernel, stride, pad, nt); }
static inline void k_avg_pool(const swav_kernels *k, int t, float *y, const void *x, int64_t n, int64_t places, int64_t c, int nt) { TBL(k, t)->avg_pool(y, x, n, places, c, nt); }
static inline void k_avg_pool_backward(const swav_kernels *k, int t, void *dx, const float *dy, int64_t n, int64_t places, int64_t c, int nt) { TBL(k, t)->avg_pool_backward(dx, dy, n, places, c, nt); }
static inline void k_add(const swav_kernels *k, int t, void *dst, const void *a, const void *b, int64_t n, int nt) { TBL(k, t)->add(dst, a, b, n, nt); }
static inline void k_round(const swav_kernels *k, void *dst, const void *src, int64_t n, int nt) { k->round_bf16(dst, src, n, nt); }
static inline void k_widen(const swav_kernels *k, void *dst, const void *src, int64_t n, int nt) { k->widen_bf16(dst, src, n, nt); }
static inline void k_copy(const swav_kernels *k, void *dst, const void *src, int64_t bytes, int nt) { k->copy(dst, src, bytes, nt); }
static inline void k_scale(const swav_kernels *k, float *x, float s, int64_t n, int nt) { k->scale(x, s, n, nt); }
static inline double k_sum_squares(const swav_kernels *k, const float *x, int64_t n, int nt) { return k->sum_squares(x, n, nt); }
static inline void k_add_bias(const swav_kernels *k, float *y, const float *b, int64_t rows, int64_t c, int nt) { k->add_bias(y, b, rows, c, nt); }
static inline void k_column_sums(const swav_kernels *k, float *db, const float *dy, int64_t rows, int64_t c, int nt) { k->column_sums(db, dy, rows, c, nt); }
static inline void k_normalize(const swav_kernels *k, float *y, float *norms, const float *x, int64_t rows, int64_t c, int nt) { k->normalize(y, norms, x, rows, c, nt); }
static inline void k_normalize_backward(const swav_kernels *k, float *dx, const float *dy, const float *y, const float *norms, int64_t rows, int64_t c, int nt) { k->normalize_backward(dx, dy, y, norms, rows, c, nt); }
static inline void k_normalize_rows(const swav_kernels *k, float *w, int64_t rows, int64_t c, int nt) { k->normalize_rows(w, rows, c, nt); }
static inline void k_range(const swav_kernels *k, const float *x, int64_t n, float *least, float *most) { k->range(x, n, least, most); }
static inline void k_exp_scores(const swav_kernels *k, float *e, double *sums, double *parts, const float *s, int64_t rows, int64_t kk, float top, float inv, int nt) { k->exp_scores(e, sums, parts, s, rows, kk, top, inv, nt); }
static inline void k_weigh(const swav_kernels *k, double *sums, double *parts, const float *e, const float *u, int64_t rows, int64_t kk, int nt) { k->weigh(sums, parts, e, u, rows, kk, nt); }
static inline void k_codes(const swav_kernels *k, float *q, const float *e, const float *u, int64_t rows, int64_t kk, int hard, int nt) { k->codes(q, e, u, rows, kk, hard, nt); }
static inline void k_swap_loss(const swav_kernels *k, double *row_loss, float *d, const float *s, const float *const *codes, const int32_t *assign, int n, int64_t views, int64_t batch, int64_t kk, float inv, int nt) { k->swap_loss(row_loss, d, s, codes, assign, n, views, batch, kk, inv, nt); }
static inline void k_cluster_loss(const swav_kernels *k, double *row_loss, float *d, const float *s, const float *labels, int64_t rows, int64_t batch, int64_t stride, int64_t kk, float weight, float inv, int nt) { k->cluster_loss(row_loss, d, s, labels, rows, batch, stride, kk, weight, inv, nt); }
static inline void k_block_norms(const swav_kernels *k, double *out, const float *w, const float *g, const int64_t *o, const int64_t *l, int64_t n, int nt) { k->block_norms(out, w, g, o, l, n, nt); }
static inline void k_sgd(const swav_kernels *k, float *w, float *m, const float *g, const int64_t *o, const int64_t *l, const float *f, const float *d, int64_t n, float lr, float mom, int nt) { k->sgd(w, m, g, o, l, f, d, n, lr, mom, nt); }
static inline void k_adamw(const swav_kernels *k, float *w, float *m, float *v, const float *g, const int64_t *o, const int64_t *l, const float *d, int64_t n, float lr, float b1, float b2, float g1, float g2, float eps, float c1, float c2, int nt) { k->adamw(w, m, v, g, o, l, d, n, lr, b1, b2, g1, g2, eps, c1, c2, nt); }
static inline void k_search_above(const swav_kernels *k, const float *q, int64_t m, const float *r, int64_t n, int64_t kk, const float *bounds, uint32_t *index, float *sims, int32_t *counts) { k->search_above(q, m, r, n, kk, bounds, index, sims, counts); }
static inline int k_search_has_bf16(const swav_kernels *k) { return k->search_above_bf16 != NULL; }
static inline void k_search_above_bf16(const swav_kernels *k, const uint32_t *q, int64_t m, const uint32_t *r, int64_t n, int64_t kk, const float *bounds, uint32_t *index, float *sims, int32_t *counts) { k->search_above_bf16(q, m, r, n, kk, bounds, index, sims, counts); }
static inline void k_search_dots(const swav_kernels *k, double *d, const float *q, const float *x, int64_t kk, const uint32_t *index, int64_t n) { k->search_dots(d, q, x, kk, index, n); }

#endif
