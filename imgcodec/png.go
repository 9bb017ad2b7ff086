package imgcodec

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"image/png"
)

const pngSignature = "\x89PNG\r\n\x1a\n"

// readPNGInfo reads the header chunk, and an EXIF chunk where there is one.
func readPNGInfo(data []byte) (Info, error) {
	const headerEnd = 8 + 8 + 13
	if len(data) < headerEnd {
		return Info{}, fmt.Errorf("%w: no header", ErrTruncated)
	}
	if string(data[12:16]) != "IHDR" {
		return Info{}, errors.New("first chunk is not IHDR")
	}
	w, h := binary.BigEndian.Uint32(data[16:]), binary.BigEndian.Uint32(data[20:])
	if w == 0 || h == 0 || w > 1<<31-1 || h > 1<<31-1 {
		return Info{}, fmt.Errorf("image of %d x %d pixels", w, h)
	}
	info := Info{W: int(w), H: int(h), C: 3, Depth: 8, Orientation: 1}
	if data[24] == 16 {
		info.Depth = 16
	}
	switch data[25] {
	case 0: // grey
		info.C = 1
	case 4: // grey with alpha
		info.C, info.Alpha = 1, true
	case 6: // RGB with alpha
		info.Alpha = true
	}
	for p := 8; p+12 <= len(data); {
		n, kind := uint64(binary.BigEndian.Uint32(data[p:])), string(data[p+4:p+8])
		if n > uint64(len(data)-p-12) {
			break
		}
		if kind == "eXIf" {
			info.Orientation = exifOrientation(data[p+8:][:n])
		}
		p += 12 + int(n)
	}
	return info, nil
}

func decodePNG(dst *Image, data []byte, info Info, o Options) error {
	m, err := png.Decode(bytes.NewReader(data))
	if err != nil {
		return early(err, "not enough pixel data", "unexpected EOF")
	}
	return fromGo(dst, m, info, o)
}
