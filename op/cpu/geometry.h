// The geometry of a convolution: NHWC activations, a square window.
#ifndef SWAV_GEOMETRY_H
#define SWAV_GEOMETRY_H

#include <stdint.h>

typedef struct {
	int64_t batch, height, width, in, out, out_height, out_width, kernel, stride, pad;
} swav_geometry;

#endif
