// Colour operations, in place on planes, and normalisation. They round as Pillow
// does: products in float32, results cut to 8 bits. No product may be fused with a
// sum (-std=c11), which would give other bits on other processors.

// ITU-R 601 in 16-bit fixed point, Pillow's mode "L".
static inline VI luma(VI r, VI g, VI b) { return (r * 19595 + g * 38470 + b * 7471 + (1 << 15)) >> 16; }

// from + f (to - from); the caller's store cuts it to 8 bits.
static inline VI blend(VI from, VI to, float f) { return to_int(to_float(from) + f * to_float(to - from)); }

// EACH runs the statement body over n samples, VL at a time; body uses LOAD and
// STORE with the sample's number i.
#define EACH(n, body)                                    \
	do {                                                 \
		int64_t i = 0, some = VL;                        \
		for (; i + VL <= (n); i += VL) {                 \
			body(load8, store8);                         \
		}                                                \
		some = (n) - i;                                  \
		if (some > 0) {                                  \
			body(LOAD_SOME, STORE_SOME);                 \
		}                                                \
	} while (0)
#define LOAD_SOME(p) load8_part(p, some)
#define STORE_SOME(p, v) store8_part(p, v, some)

static void towards(uint8_t *pix, int64_t n, uint8_t from, float f) {
	VI k = all_i(from);
#define BODY(LOAD, STORE) STORE(pix + i, blend(k, LOAD(pix + i), f))
	EACH(n, BODY);
#undef BODY
}

static void solarize(uint8_t *pix, int64_t n) {
	for (int64_t i = 0; i < n; i++)
		pix[i] = pix[i] >= 128 ? 255 - pix[i] : pix[i];
}

// Lanes are 32 bits wide: they are emptied before they can overflow.
#define SUM_BLOCK ((int64_t)1 << 20)

static inline uint64_t lanes_sum(VU v) {
	uint64_t s = 0;
	for (int i = 0; i < VL; i++)
		s += v[i];
	return s;
}

static uint64_t sum(const uint8_t *pix, int64_t n) {
	uint64_t s = 0;
	for (; n > 0; pix += SUM_BLOCK, n -= SUM_BLOCK) {
		int64_t m = n < SUM_BLOCK ? n : SUM_BLOCK;
		VU acc = {0};
#define BODY(LOAD, STORE) acc += (VU)LOAD(pix + i)
		EACH(m, BODY);
#undef BODY
		s += lanes_sum(acc);
	}
	return s;
}

static uint64_t sum_luma(const uint8_t *rgb, int64_t n) {
	uint64_t s = 0;
	for (int64_t from = 0; from < n; from += SUM_BLOCK) {
		const uint8_t *r = rgb + from, *g = r + n, *b = g + n;
		int64_t m = n - from < SUM_BLOCK ? n - from : SUM_BLOCK;
		VU acc = {0};
#define BODY(LOAD, STORE) acc += (VU)luma(LOAD(r + i), LOAD(g + i), LOAD(b + i))
		EACH(m, BODY);
#undef BODY
		s += lanes_sum(acc);
	}
	return s;
}

static void saturate(uint8_t *rgb, int64_t n, float f) {
	uint8_t *rp = rgb, *gp = rp + n, *bp = gp + n;
#define BODY(LOAD, STORE)                                   \
	VI r = LOAD(rp + i), g = LOAD(gp + i), b = LOAD(bp + i); \
	VI l = luma(r, g, b);                                   \
	STORE(rp + i, blend(l, r, f));                          \
	STORE(gp + i, blend(l, g, f));                          \
	STORE(bp + i, blend(l, b, f))
	EACH(n, BODY);
#undef BODY
}

static void grey(uint8_t *rgb, int64_t n) {
	uint8_t *rp = rgb, *gp = rp + n, *bp = gp + n;
#define BODY(LOAD, STORE)                                        \
	VI l = luma(LOAD(rp + i), LOAD(gp + i), LOAD(bp + i));        \
	STORE(rp + i, l);                                            \
	STORE(gp + i, l);                                            \
	STORE(bp + i, l)
	EACH(n, BODY);
#undef BODY
}

// What is left of brightness v in one channel: v (1 - s w), rounded, with
// saturation s and weight w in 255ths.
static inline VI fade(V v, V s, VI w) { return to_int(v * (65025.0f - s * to_float(w)) * (1.0f / 65025.0f) + 0.5f); }

static inline VI within8(VI v) { return smaller(larger(v, all_i(0)), all_i(255)); }
static inline VI distance(VI a, int32_t b) { return larger(a - b, b - a); }

