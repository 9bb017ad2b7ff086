//go:build cgo

#include "conv.h"

#include <omp.h>
#include <oneapi/dnnl/dnnl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TRY(call)                   \
	do {                            \
		dnnl_status_t s_ = (call);  \
		if (s_ != dnnl_success)     \
			return (int)s_;         \
	} while (0)

// The library's second and third interface differ in how memory is described
// (by value or by handle) and in how convolutions are; the rest of this file
// knows only what this section defines.
#if DNNL_VERSION_MAJOR >= 3

typedef dnnl_memory_desc_t desc;
typedef const_dnnl_memory_desc_t const_desc;
#define PD(pd) (pd)

static dnnl_status_t desc_tag(desc *d, int n, const dnnl_dims_t dims, dnnl_data_type_t t, dnnl_format_tag_t tag) {
	return dnnl_memory_desc_create_with_tag(d, n, dims, t, tag);
}
static const_desc desc_ref(const desc *d) { return *d; }
static void desc_free(desc *d) { dnnl_memory_desc_destroy(*d); }
static size_t desc_size(const_desc d) { return dnnl_memory_desc_get_size(d); }

static dnnl_status_t pd_forward(dnnl_primitive_desc_t *pd, dnnl_engine_t e, dnnl_primitive_attr_t a, int inference, desc *x, desc *w, desc *b, desc *y, const dnnl_dims_t stride, const dnnl_dims_t pad) {
	dnnl_dims_t dilate = {0, 0};
	return dnnl_convolution_forward_primitive_desc_create(pd, e, inference ? dnnl_forward_inference : dnnl_forward_training, dnnl_convolution_auto, *x, *w, b ? *b : NULL, *y, stride, dilate, pad, pad, a);
}
static dnnl_status_t pd_data(dnnl_primitive_desc_t *pd, dnnl_engine_t e, dnnl_primitive_attr_t a, desc *x, desc *w, desc *y, const dnnl_dims_t stride, const dnnl_dims_t pad, dnnl_primitive_desc_t hint) {
	dnnl_dims_t dilate = {0, 0};
	return dnnl_convolution_backward_data_primitive_desc_create(pd, e, dnnl_convolution_direct, *x, *w, *y, stride, dilate, pad, pad, hint, a);
}
static dnnl_status_t pd_weights(dnnl_primitive_desc_t *pd, dnnl_engine_t e, dnnl_primitive_attr_t a, desc *x, desc *w, desc *y, const dnnl_dims_t stride, const dnnl_dims_t pad, dnnl_primitive_desc_t hint) {
	dnnl_dims_t dilate = {0, 0};
	return dnnl_convolution_backward_weights_primitive_desc_create(pd, e, dnnl_convolution_direct, *x, *w, NULL, *y, stride, dilate, pad, pad, hint, a);
}

#else

typedef dnnl_memory_desc_t desc;
typedef const dnnl_memory_desc_t *const_desc;

static dnnl_status_t desc_tag(desc *d, int n, const dnnl_dims_t dims, dnnl_data_type_t t, dnnl_format_tag_t tag) {
	return dnnl_memory_desc_init_by_tag(d, n, dims, t, tag);
}
static const_desc desc_ref(const desc *d) { return d; }
static void desc_free(desc *d) { (void)d; }
static size_t desc_size(const_desc d) { return dnnl_memory_desc_get_size(d); }

