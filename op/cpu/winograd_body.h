// Winograd kernels for one data type (BF16) and tile size (TILE); NAME makes
// their names. See winograd.h.
#include "winograd.h"

#include <immintrin.h>
#include <omp.h>
#include <string.h>

#include "tile.h"

#define INLINE static inline __attribute__((always_inline))

enum {
	ALPHA = TILE + 2,
	FREQ = ALPHA * ALPHA,
	STRIP = 6,   // tiles of the forward product's register block
	WIDTH = 64,  // and its output channels
	BLOCK = 48,  // tiles that a thread transforms at a time
	GROUP = BF16 ? 256 : 128, // tiles of one inner loop of the gradient
	PAD = 64,    // floats between the frequencies of a buffer, so that they fall into different cache sets
};

typedef __m512 vec;

#if BF16
typedef uint16_t elem;
typedef uint32_t unit; // what the gradient's panels are made of: a pair of two tiles
#define PAIR 2
INLINE vec load(const elem *p, int there) { return (vec)_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(there ? 0xffff : 0, p)), 16); }
INLINE void store(elem *p, vec v) { _mm256_storeu_si256((__m256i *)p, (__m256i)_mm512_cvtneps_pbh(v)); }
#else
typedef float elem;
typedef float unit;
#define PAIR 1
INLINE vec load(const elem *p, int there) { return _mm512_maskz_loadu_ps(there ? 0xffff : 0, p); }
INLINE void store(elem *p, vec v) { _mm512_storeu_ps(p, v); }
#endif

INLINE vec k(float f) { return _mm512_set1_ps(f); }

// The transforms of one dimension. Operands are s vectors apart.
#if TILE == 2

INLINE void input_1d(vec *o, int so, const vec *d, int s) { // Bᵀ
	vec a = d[0], b = d[s], c = d[2 * s], e = d[3 * s];
	o[0] = a - c, o[so] = b + c, o[2 * so] = c - b, o[3 * so] = b - e;
}
INLINE void output_1d(vec *o, int so, const vec *m, int s) { // Aᵀ
	o[0] = m[0] + m[s] + m[2 * s], o[so] = m[s] - m[2 * s] - m[3 * s];
}
INLINE void slope_1d(vec *o, int so, const vec *y, int s) { // A
	vec a = y[0], b = y[s];
	o[0] = a, o[so] = a + b, o[2 * so] = a - b, o[3 * so] = -b;
}
INLINE void weights_1d(vec *o, int so, const vec *g, int s) { // G
	vec a = g[0], b = g[s], c = g[2 * s], half = k(0.5f);
	o[0] = a, o[so] = (a + b + c) * half, o[2 * so] = (a - b + c) * half, o[3 * so] = c;
}
INLINE void gradient_1d(vec *o, int so, const vec *u, int s) { // Gᵀ
	vec sum = (u[s] + u[2 * s]) * k(0.5f), diff = (u[s] - u[2 * s]) * k(0.5f);
	o[0] = u[0] + sum, o[so] = diff, o[2 * so] = sum + u[3 * s];
}

#else // TILE == 4

// Interpolation at 0, infinity, ±P and ±Q. With 3/4 and 3/2 errors are half those
// of the usual 1 and 2 on average, a quarter at most (bench/notes.md), and
// the constants of input and output are exact.
#define P 0.75f
#define Q 1.5f
#define P2 (P * P)
#define Q2 (Q * Q)
#define NP (2 * P2 * (P2 - Q2)) // products of a point's distances to the others
#define NQ (2 * Q2 * (Q2 - P2))

