package augment

import (
	"encoding/binary"
	"math"
)

// Fixed-point weights have 22 fraction bits, as Pillow's: 8 bits of pixel and 2
// of headroom fill the rest of an int32.
const weightBits = 22

// taps holds, for each output position of one axis, where its input starts and
// its weights.
type taps struct {
	first []int32 // first input position
	count []int32 // number of weights
	w     []int32 // stride weights for each output position
	width int     // stride of w
	fw    []float64
}

// set computes the weights of a triangle filter that resamples in samples to
// out samples, for the output positions from, from+1 ... from+n-1. Where the
// axis shrinks, the triangle is widened by the same factor (antialiasing), and
// at the borders it is cut and renormalised.
func (t *taps) set(in, out, from, n int) {
	scale := float64(in) / float64(out)
	support := max(scale, 1)
	inverse := 1 / support
	t.width = int(math.Ceil(support))*2 + 1
	t.first = grow(t.first, n)
	t.count = grow(t.count, n)
	t.w = grow(t.w, n*t.width)
	t.fw = grow(t.fw, t.width)
	for i := range n {
		center := float64((float64(from+i) + 0.5) * scale)
		lo := max(0, int(center-support+0.5))
		hi := min(in, int(center+support+0.5))
		fw := t.fw[:hi-lo]
		sum := 0.0
		for k := range fw {
			fw[k] = max(0, 1-math.Abs(float64((float64(lo+k)-center+0.5)*inverse)))
			sum += fw[k]
		}
		w := t.w[i*t.width:][:len(fw)]
		for k := range w {
			w[k] = int32(0.5 + float64(fw[k]/sum*(1<<weightBits)))
		}
		// Zero weights at the end only cost time.
		for len(w) > 1 && w[len(w)-1] == 0 {
			w = w[:len(w)-1]
		}
		t.first[i], t.count[i] = int32(lo), int32(len(w))
	}
}

func grow[T any](s []T, n int) []T {
	if cap(s) < n {
		return make([]T, n)
	}
	return s[:n]
}

func clip8(v int32) byte {
	v >>= weightBits
	if uint32(v) > 255 {
		if v < 0 {
			return 0
		}
		return 255
	}
	return byte(v)
}

const half = 1 << (weightBits - 1)

// resizeRows resamples rows of src along x into dst rows of n pixels with c
// interleaved channels. stride is src's row length in bytes. With flip the
// output is mirrored.
func resizeRows(dst, src []byte, rows, stride, n, c int, t *taps, flip bool) {
	for y := range rows {
		in := src[y*stride:]
		out := dst[y*n*c:][:n*c]
		o, step := 0, c
		if flip {
			o, step = (n-1)*c, -c
		}
		switch c {
		case 1:
			row1(out, in, n, t, o, step)
		case 3:
			row3(out, in, n, t, o, step)
		default:
			rowN(out, in, n, c, t, o, step)
		}
	}
}

func row1(out, in []byte, n int, t *taps, o, step int) {
	for x := range n {
		w := t.w[x*t.width:][:t.count[x]]
		px := in[t.first[x]:][:len(w)]
		var s int32 = half
		for k, wk := range w {
			s += wk * int32(px[k])
		}
		out[o] = clip8(s)
		o += step
	}
}

func row3(out, in []byte, n int, t *taps, o, step int) {
	for x := range n {
		w := t.w[x*t.width:][:t.count[x]]
		px := in[3*t.first[x]:][:3*len(w)]
		var s0, s1, s2 int32 = half, half, half
		for _, wk := range w {
			s0 += wk * int32(px[0])
			s1 += wk * int32(px[1])
			s2 += wk * int32(px[2])
			px = px[3:]
		}
		out[o], out[o+1], out[o+2] = clip8(s0), clip8(s1), clip8(s2)
		o += step
	}
}

func rowN(out, in []byte, n, c int, t *taps, o, step int) {
	for x := range n {
		w := t.w[x*t.width:][:t.count[x]]
		px := in[c*int(t.first[x]):]
		for ch := range c {
			var s int32 = half
			for k, wk := range w {
				s += wk * int32(px[k*c+ch])
			}
			out[o+ch] = clip8(s)
		}
		o += step
	}
}

// resizeColumns resamples along y: dst has n rows, src starts with input row
// base; both have rows of width bytes.
//
// Eight columns go through four 64-bit words with two 32-bit lanes each. Weights
// are not negative and sum to one within a few units of 2^-22, so a lane can
// neither borrow, nor overflow, nor leave 0 to 255.
func resizeColumns(dst, src []byte, n, width, base int, t *taps) {
	const round = half<<32 | half
	for y := range n {
		w := t.w[y*t.width:][:t.count[y]]
		in := src[(int(t.first[y])-base)*width:][:len(w)*width]
		out := dst[y*width:][:width]
		if len(w) == 1 { // a lone weight is one
			copy(out, in)
			continue
		}
		x := 0
		for ; x+8 <= width; x += 8 {
			var a, b, c, d uint64 = round, round, round, round
			at := x
			for _, wk := range w {
				v := binary.LittleEndian.Uint64(in[at : at+8])
				m := uint64(wk)
				a += (v & lanes) * m
				b += (v >> 8 & lanes) * m
				c += (v >> 16 & lanes) * m
				d += (v >> 24 & lanes) * m
				at += width
			}
			binary.LittleEndian.PutUint64(out[x:x+8],
				a>>weightBits&lanes|b>>weightBits&lanes<<8|c>>weightBits&lanes<<16|d>>weightBits&lanes<<24)
		}
		for ; x < width; x++ {
			var s int32 = half
			at := x
			for _, wk := range w {
				s += wk * int32(in[at])
				at += width
			}
			out[x] = clip8(s)
		}
	}
}

// lanes selects the low byte of both 32-bit lanes of a word.
const lanes = 0x000000ff000000ff
