// Batch norm over activations of type T, whose vectors LOAD and STORE convert to
// and from float.
//
// The element-wise halves walk virtual rows (fold) with everything per channel
// repeated to their length. The summing halves add up to CHUNK rows in float32
// before they add to float64; they read rows in the order in which they lie in memory.

#define INLINE static inline __attribute__((always_inline))

// The vector of sums at p, or its first `part` elements where part is not 0.
#ifndef SUMS_AT
#define SUMS_AT(p) (part ? v_load_part_f(p, part) : v_load_f(p))
#define SET_SUMS_AT(p, v) (part ? v_store_part_f(p, v, part) : v_store_f(p, v))
#endif

// Adds one vector of columns of n rows to the sums a and b, of float32. Values are
// shifted by x's first row, so that the squares of large means do not swamp the
// variance.
INLINE void NAME(add_columns)(const T *x, const T *at, const int n, int64_t c, const int64_t part, float *a, float *b) {
	V s = SUMS_AT(a), q = SUMS_AT(b), shift = part ? LOAD_PART(x, part) : LOAD(x);
	for (int i = 0; i < n; i++) {
		V v = (part ? LOAD_PART(at + i * c, part) : LOAD(at + i * c)) - shift;
		s += v;
		q += v * v;
	}
	SET_SUMS_AT(a, s);
	SET_SUMS_AT(b, q);
}

// Adds n rows, from r on.
INLINE void NAME(add_rows)(const T *x, int64_t r, const int n, int64_t c, float *a, float *b) {
	const T *at = x + r * c;
	int64_t j = 0;
	for (; j + VL <= c; j += VL)
		NAME(add_columns)(x + j, at + j, n, c, 0, a + j, b + j);
	if (j < c)
		NAME(add_columns)(x + j, at + j, n, c, c - j, a + j, b + j);
}

static void NAME(norm_sums)(const void *xv, int64_t rows, int64_t c, double *sums, double *scratch, int nt) {
	const T *x = xv;
	int64_t k = fold(c, SUM_COLS), vc = k * c, vrows = rows / k;
	int used = 1;
#pragma omp parallel num_threads(nt) if (rows * c > SMALL)
	{
		int t = omp_get_thread_num(), n = omp_get_num_threads();
		if (t == 0)
			used = n;
		double *s = scratch + (int64_t)t * SUMS_SCRATCH * vc;
		float *a = clear_sums(s, vc);
		int64_t from, to;
		split(vrows, 1, t, n, &from, &to);
		for (int64_t r0 = from; r0 < to; r0 += CHUNK) {
			int64_t r1 = r0 + CHUNK < to ? r0 + CHUNK : to, r = r0;
			for (; r + 4 <= r1; r += 4)
				NAME(add_rows)(x, r, 4, vc, a, a + vc);
			for (; r < r1; r++)
				NAME(add_rows)(x, r, 1, vc, a, a + vc);
			flush_sums(s, a, 2 * vc);
		}
	}
	// The shift of a virtual column is that column's first row, which for the
	// repeated channels is a row of its own.
	memset(sums, 0, sizeof *sums * 2 * (size_t)c);
	for (int64_t j = 0; j < vc && vrows > 0; j++) {
		double s = 0, q = 0, shift = VALUE(x[j]);
		for (int t = 0; t < used; t++) {
			s += scratch[(int64_t)t * SUMS_SCRATCH * vc + j];
			q += scratch[(int64_t)t * SUMS_SCRATCH * vc + vc + j];
		}
		sums[j % c] += s + (double)vrows * shift;
		sums[c + j % c] += q + 2 * shift * s + (double)vrows * shift * shift;
	}
	for (int64_t i = vrows * vc; i < rows * c; i++) { // rows that do not fill a virtual one
		double v = VALUE(x[i]);
		sums[i % c] += v;
		sums[c + i % c] += v * v;
	}
}

INLINE void NAME(apply_row)(T *y, const T *x, const T *res, const float *mean, const float *scale, const float *shift, int64_t n, int has_res, int relu) {
	int64_t j = 0;
	for (; j + VL <= n; j += VL) {
		V v = (LOAD(x + j) - v_load_f(mean + j)) * v_load_f(scale + j) + v_load_f(shift + j);
		if (has_res)
			v += LOAD(res + j);
		STORE(y + j, relu ? v_relu(v) : v);
	}
	if (j < n) {
		int64_t m = n - j;
		V v = (LOAD_PART(x + j, m) - v_load_part_f(mean + j, m)) * v_load_part_f(scale + j, m) + v_load_part_f(shift + j, m);
		if (has_res)
			v += LOAD_PART(res + j, m);
		STORE_PART(y + j, relu ? v_relu(v) : v, m);
	}
}