INLINE void input_1d(vec *o, int so, const vec *d, int s) {
	vec a = d[0], b = d[s], c = d[2 * s], e = d[3 * s], f = d[4 * s], g = d[5 * s];
	vec even = f - k(Q2) * c, odd = k(P) * (e - k(Q2) * b), even2 = f - k(P2) * c, odd2 = k(Q) * (e - k(P2) * b);
	o[0] = k(P2 * Q2) * a - k(P2 + Q2) * c + f;
	o[so] = even + odd, o[2 * so] = even - odd;
	o[3 * so] = even2 + odd2, o[4 * so] = even2 - odd2;
	o[5 * so] = k(P2 * Q2) * b - k(P2 + Q2) * e + g;
}
INLINE void output_1d(vec *o, int so, const vec *m, int s) {
	vec p = m[s] + m[2 * s], n = m[s] - m[2 * s], p2 = m[3 * s] + m[4 * s], n2 = m[3 * s] - m[4 * s];
	o[0] = m[0] + p + p2, o[so] = k(P) * n + k(Q) * n2;
	o[2 * so] = k(P2) * p + k(Q2) * p2, o[3 * so] = k(P * P2) * n + k(Q * Q2) * n2 + m[5 * s];
}
INLINE void slope_1d(vec *o, int so, const vec *y, int s) {
	vec a = y[0], b = y[s], c = y[2 * s], d = y[3 * s];
	vec even = a + k(P2) * c, odd = k(P) * (b + k(P2) * d), even2 = a + k(Q2) * c, odd2 = k(Q) * (b + k(Q2) * d);
	o[0] = a, o[so] = even + odd, o[2 * so] = even - odd, o[3 * so] = even2 + odd2, o[4 * so] = even2 - odd2, o[5 * so] = d;
}
INLINE void weights_1d(vec *o, int so, const vec *g, int s) {
	vec a = g[0], b = g[s], c = g[2 * s];
	vec even = (a + k(P2) * c) * k(1 / NP), odd = b * k(P / NP), even2 = (a + k(Q2) * c) * k(1 / NQ), odd2 = b * k(Q / NQ);
	o[0] = a * k(1 / (P2 * Q2)), o[so] = even + odd, o[2 * so] = even - odd, o[3 * so] = even2 + odd2, o[4 * so] = even2 - odd2, o[5 * so] = c;
}
INLINE void gradient_1d(vec *o, int so, const vec *u, int s) {
	vec p = (u[s] + u[2 * s]) * k(1 / NP), n = (u[s] - u[2 * s]) * k(P / NP), p2 = (u[3 * s] + u[4 * s]) * k(1 / NQ), n2 = (u[3 * s] - u[4 * s]) * k(Q / NQ);
	o[0] = u[0] * k(1 / (P2 * Q2)) + p + p2, o[so] = n + n2, o[2 * so] = k(P2) * p + k(Q2) * p2 + u[5 * s];
}

#endif

// Tiles are counted over columns, rows and images of the output.
typedef struct {
	int64_t rows, cols, all;
} grid;

INLINE grid tiles_of(const swav_geometry *g) {
	grid t = {up(g->out_height, TILE), up(g->out_width, TILE), 0};
	t.all = g->batch * t.rows * t.cols;
	return t;
}

// A run is tiles of one row of tiles.
typedef struct {
	int64_t n, row, col, count;
} run;

INLINE run run_at(grid t, int64_t tile, int64_t to) {
	run r = {tile / t.cols / t.rows, tile / t.cols % t.rows, tile % t.cols, 0};
	r.count = least(to - tile, t.cols - r.col);
	return r;
}

// Elements between two frequencies of n tiles of c channels.
INLINE int64_t apart(int64_t n, int64_t c) { return n * c + PAD * (4 / (int64_t)sizeof(elem)); }

// put stores one vector of a panel of `width` channels for the gradient: tile t
// of steps, channels c and following.
INLINE void put(unit *panel, int64_t t, int64_t c, int64_t steps, int width, vec v) {
	int64_t step = t / PAIR;
	unit *p = panel + c / width * steps * width + step * width + c % width;
	const int64_t next = width == ROWS ? steps * ROWS : 8;
#if BF16
	__m512i bits = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(v));
	__m256i lo = _mm512_castsi512_si256(bits), hi = _mm512_extracti64x4_epi64(bits, 1);
	if (t % 2) {
		lo = _mm256_or_si256(_mm256_slli_epi32(lo, 16), _mm256_loadu_si256((__m256i *)p));
		hi = _mm256_or_si256(_mm256_slli_epi32(hi, 16), _mm256_loadu_si256((__m256i *)(p + next)));
	}
	_mm256_storeu_si256((__m256i *)p, lo);
	_mm256_storeu_si256((__m256i *)(p + next), hi);