static dnnl_status_t pd_forward(dnnl_primitive_desc_t *pd, dnnl_engine_t e, dnnl_primitive_attr_t a, int inference, desc *x, desc *w, desc *b, desc *y, const dnnl_dims_t stride, const dnnl_dims_t pad) {
	dnnl_convolution_desc_t c;
	dnnl_status_t s = dnnl_convolution_forward_desc_init(&c, inference ? dnnl_forward_inference : dnnl_forward_training, dnnl_convolution_auto, x, w, b, y, stride, pad, pad);
	return s != dnnl_success ? s : dnnl_primitive_desc_create(pd, &c, a, e, NULL);
}
static dnnl_status_t pd_data(dnnl_primitive_desc_t *pd, dnnl_engine_t e, dnnl_primitive_attr_t a, desc *x, desc *w, desc *y, const dnnl_dims_t stride, const dnnl_dims_t pad, dnnl_primitive_desc_t hint) {
	dnnl_convolution_desc_t c;
	dnnl_status_t s = dnnl_convolution_backward_data_desc_init(&c, dnnl_convolution_direct, x, w, y, stride, pad, pad);
	return s != dnnl_success ? s : dnnl_primitive_desc_create(pd, &c, a, e, hint);
}
static dnnl_status_t pd_weights(dnnl_primitive_desc_t *pd, dnnl_engine_t e, dnnl_primitive_attr_t a, desc *x, desc *w, desc *y, const dnnl_dims_t stride, const dnnl_dims_t pad, dnnl_primitive_desc_t hint) {
	dnnl_convolution_desc_t c;
	dnnl_status_t s = dnnl_convolution_backward_weights_desc_init(&c, dnnl_convolution_direct, x, w, NULL, y, stride, pad, pad);
	return s != dnnl_success ? s : dnnl_primitive_desc_create(pd, &c, a, e, hint);
}

#endif

static const_desc desc_of(const_dnnl_memory_t m) {
	const_desc d = NULL;
	dnnl_memory_get_memory_desc(m, &d);
	return d;
}

struct swav_dnn {
	dnnl_engine_t engine;
	dnnl_stream_t stream;
	void *scratch; // of the primitive that runs; they run one after another
	size_t scratch_size;
};

// primitive is one of a convolution's three, with the memory objects of its
// arguments; the scratchpad comes last.
typedef struct {
	dnnl_primitive_t prim;
	dnnl_exec_arg_t args[5];
	int set, bias;
} primitive;

// packed holds weights, or their gradient, in the library's layout.
typedef struct {
	dnnl_memory_t mem;
	void *data;
	dnnl_primitive_t reorder;
	dnnl_memory_t user;
} packed;

struct swav_conv {
	swav_dnn *d;
	primitive fwd, data, weights;
	packed wf, wb, dw;
};

int swav_dnn_create(swav_dnn **out, int threads) {
	omp_set_num_threads(threads);
	swav_dnn *d = calloc(1, sizeof *d);
	if (!d)
		return dnnl_out_of_memory;
	*out = d;
	TRY(dnnl_engine_create(&d->engine, dnnl_cpu, 0));
	TRY(dnnl_stream_create(&d->stream, d->engine, dnnl_stream_default_flags));
	return 0;
}

void swav_dnn_destroy(swav_dnn *d) {
	if (!d)
		return;
	if (d->stream)
		dnnl_stream_destroy(d->stream);
	if (d->engine)
		dnnl_engine_destroy(d->engine);
	free(d->scratch);
	free(d);
}

const char *swav_dnn_version(void) {
	static char s[32];
	const dnnl_version_t *v = dnnl_version();
	snprintf(s, sizeof s, "%d.%d.%d", v->major, v->minor, v->patch);
	return s;
}

static int grow(void **p, size_t *have, size_t want) {
	if (want <= *have)
		return 0;
	void *q = NULL;
	if (posix_memalign(&q, 64, want))
		return dnnl_out_of_memory;
	free(*p);
	*p = q;
	*have = want;
	return 0;
}

static int bind_arg(swav_dnn *d, primitive *p, int i, int arg, const_desc md) {
	p->args[i].arg = arg;
	return dnnl_memory_create(&p->args[i].memory, md, d->engine, DNNL_MEMORY_NONE);
}

// epilogue makes attributes of what follows the sums of a forward pass.
static int epilogue(dnnl_primitive_attr_t attr, int residual, int relu) {
	dnnl_post_ops_t ops;
	TRY(dnnl_post_ops_create(&ops));
	dnnl_status_t s = dnnl_success;
#if DNNL_VERSION_MAJOR >= 3
	if (residual)
		s = dnnl_post_ops_append_sum(ops, 1.0f, 0, dnnl_data_type_undef);
	if (relu && s == dnnl_success)
		s = dnnl_post_ops_append_eltwise(ops, dnnl_eltwise_relu, 0, 0);
#else
	if (residual)
		s = dnnl_post_ops_append_sum(ops, 1.0f);
	if (relu && s == dnnl_success)
		s = dnnl_post_ops_append_eltwise(ops, 1.0f, dnnl_eltwise_relu, 0, 0);
#endif
	if (s == dnnl_success)
		s = dnnl_primitive_attr_set_post_ops(attr, ops);
	dnnl_post_ops_destroy(ops);
	return s;
}

