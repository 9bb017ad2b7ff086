// Vectors of VL 32-bit numbers for the instruction set that the including file is
// compiled for, and the ways from and to 8-bit samples.
#ifndef SWAV_PIXELS_VECTOR_H
#define SWAV_PIXELS_VECTOR_H

#include <stdint.h>
#include <string.h>

#if defined(__AVX512BW__)
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
typedef uint8_t VB __attribute__((vector_size(VL)));

static inline VI load8(const uint8_t *p) {
#if VL == 16
	return (VI)_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)p));
#elif VL == 8
	return (VI)_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)p));
#elif defined(__SSE4_1__)
	int32_t four;
	memcpy(&four, p, 4);
	return (VI)_mm_cvtepu8_epi32(_mm_cvtsi32_si128(four));
#else
	VB b;
	memcpy(&b, p, VL);
	return __builtin_convertvector(b, VI);
#endif
}

// Values are cut to 0 ... 255.
static inline void store8(uint8_t *p, VI v) {
#if VL == 16
	_mm_storeu_si128((__m128i *)p, _mm512_cvtusepi32_epi8(_mm512_max_epi32((__m512i)v, _mm512_setzero_si512())));
#elif VL == 8
	__m128i w = _mm_packs_epi32(_mm256_castsi256_si128((__m256i)v), _mm256_extracti128_si256((__m256i)v, 1));
	_mm_storel_epi64((__m128i *)p, _mm_packus_epi16(w, w));
#elif defined(__SSE4_1__)
	__m128i w = _mm_packs_epi32((__m128i)v, (__m128i)v);
	int32_t four = _mm_cvtsi128_si32(_mm_packus_epi16(w, w));
	memcpy(p, &four, 4);
#else
	v &= ~(v < 0);
	v = (v & (v < 256)) | (255 & (v > 255));
	VB b = __builtin_convertvector(v, VB);
	memcpy(p, &b, VL);
#endif
}

// The partial ones touch the first n < VL samples only; the others read as zero.
static inline VI load8_part(const uint8_t *p, int64_t n) {
	uint8_t b[VL] = {0};
	memcpy(b, p, n);
	return load8(b);
}

static inline void store8_part(uint8_t *p, VI v, int64_t n) {
	uint8_t b[VL];
	store8(b, v);
	memcpy(p, b, n);
}

static inline V to_float(VI v) { return __builtin_convertvector(v, V); }
static inline VI to_int(V v) { return __builtin_convertvector(v, VI); } // cut

// M is a mask, a bit or a lane for each lane; choose takes a where it is set, else b.
#if VL == 16
typedef __mmask16 M;
static inline M equal(VI a, VI b) { return _mm512_cmpeq_epi32_mask((__m512i)a, (__m512i)b); }
static inline M negative(V v) { return _mm512_movepi32_mask((__m512i)v); }
static inline V choose(M m, V a, V b) { return (V)_mm512_mask_blend_ps(m, (__m512)b, (__m512)a); }
static inline VI larger(VI a, VI b) { return (VI)_mm512_max_epi32((__m512i)a, (__m512i)b); }
static inline VI smaller(VI a, VI b) { return (VI)_mm512_min_epi32((__m512i)a, (__m512i)b); }
#else
typedef VI M;
static inline M equal(VI a, VI b) { return a == b; }
static inline M negative(V v) { return (VI)v >> 31; }
#if VL == 8
static inline V choose(M m, V a, V b) { return (V)_mm256_blendv_ps((__m256)b, (__m256)a, (__m256)m); }
static inline VI larger(VI a, VI b) { return (VI)_mm256_max_epi32((__m256i)a, (__m256i)b); }
static inline VI smaller(VI a, VI b) { return (VI)_mm256_min_epi32((__m256i)a, (__m256i)b); }
#elif defined(__SSE4_1__)
static inline V choose(M m, V a, V b) { return (V)_mm_blendv_ps((__m128)b, (__m128)a, (__m128)m); }
static inline VI larger(VI a, VI b) { return (VI)_mm_max_epi32((__m128i)a, (__m128i)b); }
static inline VI smaller(VI a, VI b) { return (VI)_mm_min_epi32((__m128i)a, (__m128i)b); }
#else
static inline VI pick(M m, VI a, VI b) { return (a & m) | (b & ~m); }
static inline V choose(M m, V a, V b) { return (V)pick(m, (VI)a, (VI)b); }
static inline VI larger(VI a, VI b) { return pick(a > b, a, b); }
static inline VI smaller(VI a, VI b) { return pick(a < b, a, b); }
#endif
#endif