#else
	_mm256_storeu_ps(p, _mm512_castps512_ps256(v));
	_mm256_storeu_ps(p + next, _mm512_extractf32x8_ps(v, 1));
#endif
}

// A piece of the input that will be read soon.
typedef struct {
	const elem *at;
	int64_t bytes;
} piece;

// piece_of is what tiles [from, to) read of an activation of c channels, rows high
// and wide, as one range from their first row's to their last.
INLINE piece piece_of(const elem *x, const grid t, int64_t high, int64_t wide, int64_t c, int64_t from, int64_t to) {
	int64_t place[2], tile[2] = {from, least(to, t.all)};
	for (int i = 0; i < 2; i++) {
		run r = run_at(t, tile[i], t.all);
		place[i] = (r.n * high + least(r.row * TILE, high)) * wide + least(r.col * TILE, wide);
	}
	return (piece){x + place[0] * c, place[1] > place[0] ? (place[1] - place[0]) * c * (int64_t)sizeof(elem) : 0};
}

// column transforms one column of ALPHA pixels of the input.
INLINE void column(vec *o, const elem *x, const int64_t *row, const int *there, int64_t w, const swav_geometry *g) {
	vec d[ALPHA];
	int inside = w >= 0 && w < g->width;
#pragma GCC unroll 8
	for (int r = 0; r < ALPHA; r++)
		d[r] = load(x + (inside && there[r] ? row[r] + w * g->in : 0), inside && there[r]);
	input_1d(o, 1, d, 1);
}

// input transforms tiles [from, to) of x: for the forward product to v
// [FREQ][tile][in], for the gradient (steps > 0) to panels [FREQ][in / ROWS][step][ROWS].
INLINE void input(void *v, int64_t between, int64_t first, int64_t steps, const elem *x, const swav_geometry *g, int64_t from, int64_t to) {
	const grid t = tiles_of(g);
	for (int64_t c = 0; c < g->in; c += 16)
		for (int64_t at = from; at < to;) {
			run r = run_at(t, at, to);
			int64_t row[ALPHA];
			int there[ALPHA];
			for (int i = 0; i < ALPHA; i++) {
				int64_t h = r.row * TILE + i - g->pad;
				there[i] = h >= 0 && h < g->height;
				row[i] = (r.n * g->height + h) * g->width * g->in + c;
			}
			vec d[ALPHA][ALPHA]; // columns
#pragma GCC unroll 8
			for (int i = 0; i < 2; i++)
				column(d[TILE + i], x, row, there, r.col * TILE + i - g->pad, g);
			for (int64_t j = 0; j < r.count; j++, at++) {
				int64_t w = (r.col + j) * TILE - g->pad;
#pragma GCC unroll 8
				for (int i = 0; i < 2; i++)
#pragma GCC unroll 8
					for (int h = 0; h < ALPHA; h++)
						d[i][h] = d[TILE + i][h];
#pragma GCC unroll 8
				for (int i = 2; i < ALPHA; i++)
					column(d[i], x, row, there, w + i, g);
#pragma GCC unroll 8
				for (int h = 0; h < ALPHA; h++) {
					vec o[ALPHA];
					input_1d(o, 1, &d[0][h], ALPHA);
#pragma GCC unroll 8
					for (int i = 0; i < ALPHA; i++)
						if (steps)
							put((unit *)v + (h * ALPHA + i) * between, at - first, c, steps, ROWS, o[i]);
						else
							store((elem *)v + (h * ALPHA + i) * between + (at - first) * g->in + c, o[i]);
				}
			}
		}
}

