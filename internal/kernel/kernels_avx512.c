//go:build cgo

#include "kernels.h"

#if defined(__x86_64__)
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx2,prefer-vector-width=512")
#define TABLE swav_pixels_avx512
#define ISA "avx512"
#include "body.h"
#endif
