//go:build cgo

package kernel

/*
#cgo CFLAGS: -O3 -std=c11 -Wall
#include "call.h"
*/
import "C"

import "unsafe"

// native is a table of C kernels.
type native struct{ k *C.swav_pixels }

func compiled() []Set {
	var sets []Set
	for i := 0; ; i++ {
		k := C.swav_pixels_table(C.int(i))
		if k == nil {
			return sets
		}
		sets = append(sets, native{k})
	}
}

func (n native) Name() string { return C.GoString(C.k_isa(n.k)) }

func bytePtr(b []byte) *C.uint8_t { return (*C.uint8_t)(unsafe.Pointer(unsafe.SliceData(b))) }

func floatPtr(f []float32) *C.float { return (*C.float)(unsafe.Pointer(unsafe.SliceData(f))) }

func int32Ptr(v []int32) *C.int32_t { return (*C.int32_t)(unsafe.Pointer(unsafe.SliceData(v))) }

func int16Ptr(v []int16) *C.int16_t { return (*C.int16_t)(unsafe.Pointer(unsafe.SliceData(v))) }

// The slicing below checks lengths as Go does, before C sees the memory.

func (n native) ResizeRows(dst, src []byte, rows, stride, c int, t *Taps) {
	if rows == 0 {
		return
	}
	dst = dst[:rows*t.N*c]
	_ = src[:(rows-1)*stride+t.End*c]
	C.k_resize_rows(n.k, bytePtr(dst), bytePtr(src), C.int64_t(len(src)), C.int64_t(rows), C.int64_t(stride), C.int64_t(c),
		int32Ptr(t.First), int32Ptr(t.Count), int32Ptr(t.W), int16Ptr(t.halves), C.int64_t(t.N), C.int64_t(t.Width), C.int64_t(t.chunks))
}

func (n native) ResizeColumns(dst, src []byte, width, planes, rows, base int, t *Taps) {
	dst, src = dst[:planes*t.N*width], src[:planes*rows*width]
	if t.End-base > rows || t.Begin < base {
		panic("kernel: rows beyond the source")
	}
	C.k_resize_columns(n.k, bytePtr(dst), bytePtr(src), C.int64_t(width), C.int64_t(planes), C.int64_t(rows), C.int64_t(base),
		int32Ptr(t.First), int32Ptr(t.Count), int32Ptr(t.W), int16Ptr(t.halves), C.int64_t(t.N), C.int64_t(t.Width), C.int64_t(t.chunks))
}

func (n native) Towards(pix []byte, from byte, f float32) {
	C.k_towards(n.k, bytePtr(pix), C.int64_t(len(pix)), C.uint8_t(from), C.float(f))
}

func (n native) Sum(pix []byte) uint64 {
	return uint64(C.k_sum(n.k, bytePtr(pix), C.int64_t(len(pix))))
}

func (n native) SumLuma(rgb []byte) uint64 {
	return uint64(C.k_sum_luma(n.k, bytePtr(rgb), C.int64_t(len(rgb)/3)))
}

func (n native) Saturate(rgb []byte, f float32) {
	C.k_saturate(n.k, bytePtr(rgb), C.int64_t(len(rgb)/3), C.float(f))
}

func (n native) Grey(rgb []byte) { C.k_grey(n.k, bytePtr(rgb), C.int64_t(len(rgb)/3)) }

func (n native) ShiftHue(rgb []byte, shift byte) {
	C.k_shift_hue(n.k, bytePtr(rgb), C.int64_t(len(rgb)/3), C.uint8_t(shift))
}

func (n native) Solarize(pix []byte) { C.k_solarize(n.k, bytePtr(pix), C.int64_t(len(pix))) }

func (n native) Blur(pix, tmp []byte, w, h, planes int, b Box) {
	pix, tmp = pix[:w*h*planes], tmp[:BlurMemory(w, h, b)]
	C.k_blur(n.k, bytePtr(pix), bytePtr(tmp), C.int64_t(w), C.int64_t(h), C.int64_t(planes), C.int64_t(b.R), C.uint32_t(b.Full), C.uint32_t(b.Far))
}

func (n native) Normalise(dst []float32, pix []byte, planes int, scale, shift []float32) {
	pixels, channels := len(pix)/planes, len(scale)
	if planes != channels && planes != 1 {
		panic("kernel: planes are neither one nor as many as channels")
	}
	dst, shift = dst[:pixels*channels], shift[:channels]
	C.k_normalise(n.k, floatPtr(dst), bytePtr(pix), C.int64_t(pixels), C.int64_t(planes), C.int64_t(channels), floatPtr(scale), floatPtr(shift))
}
