package train

import (
	"image"
	"image/color"
	"slices"

	"swav/dataset"
	"swav/imgcodec"
)

// Picture reads image i of a source for people to look at.
func Picture(src dataset.Source, i int) (image.Image, error) {
	var img imgcodec.Image
	if err := src.Load(i, &img); err != nil {
		return nil, err
	}
	return PictureOf(&img), nil
}

// PictureOf shows an image's first channel, or its first three as colours. Samples
// of 16 bits are stretched so that the largest is white. It copies the pixels.
func PictureOf(img *imgcodec.Image) image.Image {
	at := func(i int) byte { return img.Pix[i] }
	if img.IsDeep() {
		most := uint32(max(1, slices.Max(img.Deep)))
		at = func(i int) byte { return byte(uint32(img.Deep[i]) * 255 / most) }
	}
	r := image.Rect(0, 0, img.W, img.H)
	if img.C < 3 {
		g := image.NewGray(r)
		for i := range g.Pix {
			g.Pix[i] = at(i * img.C)
		}
		return g
	}
	p := image.NewRGBA(r)
	for i := range img.W * img.H {
		c := i * img.C
		p.SetRGBA(i%img.W, i/img.W, color.RGBA{at(c), at(c + 1), at(c + 2), 255})
	}
	return p
}