// adding makes attributes by which a reorder adds to what is there.
static int adding(dnnl_primitive_attr_t *attr) {
	dnnl_post_ops_t ops;
	TRY(dnnl_primitive_attr_create(attr));
	TRY(dnnl_post_ops_create(&ops));
#if DNNL_VERSION_MAJOR >= 3
	dnnl_status_t s = dnnl_post_ops_append_sum(ops, 1.0f, 0, dnnl_data_type_undef);
#else
	dnnl_status_t s = dnnl_post_ops_append_sum(ops, 1.0f);
#endif
	if (s == dnnl_success)
		s = dnnl_primitive_attr_set_post_ops(*attr, ops);
	dnnl_post_ops_destroy(ops);
	return s;
}

// pack makes room for weights of the given layout and the reorder between it
// and float32 OIHW: toward the layout, or, for gradients, back and added.
static int pack(swav_dnn *d, packed *k, const_desc md, const_desc user, int back) {
	if (posix_memalign(&k->data, 64, desc_size(md)))
		return dnnl_out_of_memory;
	TRY(dnnl_memory_create(&k->mem, md, d->engine, k->data));
	TRY(dnnl_memory_create(&k->user, user, d->engine, DNNL_MEMORY_NONE));
	dnnl_primitive_desc_t pd;
	dnnl_primitive_attr_t attr = NULL;
	if (back)
		TRY(adding(&attr));
	dnnl_status_t s = back ? dnnl_reorder_primitive_desc_create(&pd, md, d->engine, user, d->engine, attr)
	                       : dnnl_reorder_primitive_desc_create(&pd, user, d->engine, md, d->engine, NULL);
	if (attr)
		dnnl_primitive_attr_destroy(attr);
	TRY(s);
	s = dnnl_primitive_create(&k->reorder, pd);
	dnnl_primitive_desc_destroy(pd);
	return s;
}

static int repack(swav_dnn *d, packed *k, void *user, int back) {
	TRY(dnnl_memory_set_data_handle(k->user, user));
	dnnl_exec_arg_t args[2] = {{DNNL_ARG_FROM, back ? k->mem : k->user}, {DNNL_ARG_TO, back ? k->user : k->mem}};
	TRY(dnnl_primitive_execute(k->reorder, d->stream, 2, args));
	return dnnl_stream_wait(d->stream);
}

static void note(char *impl, size_t size, dnnl_primitive_desc_t pd) {
	const char *name = "?";
	dnnl_primitive_desc_query(pd, dnnl_query_impl_info_str, 0, &name);
	size_t n = strlen(impl);
	snprintf(impl + n, size - n, "%s%s", n ? "|" : "", name);
}

// finish creates the primitive of pd and its scratchpad argument.
static int finish(swav_conv *c, primitive *p, dnnl_primitive_desc_t pd, char *impl, size_t impl_size) {
	note(impl, impl_size, pd);
	TRY(dnnl_primitive_create(&p->prim, pd));
	const_desc scratch = dnnl_primitive_desc_query_md(pd, dnnl_query_scratchpad_md, 0);
	TRY(grow(&c->d->scratch, &c->d->scratch_size, desc_size(scratch)));
	TRY(bind_arg(c->d, p, 3, DNNL_ARG_SCRATCHPAD, scratch));
	p->set = 1;
	return 0;
}

