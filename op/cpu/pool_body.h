// Pooling over activations of type T, whose elements VALUE and ROUND convert to
// and from ACC.

static void NAME(max_pool)(void *yv, uint8_t *index, const void *xv, int64_t n, int64_t h, int64_t w, int64_t c, int64_t oh, int64_t ow, int kernel, int stride, int pad, int nt) {
	T *y = yv;
	const T *x = xv;
#pragma omp parallel num_threads(nt) if (n * oh * ow * c > SMALL)
	{
		ACC best[COLS];
		int32_t at[COLS];
#pragma omp for collapse(2) schedule(static)
		for (int64_t i = 0; i < n; i++)
			for (int64_t row = 0; row < oh; row++)
				for (int64_t col = 0; col < ow; col++)
					for (int64_t j0 = 0; j0 < c; j0 += COLS) {
						int64_t m = j0 + COLS < c ? COLS : c - j0, first = 1;
						for (int r = 0; r < kernel; r++) {
							int64_t hy = row * stride + r - pad;
							if (hy < 0 || hy >= h)
								continue;
							for (int s = 0; s < kernel; s++) {
								int64_t wx = col * stride + s - pad;
								if (wx < 0 || wx >= w)
									continue;
								const T *px = x + ((i * h + hy) * w + wx) * c + j0;
								int32_t tap = r * kernel + s;
								if (first) {
									for (int64_t j = 0; j < m; j++) {
										best[j] = VALUE(px[j]);
										at[j] = tap;
									}
									first = 0;
									continue;
								}
#pragma omp simd
								for (int64_t j = 0; j < m; j++) { // NaN wins and stays
									ACC v = VALUE(px[j]);
									int win = !(v <= best[j]) & (best[j] == best[j]);
									best[j] = win ? v : best[j];
									at[j] = win ? tap : at[j];
								}
							}
						}
						int64_t o = ((i * oh + row) * ow + col) * c + j0;
						for (int64_t j = 0; j < m; j++)
							y[o + j] = ROUND(best[j]);
						if (index)
							for (int64_t j = 0; j < m; j++)
								index[o + j] = (uint8_t)at[j];
					}
	}
}

// Gathers for each input place from the windows that may have chosen it, so
// that nothing is written twice.
static void NAME(max_pool_backward)(void *dxv, const void *dyv, const uint8_t *index, int64_t n, int64_t h, int64_t w, int64_t c, int64_t oh, int64_t ow, int kernel, int stride, int pad, int nt) {
	T *dx = dxv;
	const T *dy = dyv;
#pragma omp parallel num_threads(nt) if (n * h * w * c > SMALL)
	{
		ACC sum[COLS];
#pragma omp for collapse(2) schedule(static)
		for (int64_t i = 0; i < n; i++)
			for (int64_t hy = 0; hy < h; hy++)
				for (int64_t wx = 0; wx < w; wx++)
					for (int64_t j0 = 0; j0 < c; j0 += COLS) {
						int64_t m = j0 + COLS < c ? COLS : c - j0;
						for (int64_t j = 0; j < m; j++)
							sum[j] = 0;
						for (int r = 0; r < kernel; r++) {
							int64_t up = hy + pad - r;
							if (up < 0 || up % stride || up / stride >= oh)
								continue;
							for (int s = 0; s < kernel; s++) {
								int64_t left = wx + pad - s;
								if (left < 0 || left % stride || left / stride >= ow)
									continue;
								int64_t o = ((i * oh + up / stride) * ow + left / stride) * c + j0;
								uint8_t tap = (uint8_t)(r * kernel + s);
#pragma omp simd
								for (int64_t j = 0; j < m; j++)
									sum[j] += index[o + j] == tap ? VALUE(dy[o + j]) : 0;
							}
						}
						T *out = dx + ((i * h + hy) * w + wx) * c + j0;
						for (int64_t j = 0; j < m; j++)
							out[j] = ROUND(sum[j]);
					}
	}
}

static void NAME(avg_pool)(float *y, const void *xv, int64_t n, int64_t places, int64_t c, int nt) {
	const T *x = xv;
#pragma omp parallel for num_threads(nt) if (n * places * c > SMALL) schedule(static)
	for (int64_t i = 0; i < n; i++)
		for (int64_t j0 = 0; j0 < c; j0 += COLS) {
			int64_t m = j0 + COLS < c ? COLS : c - j0;
			ACC sum[COLS] = {0};
			for (int64_t p = 0; p < places; p++) {
				const T *px = x + (i * places + p) * c + j0;
				for (int64_t j = 0; j < m; j++)
					sum[j] += VALUE(px[j]);
			}
			for (int64_t j = 0; j < m; j++)
				y[i * c + j0 + j] = (float)(sum[j] / (ACC)places);
		}
}

static void NAME(avg_pool_backward)(void *dxv, const float *dy, int64_t n, int64_t places, int64_t c, int nt) {
	T *dx = dxv;
	ACC inv = 1 / (ACC)places;
#pragma omp parallel for num_threads(nt) if (n * places * c > SMALL) schedule(static)
	for (int64_t i = 0; i < n; i++)
		for (int64_t p = 0; p < places; p++) {
			T *restrict out = dx + (i * places + p) * c;
			for (int64_t j = 0; j < c; j++)
				out[j] = ROUND(dy[i * c + j] * inv);
		}
}
