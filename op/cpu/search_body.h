// The inner loops of a search for nearest neighbours: products of many queries
// with many references, of which only those above a query's bound are kept, and
// exact products with chosen rows. One thread; the callers share out the work.
//
// Queries lie in tiles [k][Q_ROWS], references in tiles [k][R_COLS], so that both
// are read in sequence while a tile of sums stays in registers.

#if VL == 16
#define Q_ROWS 12
#define R_VECS 2
#elif VL == 8
#define Q_ROWS 4
#define R_VECS 3
#else
#define Q_ROWS 4
#define R_VECS 2
#endif
#define R_COLS (R_VECS * VL)

static inline V search_all(float f) {
#if VL == 16
	return (V)_mm512_set1_ps(f);
#elif VL == 8
	return (V)_mm256_set1_ps(f);
#else
	return (V){f, f, f, f};
#endif
}

// search_tile computes s [Q_ROWS][R_COLS]; a function, so that it has all registers.
static __attribute__((noinline)) void search_tile(float *s, const float *q, const float *r, int64_t k) {
	V a[Q_ROWS][R_VECS];
#pragma GCC unroll 16
	for (int i = 0; i < Q_ROWS; i++)
#pragma GCC unroll 4
		for (int j = 0; j < R_VECS; j++)
			a[i][j] = (V){0};
	for (int64_t c = 0; c < k; c++) {
		V b[R_VECS];
#pragma GCC unroll 4
		for (int j = 0; j < R_VECS; j++)
			b[j] = v_load_f(r + c * R_COLS + j * VL);
#pragma GCC unroll 16
		for (int i = 0; i < Q_ROWS; i++) {
			V x = search_all(q[c * Q_ROWS + i]);
#pragma GCC unroll 4
			for (int j = 0; j < R_VECS; j++)
				a[i][j] += b[j] * x;
		}
	}
#pragma GCC unroll 16
	for (int i = 0; i < Q_ROWS; i++)
#pragma GCC unroll 4
		for (int j = 0; j < R_VECS; j++)
			v_store_f(s + i * R_COLS + j * VL, a[i][j]);
}

// search_hits is which of R_COLS sums are above the bound, a bit for each.
static inline uint32_t search_hits(const float *s, float bound) {
	uint32_t hits = 0;
#if VL == 16
	const __m512 b = _mm512_set1_ps(bound);
	for (int j = 0; j < R_VECS; j++)
		hits |= (uint32_t)_mm512_cmp_ps_mask(_mm512_load_ps(s + j * VL), b, _CMP_GT_OQ) << j * VL;
#elif VL == 8
	const __m256 b = _mm256_set1_ps(bound);
	for (int j = 0; j < R_VECS; j++)
		hits |= (uint32_t)_mm256_movemask_ps(_mm256_cmp_ps(_mm256_load_ps(s + j * VL), b, _CMP_GT_OQ)) << j * VL;
#else
	for (int j = 0; j < R_COLS; j++)
		hits |= (uint32_t)(s[j] > bound) << j;
#endif
	return hits;
}

typedef void search_tile_fn(float *s, const float *q, const float *r, int64_t k);

// search_scan is search_above for a kind of tile, whose elements have four bytes.
static inline __attribute__((always_inline)) void search_scan(search_tile_fn *tile, const float *q, int64_t m, const float *r, int64_t n, int64_t k, const float *bounds, uint32_t *index, float *sims, int32_t *counts) {
	memset(counts, 0, sizeof *counts * (size_t)m);
	float s[Q_ROWS * R_COLS] __attribute__((aligned(64)));
	for (int64_t i = 0; i < m; i += Q_ROWS)
		for (int64_t j = 0; j < n; j += R_COLS) {
			tile(s, q + i * k, r + j * k, k);
			const uint32_t there = n - j < R_COLS ? ((uint32_t)1 << (n - j)) - 1 : UINT32_MAX;
			for (int64_t row = i; row < i + Q_ROWS && row < m; row++) {
				const float *p = s + (row - i) * R_COLS;
				uint32_t hits = search_hits(p, bounds[row]) & there;
				int64_t at = row * n + counts[row];
				for (; hits; hits &= hits - 1) {
					const int c = __builtin_ctz(hits);
					index[at] = (uint32_t)(j + c);
					sims[at++] = p[c];
				}
				counts[row] = (int32_t)(at - row * n);
			}
		}
}

static void search_above(const float *q, int64_t m, const float *r, int64_t n, int64_t k, const float *bounds, uint32_t *index, float *sims, int32_t *counts) {
	search_scan(search_tile, q, m, r, n, k, bounds, index, sims, counts);
}

