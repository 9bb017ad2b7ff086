package augment

import (
	"bytes"
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"swav/imgcodec"
)

func drawImage(t *rapid.T, maxSide int, channels ...int) *imgcodec.Image {
	img := new(imgcodec.Image)
	img.Reset(rapid.IntRange(1, maxSide).Draw(t, "w"), rapid.IntRange(1, maxSide).Draw(t, "h"),
		rapid.SampledFrom(channels).Draw(t, "c"))
	noise(img.Pix, rapid.Uint64().Draw(t, "pixels"))
	return img
}

// noise fills pix with a mixture of smooth and rough.
func noise(pix []byte, seed uint64) {
	for i := range pix {
		w := Key{Seed: seed, Sample: uint64(i)}.Words(0, 0)
		switch seed % 3 {
		case 0:
			pix[i] = byte(w[0])
		case 1:
			pix[i] = byte(i*3) + byte(w[0]&7)
		default:
			pix[i] = byte(w[0]>>31) * 255
		}
	}
}

func drawParams(t *rapid.T, img *imgcodec.Image, maxSize int) Params {
	r := Original()
	r.SolarizeP = 0.3
	r.Groups[0] = Group{Size: rapid.IntRange(1, maxSize).Draw(t, "size"), Count: 1, MinScale: 0.05, MaxScale: 1}
	r.BlurMax = rapid.SampledFrom([]float64{2, 2, 9}).Draw(t, "sigma")
	return r.Draw(0, Key{Seed: rapid.Uint64().Draw(t, "view")}, img.W, img.H)
}

func onesNormalizer(c int) *Normalizer {
	std := make([]float32, c)
	for i := range std {
		std[i] = 1.0 / 255
	}
	return NewNormalizer(make([]float32, c), std)
}

func apply(img *imgcodec.Image, p *Params, channels int) []float32 {
	dst := make([]float32, p.Size*p.Size*channels)
	Apply(dst, img, p, onesNormalizer(channels), new(Scratch))
	return dst
}

// A view of a grey image is the view of the same image in three equal channels.
func TestGreyIsThreeEqualChannels(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		grey := drawImage(t, 40, 1)
		p := drawParams(t, grey, 40)
		var rgb imgcodec.Image
		rgb.Reset(grey.W, grey.H, 3)
		for i, v := range grey.Pix {
			rgb.Pix[3*i], rgb.Pix[3*i+1], rgb.Pix[3*i+2] = v, v, v
		}
		want := apply(&rgb, &p, 3)
		if got := apply(grey, &p, 3); !slices.Equal(got, want) {
			t.Fatalf("grey %v, three channels %v", got, want)
		}
		for i, v := range apply(&rgb, &p, 1) { // and back
			if v != want[3*i] {
				t.Fatalf("pixel %d: one channel %v, three %v", i, v, want[3*i])
			}
		}
	})
}

// With other than three channels, colour operations do nothing and take nothing
// from the rest.
func TestOtherChannelsIgnoreColour(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		img := drawImage(t, 30, 1, 2, 4, 5)
		p := drawParams(t, img, 30)
		q := p
		q.Grayscale = false
		q.Jitter.N = 0
		for _, op := range p.Jitter.Order[:p.Jitter.N] {
			if op == OpBrightness || op == OpContrast {
				q.Jitter.Order[q.Jitter.N] = op
				q.Jitter.N++
			}
		}
		if got, want := apply(img, &p, img.C), apply(img, &q, img.C); !slices.Equal(got, want) {
			t.Fatalf("%v, without colour %v", got, want)
		}
	})
}

// slowResize is the definition: a triangle filter along x, rounded to 8 bits,
// then along y.
func slowResize(img *imgcodec.Image, crop Rect, size int) []byte {
	axis := func(in int, sample func(i int) float64, out int) float64 {
		scale := float64(in) / float64(size)
		support := max(1, scale)
		center := (float64(out) + 0.5) * scale
		var sum, weights float64
		for i := range in {
			w := 1 - math.Abs(float64(i)+0.5-center)/support
			if w > 0 {
				sum += w * sample(i)
				weights += w
			}
		}
		return math.Floor(sum/weights + 0.5)
	}
	rows := make([]float64, crop.Height*size*img.C)
	for y := range crop.Height {
		for x := range size {
			for c := range img.C {
				rows[(y*size+x)*img.C+c] = axis(crop.Width, func(i int) float64 {
					return float64(img.Pix[((crop.Top+y)*img.W+crop.Left+i)*img.C+c])
				}, x)
			}
		}
	}
	out := make([]byte, size*size*img.C)
	for y := range size {
		for x := range size * img.C {
			out[y*size*img.C+x] = byte(axis(crop.Height, func(i int) float64 { return rows[i*size*img.C+x] }, y))
		}
	}
	return out
}