// Turns the hue of VL pixels through 8-bit HSV, with Pillow's results for every
// colour and shift, though Pillow goes through float64 here and there.
static inline void turn(VI *r, VI *g, VI *b, VI shift) {
	const VI red = *r, green = *g, blue = *b;
	VI hi = larger(larger(red, green), blue), lo = smaller(smaller(red, green), blue);
	VI span = hi - lo, middle = red + green + blue - hi - lo;
	V v = to_float(hi), width = to_float(span);
	// The hue in sixths of a turn is base plus or minus m. Grey pixels get some
	// hue, and a saturation of zero.
	V m = to_float(hi - middle) / width;
	M is_r = equal(hi, red), is_g = equal(hi, green), low_b = equal(lo, blue), low_r = equal(lo, red);
	V base = choose(is_r, choose(low_b, all(1), all(-1)), choose(is_g, choose(low_b, all(1), all(3)), choose(low_r, all(3), all(5))));
	V sign = choose(is_r, choose(low_b, all(-1), all(1)), choose(is_g, choose(low_b, all(1), all(-1)), choose(low_r, all(1), all(-1))));
	V h = base + sign * m;
	V x = h / 6.0f;
	x = choose(negative(h), x + 1.0f, x);
	VI hue = (to_int(x * 255.0f) + shift) & 255;
	V s = to_float(to_int(width / to_float(larger(hi, all_i(1))) * 255.0f));

	VI six = hue * 6; // 255 to a sixth of a turn
	*r = fade(v, s, within8(510 - distance(six, 765)));
	*g = fade(v, s, within8(distance(six, 510) - 255));
	*b = fade(v, s, within8(distance(six, 1020) - 255));
}

static void shift_hue(uint8_t *rgb, int64_t n, uint8_t shift) {
	uint8_t *rp = rgb, *gp = rp + n, *bp = gp + n;
	VI k = all_i(shift);
#define BODY(LOAD, STORE)                                   \
	VI r = LOAD(rp + i), g = LOAD(gp + i), b = LOAD(bp + i); \
	turn(&r, &g, &b, k);                                    \
	STORE(rp + i, r);                                       \
	STORE(gp + i, g);                                       \
	STORE(bp + i, b)
	EACH(n, BODY);
#undef BODY
}

// Where output number p of interleaved RGB comes from: first among reds and greens
// (WEAVE_RG), then among those and blues (WEAVE_B, for place j of its vector).
#define WEAVE_RG(p, j) ((p) % 3 == 1 ? VL + (p) / 3 : (p) / 3 % VL)
#define WEAVE_B(p, j) ((p) % 3 == 2 ? VL + (p) / 3 : (j))
#define LIST4(f, o, k) f((o) + (k), k), f((o) + (k) + 1, (k) + 1), f((o) + (k) + 2, (k) + 2), f((o) + (k) + 3, (k) + 3)
#if VL == 16
#define LIST(f, o) {LIST4(f, o, 0), LIST4(f, o, 4), LIST4(f, o, 8), LIST4(f, o, 12)}
#elif VL == 8
#define LIST(f, o) {LIST4(f, o, 0), LIST4(f, o, 4)}
#else
#define LIST(f, o) {LIST4(f, o, 0)}
#endif
#define WEAVE(r, g, b, o) __builtin_shuffle(__builtin_shuffle(r, g, (VI)LIST(WEAVE_RG, o)), b, (VI)LIST(WEAVE_B, o))

// Views of this many bytes go past the caches: the batch that they are part of
// does not fit, and would push out what does.
#define STREAM_BYTES (1 << 17)

static void normalise(float *dst, const uint8_t *pix, int64_t n, int64_t planes, int64_t channels, const float *scale, const float *shift) {
	int64_t i = 0;
	if (channels == 3) {
		const uint8_t *rp = pix, *gp = planes == 3 ? rp + n : rp, *bp = planes == 3 ? gp + n : rp;
		int streams = n * 12 >= STREAM_BYTES && (uintptr_t)dst % sizeof(V) == 0;
		for (; i + VL <= n; i += VL) {
			V r = to_float(load8(rp + i)) * scale[0] + shift[0];
			V g = to_float(load8(gp + i)) * scale[1] + shift[1];
			V b = to_float(load8(bp + i)) * scale[2] + shift[2];
			V x = WEAVE(r, g, b, 0), y = WEAVE(r, g, b, VL), z = WEAVE(r, g, b, 2 * VL);
			float *d = dst + 3 * i;
			if (streams) {
				stream(d, x);
				stream(d + VL, y);
				stream(d + 2 * VL, z);
			} else {
				memcpy(d, &x, sizeof x);
				memcpy(d + VL, &y, sizeof y);
				memcpy(d + 2 * VL, &z, sizeof z);
			}
		}
		if (streams)
			stream_end();
	}
	for (; i < n; i++)
		for (int64_t ch = 0; ch < channels; ch++)
			dst[i * channels + ch] = (float)pix[planes > 1 ? ch * n + i : i] * scale[ch] + shift[ch];
}
