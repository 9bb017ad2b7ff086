package imgcodec

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"image"
	"image/gif"
	"strings"
)

// readGIFInfo reads the size of the screen, which holds every frame.
func readGIFInfo(data []byte) (Info, error) {
	if len(data) < gifHeader {
		return Info{}, fmt.Errorf("%w: no header", ErrTruncated)
	}
	info := Info{C: 3, Depth: 8, Orientation: 1}
	info.W, info.H = int(binary.LittleEndian.Uint16(data[6:])), int(binary.LittleEndian.Uint16(data[8:]))
	return info, nil
}

// gifHeader is the length of signature and screen descriptor, gifFlags the place
// of the flags that announce a colour table.
const gifHeader, gifFlags = 13, 10

// decodeGIF gives the first frame; around it the screen has the background's
// colour.
func decodeGIF(dst *Image, data []byte, info Info, _ Options) error {
	m, err := gif.Decode(bytes.NewReader(data))
	if err != nil && strings.Contains(err.Error(), "no color table") {
		m, err = gif.Decode(bytes.NewReader(withGreys(data)))
	}
	if err != nil {
		return early(err, "not enough image data", "unexpected EOF")
	}
	frame, ok := m.(*image.Paletted)
	if !ok {
		return fmt.Errorf("pixels of type %T", m)
	}
	if !frame.Rect.In(image.Rect(0, 0, info.W, info.H)) {
		return fmt.Errorf("frame %v leaves the screen of %d x %d pixels", frame.Rect, info.W, info.H)
	}
	dst.Reset(info.W, info.H, 3)
	if frame.Rect.Dx() < info.W || frame.Rect.Dy() < info.H {
		var back [3]byte
		if i := int(data[gifFlags+1]); i < len(frame.Palette) {
			back = plain(frame.Palette[i])
		}
		for p := dst.Pix; len(p) > 0; p = p[3:] {
			copy(p, back[:])
		}
	}
	fromPalette(dst.Pix, dst.W, 3, frame.Rect.Min.X, frame.Rect.Min.Y, frame)
	return nil
}

// withGreys gives a file that has no colours the table that viewers assume.
func withGreys(data []byte) []byte {
	out := append(make([]byte, 0, len(data)+3*256), data[:gifHeader]...)
	out[gifFlags] |= 0x87 // a global table of 256 colours
	for i := range 256 {
		out = append(out, byte(i), byte(i), byte(i))
	}
	return append(out, data[gifHeader:]...)
}
