package imgcodec

import (
	"fmt"
	"image"
	"image/color"
)

// fromGo takes the pixels of an image of the standard library: those channels
// and bits that info and o ask for.
func fromGo(dst *Image, m image.Image, info Info, o Options) error {
	w, h := m.Bounds().Dx(), m.Bounds().Dy()
	if w != info.W || h != info.H {
		return fmt.Errorf("two sizes: %d x %d and %d x %d pixels", info.W, info.H, w, h)
	}
	c := info.C
	if o.Alpha && info.Alpha {
		c++
	}
	// Channels are next samples apart in pixels of size samples; a grey image
	// with alpha comes as RGB.
	layout := func(size int) []int {
		at := []int{0, 1, 2, 3}[:c]
		if info.C == 1 && c == 2 {
			at = []int{0, size - 1}
		}
		return at
	}
	switch m := m.(type) {
	case *image.Gray:
		dst.Reset(w, h, c)
		pick8(dst, m.Pix, m.Stride, 1, layout(1))
	case *image.RGBA:
		dst.Reset(w, h, c)
		pick8(dst, m.Pix, m.Stride, 4, layout(4))
	case *image.NRGBA:
		dst.Reset(w, h, c)
		pick8(dst, m.Pix, m.Stride, 4, layout(4))
	case *image.Gray16:
		pick16(dst, w, h, c, m.Pix, m.Stride, 1, layout(1), o.Deep)
	case *image.RGBA64:
		pick16(dst, w, h, c, m.Pix, m.Stride, 4, layout(4), o.Deep)
	case *image.NRGBA64:
		pick16(dst, w, h, c, m.Pix, m.Stride, 4, layout(4), o.Deep)
	case *image.Paletted:
		dst.Reset(w, h, info.C)
		fromPalette(dst.Pix, dst.W, dst.C, 0, 0, m)
	default:
		return fmt.Errorf("pixels of type %T", m)
	}
	return nil
}

// pick8 copies the samples at the places of every pixel of size samples.
func pick8(dst *Image, pix []byte, stride, size int, places []int) {
	out := dst.Pix
	for y := range dst.H {
		in := pix[y*stride:][:dst.W*size]
		for ; len(in) >= size; in = in[size:] {
			for i, at := range places {
				out[i] = in[at]
			}
			out = out[len(places):]
		}
	}
}

// pick16 is pick8 for big-endian samples of 16 bits: whole ones where deep is
// set, else their upper halves.
func pick16(dst *Image, w, h, c int, pix []byte, stride, size int, places []int, deep bool) {
	if !deep {
		dst.Reset(w, h, c)
		for i := range places {
			places[i] *= 2
		}
		pick8(dst, pix, stride, 2*size, places)
		return
	}
	dst.ResetDeep(w, h, c)
	out := dst.Deep
	for y := range h {
		in := pix[y*stride:][:2*w*size]
		for ; len(in) >= 2*size; in = in[2*size:] {
			for i, at := range places {
				out[i] = uint16(in[2*at])<<8 | uint16(in[2*at+1])
			}
			out = out[len(places):]
		}
	}
}

// fromPalette writes the colours of m with its corner at (x0, y0) of pixels of
// the given width and channels.
func fromPalette(pix []byte, width, c, x0, y0 int, m *image.Paletted) {
	var palette [256][3]byte
	for i, col := range m.Palette {
		if i < len(palette) {
			palette[i] = plain(col)
		}
	}
	for y := range m.Rect.Dy() {
		out := pix[((y0+y)*width+x0)*c:]
		for _, v := range m.Pix[y*m.Stride:][:m.Rect.Dx()] {
			copy(out[:c], palette[v][:])
			out = out[c:]
		}
	}
}

// plain is a colour without its alpha.
func plain(col color.Color) [3]byte {
	v, ok := col.(color.NRGBA)
	if !ok { // NRGBAModel loses the colour of what is clear
		v = color.NRGBAModel.Convert(col).(color.NRGBA)
	}
	return [3]byte{v.R, v.G, v.B}
}
