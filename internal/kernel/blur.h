// Three boxes along x, three along y, each rounded to 8 bits, borders repeated.

static inline uint8_t box_mix(uint32_t acc, uint32_t far, uint32_t ww, uint32_t fw) { return (acc * ww + far * fw + (1u << 23)) >> 24; }

// VL samples of a box of at most five: r is 0 for the neighbours a and e of c, or
// 1 for a ... e.
static inline VI box5(const uint8_t *a, const uint8_t *b, const uint8_t *c, const uint8_t *d, const uint8_t *e, int64_t r, uint32_t ww, uint32_t fw) {
	VU acc = (VU)load8(c), far = (VU)load8(a) + (VU)load8(e);
	if (r)
		acc += (VU)load8(b) + (VU)load8(d);
	return (VI)((acc * ww + far * fw + (1u << 23)) >> 24);
}

static inline uint8_t box5_one(const uint8_t *a, const uint8_t *b, const uint8_t *c, const uint8_t *d, const uint8_t *e, int64_t r, uint32_t ww, uint32_t fw) {
	uint32_t acc = *c;
	if (r)
		acc += (uint32_t)*b + *d;
	return box_mix(acc, (uint32_t)*a + *e, ww, fw);
}

#if PAIRS
// Both weights in 16 bits each, their upper and their lower 12.
typedef struct {
	VU high, low;
} box_weights;

static inline box_weights box_pairs(uint32_t ww, uint32_t fw) {
	return (box_weights){(VU){0} + (ww >> 12 | fw >> 12 << 16), (VU){0} + ((ww & 4095) | (fw & 4095) << 16)};
}

static inline VU box_pair(VH pairs, box_weights w) {
	return ((pair_sums(pairs, w.high) << 12) + pair_sums(pairs, w.low) + (1u << 23)) >> 24;
}

// As box5, 2 VL samples: sums and products in 16 bits.
static inline VH box5_wide(const uint8_t *a, const uint8_t *b, const uint8_t *c, const uint8_t *d, const uint8_t *e, int64_t r, box_weights w) {
	VH acc = load16(c), far = load16(a) + load16(e);
	if (r)
		acc += load16(b) + load16(d);
	return join(box_pair(weave_low(acc, far), w), box_pair(weave_high(acc, far), w));
}
#endif

// n samples; the last vector overlaps the one before, so out must be elsewhere.
static inline void box5_line(uint8_t *out, const uint8_t *a, const uint8_t *b, const uint8_t *c, const uint8_t *d, const uint8_t *e, int64_t n, int64_t r, uint32_t ww, uint32_t fw) {
	if (n < VL) {
		for (int64_t i = 0; i < n; i++)
			out[i] = box5_one(a + i, b + i, c + i, d + i, e + i, r, ww, fw);
		return;
	}
#if PAIRS
	if (n >= 2 * VL) {
		box_weights weights = box_pairs(ww, fw);
		for (int64_t i = 0;; i += 2 * VL) {
			if (i > n - 2 * VL)
				i = n - 2 * VL;
			store16(out + i, box5_wide(a + i, b + i, c + i, d + i, e + i, r, weights));
			if (i == n - 2 * VL)
				return;
		}
	}
#endif
	for (int64_t i = 0;; i += VL) {
		if (i > n - VL)
			i = n - VL;
		store8(out + i, box5(a + i, b + i, c + i, d + i, e + i, r, ww, fw));
		if (i == n - VL)
			return;
	}
}

// in has r+1 samples before and after its n; so has out.
static void box_row(uint8_t *out, const uint8_t *in, int64_t n, int64_t r, uint32_t ww, uint32_t fw) {
	if (r <= 1) {
		box5_line(out, in - r - 1, in - 1, in, in + 1, in + r + 1, n, r, ww, fw);
		return;
	}
	uint32_t acc = 0;
	for (int64_t k = -r; k <= r; k++)
		acc += in[k];
	for (int64_t i = 0; i < n; i++) {
		out[i] = box_mix(acc, (uint32_t)in[i - r - 1] + in[i + r + 1], ww, fw);
		acc += (uint32_t)in[i + r + 1] - in[i - r];
	}
}

static inline const uint8_t *box_line(const uint8_t *in, int64_t y, int64_t w, int64_t h) {
	return in + (y < 0 ? 0 : y >= h ? h - 1 : y) * w;
}

static void box_columns(uint8_t *out, const uint8_t *in, int64_t w, int64_t h, int64_t r, uint32_t ww, uint32_t fw) {
#define LINE(y) box_line(in, y, w, h)
	if (r <= 1) {
		for (int64_t y = 0; y < h; y++)
			box5_line(out + y * w, LINE(y - r - 1), LINE(y - 1), LINE(y), LINE(y + 1), LINE(y + r + 1), w, r, ww, fw);
		return;
	}
	for (int64_t x0 = 0; x0 < w; x0 += 16) {
		int64_t m = w - x0 < 16 ? w - x0 : 16;
		uint32_t acc[16] = {0};
		for (int64_t k = -r; k <= r; k++)
			for (int64_t i = 0; i < m; i++)
				acc[i] += LINE(k)[x0 + i];
		for (int64_t y = 0; y < h; y++) {
			const uint8_t *next = LINE(y + r + 1) + x0, *before = LINE(y - r - 1) + x0, *first = LINE(y - r) + x0;
			for (int64_t i = 0; i < m; i++) {
				out[y * w + x0 + i] = box_mix(acc[i], (uint32_t)before[i] + next[i], ww, fw);
				acc[i] += (uint32_t)next[i] - first[i];
			}
		}
	}
#undef LINE
}

static inline void repeat_ends(uint8_t *row, int64_t n, int64_t pad) {
	if (pad <= 2) {
		row[-1] = row[-pad] = row[0];
		row[n] = row[n + pad - 1] = row[n - 1];
		return;
	}
	memset(row - pad, row[0], pad);
	memset(row + n, row[n - 1], pad);
}

// Rows go through each box some at a time: a row that was just written cannot be
// read at another alignment before its stores have left for the cache.
#define STRIP 8

static void blur(uint8_t *pix, uint8_t *tmp, int64_t w, int64_t h, int64_t planes, int64_t r, uint32_t ww, uint32_t fw) {
	int64_t pad = r + 1, stride = w + 2 * pad;
	uint8_t *one = tmp + w * h + pad, *two = one + STRIP * stride;
	for (; planes > 0; planes--, pix += w * h) {
		for (int64_t y = 0; y < h; y += STRIP) {
			int64_t rows = h - y < STRIP ? h - y : STRIP;
			for (int64_t i = 0; i < rows; i++) {
				memcpy(one + i * stride, pix + (y + i) * w, w);
				repeat_ends(one + i * stride, w, pad);
			}
			for (int64_t i = 0; i < rows; i++) {
				box_row(two + i * stride, one + i * stride, w, r, ww, fw);
				repeat_ends(two + i * stride, w, pad);
			}
			for (int64_t i = 0; i < rows; i++) {
				box_row(one + i * stride, two + i * stride, w, r, ww, fw);
				repeat_ends(one + i * stride, w, pad);
			}
			for (int64_t i = 0; i < rows; i++)
				box_row(tmp + (y + i) * w, one + i * stride, w, r, ww, fw);
		}
		box_columns(pix, tmp, w, h, r, ww, fw);
		box_columns(tmp, pix, w, h, r, ww, fw);
		box_columns(pix, tmp, w, h, r, ww, fw);
	}
}
