//go:build cgo

#include "wgrad.h"

#include <omp.h>
#include <string.h>

#if defined(__x86_64__)
#include <immintrin.h>

#include "tile.h"

// dw[tap][i][o] is the sum over output pixels of x[pixel shifted by tap][i]
// dy[pixel][o]: for each tap a product of two tall matrices. Pixels are taken
// CHUNK at a time. Both matrices are packed into panels that the inner loop
// reads in sequence,
//
//	x   [in / ROWS][step][ROWS]
//	dy  [out / COLS][step][COLS]
//
// (tile.h). The pixels of a pair need not be neighbours, so no pixel is wasted on edges. A tile of ROWS x COLS sums stays
// in registers over a chunk, then is added to the sums [tap][out / COLS][in][COLS].
//
// oneDNN 2.6 transposes inside of its loops and reaches 70% of the peak in
// bfloat16 and 77% in float32 over ResNet-50; see bench/notes.md.
enum { CHUNK = 256, PAD = 16 };

// Private sums of each thread are allowed up to this many bytes in all; beyond
// it threads share out input channels instead of pixels.
#define PRIVATE (32 << 20)

static int64_t sums_size(const swav_geometry *p) {
	return p->kernel * p->kernel * up(p->out, COLS) * COLS * up(p->in, ROWS) * ROWS;
}

static int private_sums(const swav_geometry *p, int nt) { return nt > 1 && sums_size(p) * 4 * nt <= PRIVATE; }

// Elements, of 4 bytes, of one thread's packed panels. Panels are PAD further apart
// than they are long, else they would all fall into one set of the first-level cache.
static int64_t panel_x(const swav_geometry *p) { return (CHUNK / 2 * ROWS + PAD) * up(p->in, ROWS); }
static int64_t panel_dy(const swav_geometry *p) { return (CHUNK / 2 * COLS + PAD) * up(p->out, COLS); }

static int64_t panel_bytes(const swav_geometry *p) { return up((panel_x(p) + panel_dy(p)) * 4, 64) * 64; }

int64_t swav_wgrad_scratch(const swav_geometry *p, int nt) {
	return nt * panel_bytes(p) + (private_sums(p, nt) ? nt : 1) * sums_size(p) * 4;
}

// walk goes through the output pixels and finds the row of x that a tap sees.
typedef struct {
	const char *x;
	int64_t n, row, col, r, s, size;
} walk;

static inline walk walk_from(const void *x, const swav_geometry *p, int64_t pixel, int64_t tap, int64_t size) {
	return (walk){x, pixel / p->out_width / p->out_height, pixel / p->out_width % p->out_height, pixel % p->out_width, tap / p->kernel, tap % p->kernel, size};
}

// next is NULL on the padding.
static inline const void *next(walk *k, const swav_geometry *p) {
	int64_t h = k->row * p->stride + k->r - p->pad, w = k->col * p->stride + k->s - p->pad;
	const char *at = k->x + ((k->n * p->height + h) * p->width + w) * p->in * k->size;
	if (++k->col == p->out_width) {
		k->col = 0;
		if (++k->row == p->out_height) {
			k->row = 0;
			k->n++;
		}
	}
	return h < 0 || h >= p->height || w < 0 || w >= p->width ? 0 : at;
}

// Interleaves two rows of n bfloat16 into pairs, `width` pairs to a panel; the
// next panel begins `panel` uint32 later. A row on the padding is NULL.
TARGET static inline void pack_pair(uint32_t *dst, const uint16_t *a, const uint16_t *b, int64_t n, int64_t width, int64_t panel) {
	for (int64_t i = 0; i < n; i += 16) {
		__mmask16 m = n - i >= 16 ? 0xffff : (__mmask16)((1 << (n - i)) - 1);
		__m512i lo = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(a ? m : 0, a + i));
		__m512i hi = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(b ? m : 0, b + i));
		__m512i both = _mm512_or_si512(lo, _mm512_slli_epi32(hi, 16));
		if (width == ROWS) {
			_mm256_storeu_si256((__m256i *)(dst + i / ROWS * panel), _mm512_castsi512_si256(both));
			if (n - i > ROWS)
				_mm256_storeu_si256((__m256i *)(dst + (i / ROWS + 1) * panel), _mm512_extracti64x4_epi64(both, 1));
		} else {
			_mm512_storeu_si512(dst + i / COLS * panel + i % COLS, both);
			if (i + 16 >= n && i % COLS == 0)
				_mm512_storeu_si512(dst + i / COLS * panel + 16, _mm512_setzero_si512());
		}
	}
}

