//go:build cgo

// Kernels for vectors of 128 bits, and the list of tables. On x86 they want SSE4.1:
// without its products of 32 bits plain Go is faster.
#include "kernels.h"

#if defined(__x86_64__)
#pragma GCC target("sse4.1")
#endif
#define TABLE swav_pixels_base
#define ISA "128-bit"
#include "body.h"

const swav_pixels *swav_pixels_table(int i) {
	const swav_pixels *tables[4] = {0};
	int n = 0;
#if defined(__x86_64__)
	int sse41 = __builtin_cpu_supports("sse4.1"), avx2 = __builtin_cpu_supports("avx2");
	if (avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
	    __builtin_cpu_supports("avx512vl"))
		tables[n++] = &swav_pixels_avx512;
	if (avx2)
		tables[n++] = &swav_pixels_avx2;
	if (sse41)
		tables[n++] = &swav_pixels_base;
#else
	tables[n++] = &swav_pixels_base;
#endif
	return i < n ? tables[i] : 0;
}
