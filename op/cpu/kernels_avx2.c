//go:build cgo

#include "kernels.h"

#if defined(__x86_64__)
#pragma GCC target("avx2,fma,bmi,bmi2,f16c")
#define TABLE swav_kernels_avx2
#define ISA "avx2"
#include "kernels_body.h"
#endif
