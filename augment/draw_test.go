package augment

import (
	"math"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// The known answers published with Random123 for philox4x32-10.
func TestPhiloxKnownAnswers(t *testing.T) {
	const all = 0xffffffff
	for _, tc := range []struct {
		ctr  [4]uint32
		key  [2]uint32
		want [4]uint32
	}{
		{[4]uint32{}, [2]uint32{}, [4]uint32{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
		{[4]uint32{all, all, all, all}, [2]uint32{all, all}, [4]uint32{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
		{[4]uint32{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, [2]uint32{0xa4093822, 0x299f31d0}, [4]uint32{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
	} {
		if got := Philox(tc.ctr, tc.key); got != tc.want {
			t.Errorf("Philox(%x, %x) = %x, want %x", tc.ctr, tc.key, got, tc.want)
		}
	}
}

// Every part of a key changes the numbers.
func TestKeysDiffer(t *testing.T) {
	base := Key{Seed: 1, Epoch: 2, Sample: 3, View: 4}
	seen := map[[4]uint32]string{base.Words(PurposeView, 0): "base"}
	for name, w := range map[string][4]uint32{
		"seed":        Key{2, 2, 3, 4}.Words(PurposeView, 0),
		"high seed":   Key{1 | 1<<40, 2, 3, 4}.Words(PurposeView, 0),
		"epoch":       Key{1, 3, 3, 4}.Words(PurposeView, 0),
		"sample":      Key{1, 2, 4, 4}.Words(PurposeView, 0),
		"high sample": Key{1, 2, 3 | 1<<40, 4}.Words(PurposeView, 0),
		"view":        Key{1, 2, 3, 5}.Words(PurposeView, 0),
		"purpose":     base.Words(PurposeOrder, 0),
		"block":       base.Words(PurposeView, 1),
	} {
		if other, ok := seen[w]; ok {
			t.Errorf("%s gives the numbers of %s", name, other)
		}
		seen[w] = name
	}
}

const draws = 20000

// sampleParams draws one view for each of many samples.
func sampleParams(r *Recipe, w, h int) []Params {
	ps := make([]Params, draws)
	for i := range ps {
		ps[i] = r.Draw(0, Key{Seed: 7, Epoch: 3, Sample: uint64(i), View: 1}, w, h)
	}
	return ps
}

// uniform fails unless values are uniform in [lo, hi) by Kolmogorov and Smirnov
// at a level of about 1e-4. Draws are fixed, so the outcome is too.
func uniform(t *testing.T, name string, values []float64, lo, hi float64) {
	t.Helper()
	slices.Sort(values)
	n := float64(len(values))
	worst := 0.0
	for i, v := range values {
		if v < lo || v > hi {
			t.Fatalf("%s: %g outside %g to %g", name, v, lo, hi)
		}
		u := (v - lo) / (hi - lo)
		worst = max(worst, math.Abs(u-float64(i)/n), math.Abs(u-float64(i+1)/n))
	}
	if limit := 2.23 / math.Sqrt(n); worst > limit || len(values) < draws/8 {
		t.Errorf("%s: distance %.4f from uniform over %g to %g, limit %.4f (%d values)", name, worst, lo, hi, limit, len(values))
	}
}

// share fails unless the count is that of a probability within 4 deviations.
func share(t *testing.T, name string, count, n int, p float64) {
	t.Helper()
	if d := math.Abs(float64(count) - p*float64(n)); d > 4*math.Sqrt(p*(1-p)*float64(n)) {
		t.Errorf("%s: %d of %d, want a share of %g", name, count, n, p)
	}
}

func TestDistributions(t *testing.T) {
	r := Original()
	r.SolarizeP = 0.2
	// Small areas of a large image fit at the first attempt, so that scale and
	// aspect are as drawn.
	r.Groups[0].MinScale, r.Groups[0].MaxScale = 0.1, 0.4
	const side = 4000
	var flips, jitters, greys, blurs, solars, central int
	var scale, aspect, top, left, bright, contrast, saturation, hue, sigma []float64
	orders := map[[4]Op]int{}
	for _, p := range sampleParams(&r, side, side) {
		scale = append(scale, float64(p.Crop.Width*p.Crop.Height)/(side*side))
		aspect = append(aspect, math.Log(float64(p.Crop.Width)/float64(p.Crop.Height)))
		top = append(top, (float64(p.Crop.Top)+0.5)/float64(side-p.Crop.Height+1))
		left = append(left, (float64(p.Crop.Left)+0.5)/float64(side-p.Crop.Width+1))
		if p.Crop.Left == (side-p.Crop.Width)/2 {
			central++
		}
		count := func(b bool, n *int) {
			if b {
				*n++
			}
		}
		count(p.Flip, &flips)
		count(p.Grayscale, &greys)
		count(p.Solarize, &solars)
		count(p.BlurSigma > 0, &blurs)
		if p.BlurSigma > 0 {
			sigma = append(sigma, p.BlurSigma)
		}
		if p.Jitter.N > 0 {
			jitters++
			orders[p.Jitter.Order]++
			bright = append(bright, p.Jitter.Brightness)
			contrast = append(contrast, p.Jitter.Contrast)
			saturation = append(saturation, p.Jitter.Saturation)
			hue = append(hue, p.Jitter.Hue)
		}
	}
	uniform(t, "scale", scale, 0.0998, 0.4002)
	uniform(t, "log aspect", aspect, math.Log(0.749), math.Log(1.335))
	uniform(t, "top", top, 0, 1)
	uniform(t, "left", left, 0, 1)
	uniform(t, "brightness", bright, 0.2, 1.8)
	uniform(t, "contrast", contrast, 0.2, 1.8)
	uniform(t, "saturation", saturation, 0.2, 1.8)
	uniform(t, "hue", hue, -0.2, 0.2)
	uniform(t, "sigma", sigma, 0.1, 2)
	share(t, "flip", flips, draws, 0.5)
	share(t, "jitter", jitters, draws, 0.8)
	share(t, "grayscale", greys, draws, 0.2)
	share(t, "blur", blurs, draws, 0.5)
	share(t, "solarize", solars, draws, 0.2)
	if len(orders) != 24 {
		t.Errorf("%d orders of jitter, want 24", len(orders))
	}
	for order, n := range orders {
		share(t, "order "+string(rune('0'+order[0])), n, jitters, 1.0/24)
	}
}

// Chances and strengths are independent of each other.
func TestParametersAreUncorrelated(t *testing.T) {
	r := Original()
	ps := sampleParams(&r, 500, 375)
	b := func(x bool) float64 {
		if x {
			return 1
		}
		return 0
	}
	columns := map[string]func(p Params) float64{
		"flip": func(p Params) float64 { return b(p.Flip) }, "gray": func(p Params) float64 { return b(p.Grayscale) },
		"jitter": func(p Params) float64 { return b(p.Jitter.N > 0) }, "blur": func(p Params) float64 { return b(p.BlurSigma > 0) },
		"width": func(p Params) float64 { return float64(p.Crop.Width) }, "first": func(p Params) float64 { return float64(p.Jitter.Order[0]) },
	}
	for n1, f1 := range columns {
		for n2, f2 := range columns {
			if n1 >= n2 || n1 == "first" && n2 == "jitter" {
				continue // without jitter the order is all zero
			}
			var sx, sy, sxx, syy, sxy float64
			for _, p := range ps {
				x, y := f1(p), f2(p)
				sx, sy, sxx, syy, sxy = sx+x, sy+y, sxx+x*x, syy+y*y, sxy+x*y
			}
			n := float64(len(ps))
			c := (sxy - sx*sy/n) / math.Sqrt((sxx-sx*sx/n)*(syy-sy*sy/n))
			if math.Abs(c) > 4/math.Sqrt(n) {
				t.Errorf("%s and %s: correlation %.3f", n1, n2, c)
			}
		}
	}
}

func TestCropsLieInside(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w, h := rapid.IntRange(1, 3000).Draw(t, "w"), rapid.IntRange(1, 3000).Draw(t, "h")
		r := Original()
		lo := rapid.Float64Range(0.0001, 1).Draw(t, "min")
		r.Groups[0].MinScale, r.Groups[0].MaxScale = lo, rapid.Float64Range(lo, 1).Draw(t, "max")
		key := Key{Seed: rapid.Uint64().Draw(t, "seed"), Sample: rapid.Uint64().Draw(t, "sample")}
		c := r.Draw(0, key, w, h).Crop
		if c.Top < 0 || c.Left < 0 || c.Width < 1 || c.Height < 1 || c.Top+c.Height > h || c.Left+c.Width > w {
			t.Fatalf("crop %+v of %d x %d", c, w, h)
		}
	})
}

// Images too long for any crop get the central one of the nearest aspect.
func TestCropFallsBackToTheCentre(t *testing.T) {
	r := Original()
	r.Groups[0].MinScale = 1
	for _, tc := range []struct {
		w, h int
		want Rect
	}{
		{100, 1000, Rect{Top: 433, Height: 133, Width: 100}},
		{1000, 100, Rect{Left: 433, Height: 100, Width: 133}},
		{1, 50, Rect{Top: 24, Height: 1, Width: 1}},
		{1, 1, Rect{Height: 1, Width: 1}},
	} {
		if got := r.Draw(0, Key{}, tc.w, tc.h).Crop; got != tc.want {
			t.Errorf("%d x %d: %+v, want %+v", tc.w, tc.h, got, tc.want)
		}
	}
}

// Switching one part of a recipe off leaves the draws of the others alone.
func TestPartsDoNotDisturbEachOther(t *testing.T) {
	full := Original()
	for name, change := range map[string]func(r *Recipe, p *Params){
		"jitter":    func(r *Recipe, p *Params) { r.JitterP, p.Jitter = 0, Jitter{} },
		"blur":      func(r *Recipe, p *Params) { r.BlurP, p.BlurSigma = 0, 0 },
		"flip":      func(r *Recipe, p *Params) { r.FlipP, p.Flip = 0, false },
		"grayscale": func(r *Recipe, p *Params) { r.GrayscaleP, p.Grayscale = 0, false },
		"hue": func(r *Recipe, p *Params) {
			r.Hue = 0
			order := p.Jitter.Order[:p.Jitter.N]
			order = slices.DeleteFunc(slices.Clone(order), func(o Op) bool { return o == OpHue })
			p.Jitter.Order, p.Jitter.N, p.Jitter.Hue = [4]Op{}, len(order), 0
			copy(p.Jitter.Order[:], order)
		},
	} {
		for i := range 200 {
			key := Key{Sample: uint64(i)}
			r, want := full, full.Draw(1, key, 300, 200)
			change(&r, &want)
			if diff := cmp.Diff(want, r.Draw(1, key, 300, 200)); diff != "" {
				t.Fatalf("without %s, sample %d: %s", name, i, diff)
			}
		}
	}
}

// Views are drawn alike on every machine and in every version: runs resume.
func TestDrawIsStable(t *testing.T) {
	r := Original()
	got := r.Draw(0, Key{Seed: 31, Epoch: 5, Sample: 0x0123456789abcdef, View: 1}, 500, 375)
	want := Params{
		Crop: Rect{Top: 119, Left: 74, Height: 193, Width: 158}, Size: 224, Flip: true,
		Jitter: Jitter{Order: [4]Op{OpContrast, OpBrightness, OpHue, OpSaturation}, N: 4,
			Brightness: 0.6554422728717326, Contrast: 1.494137902930379, Saturation: 0.2510670751333236, Hue: 0.06201513856649399},
		Grayscale: true, BlurSigma: 0.8698910522274672,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestAspectSeries(t *testing.T) {
	for i := range 1001 {
		u := float64(i) / 1000
		want := math.Exp((2*u - 1) * math.Log(4.0/3))
		if got := logUniformAspect(u); math.Abs(got/want-1) > 1e-15 {
			t.Errorf("u = %g: %.17g, want %.17g", u, got, want)
		}
	}
}

func TestValidate(t *testing.T) {
	good := Original()
	if err := good.Validate(); err != nil {
		t.Fatal(err)
	}
	nan := math.NaN()
	for name, change := range map[string]func(r *Recipe){
		"no crops":         func(r *Recipe) { r.Groups = nil },
		"no size":          func(r *Recipe) { r.Groups[0].Size = 0 },
		"huge size":        func(r *Recipe) { r.Groups[0].Size = 1 << 30 },
		"no count":         func(r *Recipe) { r.Groups[1].Count = 0 },
		"views":            func(r *Recipe) { r.Groups[1].Count = 1 << 17 },
		"scale 0":          func(r *Recipe) { r.Groups[0].MinScale = 0 },
		"scales swapped":   func(r *Recipe) { r.Groups[0].MinScale = 0.5; r.Groups[0].MaxScale = 0.4 },
		"scale NaN":        func(r *Recipe) { r.Groups[0].MaxScale = nan },
		"flip":             func(r *Recipe) { r.FlipP = 1.1 },
		"blur NaN":         func(r *Recipe) { r.BlurP = nan },
		"hue":              func(r *Recipe) { r.Hue = 0.6 },
		"brightness":       func(r *Recipe) { r.Brightness = -1 },
		"sigma":            func(r *Recipe) { r.BlurMin = 3 },
		"no channels":      func(r *Recipe) { r.Mean, r.Std = nil, nil },
		"uneven channels":  func(r *Recipe) { r.Mean = r.Mean[:2] },
		"no deviation":     func(r *Recipe) { r.Std = []float32{1, 0, 1} },
		"sigma of no size": func(r *Recipe) { r.BlurMax = math.Inf(1) },
	} {
		r := Original()
		change(&r)
		if r.Validate() == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
