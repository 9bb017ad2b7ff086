package imgcodec

import (
	"errors"
	"image"
	"image/color"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// noisy fills an image with random colours, some of them clear.
func noisy[T interface {
	image.Image
	Set(x, y int, c color.Color)
}](m T, opaque bool) T {
	r := rand.New(rand.NewPCG(1, 2))
	for y := m.Bounds().Min.Y; y < m.Bounds().Max.Y; y++ {
		for x := m.Bounds().Min.X; x < m.Bounds().Max.X; x++ {
			c := color.NRGBA64{uint16(r.Uint32()), uint16(r.Uint32()), uint16(r.Uint32()), uint16(r.Uint32())}
			if opaque {
				c.A = 0xffff
			}
			m.Set(x, y, c)
		}
	}
	return m
}

func TestFromImageIsWhatThePNGHolds(t *testing.T) {
	rect := image.Rect(-3, 2, 14, 11)
	palette := color.Palette{color.NRGBA{200, 10, 3, 255}, color.NRGBA{0, 90, 4, 255}, color.White}
	for name, m := range map[string]image.Image{
		"grey":           noisy(image.NewGray(rect), true),
		"grey, 16 bits":  noisy(image.NewGray16(rect), true),
		"straight":       noisy(image.NewNRGBA(rect), false),
		"opaque":         noisy(image.NewRGBA(rect), true),
		"16 bits":        noisy(image.NewNRGBA64(rect), false),
		"opaque 16 bits": noisy(image.NewRGBA64(rect), true),
		"palette":        noisy(image.NewPaletted(rect, palette), true),
		"part":           noisy(image.NewNRGBA(image.Rect(0, 0, 40, 40)), false).SubImage(image.Rect(5, 7, 30, 9)),
		"part, grey":     noisy(image.NewGray(image.Rect(0, 0, 40, 40)), true).SubImage(image.Rect(39, 39, 40, 40)),
	} {
		for _, o := range []Options{{}, {Deep: true}, {Alpha: true}, {Deep: true, Alpha: true}} {
			if name == "palette" && o.Alpha {
				continue // PNG's palette has no alpha channel of its own
			}
			want, err := Decode(encodePNG(t, m), o)
			if err != nil {
				t.Fatal(err)
			}
			var got Image
			if err := FromImage(&got, m, o); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if d := cmp.Diff(want, &got, cmpopts.EquateEmpty()); d != "" {
				t.Errorf("%s, deep %v, alpha %v: %s", name, o.Deep, o.Alpha, d)
			}
		}
	}
}

func TestFromImageLimits(t *testing.T) {
	var dst Image
	if err := FromImage(&dst, image.NewGray(image.Rect(5, 5, 5, 9)), Options{}); err == nil {
		t.Error("an image without pixels was taken")
	}
	if err := FromImage(&dst, image.NewUniform(color.White), Options{}); !errors.Is(err, ErrTooLarge) {
		t.Errorf("an endless image: %v", err)
	}
}
