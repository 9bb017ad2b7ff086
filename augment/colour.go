package augment

import "math"

// The colour operations below work in place on interleaved 8-bit pixels and
// round as Pillow does: products in float32, results cut (not rounded) to 8
// bits. Explicit float32 conversions keep compilers from fusing a product with
// a sum, which would change results between CPUs.

// luma is ITU-R 601 in 16-bit fixed point, Pillow's mode "L".
func luma(r, g, b byte) byte {
	return byte((uint32(r)*19595 + uint32(g)*38470 + uint32(b)*7471 + 1<<15) >> 16)
}

// blend is from + f*(to-from), cut to 8 bits.
func blend(from, to byte, f float32) byte {
	v := float32(from) + float32(f*float32(int(to)-int(from)))
	if v <= 0 {
		return 0
	}
	if v >= 255 {
		return 255
	}
	return byte(int32(v))
}

// towards blends every sample with the constant from: brightness with black,
// contrast with a grey.
func towards(pix []byte, from byte, f float32) {
	if len(pix) < 256 {
		for i, v := range pix {
			pix[i] = blend(from, v, f)
		}
		return
	}
	var table [256]byte
	for v := range table {
		table[v] = blend(from, byte(v), f)
	}
	for i, v := range pix {
		pix[i] = table[v]
	}
}

// meanGrey is the mean luma, rounded. For other than three channels it is the
// mean of all samples.
func meanGrey(pix []byte, c int) byte {
	var sum uint64
	n := len(pix)
	if c == 3 {
		n /= 3
		for p := pix; len(p) >= 3; p = p[3:] {
			sum += uint64(luma(p[0], p[1], p[2]))
		}
	} else {
		for _, v := range pix {
			sum += uint64(v)
		}
	}
	return byte(float64(sum)/float64(n) + 0.5)
}

// saturate blends RGB with its own luma.
func saturate(pix []byte, f float32) {
	for p := pix; len(p) >= 3; p = p[3:] {
		l := luma(p[0], p[1], p[2])
		p[0], p[1], p[2] = blend(l, p[0], f), blend(l, p[1], f), blend(l, p[2], f)
	}
}

// grey replaces RGB by its luma.
func grey(pix []byte) {
	for p := pix; len(p) >= 3; p = p[3:] {
		l := luma(p[0], p[1], p[2])
		p[0], p[1], p[2] = l, l, l
	}
}

func solarize(pix []byte) {
	for i, v := range pix {
		if v >= 128 {
			pix[i] = 255 - v
		}
	}
}

// hueSector and hueRest split an 8-bit hue into one of six sectors and the
// place within.
var hueSector, hueRest = func() (s [256]uint8, f [256]float32) {
	for h := range s {
		x := float64(h) * 6 / 255
		s[h] = uint8(int(x) % 6)
		f[h] = float32(x - math.Floor(x))
	}
	return
}()

// shiftHue turns the hue through 8-bit HSV, so even a shift of 0 changes
// pixels a little. Grey pixels stay as they are.
func shiftHue(pix []byte, turns float64) {
	shift := byte(int(turns * 255))
	for p := pix; len(p) >= 3; p = p[3:] {
		r, g, b := p[0], p[1], p[2]
		hi, lo := max(r, g, b), min(r, g, b)
		if hi == lo {
			continue
		}
		span := float32(hi - lo)
		// The saturation of 8 bits is s*255 cut; it may be 0 for a near-grey.
		s := byte(float64(span/float32(hi)) * 255)
		if s == 0 {
			p[0], p[1], p[2] = hi, hi, hi
			continue
		}
		rc, gc, bc := float32(hi-r)/span, float32(hi-g)/span, float32(hi-b)/span
		var h float32
		switch hi {
		case r:
			h = bc - gc
		case g:
			h = float32(2 + float64(rc) - float64(bc))
		default:
			h = float32(4 + float64(gc) - float64(rc))
		}
		x := float64(h)/6 + 1
		if x >= 1 {
			x--
		}
		hue := byte(float64(float32(x))*255) + shift

		f, fs, v := hueRest[hue], float32(float64(s)/255), float64(hi)
		low := byte(float64(v*(1-float64(fs))) + 0.5)
		down := byte(float64(v*(1-float64(fs*f))) + 0.5)
		up := byte(float64(v*(1-float64(float64(fs)*(1-float64(f))))) + 0.5)
		switch hueSector[hue] {
		case 0:
			p[0], p[1], p[2] = hi, up, low
		case 1:
			p[0], p[1], p[2] = down, hi, low
		case 2:
			p[0], p[1], p[2] = low, hi, up
		case 3:
			p[0], p[1], p[2] = low, down, hi
		case 4:
			p[0], p[1], p[2] = up, low, hi
		default:
			p[0], p[1], p[2] = hi, low, down
		}
	}
}
