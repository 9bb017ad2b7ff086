package imgcodec

import (
	"encoding/binary"
	"image"
	"sync"
)

// exifOrientation reads the orientation tag of a TIFF structure, which EXIF is.
// It returns 1 (upright) where there is none or the structure is damaged: a
// wrong tag is no reason to lose an image.
func exifOrientation(tiff []byte) int {
	if len(tiff) < 8 {
		return 1
	}
	var order binary.ByteOrder
	switch string(tiff[:4]) {
	case "II*\x00":
		order = binary.LittleEndian
	case "MM\x00*":
		order = binary.BigEndian
	default:
		return 1
	}
	at := uint64(order.Uint32(tiff[4:]))
	if at+2 > uint64(len(tiff)) {
		return 1
	}
	entries := int(order.Uint16(tiff[at:]))
	ifd := tiff[at+2:]
	const tagOrientation, typeShort, entrySize = 0x0112, 3, 12
	for range min(entries, len(ifd)/entrySize) {
		if order.Uint16(ifd) == tagOrientation && order.Uint16(ifd[2:]) == typeShort {
			if o := int(order.Uint16(ifd[8:])); o >= 1 && o <= 8 {
				return o
			}
			return 1
		}
		ifd = ifd[entrySize:]
	}
	return 1
}

// spares keep the memory of images that were turned.
var spares = sync.Pool{New: func() any { return new(Image) }}

// orient turns m so that it stands upright. Orientations 5 to 8 swap width and
// height.
func orient(m *Image, o int) {
	spare := spares.Get().(*Image)
	defer spares.Put(spare)
	w, h := m.W, m.H
	if o >= 5 {
		w, h = h, w
	}
	if m.IsDeep() {
		spare.ResetDeep(w, h, m.C)
		turn(spare.Deep, m.Deep, m, w, h, o)
		m.Deep, spare.Deep = spare.Deep, m.Deep
	} else {
		spare.Reset(w, h, m.C)
		turn(spare.Pix, m.Pix, m, w, h, o)
		m.Pix, spare.Pix = spare.Pix, m.Pix
	}
	m.W, m.H = w, h
}

// turn copies m's samples to the places of an upright image of w x h pixels.
func turn[T byte | uint16](dst, src []T, m *Image, w, h, o int) {
	at := func(x, y int) int {
		sx, sy := storedAt(x, y, m.W, m.H, o)
		return (sy*m.W + sx) * m.C
	}
	first := at(0, 0)
	right, down := at(1, 0)-first, at(0, 1)-first // turning is linear
	for y := range h {
		from, out := first+y*down, dst[y*w*m.C:][:w*m.C]
		for ; len(out) > 0; out = out[m.C:] {
			copy(out[:m.C], src[from:])
			from += right
		}
	}
}

// storedAt is where the pixel lies in w x h stored pixels that stands at (x, y)
// when they are turned upright.
func storedAt(x, y, w, h, o int) (sx, sy int) {
	switch o {
	case 2: // mirrored
		return w - 1 - x, y
	case 3: // upside down
		return w - 1 - x, h - 1 - y
	case 4:
		return x, h - 1 - y
	case 5:
		return y, x
	case 6: // stored turned left
		return y, h - 1 - x
	case 7:
		return w - 1 - y, h - 1 - x
	case 8: // stored turned right
		return w - 1 - y, x
	}
	return x, y
}

// stored is the same for a part of the upright image.
func stored(r image.Rectangle, w, h, o int) image.Rectangle {
	if r.Empty() {
		return image.Rectangle{}
	}
	x0, y0 := storedAt(r.Min.X, r.Min.Y, w, h, o)
	x1, y1 := storedAt(r.Max.X-1, r.Max.Y-1, w, h, o)
	return image.Rect(min(x0, x1), min(y0, y1), max(x0, x1)+1, max(y0, y1)+1)
}
