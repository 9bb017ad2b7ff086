//go:build cgo

// Kernels for every processor, and the choice among the tables.
#include "kernels.h"

#define TABLE swav_kernels_base
#define ISA "base"
#include "kernels_body.h"

const swav_kernels *swav_choose_kernels(const char *isa) {
	const swav_kernels *tables[4] = {0};
#if defined(__x86_64__)
	int avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
	int avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
	             __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512cd");
	if (avx512 && __builtin_cpu_supports("avx512bf16"))
		tables[0] = &swav_kernels_avx512bf16;
	if (avx512)
		tables[1] = &swav_kernels_avx512;
	if (avx2)
		tables[2] = &swav_kernels_avx2;
#endif
	tables[3] = &swav_kernels_base;
	for (int i = 0; i < 4; i++)
		if (tables[i] && (!*isa || !strcmp(isa, tables[i]->isa)))
			return tables[i];
	return 0;
}
