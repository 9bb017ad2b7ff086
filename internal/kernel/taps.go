package kernel

import "math"

// WeightBits is the number of fraction bits of resampling weights, as Pillow's: 8
// bits of pixel and 2 of headroom fill the rest of an int32.
const WeightBits = 22

const half = 1 << (WeightBits - 1)

// Taps holds, for each output position of one axis, where its input starts and
// its weights. The zero value is ready for Set and keeps its memory.
type Taps struct {
	N     int     // output positions
	First []int32 // first input position
	Count []int32 // number of weights
	W     []int32 // Width weights for each output position
	Width int
	// Begin and End bound the input positions that are read.
	Begin, End int

	// halves repeats the weights for products of 16 bits: chunks groups of four
	// for each position, of each group first the upper halves, then the lower.
	halves []int16
	chunks int
	fw     []float64
}

// Set computes the weights of a triangle filter that resamples in samples to
// out samples, for the output positions from, from+1 ... from+n-1; with mirror
// in reverse order. Where the axis shrinks, the triangle is widened by the same
// factor (antialiasing), and at the borders it is cut and renormalised.
func (t *Taps) Set(in, out, from, n int, mirror bool) {
	scale := float64(in) / float64(out)
	support := max(scale, 1)
	inverse := 1 / support
	t.N, t.Width = n, int(math.Ceil(support))*2+1
	t.First = Grow(t.First, n)
	t.Count = Grow(t.Count, n)
	t.W = Grow(t.W, n*t.Width)
	t.fw = Grow(t.fw, t.Width)
	t.Begin, t.End = in, 0
	most := 1
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
		at := i
		if mirror {
			at = n - 1 - i
		}
		w := t.W[at*t.Width:][:len(fw)]
		for k := range w {
			w[k] = int32(0.5 + float64(fw[k]/sum*(1<<WeightBits)))
		}
		// Zero weights at the end only cost time.
		for len(w) > 1 && w[len(w)-1] == 0 {
			w = w[:len(w)-1]
		}
		t.First[at], t.Count[at] = int32(lo), int32(len(w))
		t.Begin, t.End = min(t.Begin, lo), max(t.End, lo+len(w))
		most = max(most, len(w))
	}
	t.split((most + 3) / 4)
}

// split fills halves.
func (t *Taps) split(chunks int) {
	t.chunks = chunks
	t.halves = Grow(t.halves, t.N*chunks*8)
	clear(t.halves)
	for i := range t.N {
		h := t.halves[i*chunks*8:][:chunks*8]
		for k, w := range t.W[i*t.Width:][:t.Count[i]] {
			at := k/4*8 + k%4
			h[at], h[at+4] = int16(w>>(WeightBits/2)), int16(w&(1<<(WeightBits/2)-1))
		}
	}
}

// Grow returns s with n elements of undefined content, in new memory where it is
// too short.
func Grow[T any](s []T, n int) []T {
	if cap(s) < n {
		return make([]T, n)
	}
	return s[:n]
}