func TestResizeIsTheTriangleFilter(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		img := drawImage(t, 40, 1, 2, 3, 4)
		p := drawParams(t, img, 40)
		p.Jitter, p.Grayscale, p.BlurSigma, p.Solarize, p.Flip = Jitter{}, false, 0, false, false
		want := slowResize(img, p.Crop, p.Size)
		got := apply(img, &p, img.C)
		for i, v := range got {
			// Fixed-point weights may round the other way, in each of two passes.
			if math.Abs(float64(v)-float64(want[i])) > 2.001 {
				t.Fatalf("sample %d: %v, want %d", i, v, want[i])
			}
		}
		p.Flip = true
		mirrored := apply(img, &p, img.C)
		for y := range p.Size {
			for x := range p.Size {
				for c := range img.C {
					if a, b := got[(y*p.Size+x)*img.C+c], mirrored[(y*p.Size+p.Size-1-x)*img.C+c]; a != b {
						t.Fatalf("(%d, %d): %v, mirrored %v", x, y, a, b)
					}
				}
			}
		}
	})
}

// A crop of the wanted size is copied; what lies outside the crop has no
// influence.
func TestCropAtItsOwnSizeIsACopy(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		img := drawImage(t, 30, 1, 3)
		size := rapid.IntRange(1, min(img.W, img.H)).Draw(t, "size")
		p := Params{Size: size, Crop: Rect{Height: size, Width: size,
			Top: rapid.IntRange(0, img.H-size).Draw(t, "top"), Left: rapid.IntRange(0, img.W-size).Draw(t, "left")}}
		for i, v := range apply(img, &p, img.C) {
			y, x := i/img.C/size, i/img.C%size
			if want := img.Pix[((p.Crop.Top+y)*img.W+p.Crop.Left+x)*img.C+i%img.C]; math.Abs(float64(v)-float64(want)) > 1e-4 {
				t.Fatalf("(%d, %d): %v, want %d", x, y, v, want)
			}
		}
	})
}

// slowBlur is the definition: extended boxes pixel by pixel.
func slowBlur(pix []byte, w, h, c int, f box) []byte {
	pass := func(in []byte, dx, dy int) []byte {
		at := func(x, y, ch int) uint32 {
			return uint32(in[(min(max(y, 0), h-1)*w+min(max(x, 0), w-1))*c+ch])
		}
		out := make([]byte, len(in))
		for y := range h {
			for x := range w {
				for ch := range c {
					var acc uint32
					for k := -f.r; k <= f.r; k++ {
						acc += at(x+k*dx, y+k*dy, ch)
					}
					e := f.r + 1
					out[(y*w+x)*c+ch] = f.mix(acc, at(x-e*dx, y-e*dy, ch)+at(x+e*dx, y+e*dy, ch))
				}
			}
		}
		return out
	}
	for range 3 {
		pix = pass(pix, 1, 0)
	}
	for range 3 {
		pix = pass(pix, 0, 1)
	}
	return pix
}

func TestBlurIsThreeBoxesEachWay(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		img := drawImage(t, 40, 1, 2, 3, 4)
		sigma := rapid.OneOf(rapid.Float64Range(0.05, 2.5), rapid.Float64Range(2.5, 60)).Draw(t, "sigma")
		f, ok := boxFor(sigma)
		if !ok {
			t.Skip("nothing to blur")
		}
		want := slowBlur(img.Pix, img.W, img.H, img.C, f)
		got := slices.Clone(img.Pix)
		blur(got, make([]byte, len(got)), img.W, img.H, img.C, sigma)
		if !bytes.Equal(got, want) {
			t.Fatalf("%d x %d x %d, sigma %g: %v, want %v", img.W, img.H, img.C, sigma, got, want)
		}
	})
}

