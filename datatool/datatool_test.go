package datatool

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/jpeg"
	"image/png"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/pelletier/go-toml/v2"
	xdraw "golang.org/x/image/draw"

	"swav/config"
	"swav/dataset"
	"swav/imgcodec"
)

// scene is a picture that is different for each seed.
func scene(w, h int, seed float64) *image.RGBA {
	m := image.NewRGBA(image.Rect(0, 0, w, h))
	for i := range w * h {
		x, y := float64(i%w)/float64(w), float64(i/w)/float64(h)
		v := func(a, b float64) byte { return byte(128 + 100*math.Sin(seed*a+x*(3+seed)+y*b)) }
		m.SetRGBA(i%w, i/w, color.RGBA{v(1, 5+seed), v(2, 9-seed), v(3, 4), 255})
	}
	return m
}

// shrunk is a picture at another size.
func shrunk(m image.Image, w, h int) image.Image {
	dst := image.NewRGBA(image.Rect(0, 0, w, h))
	xdraw.BiLinear.Scale(dst, dst.Rect, m, m.Bounds(), xdraw.Src, nil)
	return dst
}

func write(t *testing.T, data []byte, elem ...string) {
	t.Helper()
	path := filepath.Join(elem...)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
}

func encoded(t *testing.T, m image.Image, quality int) []byte {
	t.Helper()
	var b bytes.Buffer
	err := png.Encode(&b, m)
	if quality > 0 {
		b.Reset()
		err = jpeg.Encode(&b, m, &jpeg.Options{Quality: quality})
	}
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func open(t *testing.T, dir string) dataset.Source {
	t.Helper()
	src, err := dataset.Open(dir, dataset.Options{Decode: imgcodec.Options{Deep: true}})
	if err != nil {
		t.Fatal(err)
	}
	return src
}

// npy is a 16-bit image of c channels.
func npy(w, h, c, seed int) []byte {
	m := new(imgcodec.Image)
	m.ResetDeep(w, h, c)
	for i := range m.Deep {
		m.Deep[i] = uint16(i*i*37 + seed*911)
	}
	return npyFile(m)
}

func TestCheck(t *testing.T) {
	dir := t.TempDir()
	for i := range 6 {
		write(t, encoded(t, scene(60, 40, float64(i)), 0), dir, []string{"a", "b"}[i%2], fmt.Sprintf("%d.png", i))
	}
	write(t, encoded(t, scene(60, 40, 1), 0), dir, "a", "copy.png")
	write(t, encoded(t, shrunk(scene(60, 40, 2), 30, 20), 40), dir, "a", "small.jpg")
	write(t, encoded(t, scene(60, 40, 7), 90), dir, "b", "named.png")
	write(t, nil, dir, "b", "empty.jpg")
	write(t, encoded(t, scene(60, 40, 3), 0)[:500], dir, "b", "half.png")
	write(t, []byte("<!DOCTYPE html>"), dir, "b", "page.jpg")
	done := 0
	r, err := Check(context.Background(), open(t, dir), Options{Workers: 1, Done: func() { done++ }})
	if err != nil {
		t.Fatal(err)
	}
	if r.OK() || r.Images != 12 || done != 12 || r.Labelled != 12 || r.Formats["png"] != 7 || r.Formats["jpeg"] != 2 || r.Channels[3] != 9 || r.Depths[8] != 9 {
		t.Errorf("%d told; %+v", done, r)
	}
	if r.Width != (Spread{30, 60, 60}) || r.Height != (Spread{20, 40, 40}) {
		t.Errorf("sizes %+v, %+v", r.Width, r.Height)
	}
	if !slices.Equal(r.Misnamed, []string{"b/named.png"}) {
		t.Errorf("misnamed: %v", r.Misnamed)
	}
	var broken []string
	for _, b := range r.Broken {
		broken = append(broken, b.Image)
	}
	if !slices.Equal(broken, []string{"b/empty.jpg", "b/half.png", "b/page.jpg"}) || !strings.Contains(r.Broken[2].Error, "web page") {
		t.Errorf("broken: %+v", r.Broken)
	}
	if len(r.Duplicates) != 1 || !slices.Equal(r.Duplicates[0], []string{"a/copy.png", "b/1.png"}) {
		t.Errorf("duplicates: %v", r.Duplicates)
	}
	if len(r.Near) != 1 || !slices.Equal(r.Near[0], []string{"a/2.png", "a/small.jpg"}) {
		t.Errorf("near duplicates: %v", r.Near)
	}
	var text bytes.Buffer
	if err := r.WriteText(&text); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"12", "png: 7, jpeg: 2", "b/empty.jpg", "a/copy.png  b/1.png", "30 to 60"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("no %q in\n%s", want, text.String())
		}
	}
	data, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	var back Report
	if err := json.Unmarshal(data, &back); err != nil || back.Images != 12 || len(back.Broken) != 3 {
		t.Errorf("JSON: %v, %+v", err, back)
	}
}

