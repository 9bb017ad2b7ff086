package augment

import (
	"encoding/binary"
	"math"
)

// box is one extended box filter: full weight ww over the 2r+1 pixels around
// the centre and the fractional weight fw on the pixel beyond at either side,
// in 24-bit fixed point.
type box struct {
	r      int
	ww, fw uint32
}

// boxFor returns the box that, run three times, approximates a Gaussian of the
// given sigma (Gwosdek et al., "Theoretical Foundations of Gaussian Convolution
// by Extended Box Filtering", SSVM 2011), in the float32 steps of Pillow's
// BoxBlur. ok is false where nothing is left to blur.
func boxFor(sigma float64) (b box, ok bool) {
	const passes = 3
	s2 := float32(float32(sigma)*float32(sigma)) / passes
	length := float32(math.Sqrt(float64(12*float64(s2)) + 1))
	l := float32(math.Floor((float64(length) - 1) / 2))
	a := float32((2*l + 1) * (float32(l*(l+1)) - float32(3*s2)))
	a /= 6 * (s2 - float32((l+1)*(l+1)))
	radius := l + a
	if !(radius > 0) {
		return box{}, false
	}
	b.r = int(radius)
	b.ww = uint32(float32(1<<24) / (float32(radius*2) + 1))
	b.fw = (1<<24 - uint32(2*b.r+1)*b.ww) / 2
	return b, true
}

// blur filters the w x h x c image in a: three boxes along x, three along y,
// each rounded to 8 bits, borders repeated. The result is in a; b has the same
// length and is overwritten.
func blur(a, b []byte, w, h, c int, sigma float64) {
	f, ok := boxFor(sigma)
	if !ok {
		return
	}
	for range 3 {
		for y := range h {
			f.row(b[y*w*c:][:w*c], a[y*w*c:][:w*c], w, c)
		}
		a, b = b, a
	}
	for range 3 {
		f.columns(b, a, w*c, h)
		a, b = b, a
	}
	// Six passes: the result is in the caller's a again.
}

// row filters one row of w pixels with c interleaved channels.
func (f box) row(out, in []byte, w, c int) {
	edge := f.r + 1 // pixels at either end whose window leaves the row
	if w <= 2*edge {
		f.clamped(out, in, 0, w, w, c)
		return
	}
	f.clamped(out, in, 0, edge, w, c)
	f.clamped(out, in, w-edge, w, w, c)
	mid := out[edge*c : (w-edge)*c]
	n := len(mid)
	switch f.r {
	case 0:
		f.three(mid, in[:n], in[c:][:n], in[2*c:][:n])
	case 1:
		f.five(mid, in[:n], in[c:][:n], in[2*c:][:n], in[3*c:][:n], in[4*c:][:n])
	default:
		for ch := range c {
			var acc uint32
			for k := 1; k <= 2*f.r+1; k++ {
				acc += uint32(in[k*c+ch])
			}
			for i := ch; i < n; i += c {
				far := i + (2*f.r+2)*c
				mid[i] = f.mix(acc, uint32(in[i])+uint32(in[far]))
				acc += uint32(in[far]) - uint32(in[i+c])
			}
		}
	}
}

// clamped filters pixels from to to-1 of a row with repeated borders.
func (f box) clamped(out, in []byte, from, to, w, c int) {
	at := func(x, ch int) uint32 { return uint32(in[min(max(x, 0), w-1)*c+ch]) }
	for x := from; x < to; x++ {
		for ch := range c {
			var acc uint32
			for k := x - f.r; k <= x+f.r; k++ {
				acc += at(k, ch)
			}
			out[x*c+ch] = f.mix(acc, at(x-f.r-1, ch)+at(x+f.r+1, ch))
		}
	}
}

// columns filters h rows of width bytes along y.
func (f box) columns(out, in []byte, width, h int) {
	row := func(y int) []byte { return in[min(max(y, 0), h-1)*width:][:width] }
	switch f.r {
	case 0:
		for y := range h {
			f.three(out[y*width:][:width], row(y-1), row(y), row(y+1))
		}
	case 1:
		for y := range h {
			f.five(out[y*width:][:width], row(y-2), row(y-1), row(y), row(y+1), row(y+2))
		}
	default:
		for x := range width {
			var acc uint32
			for k := -f.r; k <= f.r; k++ {
				acc += uint32(row(k)[x])
			}
			for y := range h {
				out[y*width+x] = f.mix(acc, uint32(row(y - f.r - 1)[x])+uint32(row(y + f.r + 1)[x]))
				acc += uint32(row(y + f.r + 1)[x]) - uint32(row(y - f.r)[x])
			}
		}
	}
}

func (f box) mix(acc, far uint32) byte {
	return byte((acc*f.ww + far*f.fw + 1<<23) >> 24)
}

// three filters with r = 0: l and r are the neighbours of m. Eight samples go
// through words of two 32-bit lanes; weights sum to 2^24 at most, so lanes do
// not overflow.
func (f box) three(out, l, m, r []byte) {
	n := len(out)
	l, m, r = l[:n], m[:n], r[:n]
	i := 0
	for ; i+8 <= n; i += 8 {
		vl := binary.LittleEndian.Uint64(l[i : i+8])
		vm := binary.LittleEndian.Uint64(m[i : i+8])
		vr := binary.LittleEndian.Uint64(r[i : i+8])
		even := f.words(vm&bytes16, vl&bytes16+vr&bytes16)
		odd := f.words(vm>>8&bytes16, vl>>8&bytes16+vr>>8&bytes16)
		binary.LittleEndian.PutUint64(out[i:i+8], even|odd<<8)
	}
	for ; i < n; i++ {
		out[i] = f.mix(uint32(m[i]), uint32(l[i])+uint32(r[i]))
	}
}

// five filters with r = 1 over a, b, c, d, e in order.
func (f box) five(out, a, b, c, d, e []byte) {
	n := len(out)
	a, b, c, d, e = a[:n], b[:n], c[:n], d[:n], e[:n]
	i := 0
	for ; i+8 <= n; i += 8 {
		va := binary.LittleEndian.Uint64(a[i : i+8])
		vb := binary.LittleEndian.Uint64(b[i : i+8])
		vc := binary.LittleEndian.Uint64(c[i : i+8])
		vd := binary.LittleEndian.Uint64(d[i : i+8])
		ve := binary.LittleEndian.Uint64(e[i : i+8])
		even := f.words(vb&bytes16+vc&bytes16+vd&bytes16, va&bytes16+ve&bytes16)
		odd := f.words(vb>>8&bytes16+vc>>8&bytes16+vd>>8&bytes16, va>>8&bytes16+ve>>8&bytes16)
		binary.LittleEndian.PutUint64(out[i:i+8], even|odd<<8)
	}
	for ; i < n; i++ {
		out[i] = f.mix(uint32(b[i])+uint32(c[i])+uint32(d[i]), uint32(a[i])+uint32(e[i]))
	}
}

const (
	bytes16 = 0x00ff00ff00ff00ff // the low byte of each 16-bit lane
	words32 = 0x0000ffff0000ffff // the low half of each 32-bit lane
)

// words mixes four samples that stand in 16-bit lanes.
func (f box) words(acc, far uint64) uint64 {
	const round = 1<<55 | 1<<23
	ww, fw := uint64(f.ww), uint64(f.fw)
	lo := (acc&words32)*ww + (far&words32)*fw + round
	hi := (acc>>16&words32)*ww + (far>>16&words32)*fw + round
	return lo>>24&lanes | hi>>24&lanes<<16
}
