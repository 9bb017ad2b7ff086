package imgcodec

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"io"
	"strings"
)

const pngSignature = "\x89PNG\r\n\x1a\n"

// readPNGInfo reads the header chunk, and an EXIF chunk where one stands before
// the pixels.
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
	info := Info{Format: "png", W: int(w), H: int(h), C: 3, Orientation: 1}
	if colour := data[25]; colour == 0 || colour == 4 { // grey, grey with alpha
		info.C = 1
	}
	for p := 8; p+12 <= len(data); {
		n, kind := uint64(binary.BigEndian.Uint32(data[p:])), string(data[p+4:p+8])
		if n > uint64(len(data)-p-12) || kind == "IDAT" {
			break
		}
		if kind == "eXIf" {
			info.Orientation = exifOrientation(data[p+8:][:n])
		}
		p += 12 + int(n)
	}
	return info, nil
}

func decodePNG(dst *Image, data []byte, info Info) error {
	m, err := png.Decode(bytes.NewReader(data))
	// The standard library tells some early ends by their text only.
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		err != nil && (strings.Contains(err.Error(), "not enough pixel data") || strings.Contains(err.Error(), "unexpected EOF")) {
		return fmt.Errorf("%w: %w", ErrTruncated, err)
	}
	if err != nil {
		return err
	}
	dst.Reset(m.Bounds().Dx(), m.Bounds().Dy(), info.C)
	w, c := dst.W, dst.C
	switch m := m.(type) {
	case *image.Gray:
		pick(dst, m.Pix, m.Stride, 1, 0)
	case *image.Gray16:
		pick(dst, m.Pix, m.Stride, 2, 0)
	case *image.RGBA: // opaque
		pick(dst, m.Pix, m.Stride, 4, 1)
	case *image.NRGBA:
		pick(dst, m.Pix, m.Stride, 4, 1)
	case *image.RGBA64:
		pick(dst, m.Pix, m.Stride, 8, 2)
	case *image.NRGBA64:
		pick(dst, m.Pix, m.Stride, 8, 2)
	case *image.Paletted:
		var palette [256][3]byte
		for i, col := range m.Palette {
			if i < len(palette) {
				v := color.NRGBAModel.Convert(col).(color.NRGBA)
				palette[i] = [3]byte{v.R, v.G, v.B}
				if v.A == 0 { // NRGBAModel loses the colour of what is clear
					if n, ok := col.(color.NRGBA); ok {
						palette[i] = [3]byte{n.R, n.G, n.B}
					}
				}
			}
		}
		for y := range dst.H {
			for x, v := range m.Pix[y*m.Stride:][:w] {
				copy(dst.Pix[(y*w+x)*c:][:c], palette[v][:])
			}
		}
	default:
		return fmt.Errorf("pixels of type %T", m)
	}
	return nil
}

// pick copies samples out of rows with pixels of size bytes, whose channels are
// next bytes apart; of 16-bit samples the high byte comes first and is taken.
func pick(dst *Image, pix []byte, stride, size, next int) {
	c := dst.C
	for y := range dst.H {
		in, out := pix[y*stride:][:dst.W*size], dst.Pix[y*dst.W*c:][:dst.W*c]
		for x := 0; x < dst.W; x++ {
			for ch := range c {
				out[x*c+ch] = in[x*size+ch*next]
			}
		}
	}
}
