// Decoding JPEG with libjpeg-turbo. One call reads header and pixels, so that no
// memory of Go is kept between calls.
#ifndef SWAV_JPEG_TURBO_H
#define SWAV_JPEG_TURBO_H

#include <stddef.h>
#include <stdint.h>

typedef struct swav_jpeg swav_jpeg;

enum { SWAV_JPEG_OK, SWAV_JPEG_FAILED, SWAV_JPEG_ENDS_EARLY, SWAV_JPEG_OTHER_SIZE };

// What the caller's own scan of the header found, and the pixels that it needs:
// rows top to bottom-1, columns left to right-1.
typedef struct {
	int width, height, components;
	int top, bottom, left, right;
} swav_jpeg_frame;

// swav_jpeg_new returns NULL where there is no memory.
swav_jpeg *swav_jpeg_new(void);
void swav_jpeg_free(swav_jpeg *d);

// swav_jpeg_decode writes into pix, which has width x height pixels of as many
// 8-bit samples as components (grey; RGB; CMYK as stored), at least those that are
// needed; others stay or become undefined. All of the data is read, so that an
// image is whole or not whatever is needed of it. After SWAV_JPEG_FAILED text has
// the library's message; warnings is the number of warnings.
int swav_jpeg_decode(swav_jpeg *d, const uint8_t *data, size_t n, uint8_t *pix, const swav_jpeg_frame *f, char *text, size_t size, long *warnings);

#endif