// The boxes' variance is that of the Gaussian, and weights sum to one.
func TestBoxHasTheVariance(t *testing.T) {
	for _, sigma := range []float64{0.1, 0.3, 0.6, 1, 1.37, 2, 5, 20} {
		f, ok := boxFor(sigma)
		if !ok {
			t.Fatalf("sigma %g: no box", sigma)
		}
		total, variance := 0.0, 0.0
		for k := -f.r - 1; k <= f.r+1; k++ {
			w := float64(f.ww)
			if k == -f.r-1 || k == f.r+1 {
				w = float64(f.fw)
			}
			total += w / (1 << 24)
			variance += w / (1 << 24) * float64(k*k)
		}
		if math.Abs(total-1) > 1e-6 {
			t.Errorf("sigma %g: weights sum to %g", sigma, total)
		}
		if got := math.Sqrt(3 * variance); math.Abs(got/sigma-1) > 1e-3 {
			t.Errorf("sigma %g: three boxes have %g", sigma, got)
		}
	}
	if _, ok := boxFor(0); ok {
		t.Error("sigma 0 has a box")
	}
}

func TestColourOperations(t *testing.T) {
	pix := func() []byte { return []byte{255, 0, 0, 0, 255, 0, 0, 0, 255, 200, 100, 50, 90, 90, 90} }
	for _, tc := range []struct {
		name string
		do   func(p []byte)
		want []byte
	}{
		// Expected values are worked out by hand from the definitions.
		{"brightness 0.5", func(p []byte) { towards(p, 0, 0.5) }, []byte{127, 0, 0, 0, 127, 0, 0, 0, 127, 100, 50, 25, 45, 45, 45}},
		{"brightness 2", func(p []byte) { towards(p, 0, 2) }, []byte{255, 0, 0, 0, 255, 0, 0, 0, 255, 255, 200, 100, 180, 180, 180}},
		{"contrast 0 is the mean", func(p []byte) { towards(p, meanGrey(p, 3), 0) }, bytes.Repeat([]byte{94}, 15)},
		{"saturation 0 is the luma", func(p []byte) { saturate(p, 0) }, []byte{76, 76, 76, 150, 150, 150, 29, 29, 29, 124, 124, 124, 90, 90, 90}},
		{"saturation 1", func(p []byte) { saturate(p, 1) }, pix()},
		{"grayscale", grey, []byte{76, 76, 76, 150, 150, 150, 29, 29, 29, 124, 124, 124, 90, 90, 90}},
		{"hue by a third", func(p []byte) { shiftHue(p, 1.0/3+0.001) }, []byte{0, 255, 0, 0, 0, 255, 255, 0, 0, 50, 200, 99, 90, 90, 90}},
		{"solarize", solarize, []byte{0, 0, 0, 0, 0, 0, 0, 0, 0, 55, 100, 50, 90, 90, 90}},
	} {
		got := pix()
		tc.do(got)
		for i := range got {
			tolerance := 0
			if tc.name == "hue by a third" {
				tolerance = 2 // 8-bit HSV
			}
			if d := int(got[i]) - int(tc.want[i]); d > tolerance || d < -tolerance {
				t.Errorf("%s: %v, want %v", tc.name, got, tc.want)
				break
			}
		}
	}
}

// towards uses a table for large inputs; both ways agree.
func TestBlendTable(t *testing.T) {
	long := make([]byte, 300)
	for i := range long {
		long[i] = byte(i)
	}
	for _, f := range []float32{0, 0.2, 0.999, 1, 1.31, 1.8} {
		a, b := slices.Clone(long), slices.Clone(long)
		towards(a, 77, f)
		towards(b[:150], 77, f)
		towards(b[150:], 77, f)
		if !bytes.Equal(a, b) {
			t.Errorf("factor %g: %v and %v", f, a, b)
		}
	}
}

// Grey pixels pass through hue unchanged, and no shift moves a pixel far.
func TestHueOfNoShift(t *testing.T) {
	for r := 0; r < 256; r += 5 {
		for g := 0; g < 256; g += 5 {
			for b := 0; b < 256; b += 5 {
				p := []byte{byte(r), byte(g), byte(b)}
				shiftHue(p, 0)
				for i, want := range []int{r, g, b} {
					// 255 hues over six sectors of up to 255 steps.
					if d := int(p[i]) - want; d > 7 || d < -7 || r == g && g == b && d != 0 {
						t.Fatalf("(%d, %d, %d) became %v", r, g, b, p)
					}
				}
			}
		}
	}
}

