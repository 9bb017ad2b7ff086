// What this processor does at most: register-only multiply-accumulates and
// streaming reads and writes, the yardsticks of `swav bench`.
#ifndef SWAV_PEAK_H
#define SWAV_PEAK_H

#include <stdint.h>

// Both return operations (a multiply-accumulate is two), or bytes, per second,
// the best of several short runs on nt threads. bf16 is 0 where the processor
// has no instruction for it.
double swav_peak_fp32(int nt);
double swav_peak_bf16(int nt);
// Bandwidth of y = x over buffers far larger than the caches; reads and writes
// both count. 0 where there is no memory for them.
double swav_peak_bandwidth(int nt);

#endif
