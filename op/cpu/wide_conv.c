//go:build cgo

// Convolutions on float64 activations. All three passes are one product of
// tiles, C[ROWS][LANES] += A B, walked over zero-padded copies of the input so
// that no tap needs a bounds check:
//
//	forward           rows are output pixels, columns output channels, the sum runs over taps and input channels
//	gradient of x     the forward pass of dy, spread out by the stride, with the flipped weights
//	gradient of w     rows are input channels, columns output channels, the sum runs over pixels
#include "wide.h"

#include <omp.h>
#include <string.h>

enum { ROWS = 6, LANES = 16 };

typedef double D __attribute__((vector_size(64), aligned(8)));

static int64_t blocks(int64_t c) { return (c + LANES - 1) / LANES; }
static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

// sum[i] += over k of a[i][k ka] b[k kb], b being LANES wide.
WIDE_INLINE void tile(D sum[ROWS][2], const double *const a[ROWS], int64_t ka, const double *b, int64_t kb, int64_t n) {
	for (int64_t k = 0; k < n; k++) {
		D b0, b1;
		memcpy(&b0, b + k * kb, sizeof b0);
		memcpy(&b1, b + k * kb + LANES / 2, sizeof b1);
#pragma GCC unroll 6
		for (int i = 0; i < ROWS; i++) {
			double v = a[i][k * ka];
			sum[i][0] += v * b0;
			sum[i][1] += v * b1;
		}
	}
}

// One row of output pixels of a convolution without padding: x is a padded
// image of the given width, w is [block][tap][in][LANES].
WIDE_CLONES static void conv_row(double *y, const double *x, const double *w, int64_t row, int64_t width, int64_t in, int64_t out, int64_t out_width, int64_t kernel, int64_t stride) {
	for (int64_t block = 0; block < blocks(out); block++)
		for (int64_t col = 0; col < out_width; col += ROWS) {
			int64_t n = least(ROWS, out_width - col), lanes = least(LANES, out - block * LANES);
			D sum[ROWS][2] = {0};
			for (int64_t r = 0; r < kernel; r++)
				for (int64_t s = 0; s < kernel; s++) {
					const double *a[ROWS]; // rows beyond the last repeat it
					for (int64_t i = 0; i < ROWS; i++)
						a[i] = x + ((row * stride + r) * width + (col + least(i, n - 1)) * stride + s) * in;
					tile(sum, a, 1, w + ((block * kernel + r) * kernel + s) * in * LANES, LANES, in);
				}
			for (int64_t i = 0; i < n; i++)
				memcpy(y + (col + i) * out + block * LANES, sum[i], sizeof(double) * (size_t)lanes);
		}
}

// The gradient of one tap's weights between ROWS input channels from i0 on and
// all output channels; x is padded, dy [..][blocks(out) LANES].
WIDE_CLONES static void weights_tile(float *dw, const double *x, const double *dy, const swav_geometry *p, int64_t height, int64_t width, int64_t r, int64_t s, int64_t i0) {
	int64_t n = least(ROWS, p->in - i0), cols = blocks(p->out) * LANES;
	for (int64_t block = 0; block < blocks(p->out); block++) {
		D sum[ROWS][2] = {0};
		for (int64_t img = 0; img < p->batch; img++)
			for (int64_t row = 0; row < p->out_height; row++) {
				const double *at = x + ((img * height + row * p->stride + r) * width + s) * p->in + i0, *a[ROWS];
				for (int64_t i = 0; i < ROWS; i++)
					a[i] = at + least(i, n - 1);
				tile(sum, a, p->stride * p->in, dy + (img * p->out_height + row) * p->out_width * cols + block * LANES, cols, p->out_width);
			}
		for (int64_t i = 0; i < n; i++)
			for (int64_t j = 0; j < least(LANES, p->out - block * LANES); j++)
				dw[(((block * LANES + j) * p->in + i0 + i) * p->kernel + r) * p->kernel + s] += (float)sum[i][j / (LANES / 2)][j % (LANES / 2)];
	}
}

// Images [h, w, c] at offset `at` in zeroed ones [height, width, c], their
// pixels `step` apart.
static void spread(double *dst, const double *src, int64_t n, int64_t h, int64_t w, int64_t c, int64_t height, int64_t width, int64_t at, int64_t step, int nt) {
#pragma omp parallel for collapse(2) num_threads(nt) schedule(static)
	for (int64_t i = 0; i < n; i++)
		for (int64_t row = 0; row < height; row++) {
			double *out = dst + (i * height + row) * width * c;
			memset(out, 0, sizeof *out * (size_t)(width * c));
			int64_t from = row - at;
			if (from < 0 || from % step || from / step >= h)
				continue;
			for (int64_t col = 0; col < w; col++)
				memcpy(out + (at + col * step) * c, src + ((i * h + from / step) * w + col) * c, sizeof *out * (size_t)c);
		}
}

