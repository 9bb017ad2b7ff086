// Vectors of VL floats for the instruction set that the including file is
// compiled for, with the few operations that the kernels need beyond + - *.
#ifndef SWAV_VECTOR_H
#define SWAV_VECTOR_H

#include <stdint.h>
#include <string.h>

#if defined(__AVX512BW__) && defined(__AVX512DQ__)
#define VL 16
#elif defined(__AVX2__)
#define VL 8
#else
#define VL 4
#endif
#if defined(__x86_64__)
#include <immintrin.h>
#endif

typedef float V __attribute__((vector_size(4 * VL)));
typedef int32_t VI __attribute__((vector_size(4 * VL)));
typedef uint32_t VU __attribute__((vector_size(4 * VL)));
typedef uint16_t VH __attribute__((vector_size(2 * VL)));

static inline V v_load_f(const float *p) {
	V v;
	memcpy(&v, p, sizeof v);
	return v;
}

static inline void v_store_f(float *p, V v) { memcpy(p, &v, sizeof v); }

// 16-bit halves to the upper halves of floats.
static inline V v_widen(VH h) {
#if VL == 16
	return (V)_mm512_slli_epi32(_mm512_cvtepu16_epi32((__m256i)h), 16);
#elif VL == 8
	return (V)_mm256_slli_epi32(_mm256_cvtepu16_epi32((__m128i)h), 16);
#else
	return (V)(__builtin_convertvector(h, VU) << 16);
#endif
}

static inline V v_load_b(const uint16_t *p) {
	VH h;
	memcpy(&h, p, sizeof h);
	return v_widen(h);
}

// The partial loads and stores touch the first n < VL elements only; the others
// read as zero.
#if VL == 16
static inline V v_load_part_f(const float *p, int64_t n) { return (V)_mm512_maskz_loadu_ps((__mmask16)((1 << n) - 1), p); }
static inline void v_store_part_f(float *p, V v, int64_t n) { _mm512_mask_storeu_ps(p, (__mmask16)((1 << n) - 1), (__m512)v); }
static inline V v_load_part_b(const uint16_t *p, int64_t n) { return v_widen((VH)_mm256_maskz_loadu_epi16((__mmask16)((1 << n) - 1), p)); }
static inline void v_store_part_h(uint16_t *p, VH h, int64_t n) { _mm256_mask_storeu_epi16(p, (__mmask16)((1 << n) - 1), (__m256i)h); }
#else
static inline V v_load_part_f(const float *p, int64_t n) {
	V v = {0};
	for (int64_t i = 0; i < n; i++)
		v[i] = p[i];
	return v;
}
static inline void v_store_part_f(float *p, V v, int64_t n) {
	for (int64_t i = 0; i < n; i++)
		p[i] = v[i];
}
static inline V v_load_part_b(const uint16_t *p, int64_t n) {
	VH h = {0};
	for (int64_t i = 0; i < n; i++)
		h[i] = p[i];
	return v_widen(h);
}
static inline void v_store_part_h(uint16_t *p, VH h, int64_t n) {
	for (int64_t i = 0; i < n; i++)
		p[i] = h[i];
}
#endif

#if VL == 16

// max(v, 0); NaN stays.
static inline V v_relu(V v) { return (V)_mm512_max_ps(_mm512_setzero_ps(), (__m512)v); }

// g where y > 0, else 0.
static inline V v_where_positive(V g, V y) {
	return (V)_mm512_maskz_mov_ps(_mm512_cmp_ps_mask((__m512)y, _mm512_setzero_ps(), _CMP_GT_OQ), (__m512)g);
}

static inline VH v_round(V v) {
#if defined(__AVX512BF16__)
	// The instruction takes subnormal numbers for zero.
	return (VH)_mm512_cvtneps_pbh((__m512)v);
#else
	__m512i u = (__m512i)v;
	__m512i r = _mm512_add_epi32(_mm512_add_epi32(u, _mm512_set1_epi32(0x7fff)), _mm512_and_si512(_mm512_srli_epi32(u, 16), _mm512_set1_epi32(1)));
	r = _mm512_mask_or_epi32(r, _mm512_cmp_ps_mask((__m512)v, (__m512)v, _CMP_UNORD_Q), u, _mm512_set1_epi32(0x400000));
	return (VH)_mm512_cvtepi32_epi16(_mm512_srli_epi32(r, 16));
#endif
}

#else

static inline V v_relu(V v) { return (V)((VI)v & ~(VI)(v < 0)); }

static inline V v_where_positive(V g, V y) { return (V)((VI)g & (VI)(y > 0)); }

static inline VH v_round(V v) {
	VU u = (VU)v, nan = (VU)(v != v);
	VU r = u + 0x7fff + (u >> 16 & 1);
	r = (r & ~nan) | ((u | 0x400000) & nan);
#if VL == 8
	__m256i w = _mm256_srli_epi32((__m256i)r, 16);
	return (VH)_mm_packus_epi32(_mm256_castsi256_si128(w), _mm256_extracti128_si256(w, 1));
#else
	return __builtin_convertvector(r >> 16, VH);
#endif
}

#endif

static inline void v_store_b(uint16_t *p, V v) {
	VH h = v_round(v);
	memcpy(p, &h, sizeof h);
}

static inline void v_store_part_b(uint16_t *p, V v, int64_t n) { v_store_part_h(p, v_round(v), n); }

#endif
