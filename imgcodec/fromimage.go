package imgcodec

import (
	"fmt"
	"image"
	"image/draw"
)

// FromImage makes dst the pixels of an image of the standard library, as decoding
// its PNG file would: grey stays grey, anything else becomes RGB without its
// alpha, or with it under o.Alpha; 16 bits are kept under o.Deep.
func FromImage(dst *Image, m image.Image, o Options) error {
	b := m.Bounds()
	info := Info{W: b.Dx(), H: b.Dy(), C: 3, Depth: 8}
	if err := info.check(o.maxPixels()); err != nil {
		return err
	}
	switch t := m.(type) {
	case *image.Gray:
		info.C = 1
		m = &image.Gray{Pix: t.Pix[t.PixOffset(b.Min.X, b.Min.Y):], Stride: t.Stride, Rect: image.Rect(0, 0, info.W, info.H)}
	case *image.Gray16:
		info.C, info.Depth = 1, 16
		m = &image.Gray16{Pix: t.Pix[t.PixOffset(b.Min.X, b.Min.Y):], Stride: t.Stride, Rect: image.Rect(0, 0, info.W, info.H)}
	case *image.NRGBA:
		info.Alpha = !t.Opaque()
		m = &image.NRGBA{Pix: t.Pix[t.PixOffset(b.Min.X, b.Min.Y):], Stride: t.Stride, Rect: image.Rect(0, 0, info.W, info.H)}
	case *image.NRGBA64:
		info.Depth, info.Alpha = 16, !t.Opaque()
		m = &image.NRGBA64{Pix: t.Pix[t.PixOffset(b.Min.X, b.Min.Y):], Stride: t.Stride, Rect: image.Rect(0, 0, info.W, info.H)}
	case *image.RGBA64:
		info.Depth, info.Alpha = 16, !t.Opaque()
		straight := image.NewNRGBA64(image.Rect(0, 0, info.W, info.H))
		draw.Draw(straight, straight.Rect, t, b.Min, draw.Src)
		m = straight
	default:
		straight := image.NewNRGBA(image.Rect(0, 0, info.W, info.H))
		draw.Draw(straight, straight.Rect, m, b.Min, draw.Src)
		info.Alpha = !straight.Opaque()
		m = straight
	}
	if err := fromGo(dst, m, info, o); err != nil {
		return fmt.Errorf("image: %w", err)
	}
	return nil
}
