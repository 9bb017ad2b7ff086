package imgcodec

import (
	"bytes"
	"fmt"
	"image"
	"image/jpeg"
)

// decodeJPEGStd decodes with the standard library, which leaves chroma at its
// stored resolution, and does upsampling and colours as libjpeg does by default.
// It is compiled everywhere so that tests compare it with libjpeg-turbo.
func decodeJPEGStd(dst *Image, data []byte, _ Info) error {
	m, err := jpeg.Decode(bytes.NewReader(data))
	if err != nil {
		return early(err, "short Huffman data")
	}
	w, h := m.Bounds().Dx(), m.Bounds().Dy()
	switch m := m.(type) {
	case *image.Gray:
		dst.Reset(w, h, 1)
		for y := range h {
			copy(dst.Pix[y*w:][:w], m.Pix[y*m.Stride:])
		}
	case *image.YCbCr:
		dst.Reset(w, h, 3)
		fromYCbCr(dst, m)
	case *image.RGBA:
		dst.Reset(w, h, 3)
		dropAlpha(dst, m.Pix, m.Stride)
	case *image.CMYK:
		dst.Reset(w, h, 3)
		row := make([]byte, 4*w)
		for y := range h {
			for i, v := range m.Pix[y*m.Stride:][:4*w] {
				row[i] = 255 - v
			}
			cmykToRGB(dst.Pix[y*w*3:][:3*w], row)
		}
	default:
		return fmt.Errorf("pixels of type %T", m)
	}
	return nil
}

// dropAlpha copies four-channel rows without their fourth channel.
func dropAlpha(dst *Image, pix []byte, stride int) {
	for y := range dst.H {
		in, out := pix[y*stride:][:4*dst.W], dst.Pix[y*dst.W*3:][:3*dst.W]
		for len(in) >= 4 {
			out[0], out[1], out[2] = in[0], in[1], in[2]
			in, out = in[4:], out[3:]
		}
	}
}

// fromYCbCr upsamples chroma and converts to RGB.
func fromYCbCr(dst *Image, m *image.YCbCr) {
	w, h := dst.W, dst.H
	sx, sy := 1, 1
	switch m.SubsampleRatio {
	case image.YCbCrSubsampleRatio422:
		sx = 2
	case image.YCbCrSubsampleRatio420:
		sx, sy = 2, 2
	case image.YCbCrSubsampleRatio440:
		sy = 2
	case image.YCbCrSubsampleRatio411:
		sx = 4
	case image.YCbCrSubsampleRatio410:
		sx, sy = 4, 2
	}
	cw, ch := (w+sx-1)/sx, (h+sy-1)/sy
	cb, cr := make([]byte, cw*sx), make([]byte, cw*sx)
	sum := make([]int32, cw)
	for y := range h {
		chromaRow(cb, m.Cb, m.CStride, y, cw, ch, sx, sy, sum)
		chromaRow(cr, m.Cr, m.CStride, y, cw, ch, sx, sy, sum)
		luma, out := m.Y[y*m.YStride:][:w], dst.Pix[y*w*3:][:3*w]
		for x, v := range luma {
			out[3*x], out[3*x+1], out[3*x+2] = yccToRGB(v, cb[x], cr[x])
		}
	}
}

// chromaRow writes the chroma of output row y at full width. Planes halved in
// an axis are weighted 3:1 from the two nearest samples with libjpeg's
// alternating rounding; quarter planes and very narrow ones are repeated.
func chromaRow(dst, plane []byte, stride, y, cw, ch, sx, sy int, sum []int32) {
	row := func(i int) []byte { return plane[min(max(i, 0), ch-1)*stride:][:cw] }
	near := row(y / sy)
	smoothX := sx == 2 && cw > 2
	// libjpeg smooths vertically only where it also smooths horizontally or
	// the width is not halved.
	smoothY := sy == 2 && (smoothX || sx == 1)
	far, bias := near, int32(1)
	if smoothY {
		if y%2 == 0 {
			far = row(y/2 - 1)
		} else {
			far, bias = row(y/2+1), 2
		}
	}
	switch {
	case smoothX && smoothY:
		for i := range sum {
			sum[i] = 3*int32(near[i]) + int32(far[i])
		}
		for i, v := range sum {
			l, r := sum[max(i-1, 0)], sum[min(i+1, cw-1)]
			dst[2*i], dst[2*i+1] = byte((3*v+l+8)>>4), byte((3*v+r+7)>>4)
		}
	case smoothX:
		for i := range cw {
			v, l, r := int32(near[i]), int32(near[max(i-1, 0)]), int32(near[min(i+1, cw-1)])
			dst[2*i], dst[2*i+1] = byte((3*v+l+1)>>2), byte((3*v+r+2)>>2)
		}
	case smoothY:
		for i := range cw {
			dst[i] = byte((3*int32(near[i]) + int32(far[i]) + bias) >> 2)
		}
	default:
		for i := range dst[:cw*sx] {
			dst[i] = near[i/sx]
		}
	}
}

// yccToRGB is JFIF's conversion in libjpeg's 16-bit fixed point.
func yccToRGB(y, cb, cr byte) (r, g, b byte) {
	const (
		f1402, f1772  = 91881, 116130 // 1.402 and 1.772 times 2^16
		f0344, f0714  = 22554, 46802  // 0.344136 and 0.714136
		half16, shift = 1 << 15, 16
	)
	l, u, v := int32(y), int32(cb)-128, int32(cr)-128
	return clamp(l + (f1402*v+half16)>>shift),
		clamp(l + (-f0344*u-f0714*v+half16)>>shift),
		clamp(l + (f1772*u+half16)>>shift)
}

func clamp(v int32) byte { return byte(min(max(v, 0), 255)) }