// slopes transforms tiles [from, to) of dy to panels [FREQ][out / COLS][step][COLS].
INLINE void slopes(unit *v, int64_t between, int64_t first, int64_t steps, const elem *dy, const swav_geometry *g, int64_t from, int64_t to) {
	const grid t = tiles_of(g);
	for (int64_t c = 0; c < g->out; c += 16)
		for (int64_t at = from; at < to;) {
			run r = run_at(t, at, to);
			for (int64_t j = 0; j < r.count; j++, at++) {
				vec y[TILE][TILE], d[ALPHA][TILE];
#pragma GCC unroll 8
				for (int h = 0; h < TILE; h++)
#pragma GCC unroll 8
					for (int w = 0; w < TILE; w++) {
						int64_t oh = r.row * TILE + h, ow = (r.col + j) * TILE + w;
						int there = oh < g->out_height && ow < g->out_width;
						y[h][w] = load(dy + (there ? ((r.n * g->out_height + oh) * g->out_width + ow) * g->out + c : 0), there);
					}
#pragma GCC unroll 8
				for (int w = 0; w < TILE; w++)
					slope_1d(&d[0][w], TILE, &y[0][w], TILE);
#pragma GCC unroll 8
				for (int h = 0; h < ALPHA; h++) {
					vec o[ALPHA];
					slope_1d(o, 1, d[h], 1);
#pragma GCC unroll 8
					for (int i = 0; i < ALPHA; i++)
						put(v + (h * ALPHA + i) * between, at - first, c, steps, COLS, o[i]);
				}
			}
		}
}

// product computes m [STRIP][WIDTH] from v [STRIP][in] and u [in][16 nv].
INLINE void product(float *m, const elem *v, const elem *u, int64_t in, const int nv) {
	vec a[STRIP][4];
#pragma GCC unroll 8
	for (int i = 0; i < STRIP; i++)
#pragma GCC unroll 8
		for (int j = 0; j < nv; j++)
			a[i][j] = _mm512_setzero_ps();
	for (int64_t c = 0; c < in; c += PAIR) {
#if BF16
		__m512bh b[4];
#pragma GCC unroll 8
		for (int j = 0; j < nv; j++)
			b[j] = (__m512bh)_mm512_loadu_si512(u + (c * nv + 2 * j) * 16);
#pragma GCC unroll 8
		for (int i = 0; i < STRIP; i++) {
			uint32_t pair;
			memcpy(&pair, v + i * in + c, 4);
			__m512bh s = (__m512bh)_mm512_set1_epi32((int)pair);
#pragma GCC unroll 8
			for (int j = 0; j < nv; j++)
				a[i][j] = _mm512_dpbf16_ps(a[i][j], b[j], s);
		}
#else
		vec b[4];
#pragma GCC unroll 8
		for (int j = 0; j < nv; j++)
			b[j] = _mm512_loadu_ps(u + (c * nv + j) * 16);
#pragma GCC unroll 8
		for (int i = 0; i < STRIP; i++) {
			vec s = k(v[i * in + c]);
#pragma GCC unroll 8
			for (int j = 0; j < nv; j++)
				a[i][j] = _mm512_fmadd_ps(b[j], s, a[i][j]);
		}
#endif
	}
#pragma GCC unroll 8
	for (int i = 0; i < STRIP; i++)
#pragma GCC unroll 8
		for (int j = 0; j < nv; j++)
			_mm512_storeu_ps(m + i * WIDTH + 16 * j, a[i][j]);
}

// products are instances for each width, functions so that each has all registers.
#define PRODUCT(nv) \
	static __attribute__((noinline)) void product_##nv(float *m, const elem *v, const elem *u, int64_t in) { product(m, v, u, in, nv); }
PRODUCT(1)
PRODUCT(2)
PRODUCT(3)
PRODUCT(4)
#undef PRODUCT
static void (*const products[5])(float *, const elem *, const elem *, int64_t) = {0, product_1, product_2, product_3, product_4};