TARGET32 static inline void pack_one(float *dst, const float *a, int64_t n, int64_t width, int64_t panel) {
	for (int64_t i = 0; i < n; i += 16) {
		__mmask16 m = n - i >= 16 ? 0xffff : (__mmask16)((1 << (n - i)) - 1);
		__m512 v = a ? _mm512_maskz_loadu_ps(m, a + i) : _mm512_setzero_ps();
		if (width == ROWS) {
			_mm256_storeu_ps(dst + i / ROWS * panel, _mm512_castps512_ps256(v));
			if (n - i > ROWS)
				_mm256_storeu_ps(dst + (i / ROWS + 1) * panel, _mm512_extractf32x8_ps(v, 1));
		} else {
			_mm512_storeu_ps(dst + i / COLS * panel + i % COLS, v);
			if (i + 16 >= n && i % COLS == 0)
				_mm512_storeu_ps(dst + i / COLS * panel + 16, _mm512_setzero_ps());
		}
	}
}

// What the next chunk of pixels reads, as far as it is one piece of memory.
typedef struct {
	const void *x, *dy;
	int64_t x_bytes, dy_bytes;
} coming;

static coming what_comes(const void *x, const void *dy, const swav_geometry *p, int64_t from, int64_t to, int64_t size) {
	coming c = {x, dy, 0, 0};
	if (from >= to)
		return c;
	int64_t pixels = least(to - from, CHUNK * 2 / size);
	c.dy = (const char *)dy + from * p->out * size;
	c.dy_bytes = pixels * p->out * size;
	if (p->kernel == 1 && p->stride == 1) {
		c.x = (const char *)x + from * p->in * size;
		c.x_bytes = pixels * p->in * size;
	}
	return c;
}

// The pixels [from, to) and the input channels of row tiles [t0, t1).
TARGET static void part_bf16(float *sums, const uint16_t *x, const uint16_t *dy, uint32_t *px, uint32_t *pdy, const swav_geometry *p, int64_t from, int64_t to, int64_t t0, int64_t t1) {
	const int64_t tiles = up(p->in, ROWS), blocks = up(p->out, COLS);
	const int64_t i0 = t0 * ROWS, n = (t1 * ROWS < p->in ? t1 * ROWS : p->in) - i0;
	for (int64_t at = from; at < to; at += CHUNK) {
		int64_t pixels = least(to - at, CHUNK), steps = up(pixels, 2), next_x = steps * ROWS + PAD, next_dy = steps * COLS + PAD;
		for (int64_t k = 0; k < steps; k++) {
			const uint16_t *a = dy + (at + 2 * k) * p->out;
			pack_pair(pdy + k * COLS, a, 2 * k + 1 < pixels ? a + p->out : 0, p->out, COLS, next_dy);
		}
		int64_t call = 0, calls = p->kernel * p->kernel * blocks * (t1 - t0);
		const coming soon = what_comes(x, dy, p, at + CHUNK, to, 2);
		for (int64_t tap = 0; tap < p->kernel * p->kernel; tap++) {
			walk w = walk_from(x, p, at, tap, 2);
			for (int64_t k = 0; k < steps; k++) {
				const uint16_t *a = next(&w, p), *b = 2 * k + 1 < pixels ? next(&w, p) : 0;
				pack_pair(px + k * ROWS, a ? a + i0 : 0, b ? b + i0 : 0, n, ROWS, next_x);
			}
			for (int64_t o = 0; o < blocks; o++)
				for (int64_t t = t0; t < t1; t++) {
					ahead(soon.dy, soon.dy_bytes, call, calls);
					ahead(soon.x, soon.x_bytes, call++, calls);
					tile_bf16(sums + ((tap * blocks + o) * tiles + t) * ROWS * COLS, px + (t - t0) * next_x, pdy + o * next_dy, steps, 0);
				}
		}
	}
}