static void NAME(norm_apply)(void *yv, const void *xv, const void *resv, const float *mean, const float *scale, const float *shift, int64_t rows, int64_t c, int relu, int nt) {
	T *y = yv;
	const T *x = xv, *res = resv;
	int64_t k = fold(c, ROW_COLS), vc = k * c, total = rows * c, vrows = (total + vc - 1) / vc;
#pragma omp parallel num_threads(nt) if (total > SMALL)
	{
		float buf[3 * ROW_COLS];
		const float *m = repeat(buf, mean, c, k), *a = repeat(buf + ROW_COLS, scale, c, k), *b = repeat(buf + 2 * ROW_COLS, shift, c, k);
		int64_t from, to;
		split(vrows, 1, omp_get_thread_num(), omp_get_num_threads(), &from, &to);
#define ROWS(has_res, relu)                                                             \
	for (int64_t r = from; r < to; r++) {                                               \
		int64_t at = r * vc, n = at + vc < total ? vc : total - at;                     \
		NAME(apply_row)(y + at, x + at, has_res ? res + at : 0, m, a, b, n, has_res, relu); \
	}
		if (res && relu)
			ROWS(1, 1)
		else if (res)
			ROWS(1, 0)
		else if (relu)
			ROWS(0, 1)
		else
			ROWS(0, 0)
#undef ROWS
	}
}

// g = dy + dy2, zero where a ReLU was closed.
INLINE V NAME(incoming)(const T *dy, const T *dy2, const T *y, int has_dy2, int relu) {
	V g = LOAD(dy);
	if (has_dy2)
		g += LOAD(dy2);
	return relu ? v_where_positive(g, LOAD(y)) : g;
}

INLINE V NAME(incoming_part)(const T *dy, const T *dy2, const T *y, int has_dy2, int relu, int64_t n) {
	V g = LOAD_PART(dy, n);
	if (has_dy2)
		g += LOAD_PART(dy2, n);
	return relu ? v_where_positive(g, LOAD_PART(y, n)) : g;
}

// Adds one vector of columns of n rows, which begins at element o, to the sums of g
// and of g (x - mean), of float32.
INLINE void NAME(add_backward_columns)(const T *dy, const T *dy2, const T *y, const T *x, const float *mean, int64_t o, const int n, int64_t c, const int64_t part, int has_dy2, int relu, float *a, float *b) {
	V s = SUMS_AT(a), q = SUMS_AT(b), m = SUMS_AT(mean);
	for (int i = 0; i < n; i++, o += c) {
		const T *o2 = has_dy2 ? dy2 + o : 0, *oy = relu ? y + o : 0;
		V g = part ? NAME(incoming_part)(dy + o, o2, oy, has_dy2, relu, part) : NAME(incoming)(dy + o, o2, oy, has_dy2, relu);
		s += g;
		q += g * ((part ? LOAD_PART(x + o, part) : LOAD(x + o)) - m);
	}
	SET_SUMS_AT(a, s);
	SET_SUMS_AT(b, q);
}

// Adds n rows, from r on.
INLINE void NAME(add_backward_rows)(const T *dy, const T *dy2, const T *y, const T *x, const float *mean, int64_t r, const int n, int64_t c, int has_dy2, int relu, float *a, float *b) {
	int64_t j = 0;
	for (; j + VL <= c; j += VL)
		NAME(add_backward_columns)(dy, dy2, y, x, mean + j, r * c + j, n, c, 0, has_dy2, relu, a + j, b + j);
	if (j < c)
		NAME(add_backward_columns)(dy, dy2, y, x, mean + j, r * c + j, n, c, c - j, has_dy2, relu, a + j, b + j);
}

INLINE void NAME(backward_sums_rows)(const T *dy, const T *dy2, const T *y, const T *x, const float *mean, int64_t from, int64_t to, int64_t vc, int has_dy2, int relu, double *s, float *a) {
	for (int64_t r0 = from; r0 < to; r0 += CHUNK) {
		int64_t r1 = r0 + CHUNK < to ? r0 + CHUNK : to, r = r0;
		for (; r + 2 <= r1; r += 2)
			NAME(add_backward_rows)(dy, dy2, y, x, mean, r, 2, vc, has_dy2, relu, a, a + vc);
		for (; r < r1; r++)
			NAME(add_backward_rows)(dy, dy2, y, x, mean, r, 1, vc, has_dy2, relu, a, a + vc);
		flush_sums(s, a, 2 * vc);
	}
}

