package augment

import "math"

// Blocks of random words of a view. Every parameter has its own place, so that
// leaving one out of the recipe changes no other.
const (
	blockCrop    = 0  // one block for each of cropTries attempts
	blockChance  = 16 // flip, jitter, grayscale, blur
	blockFactors = 17 // brightness, contrast, saturation, hue
	blockRest    = 18 // jitter order, sigma, solarize
)

// torchvision's RandomResizedCrop: ten attempts, aspect in [3/4, 4/3].
const (
	cropTries = 10
	minAspect = 3.0 / 4
	maxAspect = 4.0 / 3
)

// Draw draws the parameters of one view of a w x h image.
func (r *Recipe) Draw(group int, key Key, w, h int) Params {
	g := &r.Groups[group]
	p := Params{Size: g.Size, Crop: drawCrop(g, key, w, h)}
	chance := key.Words(PurposeView, blockChance)
	rest := key.Words(PurposeView, blockRest)
	p.Flip = unit(chance[0]) < r.FlipP
	if unit(chance[1]) < r.JitterP {
		p.Jitter = r.drawJitter(key.Words(PurposeView, blockFactors), rest[0])
	}
	p.Grayscale = unit(chance[2]) < r.GrayscaleP
	if unit(chance[3]) < r.BlurP {
		p.BlurSigma = between(rest[1], r.BlurMin, r.BlurMax)
	}
	p.Solarize = unit(rest[2]) < r.SolarizeP
	return p
}

// drawCrop draws area and aspect until a rectangle fits, as torchvision does;
// after that the largest central crop of an allowed aspect.
func drawCrop(g *Group, key Key, w, h int) Rect {
	area := float64(w) * float64(h)
	for try := range cropTries {
		u := key.Words(PurposeView, blockCrop+try)
		a := float64(area * between(u[0], g.MinScale, g.MaxScale))
		aspect := logUniformAspect(unit(u[1]))
		cw := int(math.RoundToEven(math.Sqrt(float64(a * aspect))))
		ch := int(math.RoundToEven(math.Sqrt(a / aspect)))
		if cw > 0 && cw <= w && ch > 0 && ch <= h {
			return Rect{Top: below(u[2], h-ch+1), Left: below(u[3], w-cw+1), Height: ch, Width: cw}
		}
	}
	cw, ch := w, h
	switch ratio := float64(w) / float64(h); {
	case ratio < minAspect:
		ch = min(h, max(1, int(math.RoundToEven(float64(w)/minAspect))))
	case ratio > maxAspect:
		cw = min(w, max(1, int(math.RoundToEven(float64(h)*maxAspect))))
	}
	return Rect{Top: (h - ch) / 2, Left: (w - cw) / 2, Height: ch, Width: cw}
}

// logUniformAspect maps u in [0, 1) to exp(U(ln 3/4, ln 4/3)). math.Exp may
// differ in the last bit between CPUs; this series does not, because every
// product is rounded before its sum.
func logUniformAspect(u float64) float64 {
	const lnMax = 0.287682072451780927439 // ln 4/3
	x := float64((2*u - 1) * lnMax)
	sum := 1.0
	for n := 14; n >= 1; n-- { // 0.288^15/15! is below 1e-20
		sum = 1 + float64(sum*x)/float64(n)
	}
	return sum
}

// drawJitter always draws the same words; operations of strength 0 are left out
// of the order.
func (r *Recipe) drawJitter(u [4]uint32, orderWord uint32) Jitter {
	factor := func(w uint32, strength float64) float64 {
		return between(w, max(0, 1-strength), 1+strength)
	}
	j := Jitter{
		Brightness: factor(u[0], r.Brightness),
		Contrast:   factor(u[1], r.Contrast),
		Saturation: factor(u[2], r.Saturation),
		Hue:        between(u[3], -r.Hue, r.Hue),
	}
	strength := [4]float64{r.Brightness, r.Contrast, r.Saturation, r.Hue}
	for _, op := range permutation4(below(orderWord, 24)) {
		if strength[op] > 0 {
			j.Order[j.N] = op
			j.N++
		}
	}
	return j
}

// permutation4 returns permutation number i, 0 to 23, of the four operations.
func permutation4(i int) [4]Op {
	p := [4]Op{OpBrightness, OpContrast, OpSaturation, OpHue}
	for n := 4; n > 1; n-- {
		k := i % n
		i /= n
		p[n-1], p[k] = p[k], p[n-1]
	}
	return p
}
