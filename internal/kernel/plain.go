package kernel

import "encoding/binary"

// Plain is the set in plain Go: the fallback without cgo, and what the others are
// held to.
//
// Explicit float32 conversions keep compilers from fusing a product with a sum,
// which would change results between CPUs.
type Plain struct{}

// Name is "go".
func (Plain) Name() string { return "go" }

// ResizeRows implements Set.
func (Plain) ResizeRows(dst, src []byte, rows, stride, c int, t *Taps) {
	for y := range rows {
		in := src[y*stride:]
		for x := range t.N {
			w := t.W[x*t.Width:][:t.Count[x]]
			px := in[c*int(t.First[x]):][:c*len(w)]
			at := y*t.N + x
			if c == 3 {
				var s0, s1, s2 int32 = half, half, half
				for _, wk := range w {
					s0 += wk * int32(px[0])
					s1 += wk * int32(px[1])
					s2 += wk * int32(px[2])
					px = px[3:]
				}
				dst[at], dst[at+rows*t.N], dst[at+2*rows*t.N] = byte(s0>>WeightBits), byte(s1>>WeightBits), byte(s2>>WeightBits)
				continue
			}
			for ch := range c {
				var s int32 = half
				for k, wk := range w {
					s += wk * int32(px[k*c+ch])
				}
				dst[at+ch*rows*t.N] = byte(s >> WeightBits)
			}
		}
	}
}

// ResizeColumns implements Set.
//
// Eight columns go through four 64-bit words with two 32-bit lanes each. Weights
// are not negative and sum to one within a few units of 2^-22, so a lane can
// neither borrow, nor overflow, nor leave 0 to 255.
func (Plain) ResizeColumns(dst, src []byte, width, planes, rows, base int, t *Taps) {
	const round = half<<32 | half
	for p := range planes {
		plane := src[p*rows*width:][:rows*width]
		for y := range t.N {
			w := t.W[y*t.Width:][:t.Count[y]]
			in := plane[(int(t.First[y])-base)*width:][:len(w)*width]
			out := dst[(p*t.N+y)*width:][:width]
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
					a>>WeightBits&lanes|b>>WeightBits&lanes<<8|c>>WeightBits&lanes<<16|d>>WeightBits&lanes<<24)
			}
			for ; x < width; x++ {
				var s int32 = half
				at := x
				for _, wk := range w {
					s += wk * int32(in[at])
					at += width
				}
				out[x] = byte(s >> WeightBits)
			}
		}
	}
}

// lanes selects the low byte of both 32-bit lanes of a word.
const lanes = 0x000000ff000000ff

// Luma is ITU-R 601 in 16-bit fixed point, Pillow's mode "L".
func Luma(r, g, b byte) byte {
	return byte((uint32(r)*19595 + uint32(g)*38470 + uint32(b)*7471 + 1<<15) >> 16)
}

// blend is from + f (to - from), cut to 8 bits.
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

// Towards implements Set.
func (Plain) Towards(pix []byte, from byte, f float32) {
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

// Sum implements Set.
func (Plain) Sum(pix []byte) uint64 {
	var sum uint64
	for _, v := range pix {
		sum += uint64(v)
	}
	return sum
}

// split3 returns the three planes.
func split3(rgb []byte) (r, g, b []byte) {
	n := len(rgb) / 3
	return rgb[:n], rgb[n:][:n], rgb[2*n:][:n]
}

// SumLuma implements Set.
func (Plain) SumLuma(rgb []byte) uint64 {
	var sum uint64
	r, g, b := split3(rgb)
	for i := range r {
		sum += uint64(Luma(r[i], g[i], b[i]))
	}
	return sum
}

// Saturate implements Set.
func (Plain) Saturate(rgb []byte, f float32) {
	r, g, b := split3(rgb)
	for i := range r {
		l := Luma(r[i], g[i], b[i])
		r[i], g[i], b[i] = blend(l, r[i], f), blend(l, g[i], f), blend(l, b[i], f)
	}
}

// Grey implements Set.
func (Plain) Grey(rgb []byte) {
	r, g, b := split3(rgb)
	for i := range r {
		l := Luma(r[i], g[i], b[i])
		r[i], g[i], b[i] = l, l, l
	}
}

// Solarize implements Set.
func (Plain) Solarize(pix []byte) {
	for i, v := range pix {
		if v >= 128 {
			pix[i] = 255 - v
		}
	}
}

// Normalise implements Set.
func (Plain) Normalise(dst []float32, pix []byte, planes int, scale, shift []float32) {
	channels, n := len(scale), len(pix)/planes
	for ch := range channels {
		var table [256]float32
		for v := range table {
			table[v] = float32(float32(v)*scale[ch]) + shift[ch]
		}
		plane := pix[:n]
		if planes > 1 {
			plane = pix[ch*n:][:n]
		}
		for i, v := range plane {
			dst[i*channels+ch] = table[v]
		}
	}
}