static void NAME(norm_backward_sums)(const void *dyv, const void *dy2v, const void *yv, const void *xv, const float *mean, int64_t rows, int64_t c, double *sums, double *scratch, int nt) {
	const T *dy = dyv, *dy2 = dy2v, *y = yv, *x = xv;
	int64_t k = fold(c, SUM_COLS), vc = k * c, vrows = rows / k;
	int used = 1;
#pragma omp parallel num_threads(nt) if (rows * c > SMALL)
	{
		int t = omp_get_thread_num(), n = omp_get_num_threads();
		if (t == 0)
			used = n;
		double *s = scratch + (int64_t)t * SUMS_SCRATCH * vc;
		float *a = clear_sums(s, vc);
		float buf[SUM_COLS];
		const float *m = repeat(buf, mean, c, k);
		int64_t from, to;
		split(vrows, 1, t, n, &from, &to);
		if (dy2 && y)
			NAME(backward_sums_rows)(dy, dy2, y, x, m, from, to, vc, 1, 1, s, a);
		else if (dy2)
			NAME(backward_sums_rows)(dy, dy2, y, x, m, from, to, vc, 1, 0, s, a);
		else if (y)
			NAME(backward_sums_rows)(dy, dy2, y, x, m, from, to, vc, 0, 1, s, a);
		else
			NAME(backward_sums_rows)(dy, dy2, y, x, m, from, to, vc, 0, 0, s, a);
	}
	memset(sums, 0, sizeof *sums * 2 * (size_t)c);
	for (int t = 0; t < used; t++) {
		const double *s = scratch + (int64_t)t * SUMS_SCRATCH * vc, *q = s + vc;
		for (int64_t j = 0; j < vc; j++) {
			sums[j % c] += s[j];
			sums[c + j % c] += q[j];
		}
	}
	for (int64_t i = vrows * vc; i < rows * c; i++) {
		double g = VALUE(dy[i]);
		if (dy2)
			g += VALUE(dy2[i]);
		if (y && !(VALUE(y[i]) > 0))
			g = 0;
		sums[i % c] += g;
		sums[c + i % c] += g * (VALUE(x[i]) - mean[i % c]);
	}
}

INLINE void NAME(backward_row)(T *dx, T *dres, const T *dy, const T *dy2, const T *y, const T *x, const float *mean, const float *a, const float *b, const float *k, int64_t n, int has_res, int has_dy2, int relu) {
	int64_t j = 0;
	for (; j + VL <= n; j += VL) {
		V g = NAME(incoming)(dy + j, has_dy2 ? dy2 + j : 0, relu ? y + j : 0, has_dy2, relu);
		V d = v_load_f(a + j) * g + (v_load_f(b + j) * (LOAD(x + j) - v_load_f(mean + j)) + v_load_f(k + j));
		if (has_res)
			STORE(dres + j, g);
		STORE(dx + j, d);
	}
	if (j < n) {
		int64_t m = n - j;
		V g = NAME(incoming_part)(dy + j, has_dy2 ? dy2 + j : 0, relu ? y + j : 0, has_dy2, relu, m);
		V d = v_load_part_f(a + j, m) * g + (v_load_part_f(b + j, m) * (LOAD_PART(x + j, m) - v_load_part_f(mean + j, m)) + v_load_part_f(k + j, m));
		if (has_res)
			STORE_PART(dres + j, g, m);
		STORE_PART(dx + j, d, m);
	}
}

static void NAME(norm_backward)(void *dxv, void *dresv, const void *dyv, const void *dy2v, const void *yv, const void *xv, const float *mean, const float *pa, const float *pb, const float *pk, int64_t rows, int64_t c, int nt) {
	T *dx = dxv, *dres = dresv;
	const T *dy = dyv, *dy2 = dy2v, *y = yv, *x = xv;
	int64_t fk = fold(c, ROW_COLS), vc = fk * c, total = rows * c, vrows = (total + vc - 1) / vc;
#pragma omp parallel num_threads(nt) if (total > SMALL)
	{
		float buf[4 * ROW_COLS];
		const float *m = repeat(buf, mean, c, fk), *a = repeat(buf + ROW_COLS, pa, c, fk);
		const float *b = repeat(buf + 2 * ROW_COLS, pb, c, fk), *k = repeat(buf + 3 * ROW_COLS, pk, c, fk);
		int64_t from, to;
		split(vrows, 1, omp_get_thread_num(), omp_get_num_threads(), &from, &to);
#define ROWS(has_res, has_dy2, relu)                                                                                     \
	for (int64_t r = from; r < to; r++) {                                                                                \
		int64_t at = r * vc, n = at + vc < total ? vc : total - at;                                                      \
		NAME(backward_row)                                                                                               \
		(dx + at, has_res ? dres + at : 0, dy + at, has_dy2 ? dy2 + at : 0, relu ? y + at : 0, x + at, m, a, b, k, n, has_res, has_dy2, relu); \
	}
		switch ((dres ? 4 : 0) + (dy2 ? 2 : 0) + (y ? 1 : 0)) {
		case 0: ROWS(0, 0, 0) break;
		case 1: ROWS(0, 0, 1) break;
		case 2: ROWS(0, 1, 0) break;
		case 3: ROWS(0, 1, 1) break;
		case 4: ROWS(1, 0, 0) break;
		case 5: ROWS(1, 0, 1) break;
		case 6: ROWS(1, 1, 0) break;
		case 7: ROWS(1, 1, 1) break;
		}
#undef ROWS
	}
}

static void NAME(add)(void *dst, const void *av, const void *bv, int64_t n, int nt) {
	T *d = dst;
	const T *a = av, *b = bv;
#pragma omp parallel num_threads(nt) if (n > SMALL)
	{
		int64_t j, to;
		split(n, VL, omp_get_thread_num(), omp_get_num_threads(), &j, &to);
		for (; j + VL <= to; j += VL)
			STORE(d + j, LOAD(a + j) + LOAD(b + j));
		if (j < to)
			STORE_PART(d + j, LOAD_PART(a + j, to - j) + LOAD_PART(b + j, to - j), to - j);
	}
}
#undef INLINE
