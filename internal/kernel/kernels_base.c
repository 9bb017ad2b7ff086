//go:build cgo

// Kernels for every processor, and the list of tables.
#include "kernels.h"

#define TABLE swav_pixels_base
#define ISA "base"
#include "kernels.inc"

const swav_pixels *swav_pixels_table(int i) {
	const swav_pixels *tables[4] = {0};
	int n = 0;
#if defined(__x86_64__)
	int avx2 = __builtin_cpu_supports("avx2");
	if (avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
	    __builtin_cpu_supports("avx512vl"))
		tables[n++] = &swav_pixels_avx512;
	if (avx2)
		tables[n++] = &swav_pixels_avx2;
#endif
	tables[n++] = &swav_pixels_base;
	return i < n ? tables[i] : 0;
}
