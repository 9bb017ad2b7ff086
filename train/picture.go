package train

import (
	"image"
	"image/color"

	"swav/dataset"
	"swav/imgcodec"
)

// Picture reads image i of a source for people to look at.
func Picture(src dataset.Source, i int) (image.Image, error) {
	var img imgcodec.Image
	if err := src.Load(i, &img); err != nil {
		return nil, err
	}
	return picture(&img), nil
}

// picture shows an image's first channel, or its first three as colours. It
// copies the pixels.
func picture(img *imgcodec.Image) image.Image {
	r := image.Rect(0, 0, img.W, img.H)
	if img.C < 3 {
		g := image.NewGray(r)
		for i := range g.Pix {
			g.Pix[i] = img.Pix[i*img.C]
		}
		return g
	}
	p := image.NewRGBA(r)
	for i := range img.W * img.H {
		at := img.Pix[i*img.C:]
		p.SetRGBA(i%img.W, i/img.W, color.RGBA{at[0], at[1], at[2], 255})
	}
	return p
}
