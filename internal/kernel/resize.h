// Resampling in 22-bit fixed point. Weights are not negative and sum to one within
// a few units of 2^-22, so sums neither overflow 32 bits nor leave 0 to 255.

#define WEIGHT_BITS 22
#define ROUND (1 << (WEIGHT_BITS - 1))

// Any number of channels, one row.
static void resize_row(uint8_t *dst, int64_t plane, const uint8_t *in, int64_t c, const swav_taps *t) {
	for (int64_t x = 0; x < t->n; x++) {
		const int32_t *w = t->weights + x * t->width;
		const uint8_t *p = in + t->first[x] * c;
		for (int64_t ch = 0; ch < c; ch++) {
			int32_t s = ROUND;
			for (int32_t k = 0; k < t->count[x]; k++)
				s += w[k] * p[k * c + ch];
			dst[ch * plane + x] = s >> WEIGHT_BITS;
		}
	}
}

#if defined(__AVX2__)
// Weights of four pixels, their upper and lower halves: of the first pair of pixels
// in the lower 128 bits, of the second in the upper.
typedef struct {
	__m256i upper, lower;
} four_weights;

static inline four_weights load_weights(const int16_t *halves) {
	__m256i w = _mm256_castsi128_si256(_mm_loadu_si128((const __m128i *)halves));
	return (four_weights){_mm256_permutevar8x32_epi32(w, _mm256_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1)),
	                      _mm256_permutevar8x32_epi32(w, _mm256_setr_epi32(2, 2, 2, 2, 3, 3, 3, 3))};
}

// Four pixels of RGB times their weights, in 16-bit products summed in pairs: lanes
// r, g, b, nothing of the first pair of pixels and of the second.
static inline __m256i four_pixels(const uint8_t *p, four_weights w) {
	const __m256i pairs = _mm256_setr_epi8(0, -1, 3, -1, 1, -1, 4, -1, 2, -1, 5, -1, -1, -1, -1, -1,
	                                       6, -1, 9, -1, 7, -1, 10, -1, 8, -1, 11, -1, -1, -1, -1, -1);
	__m256i px = _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)p)), pairs);
	__m256i upper = _mm256_madd_epi16(px, w.upper), lower = _mm256_madd_epi16(px, w.lower);
	return _mm256_add_epi32(_mm256_slli_epi32(upper, WEIGHT_BITS / 2), lower);
}

// Pixel x of two rows, each in 32-bit lanes r, g, b, nothing.
static inline __m256i resize_pixels(const uint8_t *in, int64_t next, const swav_taps *t, int64_t chunks, int64_t x) {
	const uint8_t *p = in + 3 * (int64_t)t->first[x];
	const int16_t *h = t->halves + 8 * chunks * x;
	four_weights w = load_weights(h);
	__m256i a = four_pixels(p, w), b = four_pixels(p + next, w);
	for (int64_t k = 1; k < chunks; k++) {
		w = load_weights(h + 8 * k);
		a = _mm256_add_epi32(a, four_pixels(p + 12 * k, w));
		b = _mm256_add_epi32(b, four_pixels(p + 12 * k + next, w));
	}
	__m256i s = _mm256_add_epi32(_mm256_permute2x128_si256(a, b, 0x20), _mm256_permute2x128_si256(a, b, 0x31));
	return _mm256_srai_epi32(_mm256_add_epi32(s, _mm256_set1_epi32(ROUND)), WEIGHT_BITS);
}

// Up to four pixels of one row, sorted by channel.
static inline void store_pixels(uint8_t *dst, int64_t plane, __m128i v, int64_t n) {
	uint32_t c[3] = {_mm_cvtsi128_si32(v), _mm_extract_epi32(v, 1), _mm_extract_epi32(v, 2)};
	for (int i = 0; i < 3; i++)
		memcpy(dst + i * plane, &c[i], n);
}

