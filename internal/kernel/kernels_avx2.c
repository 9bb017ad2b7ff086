//go:build cgo

#include "kernels.h"

#if defined(__x86_64__)
#pragma GCC target("avx2")
#define TABLE swav_pixels_avx2
#define ISA "avx2"
#include "body.h"
#endif
