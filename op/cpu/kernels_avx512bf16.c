//go:build cgo

#include "kernels.h"

#if defined(__x86_64__)
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx512cd,avx512bf16,avx2,fma,bmi,bmi2,f16c,prefer-vector-width=512")
#define TABLE swav_kernels_avx512bf16
#define ISA "avx512bf16"
#include "kernels_body.h"
#endif
