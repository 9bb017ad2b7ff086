//go:build cgo

#if defined(__x86_64__)
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,avx2,fma,bmi2,prefer-vector-width=512")
#define BF16 0
#define TILE 4
#define NAME swav_winograd_fp32_4
#include "winograd_body.h"
#endif