// Two rows of RGB, next bytes apart at the source and n at dst, which is one row
// twice where both are zero. It reads up to 16 bytes from the first pixel of the
// last group of weights on.
static inline void resize_rows_rgb(uint8_t *dst, int64_t n, int64_t plane, const uint8_t *in, int64_t next, const swav_taps *t, int64_t chunks) {
	const __m256i by_channel = _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, -1, -1, -1, -1));
	for (int64_t x = 0; x < t->n; x += 4) {
		int64_t last = t->n - 1, some = t->n - x < 4 ? t->n - x : 4;
#define PIXEL(i) resize_pixels(in, next, t, chunks, x + i < last ? x + i : last)
		__m256i a = _mm256_packs_epi32(PIXEL(0), PIXEL(1)), b = _mm256_packs_epi32(PIXEL(2), PIXEL(3));
#undef PIXEL
		__m256i v = _mm256_shuffle_epi8(_mm256_packus_epi16(a, b), by_channel);
		if (some == 4) {
			store_pixels(dst + x, plane, _mm256_castsi256_si128(v), 4);
			store_pixels(dst + n + x, plane, _mm256_extracti128_si256(v, 1), 4);
		} else {
			store_pixels(dst + x, plane, _mm256_castsi256_si128(v), some);
			store_pixels(dst + n + x, plane, _mm256_extracti128_si256(v, 1), some);
		}
	}
}
#endif

static void resize_rows(uint8_t *dst, const uint8_t *src, int64_t len, int64_t rows, int64_t stride, int64_t c, const swav_taps *t) {
	int64_t plane = rows * t->n, y = 0;
#if defined(__AVX2__)
	int64_t reach = 0; // bytes of a row that are read
	for (int64_t x = 0; x < t->n; x++) {
		int64_t end = 3 * (int64_t)t->first[x] + 12 * (t->chunks - 1) + 16;
		reach = end > reach ? end : reach;
	}
	int64_t safe = len < reach ? 0 : (len - reach) / stride + 1; // rows that can be read so
	for (safe = c == 3 ? safe < rows ? safe : rows : 0; y < safe; y += 2) {
		int two = y + 1 < safe;
		uint8_t *out = dst + y * t->n;
		int64_t n = two ? t->n : 0, next = two ? stride : 0;
		if (t->chunks == 1)
			resize_rows_rgb(out, n, plane, src + y * stride, next, t, 1);
		else if (t->chunks == 2)
			resize_rows_rgb(out, n, plane, src + y * stride, next, t, 2);
		else
			resize_rows_rgb(out, n, plane, src + y * stride, next, t, t->chunks);
	}
	y = safe;
#endif
	for (; y < rows; y++)
		resize_row(dst + y * t->n, plane, src + y * stride, c, t);
}

// VL columns of one output row.
static inline VI resize_column(const uint8_t *in, int64_t width, const int32_t *w, int32_t count) {
	VI s = all_i(ROUND);
	for (int32_t k = 0; k < count; k++)
		s += load8(in + k * width) * w[k];
	return s >> WEIGHT_BITS;
}

static void resize_columns(uint8_t *dst, const uint8_t *src, int64_t width, int64_t planes, int64_t rows, int64_t base, const swav_taps *t) {
	for (; planes > 0; planes--, src += rows * width, dst += t->n * width)
		for (int64_t y = 0; y < t->n; y++) {
			const int32_t *w = t->weights + y * t->width, count = t->count[y];
			const uint8_t *in = src + (t->first[y] - base) * width;
			uint8_t *out = dst + y * width;
			if (count == 1) { // a lone weight is one
				memcpy(out, in, width);
				continue;
			}
			int64_t x = 0;
			for (; x + VL <= width; x += VL)
				store8(out + x, resize_column(in + x, width, w, count));
			for (; x < width; x++) {
				int32_t s = ROUND;
				for (int32_t k = 0; k < count; k++)
					s += w[k] * in[k * width + x];
				out[x] = s >> WEIGHT_BITS;
			}
		}
}