// output transforms products m [FREQ][tile][WIDTH] of tiles [from, to) to 16 nv
// channels of y from o on.
INLINE void output(elem *y, const float *m, int64_t between, const swav_geometry *g, swav_winograd_after after, int64_t o, int nv, int64_t from, int64_t to) {
	const grid t = tiles_of(g);
	for (int64_t at = from; at < to;) {
		run r = run_at(t, at, to);
		for (int64_t j = 0; j < r.count; j++, at++) {
			int64_t h0 = r.row * TILE, w0 = (r.col + j) * TILE;
			elem *place = y + ((r.n * g->out_height + h0) * g->out_width + w0) * g->out + o;
			const int64_t high = least(TILE, g->out_height - h0), wide = least(TILE, g->out_width - w0);
			for (int q = 0; q < nv; q++) {
				const float *from_ = m + (at - from) * WIDTH + 16 * q;
				vec d[TILE][ALPHA], s[ALPHA];
#pragma GCC unroll 8
				for (int w = 0; w < ALPHA; w++) {
#pragma GCC unroll 8
					for (int h = 0; h < ALPHA; h++)
						s[h] = _mm512_loadu_ps(from_ + (h * ALPHA + w) * between);
					output_1d(&d[0][w], ALPHA, s, 1);
				}
				vec bias = after.bias ? _mm512_loadu_ps(after.bias + o + 16 * q) : _mm512_setzero_ps();
				for (int h = 0; h < high; h++) {
					vec out[TILE];
					output_1d(out, 1, d[h], 1);
#pragma GCC unroll 8
					for (int w = 0; w < TILE; w++)
						if (w < wide) {
							elem *p = place + (h * g->out_width + w) * g->out + 16 * q;
							vec v = out[w] + bias;
							if (after.residual)
								v += load(p, 1);
							if (after.relu)
								v = _mm512_max_ps(_mm512_setzero_ps(), v);
							store(p, v);
						}
				}
			}
		}
	}
}

// Transformed weights are [out / WIDTH][FREQ][in / PAIR][WIDTH or the rest][PAIR].
INLINE int64_t between_u(int64_t in, int64_t width) { return in * width + PAD; }
INLINE int64_t panel_u(const swav_geometry *g, int64_t o) { return o / WIDTH * FREQ * between_u(g->in, WIDTH); }

static int64_t weights_size(const swav_geometry *g) { return panel_u(g, up(g->out, WIDTH) * WIDTH) * (int64_t)sizeof(elem); }

static void weights(void *u, const float *w, const swav_geometry *g, int back, int nt) {
	const int64_t in = g->in, out = g->out;
#pragma omp parallel for schedule(static) num_threads(nt)
	for (int64_t o = 0; o < out; o += 16) {
		int64_t block = o / WIDTH * WIDTH, width = least(WIDTH, out - block);
		for (int64_t i = 0; i < in; i++) {
			vec w9[9], d[ALPHA][3];
			float lanes[9][16];
			for (int l = 0; l < 16; l++) {
				const float *from = back ? w + (i * out + o + l) * 9 : w + ((o + l) * in + i) * 9;
				for (int tap = 0; tap < 9; tap++)
					lanes[back ? 8 - tap : tap][l] = from[tap];
			}
			for (int tap = 0; tap < 9; tap++)
				w9[tap] = _mm512_loadu_ps(lanes[tap]);
			for (int s = 0; s < 3; s++)
				weights_1d(&d[0][s], 3, w9 + s, 3);
			for (int h = 0; h < ALPHA; h++) {
				vec f[ALPHA];
				weights_1d(f, 1, d[h], 1);
				for (int s = 0; s < ALPHA; s++) {
					elem *to = (elem *)u + panel_u(g, block) + (h * ALPHA + s) * between_u(in, width) + (i / PAIR * width + o - block) * PAIR;
#if BF16
					__m512i bits = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(f[s]));
					if (i % 2)
						bits = _mm512_or_si512(_mm512_slli_epi32(bits, 16), _mm512_loadu_si512(to));
					_mm512_storeu_si512(to, bits);
#else
					store(to, f[s]);
#endif
				}
			}
		}
	}
}

// Tiles of a block: fewer where there are many threads and few tiles.
static int64_t block_of(const swav_geometry *g, int nt) {
	int64_t each = up(up(tiles_of(g).all, nt), STRIP) * STRIP;
	return least(each, BLOCK);
}