func TestCenter(t *testing.T) {
	gradient := func(w, h int) *imgcodec.Image {
		img := new(imgcodec.Image)
		img.Reset(w, h, 1)
		for i := range img.Pix {
			img.Pix[i] = byte(i % w * 255 / max(1, w-1))
		}
		return img
	}
	dst := make([]float32, 28*28)
	same := gradient(28, 28)
	Center(dst, same, 32, 28, onesNormalizer(1), new(Scratch))
	for i, v := range dst {
		if math.Abs(float64(v)-float64(same.Pix[i])) > 1e-3 {
			t.Fatalf("an image of the wanted size changed at %d: %v, was %d", i, v, same.Pix[i])
		}
	}
	for _, size := range [][2]int{{1, 1}, {1, 300}, {300, 1}, {100, 40}, {64, 64}, {27, 28}} {
		Center(dst, gradient(size[0], size[1]), 32, 28, onesNormalizer(1), new(Scratch))
		// A gradient from 0 to 255 is symmetric about its centre, so the centre is too.
		for x := range 14 {
			if s := dst[x] + dst[27-x]; size[0] > 1 && math.Abs(float64(s)-255) > 2.5 {
				t.Errorf("%v: columns %d and %d sum to %v", size, x, 27-x, s)
			}
		}
	}
}

// A scratch that has seen other images leaves no trace, and nothing is
// allocated in the steady state.
func TestScratchIsReused(t *testing.T) {
	var s Scratch
	rapid.Check(t, func(t *rapid.T) {
		img := drawImage(t, 40, 1, 3)
		p := drawParams(t, img, 40)
		dst := make([]float32, p.Size*p.Size*3)
		Apply(dst, img, &p, onesNormalizer(3), &s)
		if want := apply(img, &p, 3); !slices.Equal(dst, want) {
			t.Fatal("differs from a fresh scratch")
		}
	})
	img := new(imgcodec.Image)
	img.Reset(64, 48, 3)
	r := Original()
	r.Groups[0].Size = 32
	dst := make([]float32, 32*32*3)
	norm := NewNormalizer(r.Mean, r.Std)
	view := func(i int) {
		p := r.Draw(0, Key{Sample: uint64(i)}, img.W, img.H)
		Apply(dst, img, &p, norm, &s)
	}
	for i := range 200 {
		view(i)
	}
	i := 0
	if n := testing.AllocsPerRun(200, func() { view(i); i++ }); n != 0 {
		t.Errorf("%v allocations for each view", n)
	}
}

func TestApplyRefusesWrongShapes(t *testing.T) {
	img := new(imgcodec.Image)
	img.Reset(10, 10, 3)
	good := Params{Size: 4, Crop: Rect{Height: 10, Width: 10}}
	for name, f := range map[string]func(){
		"crop beyond":    func() { p := good; p.Crop.Left = 1; apply(img, &p, 3) },
		"empty crop":     func() { p := good; p.Crop.Width = 0; apply(img, &p, 3) },
		"short dst":      func() { Apply(make([]float32, 4), img, &good, onesNormalizer(3), new(Scratch)) },
		"four channels":  func() { apply(img, &good, 4) },
		"centre too big": func() { Center(make([]float32, 300), img, 8, 10, onesNormalizer(3), new(Scratch)) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			f()
		}()
	}
}

func benchmarkViews(b *testing.B, w, h, c int, groups ...Group) {
	img := new(imgcodec.Image)
	img.Reset(w, h, c)
	noise(img.Pix, 1)
	r := Original()
	r.Groups = groups
	r.Mean, r.Std = r.Mean[:c], r.Std[:c]
	norm := NewNormalizer(r.Mean, r.Std)
	var s Scratch
	dst := make([]float32, 224*224*3)
	for i := 0; b.Loop(); i++ {
		key := Key{Sample: uint64(i)}
		for g, group := range groups {
			for range group.Count {
				p := r.Draw(g, key, w, h)
				Apply(dst[:group.Size*group.Size*c], img, &p, norm, &s)
				key.View++
			}
		}
	}
}

func BenchmarkViewsFashion2x28_2x16(b *testing.B) {
	benchmarkViews(b, 28, 28, 1, Group{28, 2, 0.4, 1}, Group{16, 2, 0.2, 0.5})
}

func BenchmarkViewsCIFAR2x32_4x16(b *testing.B) {
	benchmarkViews(b, 32, 32, 3, Group{32, 2, 0.4, 1}, Group{16, 4, 0.2, 0.5})
}

func BenchmarkViewsPhoto2x224_6x96(b *testing.B) {
	benchmarkViews(b, 500, 375, 3, Group{224, 2, 0.14, 1}, Group{96, 6, 0.05, 0.14})
}
