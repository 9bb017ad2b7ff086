package imgcodec

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
)

// JPEG markers that the header scan stops at.
const (
	markerSOS  = 0xda
	markerAPP1 = 0xe1
	markerEOI  = 0xd9
)

// readJPEGInfo walks the marker segments up to the first scan. It reads size
// and component count from the frame header and the orientation from EXIF.
func readJPEGInfo(data []byte) (Info, error) {
	info := Info{Depth: 8, Orientation: 1}
	for p := 2; ; {
		// Fill bytes may precede a marker; bytes that are none are skipped, as
		// libjpeg does.
		for p+1 < len(data) && (data[p] != 0xff || data[p+1] == 0xff || data[p+1] == 0) {
			p++
		}
		if p+4 > len(data) {
			return Info{}, fmt.Errorf("%w: no frame header", ErrTruncated)
		}
		marker := data[p+1]
		if marker == 0x01 || marker >= 0xd0 && marker <= 0xd7 { // without length
			p += 2
			continue
		}
		if marker == markerSOS || marker == markerEOI {
			return Info{}, errors.New("no frame header before the scan")
		}
		n := int(binary.BigEndian.Uint16(data[p+2:]))
		if n < 2 {
			return Info{}, fmt.Errorf("segment of %d bytes at offset %d", n, p)
		}
		if p+2+n > len(data) {
			return Info{}, fmt.Errorf("%w: segment at offset %d", ErrTruncated, p)
		}
		seg := data[p+4 : p+2+n]
		switch {
		case marker >= 0xc0 && marker <= 0xcf && marker != 0xc4 && marker != 0xc8 && marker != 0xcc:
			if len(seg) < 6 {
				return Info{}, errors.New("frame header too short")
			}
			info.H, info.W = int(binary.BigEndian.Uint16(seg[1:])), int(binary.BigEndian.Uint16(seg[3:]))
			info.components = int(seg[5])
			switch info.components {
			case 1:
				info.C = 1
			case 3, 4:
				info.C = 3
			default:
				return Info{}, fmt.Errorf("%d components, want 1, 3 or 4", seg[5])
			}
			for comp := seg[6:]; len(comp) >= 3; comp = comp[3:] {
				info.Subsampled = info.Subsampled || comp[1] != seg[7]
			}
			if info.W == 0 || info.H == 0 {
				return Info{}, fmt.Errorf("frame of %d x %d pixels", info.W, info.H)
			}
			info.frame = p + 2 + n
			return info, nil
		case marker == markerAPP1 && bytes.HasPrefix(seg, []byte("Exif\x00\x00")):
			info.Orientation = exifOrientation(seg[6:])
		}
		p += 2 + n
	}
}

// cmykToRGB turns Adobe's inverted CMYK (255 is no ink), as stored in JPEG,
// into RGB: each colour times the paper that black leaves, rounded as Pillow
// does. src has four bytes a pixel, dst three; they may share memory from the
// start on.
func cmykToRGB(dst, src []byte) {
	for len(src) >= 4 {
		k := uint32(src[3])
		for i := range 3 {
			// 255-ink is what is stored, so k - (255-v)*k/255, in eighths of a bit
			// exactly as a rounded division by 255.
			t := (255-uint32(src[i]))*k + 128
			dst[i] = byte(k - (t>>8+t)>>8)
		}
		dst, src = dst[3:], src[4:]
	}
}
