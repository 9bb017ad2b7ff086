package augment

import (
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"swav/imgcodec"
	"swav/internal/kernel"
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

// Every set of kernels gives the same views, to the bit.
func TestKernelsDoNotChangeViews(t *testing.T) {
	sets := kernel.Sets()
	scratch := make([]Scratch, len(sets))
	rapid.Check(t, func(t *rapid.T) {
		img := drawImage(t, 60, 1, 3)
		p := drawParams(t, img, 60)
		want := apply(img, &p, 3)
		for i, set := range sets {
			scratch[i].Kernels = set
			got := make([]float32, len(want))
			Apply(got, img, &p, onesNormalizer(3), &scratch[i])
			if !slices.Equal(got, want) {
				t.Fatalf("%s and %s differ", set.Name(), sets[0].Name())
			}
		}
	})
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