// Vectors of 2 VL 16-bit numbers, where there are products of pairs of them.
#if VL >= 8 || defined(__SSE4_1__)
#define PAIRS 1
typedef uint16_t VH __attribute__((vector_size(4 * VL)));

static inline VH load16(const uint8_t *p) {
#if VL == 16
	return (VH)_mm512_cvtepu8_epi16(_mm256_loadu_si256((const __m256i *)p));
#elif VL == 8
	return (VH)_mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)p));
#else
	return (VH)_mm_cvtepu8_epi16(_mm_loadl_epi64((const __m128i *)p));
#endif
}

static inline void store16(uint8_t *p, VH v) {
#if VL == 16
	_mm256_storeu_si256((__m256i *)p, _mm512_cvtepi16_epi8((__m512i)v));
#elif VL == 8
	__m256i w = _mm256_packus_epi16((__m256i)v, (__m256i)v);
	_mm_storeu_si128((__m128i *)p, _mm256_castsi256_si128(_mm256_permute4x64_epi64(w, 0x08)));
#else
	_mm_storel_epi64((__m128i *)p, _mm_packus_epi16((__m128i)v, (__m128i)v));
#endif
}

// Lanes of a and b by turns, from the lower and the upper half of each 128 bits;
// join packs such halves, of 32-bit lanes below 2^16, again.
#if VL == 16
static inline VH weave_low(VH a, VH b) { return (VH)_mm512_unpacklo_epi16((__m512i)a, (__m512i)b); }
static inline VH weave_high(VH a, VH b) { return (VH)_mm512_unpackhi_epi16((__m512i)a, (__m512i)b); }
static inline VH join(VU a, VU b) { return (VH)_mm512_packus_epi32((__m512i)a, (__m512i)b); }
static inline VU pair_sums(VH a, VU b) { return (VU)_mm512_madd_epi16((__m512i)a, (__m512i)b); }
#elif VL == 8
static inline VH weave_low(VH a, VH b) { return (VH)_mm256_unpacklo_epi16((__m256i)a, (__m256i)b); }
static inline VH weave_high(VH a, VH b) { return (VH)_mm256_unpackhi_epi16((__m256i)a, (__m256i)b); }
static inline VH join(VU a, VU b) { return (VH)_mm256_packus_epi32((__m256i)a, (__m256i)b); }
static inline VU pair_sums(VH a, VU b) { return (VU)_mm256_madd_epi16((__m256i)a, (__m256i)b); }
#else
static inline VH weave_low(VH a, VH b) { return (VH)_mm_unpacklo_epi16((__m128i)a, (__m128i)b); }
static inline VH weave_high(VH a, VH b) { return (VH)_mm_unpackhi_epi16((__m128i)a, (__m128i)b); }
static inline VH join(VU a, VU b) { return (VH)_mm_packus_epi32((__m128i)a, (__m128i)b); }
static inline VU pair_sums(VH a, VU b) { return (VU)_mm_madd_epi16((__m128i)a, (__m128i)b); }
#endif
#endif

// Past the caches, where there is a way; p is aligned to a vector.
static inline void stream(float *p, V v) {
#if VL == 16
	_mm512_stream_ps(p, (__m512)v);
#elif VL == 8
	_mm256_stream_ps(p, (__m256)v);
#else
	memcpy(p, &v, sizeof v);
#endif
}

static inline void stream_end(void) {
#if VL >= 8
	_mm_sfence();
#endif
}

static inline V all(float f) { return (V){0} + f; }
static inline VI all_i(int32_t i) { return (VI){0} + i; }

#endif
