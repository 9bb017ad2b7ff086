package loader

import (
	"bytes"
	"context"
	"image"
	"image/jpeg"
	"slices"
	"testing"

	"swav/augment"
	"swav/dataset"
	"swav/imgcodec"
)

// encoded is a source of JPEG files in memory.
type encoded struct {
	fake
	data  [][]byte
	whole bool // read all pixels, whatever is needed
}

func newEncoded(t *testing.T, n int) *encoded {
	e := &encoded{fake: *newFake(n)}
	for i := range n {
		m := image.NewRGBA(image.Rect(0, 0, 180+7*i, 150+11*(i%3)))
		for p := range m.Pix {
			m.Pix[p] = byte(p*(i+3)>>6) ^ byte(p>>11)
		}
		var buf bytes.Buffer
		if err := jpeg.Encode(&buf, m, nil); err != nil {
			t.Fatal(err)
		}
		e.data = append(e.data, buf.Bytes())
	}
	return e
}

func (e *encoded) Load(i int, dst *imgcodec.Image) error {
	if e.whole {
		region := dst.Region
		dst.Region = nil
		defer func() { dst.Region = region }()
	}
	return imgcodec.DecodeInto(dst, e.data[i], imgcodec.Options{})
}

// Views do not show how much of an image was decoded.
func TestPartialDecodingDoesNotChangeBatches(t *testing.T) {
	part, whole := newEncoded(t, 9), newEncoded(t, 9)
	whole.whole = true
	c := config()
	c.Recipe.Groups[0].MaxScale = 0.4
	a, b := take(t, part, c, Position{}, 6), take(t, whole, c, Position{}, 6)
	if !slices.EqualFunc(a, b, same) {
		t.Error("batches differ")
	}
}

// Decoding an image and making its views allocates nothing.
func TestViewsAllocateNothing(t *testing.T) {
	if imgcodec.Backend != "libjpeg-turbo" {
		t.Skipf("%s allocates", imgcodec.Backend)
	}
	src := newEncoded(t, 5)
	r := augment.Original()
	m := newMaker(&r, augment.NewNormalizer(r.Mean, r.Std))
	dst := make([]float32, 224*224*3)
	i := 0
	one := func() {
		i++
		m.begin(augment.Key{Sample: uint64(i)})
		if err := src.Load(i%5, &m.img); err != nil {
			t.Fatal(err)
		}
		m.draw(m.img.W, m.img.H)
		for v := range m.params {
			size := m.params[v].Size
			m.view(dst[:size*size*3], v)
		}
	}
	for range 30 {
		one()
	}
	if n := testing.AllocsPerRun(30, one); n != 0 {
		t.Errorf("%v allocations an image", n)
	}
}

// Stages add up: all images are counted, and unreadable ones left out.
func TestMeasureStages(t *testing.T) {
	var src dataset.Source = newFake(6, 2)
	s, err := MeasureStages(context.Background(), src, config().Recipe, 1, 12)
	if err != nil {
		t.Fatal(err)
	}
	if s.Images != 10 || s.Unreadable != 2 {
		t.Errorf("%d images and %d unreadable, want 10 and 2", s.Images, s.Unreadable)
	}
	if s.Decode <= 0 || s.Crop <= 0 || s.Colour <= 0 || s.Normalise <= 0 {
		t.Errorf("stages without time: %+v", s)
	}
	if _, err := MeasureStages(context.Background(), newFake(2, 0, 1), config().Recipe, 1, 12); err == nil {
		t.Error("no error where no image can be read")
	}
}