// What every worker finds is found by many as well, and by none twice.
func TestCheckIsTheSameForAnyWorkers(t *testing.T) {
	dir := t.TempDir()
	for i := range 40 {
		write(t, encoded(t, scene(20, 20, float64(i%30)), 0), dir, fmt.Sprintf("%d.png", i))
	}
	var reports []string
	for _, n := range []int{1, 2, 7} {
		r, err := Check(context.Background(), open(t, dir), Options{Workers: n})
		if err != nil {
			t.Fatal(err)
		}
		reports = append(reports, fmt.Sprintf("%+v", r))
		if len(r.Duplicates) != 10 {
			t.Errorf("%d workers: %d duplicates, want 10", n, len(r.Duplicates))
		}
	}
	if reports[0] != reports[1] || reports[0] != reports[2] {
		t.Error(reports)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Check(ctx, open(t, dir), Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted: %v", err)
	}
}

func TestCheckFindsWhatDoesNotGoTogether(t *testing.T) {
	dir := t.TempDir()
	write(t, npy(9, 9, 5, 1), dir, "a.npy")
	write(t, npy(9, 9, 5, 2), dir, "b.npy")
	write(t, encoded(t, scene(9, 9, 1), 0), dir, "c.png")
	r, err := Check(context.Background(), open(t, dir), Options{})
	if err != nil {
		t.Fatal(err)
	}
	if r.OK() || len(r.Problems) != 1 || !strings.Contains(r.Problems[0], "2 of 5 channels") || r.Depths[16] != 2 {
		t.Errorf("%+v", r)
	}
}

// The same picture is found again after what people do to pictures, and different
// ones are not taken for each other.
func lookAt(m *imgcodec.Image) look {
	w := worker{img: *m}
	return w.look()
}

func TestAlike(t *testing.T) {
	pixels := func(m image.Image, quality int) *imgcodec.Image {
		img, err := imgcodec.Decode(encoded(t, m, quality), imgcodec.Options{})
		if err != nil {
			t.Fatal(err)
		}
		return img
	}
	var looks []look
	for i := range 12 {
		looks = append(looks, lookAt(pixels(scene(80, 60, 0.7*float64(i)), 0)))
	}
	if groups := alike(looks); len(groups) > 0 {
		t.Errorf("different pictures: %v", groups)
	}
	original := scene(80, 60, 2.1)
	bright := scene(80, 60, 2.1)
	for i, v := range bright.Pix {
		bright.Pix[i] = byte(min(255, int(v)*11/10))
	}
	for name, other := range map[string]*imgcodec.Image{
		"smaller": pixels(shrunk(original, 41, 33), 0), "compressed": pixels(original, 20), "brighter": pixels(bright, 0),
	} {
		if groups := alike(append(slices.Clone(looks), lookAt(other))); len(groups) != 1 || !slices.Equal(groups[0], []int{3, 12}) {
			t.Errorf("%s: %v", name, groups)
		}
	}
	white, grey := image.NewGray(image.Rect(0, 0, 20, 20)), image.NewGray(image.Rect(0, 0, 20, 20))
	for i := range white.Pix {
		white.Pix[i], grey.Pix[i] = 255, 100
	}
	if groups := alike([]look{lookAt(pixels(white, 0)), lookAt(pixels(grey, 0)), lookAt(pixels(white, 0))}); len(groups) != 1 || !slices.Equal(groups[0], []int{0, 2}) {
		t.Errorf("flat pictures: %v", groups)
	}
}

func TestMeasure(t *testing.T) {
	dir := t.TempDir()
	flat := func(v byte, w int) []byte {
		m := image.NewGray(image.Rect(0, 0, w, 10))
		for i := range m.Pix {
			m.Pix[i] = v
		}
		return encoded(t, m, 0)
	}
	write(t, flat(51, 10), dir, "a.png")
	write(t, flat(153, 500), dir, "b.png") // no heavier for its size
	write(t, nil, dir, "c.png")
	s, err := Measure(context.Background(), open(t, dir), nil, Options{Workers: 2})
	if err != nil {
		t.Fatal(err)
	}
	if s.Images != 2 || s.Skipped != 1 || s.Channels != 1 || s.Depth != 8 || math.Abs(s.Mean[0]-0.4) > 1e-9 || math.Abs(s.Std[0]-0.2) > 1e-9 {
		t.Errorf("%+v", s)
	}
	// With a colour image, grey counts as three channels.
	colour := image.NewRGBA(image.Rect(0, 0, 4, 4))
	for i := range 16 {
		colour.SetRGBA(i%4, i/4, color.RGBA{255, 102, 0, 255})
	}
	write(t, encoded(t, colour, 0), dir, "d.png")
	if s, err = Measure(context.Background(), open(t, dir), nil, Options{}); err != nil || s.Channels != 3 || s.Images != 3 {
		t.Fatalf("%+v, %v", s, err)
	}
	for c, want := range []float64{0.6, 0.4, 0.8 / 3} {
		if math.Abs(s.Mean[c]-want) > 1e-9 {
			t.Errorf("channel %d: mean %v, want %v", c, s.Mean[c], want)
		}
	}
	// The lines are a recipe.
	var b bytes.Buffer
	if err := s.WriteTOML(&b); err != nil {
		t.Fatal(err)
	}
	var lines struct {
		Data    struct{ Channels, Depth int }
		Augment struct{ Mean, Std []float64 }
	}
	if err := toml.Unmarshal(b.Bytes(), &lines); err != nil || lines.Data.Channels != 3 || len(lines.Augment.Std) != 3 {
		t.Errorf("%v: %s", err, b.String())
	}
	if _, err := config.Parse(b.Bytes(), "measured"); err != nil {
		t.Error(err)
	}
}

func TestPreview(t *testing.T) {
	for name, file := range map[string][]byte{"a.png": encoded(t, scene(70, 40, 1), 0), "b.npy": npy(30, 30, 5, 1)} {
		dir := t.TempDir()
		write(t, file, dir, name)
		write(t, nil, dir, "broken.png")
		src, err := dataset.Open(dir, dataset.Options{Channels: map[string]int{"a.png": 3, "b.npy": 5}[name], Decode: imgcodec.Options{Deep: true}})
		if err != nil {
			t.Fatal(err)
		}
		r := config.Default()
		r.Crops = []config.Crop{{Count: 2, Size: 32, MinScale: 0.5, MaxScale: 1}, {Count: 1, Size: 16, MinScale: 0.2, MaxScale: 0.5}}
		r.Augment.Mean, r.Augment.Std = []float64{0.5}, []float64{0.25}
		m, err := Preview(context.Background(), src, r, PreviewOptions{Images: 3, Seed: 1})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		other, err := Preview(context.Background(), src, r, PreviewOptions{Images: 3, Seed: 1, Epoch: 1})
		if err != nil {
			t.Fatal(err)
		}
		seen := map[color.Color]bool{} // one row: the other image is broken
		for y := range m.Bounds().Dy() {
			for x := range m.Bounds().Dx() {
				seen[m.At(x, y)] = true
			}
		}
		for i := range 3 {
			if !seen[frames[i]] {
				t.Errorf("%s: no frame of view %d", name, i)
			}
		}
		if fmt.Sprint(m) == fmt.Sprint(other) {
			t.Errorf("%s: the views of two epochs are the same", name)
		}
	}
}
