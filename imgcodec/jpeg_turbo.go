//go:build cgo

package imgcodec

/*
#cgo LDFLAGS: -lturbojpeg
#include <string.h>
#include <turbojpeg.h>

enum { OK, WARNED, FAILED };

// The library keeps the text of its last message for each thread, so it is
// fetched before control goes back to Go, which may move to another thread.
static int result(tjhandle h, int failed, char *text, size_t size) {
	if (!failed) return OK;
	strncpy(text, tjGetErrorStr2(h), size - 1);
	text[size - 1] = 0;
	return tjGetErrorCode(h) == TJERR_WARNING ? WARNED : FAILED;
}

static int header(tjhandle h, const unsigned char *data, unsigned long n,
                  int *width, int *height, int *space, char *text, size_t size) {
	int subsampling;
	return result(h, tjDecompressHeader3(h, data, n, width, height, &subsampling, space) != 0, text, size);
}

static int decode(tjhandle h, const unsigned char *data, unsigned long n,
                  unsigned char *dst, int width, int height, int format, char *text, size_t size) {
	int flags = TJFLAG_ACCURATEDCT | TJFLAG_LIMITSCANS;
	return result(h, tjDecompress2(h, data, n, dst, width, 0, height, format, flags) != 0, text, size);
}
*/
import "C"

import (
	"bytes"
	"errors"
	"fmt"
	"runtime"
	"strings"
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
	h    C.tjhandle
	text [textSize]C.char
	cmyk []byte

	cleanup runtime.Cleanup
}

var decoders = sync.Pool{New: func() any {
	d := &decoder{h: C.tjInitDecompress()}
	if d.h != nil {
		d.cleanup = runtime.AddCleanup(d, func(h C.tjhandle) { C.tjDestroy(h) }, d.h)
	}
	return d
}}

func decodeJPEG(dst *Image, data []byte, info Info) error {
	d := decoders.Get().(*decoder)
	if d.h == nil {
		return errors.New("no memory for a decoder")
	}
	err := d.decode(dst, data, info)
	if err != nil {
		// After an error the library's instance may keep half of what it read and
		// refuse good files.
		d.cleanup.Stop()
		C.tjDestroy(d.h)
		return err
	}
	decoders.Put(d)
	return nil
}

func (d *decoder) decode(dst *Image, data []byte, info Info) error {
	src, n := (*C.uchar)(unsafe.Pointer(&data[0])), C.ulong(len(data))
	var w, h, space C.int
	if C.header(d.h, src, n, &w, &h, &space, &d.text[0], C.size_t(len(d.text))) == C.FAILED {
		return d.err()
	}
	// Sizes were checked on what our own scan of the header found.
	if int(w) != info.W || int(h) != info.H {
		return fmt.Errorf("two headers: %d x %d and %d x %d pixels", info.W, info.H, w, h)
	}
	var pix []byte
	format := C.int(C.TJPF_RGB)
	switch space {
	case C.TJCS_GRAY:
		dst.Reset(info.W, info.H, 1)
		pix, format = dst.Pix, C.TJPF_GRAY
	case C.TJCS_CMYK, C.TJCS_YCCK:
		dst.Reset(info.W, info.H, 3)
		need := info.W * info.H * 4
		if cap(d.cmyk) < need {
			d.cmyk = make([]byte, need)
		}
		pix, format = d.cmyk[:need], C.TJPF_CMYK
	default:
		dst.Reset(info.W, info.H, 3)
		pix = dst.Pix
	}
	status := C.decode(d.h, src, n, (*C.uchar)(unsafe.Pointer(&pix[0])), w, h, format, &d.text[0], C.size_t(len(d.text)))
	switch status {
	case C.WARNED:
		// Pillow reads on after most warnings, and photos with stray bytes
		// between segments are common; pixels that are not there are an error.
		// Only the first warning has a text, so it may hide that of the end.
		if err := d.err(); errors.Is(err, ErrTruncated) {
			return err
		}
		if !info.ends(data) {
			return ErrTruncated
		}
	case C.FAILED:
		return d.err()
	}
	if format == C.TJPF_CMYK {
		cmykToRGB(dst.Pix, pix)
	}
	return nil
}

func (d *decoder) err() error {
	text := C.GoString(&d.text[0])
	if strings.Contains(text, "remature end") {
		return fmt.Errorf("%w (%s)", ErrTruncated, text)
	}
	return errors.New(text)
}

// ends reports whether an end-of-image marker follows the frame header. Coded
// pixels cannot contain one.
func (i Info) ends(data []byte) bool {
	return bytes.Contains(data[i.frame:], []byte{0xff, markerEOI})
}
