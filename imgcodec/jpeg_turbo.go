//go:build cgo

package imgcodec

/*
#cgo CFLAGS: -O2 -Wall
#cgo LDFLAGS: -ljpeg
#include "jpeg_turbo.h"

static int decode(swav_jpeg *d, const uint8_t *data, size_t n, uint8_t *pix, int width, int height, int components,
                  int top, int bottom, int left, int right, char *text, size_t size, long *warnings) {
	swav_jpeg_frame f = {width, height, components, top, bottom, left, right};
	return swav_jpeg_decode(d, data, n, pix, &f, text, size, warnings);
}
*/
import "C"

import (
	"bytes"
	"errors"
	"fmt"
	"image"
	"runtime"
	"sync"
	"unsafe"
)

// textSize holds any message of the library (its JMSG_LENGTH_MAX).
const textSize = 200

// Backend names the JPEG decoder, for run records.
const Backend = "libjpeg-turbo"

// decoder keeps a libjpeg-turbo instance, its last message and the memory for
// CMYK pixels.
type decoder struct {
	d        *C.swav_jpeg
	text     [textSize]C.char
	warnings C.long
	cmyk     []byte

	cleanup runtime.Cleanup
}

var decoders = sync.Pool{New: func() any {
	d := &decoder{d: C.swav_jpeg_new()}
	if d.d != nil {
		d.cleanup = runtime.AddCleanup(d, func(p *C.swav_jpeg) { C.swav_jpeg_free(p) }, d.d)
	}
	return d
}}

// decodeJPEG decodes at least the pixels of region, which lies inside the image.
func decodeJPEG(dst *Image, data []byte, info Info, region image.Rectangle) error {
	d := decoders.Get().(*decoder)
	if d.d == nil {
		return errors.New("no memory for a decoder")
	}
	err := d.decode(dst, data, info, region)
	if err != nil {
		// After an error the library's instance may keep half of what it read and
		// refuse good files.
		d.cleanup.Stop()
		C.swav_jpeg_free(d.d)
		return err
	}
	decoders.Put(d)
	return nil
}

func (d *decoder) decode(dst *Image, data []byte, info Info, region image.Rectangle) error {
	dst.Reset(info.W, info.H, info.C)
	pix := dst.Pix
	if info.components == 4 {
		need := info.W * info.H * 4
		if cap(d.cmyk) < need {
			d.cmyk = make([]byte, need)
		}
		pix = d.cmyk[:need]
	}
	status := C.decode(d.d, (*C.uint8_t)(unsafe.Pointer(&data[0])), C.size_t(len(data)), (*C.uint8_t)(unsafe.Pointer(&pix[0])),
		C.int(info.W), C.int(info.H), C.int(info.components),
		C.int(region.Min.Y), C.int(region.Max.Y), C.int(region.Min.X), C.int(region.Max.X),
		&d.text[0], textSize, &d.warnings)
	switch status {
	case C.SWAV_JPEG_FAILED:
		return errors.New(C.GoString(&d.text[0]))
	case C.SWAV_JPEG_ENDS_EARLY:
		return ErrTruncated
	case C.SWAV_JPEG_OTHER_SIZE: // sizes were checked on what our own scan found
		return fmt.Errorf("two headers, the first of %d x %d pixels", info.W, info.H)
	}
	// Pillow reads on after most warnings, and photos with stray bytes between
	// segments are common; pixels that are not there are an error.
	if d.warnings > 0 && !info.ends(data) {
		return ErrTruncated
	}
	if info.components == 4 {
		cmykToRGB(dst.Pix, pix)
	}
	return nil
}

// ends reports whether an end-of-image marker follows the frame header. Coded
// pixels cannot contain one.
func (i Info) ends(data []byte) bool {
	return bytes.Contains(data[i.frame:], []byte{0xff, markerEOI})
}
