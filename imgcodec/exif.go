package imgcodec

import "encoding/binary"

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

// orient turns m so that it stands upright. Orientations 5 to 8 swap width and
// height.
func orient(m *Image, o int) {
	w, h := m.W, m.H
	if o >= 5 {
		m.W, m.H = h, w
	}
	turn(m.Pix, w, h, m.C, o)
	turn(m.Deep, w, h, m.C, o)
}

// turn does orient's work on w x h stored pixels.
func turn[T byte | uint16](pix []T, w, h, c, o int) {
	if len(pix) == 0 {
		return
	}
	src := append([]T(nil), pix...)
	tw, th := w, h
	if o >= 5 {
		tw, th = h, w
	}
	for y := range th {
		for x := range tw {
			sx, sy := x, y
			switch o {
			case 2: // mirrored
				sx = w - 1 - x
			case 3: // upside down
				sx, sy = w-1-x, h-1-y
			case 4:
				sy = h - 1 - y
			case 5:
				sx, sy = y, x
			case 6: // stored turned left
				sx, sy = y, h-1-x
			case 7:
				sx, sy = w-1-y, h-1-x
			case 8: // stored turned right
				sx, sy = w-1-y, x
			}
			copy(pix[(y*tw+x)*c:][:c], src[(sy*w+sx)*c:])
		}
	}
}
