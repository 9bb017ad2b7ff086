//go:build cgo

// The choice among the Winograd kernels.
#include "winograd.h"

#include <stddef.h>

#if defined(__x86_64__)

extern const swav_winograd swav_winograd_bf16_2, swav_winograd_fp32_2, swav_winograd_fp32_4;

const swav_winograd *swav_choose_winograd(int bf16, int tile) {
	if (!bf16)
		return tile == 4 ? &swav_winograd_fp32_4 : &swav_winograd_fp32_2;
	// With AMX the library's direct convolutions have eight times the products
	// of the instruction that these kernels use.
	if (tile != 2 || __builtin_cpu_supports("amx-bf16"))
		return NULL;
	return &swav_winograd_bf16_2;
}

#else

const swav_winograd *swav_choose_winograd(int bf16, int tile) { return NULL; }

#endif