TARGET32 static void part_fp32(float *sums, const float *x, const float *dy, float *px, float *pdy, const swav_geometry *p, int64_t from, int64_t to, int64_t t0, int64_t t1) {
	const int64_t tiles = up(p->in, ROWS), blocks = up(p->out, COLS);
	const int64_t i0 = t0 * ROWS, n = (t1 * ROWS < p->in ? t1 * ROWS : p->in) - i0;
	for (int64_t at = from; at < to; at += CHUNK / 2) {
		int64_t steps = least(to - at, CHUNK / 2), next_x = steps * ROWS + PAD, next_dy = steps * COLS + PAD;
		for (int64_t k = 0; k < steps; k++)
			pack_one(pdy + k * COLS, dy + (at + k) * p->out, p->out, COLS, next_dy);
		int64_t call = 0, calls = p->kernel * p->kernel * blocks * (t1 - t0);
		const coming soon = what_comes(x, dy, p, at + CHUNK / 2, to, 4);
		for (int64_t tap = 0; tap < p->kernel * p->kernel; tap++) {
			walk w = walk_from(x, p, at, tap, 4);
			for (int64_t k = 0; k < steps; k++) {
				const float *a = next(&w, p);
				pack_one(px + k * ROWS, a ? a + i0 : 0, n, ROWS, next_x);
			}
			for (int64_t o = 0; o < blocks; o++)
				for (int64_t t = t0; t < t1; t++) {
					ahead(soon.dy, soon.dy_bytes, call, calls);
					ahead(soon.x, soon.x_bytes, call++, calls);
					tile_fp32(sums + ((tap * blocks + o) * tiles + t) * ROWS * COLS, px + (t - t0) * next_x, pdy + o * next_dy, steps, 0);
				}
		}
	}
}

void swav_wgrad(float *dw, const void *x, const void *dy, void *scratch, const swav_geometry *p, int bf16, int nt) {
	const int64_t size = sums_size(p), tiles = up(p->in, ROWS), blocks = up(p->out, COLS), taps = p->kernel * p->kernel;
	const int64_t pixels = p->batch * p->out_height * p->out_width;
	const int64_t panels = panel_bytes(p);
	const int own = private_sums(p, nt), copies = own ? nt : 1;
	float *all = (float *)((char *)scratch + nt * panels);
#pragma omp parallel num_threads(nt)
	{
		int t = omp_get_thread_num(), n = omp_get_num_threads();
		char *panel = (char *)scratch + t * panels;
		char *second = panel + panel_x(p) * 4;
		if (own) {
			// A thread that does not come leaves its copy at zero.
			for (int c = t; c < copies; c += n)
				memset(all + c * size, 0, sizeof *all * (size_t)size);
		} else {
			int64_t a = size / 16 * t / n * 16, b = t + 1 == n ? size : size / 16 * (t + 1) / n * 16;
			memset(all + a, 0, sizeof *all * (size_t)(b - a));
#pragma omp barrier
		}
		int64_t from = own ? up(pixels, 2) * t / n * 2 : 0, to = own ? up(pixels, 2) * (t + 1) / n * 2 : pixels;
		to = to < pixels ? to : pixels;
		int64_t t0 = own ? 0 : tiles * t / n, t1 = own ? tiles : tiles * (t + 1) / n;
		float *sums = all + (own ? t * size : 0);
		if (t1 > t0 && to > from) {
			if (bf16)
				part_bf16(sums, x, dy, (uint32_t *)panel, (uint32_t *)second, p, from, to, t0, t1);
			else
				part_fp32(sums, x, dy, (float *)panel, (float *)second, p, from, to, t0, t1);
		}
#pragma omp barrier
		// The copies, in their order, into OIHW.
#pragma omp for schedule(static)
		for (int64_t o = 0; o < p->out; o++)
			for (int64_t tap = 0; tap < taps; tap++) {
				const float *from_ = all + (tap * blocks + o / COLS) * tiles * ROWS * COLS + o % COLS;
				for (int64_t i = 0; i < p->in; i++) {
					float v = from_[i * COLS];
					for (int c = 1; c < copies; c++)
						v += from_[c * size + i * COLS];
					dw[(o * p->in + i) * taps + tap] += v;
				}
			}
	}
}

#else

int64_t swav_wgrad_scratch(const swav_geometry *p, int nt) { return 0; }
void swav_wgrad(float *dw, const void *x, const void *dy, void *scratch, const swav_geometry *p, int bf16, int nt) {}

#endif