static int64_t forward_size(const swav_geometry *g, int nt) {
	int64_t block = block_of(g, nt);
	return FREQ * (apart(block, g->in) * (int64_t)sizeof(elem) + (block * WIDTH + PAD) * 4) + 64;
}

static int64_t forward_scratch(const swav_geometry *g, int nt) { return nt * up(forward_size(g, nt), 64) * 64; }

static void forward(void *y, const void *x, const void *u, swav_winograd_after after, void *scratch, const swav_geometry *g, int nt) {
	const grid tiles = tiles_of(g);
	const int64_t all = tiles.all, block = block_of(g, nt), blocks = up(all, block), each = up(forward_size(g, nt), 64) * 64;
	const int64_t between = apart(block, g->in), between_m = block * WIDTH + PAD;
#pragma omp parallel num_threads(nt)
	{
		int t = omp_get_thread_num(), n = omp_get_num_threads();
		elem *v = (elem *)((char *)scratch + t * each);
		float *m = (float *)((char *)v + up(FREQ * between * (int64_t)sizeof(elem), 64) * 64);
		for (int64_t b = blocks * t / n; b < blocks * (t + 1) / n; b++) {
			int64_t from = b * block, to = least(all, from + block);
			input(v, between, from, 0, x, g, from, to);
			const piece coming = piece_of(x, tiles, g->height, g->width, g->in, to, to + block), result = piece_of(y, tiles, g->out_height, g->out_width, g->out, from, to);
			int64_t call = 0, first = FREQ * up(to - from, STRIP), calls = up(g->out, WIDTH) * first;
			for (int64_t o = 0; o < g->out; o += WIDTH) {
				int64_t width = least(WIDTH, g->out - o);
				int nv = (int)(width / 16);
				const elem *panel = (const elem *)u + panel_u(g, o);
				for (int f = 0; f < FREQ; f++)
					for (int64_t i = from; i < to; i += STRIP) {
						if (call < first)
							ahead(result.at, result.bytes, call, first);
						ahead(coming.at, coming.bytes, call++, calls);
						products[nv](m + f * between_m + (i - from) * WIDTH, v + f * between + (i - from) * g->in, panel + f * between_u(g->in, width), g->in);
					}
				output(y, m, between_m, g, after, o, nv, from, to);
			}
		}
	}
}

// The gradient's buffers: groups of GROUP tiles, as many as fill the second-level
// caches, then the sums [FREQ][out / COLS][in / ROWS][ROWS][COLS].
typedef struct {
	int64_t groups, x, dy, group, sum, sums;
} layout;

static layout layout_of(const swav_geometry *g) {
	layout l;
	l.x = GROUP / PAIR * g->in + PAD;
	l.dy = GROUP / PAIR * up(g->out, COLS) * COLS + PAD;
	l.group = FREQ * (l.x + l.dy);
	l.groups = (1 << 20) / l.group;
	l.groups = l.groups < 1 ? 1 : least(l.groups, up(tiles_of(g).all, GROUP));
	l.sum = up(g->out, COLS) * COLS * g->in + PAD;
	l.sums = FREQ * l.sum;
	return l;
}

static int64_t gradient_scratch(const swav_geometry *g) {
	layout l = layout_of(g);
	return (l.groups * l.group + l.sums + ROWS * COLS) * 4;
}

static void add_gradient(float *dw, const float *sums, int64_t each, const swav_geometry *g, int64_t o, int64_t i) {
	const float *from = sums + (o / COLS * g->in + i) * COLS + o % COLS;
	vec d[3][ALPHA], s[ALPHA], w[9];
	float lanes[9][16];
	for (int c = 0; c < ALPHA; c++) {
		for (int h = 0; h < ALPHA; h++)
			s[h] = _mm512_loadu_ps(from + (h * ALPHA + c) * each);
		gradient_1d(&d[0][c], ALPHA, s, 1);
	}
	for (int h = 0; h < 3; h++)
		gradient_1d(w + 3 * h, 1, d[h], 1);
	for (int tap = 0; tap < 9; tap++)
		_mm512_storeu_ps(lanes[tap], w[tap]);
	for (int l = 0; l < 16; l++)
		for (int tap = 0; tap < 9; tap++)
			dw[((o + l) * g->in + i) * 9 + tap] += lanes[tap][l];
}