int swav_conv_create(swav_conv **out, swav_dnn *d, const swav_conv_params *p, char *impl, size_t impl_size) {
	swav_conv *c = calloc(1, sizeof *c);
	if (!c)
		return dnnl_out_of_memory;
	*out = c; // the caller destroys it also after an error
	c->d = d;
	impl[0] = 0;

	dnnl_data_type_t t = p->bf16 ? dnnl_bf16 : dnnl_f32;
	const swav_geometry *g = &p->g;
	dnnl_dims_t xd = {g->batch, g->in, g->height, g->width}, yd = {g->batch, g->out, g->out_height, g->out_width};
	dnnl_dims_t wd = {g->out, g->in, g->kernel, g->kernel}, stride = {g->stride, g->stride}, pad = {g->pad, g->pad};
	desc x, y, any, any32, plain;
	TRY(desc_tag(&x, 4, xd, t, dnnl_nhwc));
	TRY(desc_tag(&y, 4, yd, t, dnnl_nhwc));
	TRY(desc_tag(&any, 4, wd, t, dnnl_format_tag_any));
	TRY(desc_tag(&any32, 4, wd, dnnl_f32, dnnl_format_tag_any));
	TRY(desc_tag(&plain, 4, wd, dnnl_f32, dnnl_oihw));
	dnnl_primitive_attr_t attr;
	TRY(dnnl_primitive_attr_create(&attr));
	TRY(dnnl_primitive_attr_set_scratchpad_mode(attr, dnnl_scratchpad_mode_user));

	dnnl_primitive_desc_t fwd = NULL, bwd = NULL;
	dnnl_primitive_attr_t after = attr;
	desc bias;
	if (p->bias) {
		dnnl_dims_t bd = {g->out};
		TRY(desc_tag(&bias, 1, bd, dnnl_f32, dnnl_a));
		TRY(dnnl_primitive_attr_create(&after));
		TRY(dnnl_primitive_attr_set_scratchpad_mode(after, dnnl_scratchpad_mode_user));
		TRY(epilogue(after, p->residual, p->relu));
	}
	TRY(pd_forward(&fwd, d->engine, after, p->inference, &x, &any, p->bias ? &bias : NULL, &y, stride, pad));
	if (p->bias) {
		TRY(bind_arg(d, &c->fwd, 4, DNNL_ARG_BIAS, desc_ref(&bias)));
		c->fwd.bias = 1;
		dnnl_primitive_attr_destroy(after);
		desc_free(&bias);
	}
	const_desc w = dnnl_primitive_desc_query_md(fwd, dnnl_query_weights_md, 0);
	TRY(pack(d, &c->wf, w, desc_ref(&plain), 0));
	TRY(bind_arg(d, &c->fwd, 0, DNNL_ARG_SRC, desc_ref(&x)));
	c->fwd.args[1] = (dnnl_exec_arg_t){DNNL_ARG_WEIGHTS, c->wf.mem};
	TRY(bind_arg(d, &c->fwd, 2, DNNL_ARG_DST, desc_ref(&y)));
	TRY(finish(c, &c->fwd, fwd, impl, impl_size));

	if (!p->inference && !p->no_data) {
		TRY(pd_data(&bwd, d->engine, attr, &x, &any, &y, stride, pad, fwd));
		w = dnnl_primitive_desc_query_md(bwd, dnnl_query_weights_md, 0);
		TRY(pack(d, &c->wb, w, desc_ref(&plain), 0));
		TRY(bind_arg(d, &c->data, 0, DNNL_ARG_DIFF_DST, desc_ref(&y)));
		c->data.args[1] = (dnnl_exec_arg_t){DNNL_ARG_WEIGHTS, c->wb.mem};
		TRY(bind_arg(d, &c->data, 2, DNNL_ARG_DIFF_SRC, desc_ref(&x)));
		TRY(finish(c, &c->data, bwd, impl, impl_size));
		dnnl_primitive_desc_destroy(bwd);
	}
	if (!p->inference && !p->no_weights) {
		TRY(pd_weights(&bwd, d->engine, attr, &x, &any32, &y, stride, pad, fwd));
		w = dnnl_primitive_desc_query_md(bwd, dnnl_query_diff_weights_md, 0);
		TRY(pack(d, &c->dw, w, desc_ref(&plain), 1));
		TRY(bind_arg(d, &c->weights, 0, DNNL_ARG_SRC, desc_ref(&x)));
		c->weights.args[1] = (dnnl_exec_arg_t){DNNL_ARG_DIFF_WEIGHTS, c->dw.mem};
		TRY(bind_arg(d, &c->weights, 2, DNNL_ARG_DIFF_DST, desc_ref(&y)));
		TRY(finish(c, &c->weights, bwd, impl, impl_size));
		dnnl_primitive_desc_destroy(bwd);
	}
	dnnl_primitive_desc_destroy(fwd);
	dnnl_primitive_attr_destroy(attr);
	desc_free(&x);
	desc_free(&y);
	desc_free(&any);
	desc_free(&any32);
	desc_free(&plain);
	return 0;
}