#ifdef __AVX512BF16__
// search_tile_bf16 is search_tile for k pairs of bfloat16, each of which has the place
// of a float32: vdpbf16ps adds both products of a pair.
static __attribute__((noinline)) void search_tile_bf16(float *s, const float *q, const float *r, int64_t k) {
	__m512 a[Q_ROWS][R_VECS];
#pragma GCC unroll 16
	for (int i = 0; i < Q_ROWS; i++)
#pragma GCC unroll 4
		for (int j = 0; j < R_VECS; j++)
			a[i][j] = _mm512_setzero_ps();
	for (int64_t c = 0; c < k; c++) {
		__m512bh b[R_VECS];
#pragma GCC unroll 4
		for (int j = 0; j < R_VECS; j++)
			b[j] = (__m512bh)_mm512_loadu_si512(r + c * R_COLS + j * VL);
#pragma GCC unroll 16
		for (int i = 0; i < Q_ROWS; i++) {
			const __m512bh x = (__m512bh)_mm512_set1_ps(q[c * Q_ROWS + i]);
#pragma GCC unroll 4
			for (int j = 0; j < R_VECS; j++)
				a[i][j] = _mm512_dpbf16_ps(a[i][j], b[j], x);
		}
	}
#pragma GCC unroll 16
	for (int i = 0; i < Q_ROWS; i++)
#pragma GCC unroll 4
		for (int j = 0; j < R_VECS; j++)
			_mm512_store_ps(s + i * R_COLS + j * VL, a[i][j]);
}

static void search_above_bf16(const uint32_t *q, int64_t m, const uint32_t *r, int64_t n, int64_t k, const float *bounds, uint32_t *index, float *sims, int32_t *counts) {
	search_scan(search_tile_bf16, (const float *)q, m, (const float *)r, n, k, bounds, index, sims, counts);
}
#else
#define search_above_bf16 NULL
#endif

typedef float F8 __attribute__((vector_size(32)));
typedef double D8 __attribute__((vector_size(64)));

static inline void widen8(D8 *to, const float *p) { // returned by value it would need AVX-512's ABI
	F8 f;
	memcpy(&f, p, sizeof f);
	*to = __builtin_convertvector(f, D8);
}

// Sums of every eighth product, added up in pairs: a fixed order, whatever the
// instruction set. Products of two floats are exact in double.
static void search_dots(double *d, const float *q, const float *x, int64_t k, const uint32_t *index, int64_t n) {
	enum { ROWS_AT_ONCE = 4 };
	for (int64_t i = 0; i < n; i += ROWS_AT_ONCE) {
		const int rows = n - i < ROWS_AT_ONCE ? (int)(n - i) : ROWS_AT_ONCE;
		const float *row[ROWS_AT_ONCE];
		D8 s[ROWS_AT_ONCE];
#pragma GCC unroll 4
		for (int a = 0; a < ROWS_AT_ONCE; a++) {
			row[a] = x + (int64_t)index[i + (a < rows ? a : 0)] * k;
			s[a] = (D8){0};
		}
		// Chosen rows lie anywhere in memory: the beginnings of the next ones are asked for.
		for (int a = ROWS_AT_ONCE; a < 2 * ROWS_AT_ONCE && i + a < n; a++)
			for (int64_t ahead = 0; ahead < k && ahead < 256; ahead += 16)
				__builtin_prefetch(x + (int64_t)index[i + a] * k + ahead);
		int64_t c = 0;
		for (; c + 8 <= k; c += 8) {
			D8 v, w;
			widen8(&v, q + c);
#pragma GCC unroll 4
			for (int a = 0; a < ROWS_AT_ONCE; a++) {
				widen8(&w, row[a] + c);
				s[a] += v * w;
			}
		}
		if (c < k) {
			float rest[8] = {0}, other[8] = {0};
			memcpy(rest, q + c, sizeof *rest * (size_t)(k - c));
			D8 v, w;
			widen8(&v, rest);
#pragma GCC unroll 4
			for (int a = 0; a < ROWS_AT_ONCE; a++) {
				memcpy(other, row[a] + c, sizeof *other * (size_t)(k - c));
				widen8(&w, other);
				s[a] += v * w;
			}
		}
#pragma GCC unroll 4
		for (int a = 0; a < ROWS_AT_ONCE; a++)
			if (a < rows)
				d[i + a] = ((s[a][0] + s[a][1]) + (s[a][2] + s[a][3])) + ((s[a][4] + s[a][5]) + (s[a][6] + s[a][7]));
	}
}