static void gradient(float *dw, const void *x, const void *dy, void *scratch, const swav_geometry *g, int nt) {
	const grid tiles = tiles_of(g);
	const int64_t all = tiles.all, rows = g->in / ROWS, cols = up(g->out, COLS);
	const layout l = layout_of(g);
	unit *panels = scratch;
	float *sums = (float *)scratch + l.groups * l.group;
#pragma omp parallel num_threads(nt)
	{
		int t = omp_get_thread_num(), n = omp_get_num_threads();
		if (g->out % COLS) // the last panels of dy are half empty
			for (int64_t i = t; i < l.groups * FREQ; i += n)
				memset(panels + i / FREQ * l.group + FREQ * l.x + i % FREQ * l.dy + (cols - 1) * COLS * (GROUP / PAIR), 0, COLS * (GROUP / PAIR) * 4);
#pragma omp barrier
		for (int64_t at = 0; at < all; at += l.groups * GROUP) {
			int64_t end = least(all, at + l.groups * GROUP), pairs = up(end - at, PAIR);
			// Each thread transforms a part of the tiles, in pieces of one group.
			const int64_t begin = at + pairs * t / n * PAIR, to = least(end, at + pairs * (t + 1) / n * PAIR);
			for (int64_t from = begin; from < to;) {
				int64_t q = (from - at) / GROUP, first = at + q * GROUP, stop = least(to, first + GROUP);
				int64_t steps = up(least(end, first + GROUP) - first, PAIR);
				unit *px = panels + q * l.group, *pd = px + FREQ * l.x;
				input(px, l.x, first, steps, x, g, from, stop);
				slopes(pd, l.dy, first, steps, dy, g, from, stop);
				from = stop;
			}
#pragma omp barrier
			// Then it adds the products of a part of the sums, and asks for what it will
			// transform next, supposing as many tiles.
			int64_t next = least(all, to + (end - at) - (to - begin)), until = least(all, next + to - begin);
			const piece coming[2] = {piece_of(x, tiles, g->height, g->width, g->in, next, until), piece_of(dy, tiles, g->out_height, g->out_width, g->out, next, until)};
			const int64_t p0 = FREQ * rows * t / n, p1 = FREQ * rows * (t + 1) / n, calls = (p1 - p0) * up(end - at, GROUP);
			int64_t call = 0;
			for (int64_t part = p0; part < p1;) {
				int64_t f = part / rows, r0 = part % rows, r1 = least(rows, r0 + p1 - part);
				for (int64_t q = 0; at + q * GROUP < end; q++) {
					int64_t steps = up(least(end - at - q * GROUP, GROUP), PAIR);
					const unit *px = panels + q * l.group + f * l.x, *pd = panels + q * l.group + FREQ * l.x + f * l.dy;
					for (int64_t r = r0; r < r1; r++, call++) {
						ahead(coming[0].at, coming[0].bytes, call, calls);
						ahead(coming[1].at, coming[1].bytes, call, calls);
					}
					for (int64_t o = 0; o < cols; o++)
						for (int64_t r = r0; r < r1; r++) {
							float *sum = sums + f * l.sum + (o * rows + r) * ROWS * COLS;
#if BF16
							tile_bf16(sum, px + r * steps * ROWS, pd + o * steps * COLS, steps, at + q == 0);
#else
							tile_fp32(sum, px + r * steps * ROWS, pd + o * steps * COLS, steps, at + q == 0);
#endif
						}
				}
				part += r1 - r0;
			}
#pragma omp barrier
		}
#pragma omp for schedule(static)
		for (int64_t o = 0; o < g->out; o += 16)
			for (int64_t i = 0; i < g->in; i++)
				add_gradient(dw, sums, l.sum, g, o, i);
	}
}

const swav_winograd NAME = {weights_size, forward_scratch, gradient_scratch, weights, forward, gradient};