static void convolve(double *y, const double *x, const double *packed, int64_t batch, int64_t height, int64_t width, int64_t in, int64_t out_height, int64_t out_width, int64_t out, int64_t kernel, int64_t stride, int nt) {
#pragma omp parallel for collapse(2) num_threads(nt) schedule(static)
	for (int64_t n = 0; n < batch; n++)
		for (int64_t row = 0; row < out_height; row++)
			conv_row(y + (n * out_height + row) * out_width * out, x + n * height * width * in, packed, row, width, in, out, out_width, kernel, stride);
}

int64_t swav_wide_packed(const swav_geometry *p, int back) {
	return p->kernel * p->kernel * (back ? p->out * blocks(p->in) : p->in * blocks(p->out)) * LANES;
}

int64_t swav_wide_scratch(const swav_geometry *p) {
	int64_t x = (p->height + 2 * p->pad) * (p->width + 2 * p->pad) * p->in;
	int64_t dy = (p->height + p->kernel - 1) * (p->width + p->kernel - 1) * p->out;
	int64_t both = x + p->out_height * p->out_width * blocks(p->out) * LANES;
	return p->batch * (both > dy ? both : dy);
}

void swav_wide_pack(double *packed, const float *w, const swav_geometry *p, int back) {
	int64_t taps = p->kernel * p->kernel, in = back ? p->out : p->in, out = back ? p->in : p->out;
	for (int64_t b = 0; b < blocks(out); b++)
		for (int64_t t = 0; t < taps; t++)
			for (int64_t i = 0; i < in; i++)
				for (int64_t j = 0; j < LANES; j++) {
					int64_t o = b * LANES + j;
					double v = 0;
					if (o < out)
						v = back ? w[(i * p->in + o) * taps + taps - 1 - t] : w[(o * p->in + i) * taps + t];
					packed[((b * taps + t) * in + i) * LANES + j] = v;
				}
}

void swav_wide_forward(double *y, const double *x, const double *packed, double *scratch, const swav_geometry *p, int nt) {
	int64_t height = p->height + 2 * p->pad, width = p->width + 2 * p->pad;
	if (p->pad) {
		spread(scratch, x, p->batch, p->height, p->width, p->in, height, width, p->pad, 1, nt);
		x = scratch;
	}
	convolve(y, x, packed, p->batch, height, width, p->in, p->out_height, p->out_width, p->out, p->kernel, p->stride, nt);
}

void swav_wide_backward_data(double *dx, const double *dy, const double *packed, double *scratch, const swav_geometry *p, int nt) {
	int64_t height = p->height + p->kernel - 1, width = p->width + p->kernel - 1;
	spread(scratch, dy, p->batch, p->out_height, p->out_width, p->out, height, width, p->kernel - 1 - p->pad, p->stride, nt);
	convolve(dx, scratch, packed, p->batch, height, width, p->out, p->height, p->width, p->in, p->kernel, 1, nt);
}

void swav_wide_backward_weights(float *dw, const double *x, const double *dy, double *scratch, const swav_geometry *p, int nt) {
	int64_t height = p->height + 2 * p->pad, width = p->width + 2 * p->pad, pixels = p->batch * p->out_height * p->out_width, cols = blocks(p->out) * LANES;
	if (p->pad) {
		spread(scratch, x, p->batch, p->height, p->width, p->in, height, width, p->pad, 1, nt);
		x = scratch;
		scratch += p->batch * height * width * p->in;
	}
	if (cols != p->out) {
#pragma omp parallel for num_threads(nt) schedule(static)
		for (int64_t i = 0; i < pixels; i++) {
			memcpy(scratch + i * cols, dy + i * p->out, sizeof *dy * (size_t)p->out);
			memset(scratch + i * cols + p->out, 0, sizeof *dy * (size_t)(cols - p->out));
		}
		dy = scratch;
	}
	int64_t tiles = (p->in + ROWS - 1) / ROWS;
#pragma omp parallel for num_threads(nt) schedule(static)
	for (int64_t t = 0; t < p->kernel * p->kernel * tiles; t++)
		weights_tile(dw, x, dy, p, height, width, t / tiles / p->kernel, t / tiles % p->kernel, t % tiles * ROWS);
}
