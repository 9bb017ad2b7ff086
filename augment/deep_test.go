package augment

import (
	"math"
	"testing"

	"pgregory.net/rapid"

	"swav/imgcodec"
)

// deepen is the same image in 16 bits, as a share of scale of the full range.
func deepen(img *imgcodec.Image, scale float64) *imgcodec.Image {
	m := new(imgcodec.Image)
	m.ResetDeep(img.W, img.H, img.C)
	for i, v := range img.Pix {
		m.Deep[i] = uint16(float64(v) * 257 * scale)
	}
	return m
}

// smooth is an image on which operations that round and those that do not stay
// near each other.
func smooth(w, h, c int) *imgcodec.Image {
	img := new(imgcodec.Image)
	img.Reset(w, h, c)
	for i := range img.Pix {
		x, y, ch := i/c%w, i/c/w, i%c
		img.Pix[i] = byte(128 + 90*math.Sin(float64(x*(ch+1))/9+float64(y)/(7+float64(ch))))
	}
	return img
}

// In 16 bits, a view is what it is in 8, but for the rounding in between.
func TestDeepIsLikeShallow(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := rapid.SampledFrom([]int{1, 3, 5}).Draw(t, "c")
		img := smooth(rapid.IntRange(8, 60).Draw(t, "w"), rapid.IntRange(8, 60).Draw(t, "h"), c)
		p := drawParams(t, img, 40)
		p.Solarize = false // a threshold enlarges a small difference
		channels := c
		if c != 5 {
			channels = rapid.SampledFrom([]int{1, 3}).Draw(t, "views")
		}
		a, b := apply(img, &p, channels), apply(deepen(img, 1), &p, channels)
		sum := 0.0
		for i, v := range a {
			sum += math.Abs(float64(v) - float64(b[i]))
		}
		// A step of 8 bits for each operation that cuts, doubled and more by strong
		// contrast and saturation (TestDeepOperations is closer, one by one);
		// the mean of a few pixels scatters more.
		if mean := sum / float64(len(a)); mean > 6+9/float64(p.Size) {
			t.Fatalf("mean difference of %.2f steps of 8 bits with %+v", mean, p)
		}
	})
}

// Each operation alone, more closely.
func TestDeepOperations(t *testing.T) {
	img := smooth(48, 40, 3)
	base := Params{Size: 32, Crop: Rect{Top: 3, Left: 2, Height: 30, Width: 40}}
	alone := func(op Op) Params {
		p := base
		p.Jitter = Jitter{Order: [4]Op{op}, N: 1, Brightness: 0.7, Contrast: 1.4, Saturation: 0.5, Hue: 0.15}
		return p
	}
	flip, grey, blur, solarize := base, base, base, base
	flip.Flip, grey.Grayscale, blur.BlurSigma, solarize.Solarize = true, true, 3, true
	for name, tc := range map[string]struct {
		p     Params
		limit float64 // mean difference in steps of 8 bits
	}{
		"crop": {base, 0.4}, "flip": {flip, 0.4}, "grayscale": {grey, 0.5}, "blur": {blur, 0.6}, "solarize": {solarize, 2},
		"brightness": {alone(OpBrightness), 0.8}, "contrast": {alone(OpContrast), 1}, "saturation": {alone(OpSaturation), 0.8},
		"hue": {alone(OpHue), 1.5},
	} {
		a, b := apply(img, &tc.p, 3), apply(deepen(img, 1), &tc.p, 3)
		sum, moved := 0.0, 0.0
		plain := apply(img, &base, 3)
		for i, v := range a {
			sum += math.Abs(float64(v) - float64(b[i]))
			moved += math.Abs(float64(v) - float64(plain[i]))
		}
		if mean := sum / float64(len(a)); mean > tc.limit {
			t.Errorf("%s: mean difference %.2f, want at most %g", name, mean, tc.limit)
		}
		if name != "crop" && moved/float64(len(a)) < 2 {
			t.Errorf("%s changes nothing", name)
		}
	}
}

// What lies in the lowest bits, as with 12-bit cameras, is not lost.
func TestDeepKeepsSmallRanges(t *testing.T) {
	img := smooth(32, 32, 2)
	faint := deepen(img, 1.0/512) // below one step of 8 bits
	p := Params{Size: 32, Crop: Rect{Height: 32, Width: 32}}
	dst := make([]float32, 32*32*2)
	Apply(dst, faint, &p, NewNormalizer([]float32{0, 0}, []float32{1.0 / 65535, 1.0 / 65535}), new(Scratch))
	for i, v := range dst {
		if math.Abs(float64(v)-float64(faint.Deep[i])) > 0.01 {
			t.Fatalf("sample %d is %v, was %d", i, v, faint.Deep[i])
		}
	}
}

// The view for features is near that in 8 bits too.
func TestDeepCenter(t *testing.T) {
	img := smooth(70, 50, 5)
	a, b := make([]float32, 28*28*5), make([]float32, 28*28*5)
	Center(a, img, 32, 28, onesNormalizer(5), new(Scratch))
	Center(b, deepen(img, 1), 32, 28, onesNormalizer(5), new(Scratch))
	for i := range a {
		if math.Abs(float64(a[i]-b[i])) > 1.1 {
			t.Fatalf("sample %d: %v and %v", i, a[i], b[i])
		}
	}
}

func TestDeepAllocatesNothing(t *testing.T) {
	img := deepen(smooth(64, 48, 5), 1)
	r := Original()
	r.Groups[0].Size, r.Mean, r.Std = 32, make([]float32, 5), []float32{1, 1, 1, 1, 1}
	dst := make([]float32, 32*32*5)
	norm := NewNormalizer(r.Mean, r.Std)
	var s Scratch
	i := 0
	view := func() {
		p := r.Draw(0, Key{Sample: uint64(i % 200)}, img.W, img.H)
		Apply(dst, img, &p, norm, &s)
		i++
	}
	for range 200 {
		view()
	}
	if n := testing.AllocsPerRun(200, view); n != 0 {
		t.Errorf("%v allocations for each view", n)
	}
}