static void destroy(primitive *p) {
	if (p->prim)
		dnnl_primitive_destroy(p->prim);
	for (int i = 0; i < 5; i++)
		if (i != 1 && p->args[i].memory) // 1 belongs to the packed weights
			dnnl_memory_destroy(p->args[i].memory);
}

static void unpack(packed *k) {
	if (k->reorder)
		dnnl_primitive_destroy(k->reorder);
	if (k->mem)
		dnnl_memory_destroy(k->mem);
	if (k->user)
		dnnl_memory_destroy(k->user);
	free(k->data);
}

void swav_conv_destroy(swav_conv *c) {
	if (!c)
		return;
	destroy(&c->fwd);
	destroy(&c->data);
	destroy(&c->weights);
	unpack(&c->wf);
	unpack(&c->wb);
	unpack(&c->dw);
	free(c);
}

static int execute(swav_conv *c, primitive *p, void *first, void *third) {
	if (!p->set)
		return dnnl_invalid_arguments;
	TRY(dnnl_memory_set_data_handle(p->args[0].memory, first));
	TRY(dnnl_memory_set_data_handle(p->args[2].memory, third));
	TRY(dnnl_memory_set_data_handle(p->args[3].memory, c->d->scratch));
	TRY(dnnl_primitive_execute(p->prim, c->d->stream, p->bias ? 5 : 4, p->args));
	return dnnl_stream_wait(c->d->stream);
}

int swav_conv_weights(swav_conv *c, const float *w) {
	TRY(repack(c->d, &c->wf, (void *)w, 0));
	if (c->wb.mem)
		TRY(repack(c->d, &c->wb, (void *)w, 0));
	return 0;
}

// same tells whether two packings have one layout; both may be absent.
static int same(const packed *a, const packed *b) {
	return !a->mem == !b->mem && (!a->mem || dnnl_memory_desc_equal(desc_of(a->mem), desc_of(b->mem)));
}

static int borrow(packed *k, const packed *from) {
	if (!k->mem)
		return 0;
	free(k->data);
	k->data = NULL;
	return dnnl_memory_set_data_handle(k->mem, from->data);
}

int swav_conv_share(swav_conv *c, const swav_conv *from) {
	if (!from->wf.data || !same(&c->wf, &from->wf) || !same(&c->wb, &from->wb))
		return 0;
	return borrow(&c->wf, &from->wf) == dnnl_success && borrow(&c->wb, &from->wb) == dnnl_success;
}

int swav_conv_forward(swav_conv *c, void *y, const void *x) { return execute(c, &c->fwd, (void *)x, y); }

int swav_conv_forward_bias(swav_conv *c, void *y, const void *x, const float *bias) {
	TRY(dnnl_memory_set_data_handle(c->fwd.args[4].memory, (void *)bias));
	return execute(c, &c->fwd, (void *)x, y);
}

int swav_conv_backward_data(swav_conv *c, void *dx, const void *dy) { return execute(c, &c->data, (void *)dy, dx); }

int swav_conv_backward_weights(swav_conv *c, float *dw, const void *x, const void *dy) {
	TRY(execute(c, &c->weights, (void *)x, (void *)dy));
	return repack(c->d, &c->dw, dw, 1);
}

int swav_gemm(int ta, int tb, int64_t m, int64_t n, int64_t k, const float *a, int64_t lda, const float *b, int64_t ldb, float beta, float *c, int64_t ldc) {
	return (int)dnnl_sgemm(ta ? 'T' : 'N', tb ? 'T' : 'N', m, n, k, 1.0f, a, lda, b, ldb, beta, c, ldc);
}

int swav_gemm_alone(int ta, int tb, int64_t m, int64_t n, int64_t k, const float *a, int64_t lda, const float *b, int64_t ldb, float beta, float *c, int64_t ldc) {
	int threads = omp_get_max_threads(); // of this operating-system thread alone
	omp_set_num_threads(1);
	int status = swav_gemm(ta, tb, m, n, k, a, lda, b, ldb, beta, c, ldc);
	omp_set_num_threads(threads);
	return status;
}
