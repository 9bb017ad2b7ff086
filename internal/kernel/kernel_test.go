package kernel

import (
	"bytes"
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// guard surrounds the memory that kernels write, to notice writes beyond.
const guard, guardByte = 67, 0xa5

// guarded is a copy of b between guards.
type guarded struct{ all []byte }

func newGuarded(b []byte) guarded {
	g := guarded{bytes.Repeat([]byte{guardByte}, len(b)+2*guard)}
	copy(g.pix(), b)
	return g
}

func (g guarded) pix() []byte { return g.all[guard : len(g.all)-guard : len(g.all)-guard] }

func (g guarded) check(t *rapid.T) {
	for i, v := range g.all {
		if (i < guard || i >= len(g.all)-guard) && v != guardByte {
			t.Fatalf("byte %d of %d was written", i-guard, len(g.all)-2*guard)
		}
	}
}

// fill makes pixels of one of several kinds: noise, smooth, black and white.
func fill(t *rapid.T, n int) []byte {
	pix, kind, state := make([]byte, n), rapid.IntRange(0, 2).Draw(t, "kind"), rapid.Uint32().Draw(t, "pixels")
	for i := range pix {
		state = state*1664525 + 1013904223
		switch kind {
		case 0:
			pix[i] = byte(state >> 24)
		case 1:
			pix[i] = byte(i*3) + byte(state>>29)
		default:
			pix[i] = byte(int32(state) >> 31)
		}
	}
	return pix
}

// allEqual runs one operation with every set and compares pixels with Plain's.
func allEqual(t *rapid.T, out []byte, op func(s Set, out []byte)) {
	want := newGuarded(out)
	op(Plain{}, want.pix())
	for _, s := range Sets() {
		got := newGuarded(out)
		op(s, got.pix())
		got.check(t)
		if !bytes.Equal(got.pix(), want.pix()) {
			for i, v := range got.pix() {
				if v != want.pix()[i] {
					t.Fatalf("%s: sample %d of %d is %d, plain Go has %d", s.Name(), i, len(out), v, want.pix()[i])
				}
			}
		}
	}
}

func TestSetsAgreeOnResizing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var x, y Taps
		w, h, c := rapid.IntRange(1, 70).Draw(t, "w"), rapid.IntRange(1, 40).Draw(t, "h"), rapid.IntRange(1, 5).Draw(t, "c")
		outW, outH := rapid.IntRange(1, 70).Draw(t, "outW"), rapid.IntRange(1, 70).Draw(t, "outH")
		fromX, fromY := rapid.IntRange(0, outW-1).Draw(t, "fromX"), rapid.IntRange(0, outH-1).Draw(t, "fromY")
		x.Set(w, outW, fromX, outW-fromX, rapid.Bool().Draw(t, "mirror"))
		y.Set(h, outH, fromY, outH-fromY, false)
		stride := w*c + rapid.IntRange(0, 20).Draw(t, "more")
		// src ends with its last pixel, as an image does whose corner is cut out.
		src := fill(t, (h-1)*stride+w*c)
		rows := y.End - y.Begin
		between := make([]byte, rows*x.N*c)
		allEqual(t, between, func(s Set, out []byte) { s.ResizeRows(out, src[y.Begin*stride:], rows, stride, c, &x) })
		Plain{}.ResizeRows(between, src[y.Begin*stride:], rows, stride, c, &x)
		allEqual(t, make([]byte, c*y.N*x.N), func(s Set, out []byte) { s.ResizeColumns(out, between, x.N, c, rows, y.Begin, &y) })
	})
}

func TestSetsAgreeOnColour(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rgb := fill(t, 3*rapid.IntRange(1, 200).Draw(t, "pixels"))
		f := rapid.OneOf(rapid.Float32Range(0, 2), rapid.Float32Range(0, 101)).Draw(t, "factor")
		from, shift := rapid.Byte().Draw(t, "from"), rapid.Byte().Draw(t, "shift")
		allEqual(t, rgb, func(s Set, p []byte) { s.Towards(p, from, f) })
		allEqual(t, rgb, func(s Set, p []byte) { s.Saturate(p, f) })
		allEqual(t, rgb, func(s Set, p []byte) { s.ShiftHue(p, shift) })
		allEqual(t, rgb, func(s Set, p []byte) { s.Grey(p) })
		allEqual(t, rgb, func(s Set, p []byte) { s.Solarize(p) })
		for _, s := range Sets() {
			if got, want := s.Sum(rgb), (Plain{}).Sum(rgb); got != want {
				t.Fatalf("%s: sum %d, plain Go has %d", s.Name(), got, want)
			}
			if got, want := s.SumLuma(rgb), (Plain{}).SumLuma(rgb); got != want {
				t.Fatalf("%s: sum of luma %d, plain Go has %d", s.Name(), got, want)
			}
		}
	})
}

// Sums of more samples than the lanes of a vector could hold.
func TestLargeSums(t *testing.T) {
	white := bytes.Repeat([]byte{255}, 3*5_000_001)
	for _, s := range Sets() {
		if got, want := s.Sum(white), uint64(255*len(white)); got != want {
			t.Errorf("%s: sum %d, want %d", s.Name(), got, want)
		}
		if got, want := s.SumLuma(white), uint64(255*len(white)/3); got != want {
			t.Errorf("%s: sum of luma %d, want %d", s.Name(), got, want)
		}
	}
}

func TestSetsAgreeOnNormalising(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n, channels := rapid.IntRange(1, 100).Draw(t, "pixels"), rapid.IntRange(1, 4).Draw(t, "channels")
		planes := channels
		if rapid.Bool().Draw(t, "grey") {
			planes = 1
		}
		pix := fill(t, n*planes)
		scale, shift := make([]float32, channels), make([]float32, channels)
		for c := range channels {
			scale[c], shift[c] = rapid.Float32Range(0, 0.1).Draw(t, "scale"), rapid.Float32Range(-4, 4).Draw(t, "shift")
		}
		want := make([]float32, n*channels)
		Plain{}.Normalise(want, pix, planes, scale, shift)
		for _, s := range Sets() {
			got := make([]float32, n*channels+1)
			got[n*channels] = 42
			s.Normalise(got[:n*channels], pix, planes, scale, shift)
			if !slices.Equal(got[:n*channels], want) || got[n*channels] != 42 {
				t.Fatalf("%s: %v, plain Go has %v", s.Name(), got, want)
			}
		}
	})
}

// slowBlur is the definition: extended boxes pixel by pixel.
func slowBlur(pix []byte, w, h int, f Box) []byte {
	pass := func(in []byte, dx, dy int) []byte {
		at := func(x, y int) uint32 { return uint32(in[min(max(y, 0), h-1)*w+min(max(x, 0), w-1)]) }
		out := make([]byte, len(in))
		for y := range h {
			for x := range w {
				var acc uint32
				for k := -f.R; k <= f.R; k++ {
					acc += at(x+k*dx, y+k*dy)
				}
				e := f.R + 1
				out[y*w+x] = f.mix(acc, at(x-e*dx, y-e*dy)+at(x+e*dx, y+e*dy))
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
		w, h, planes := rapid.IntRange(1, 50).Draw(t, "w"), rapid.IntRange(1, 40).Draw(t, "h"), rapid.IntRange(1, 4).Draw(t, "planes")
		pix := fill(t, w*h*planes)
		sigma := rapid.OneOf(rapid.Float64Range(0.05, 2.5), rapid.Float64Range(2.5, 60)).Draw(t, "sigma")
		f, ok := BoxFor(sigma)
		if !ok {
			t.Skip("nothing to blur")
		}
		want := slices.Clone(pix)
		for p := range planes {
			copy(want[p*w*h:], slowBlur(pix[p*w*h:][:w*h], w, h, f))
		}
		for _, s := range Sets() {
			got, tmp := newGuarded(pix), newGuarded(make([]byte, BlurMemory(w, h, f)))
			s.Blur(got.pix(), tmp.pix(), w, h, planes, f)
			got.check(t)
			tmp.check(t)
			if !bytes.Equal(got.pix(), want) {
				t.Fatalf("%s: %d x %d x %d, sigma %g: %v, want %v", s.Name(), w, h, planes, sigma, got.pix(), want)
			}
		}
	})
}

// The boxes' variance is that of the Gaussian, and weights sum to one.
func TestBoxHasTheVariance(t *testing.T) {
	for _, sigma := range []float64{0.1, 0.3, 0.6, 1, 1.37, 2, 5, 20} {
		f, ok := BoxFor(sigma)
		if !ok {
			t.Fatalf("sigma %g: no box", sigma)
		}
		total, variance := 0.0, 0.0
		for k := -f.R - 1; k <= f.R+1; k++ {
			w := float64(f.Full)
			if k == -f.R-1 || k == f.R+1 {
				w = float64(f.Far)
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
	if _, ok := BoxFor(0); ok {
		t.Error("sigma 0 has a box")
	}
}

func TestColourOperations(t *testing.T) {
	pix := []byte{255, 0, 0, 200, 90 /**/, 0, 255, 0, 100, 90 /**/, 0, 0, 255, 50, 90}
	three := func(p ...byte) []byte { return bytes.Repeat(p, 3) }
	for _, tc := range []struct {
		name string
		do   func(s Set, p []byte)
		want []byte
	}{
		// Expected values are worked out by hand from the definitions.
		{"brightness 0.5", func(s Set, p []byte) { s.Towards(p, 0, 0.5) }, []byte{127, 0, 0, 100, 45, 0, 127, 0, 50, 45, 0, 0, 127, 25, 45}},
		{"brightness 2", func(s Set, p []byte) { s.Towards(p, 0, 2) }, []byte{255, 0, 0, 255, 180, 0, 255, 0, 200, 180, 0, 0, 255, 100, 180}},
		{"contrast 0", func(s Set, p []byte) { s.Towards(p, 94, 0) }, bytes.Repeat([]byte{94}, 15)},
		{"saturation 0 is the luma", func(s Set, p []byte) { s.Saturate(p, 0) }, three(76, 150, 29, 124, 90)},
		{"saturation 1", func(s Set, p []byte) { s.Saturate(p, 1) }, pix},
		{"grayscale", Set.Grey, three(76, 150, 29, 124, 90)},
		{"hue by a third", func(s Set, p []byte) { s.ShiftHue(p, 85) }, []byte{0, 0, 255, 50, 90, 255, 0, 0, 200, 90, 0, 255, 0, 99, 90}},
		{"solarize", Set.Solarize, []byte{0, 0, 0, 55, 90, 0, 0, 0, 100, 90, 0, 0, 0, 50, 90}},
	} {
		for _, s := range Sets() {
			got := slices.Clone(pix)
			tc.do(s, got)
			for i := range got {
				tolerance := 0
				if tc.name == "hue by a third" {
					tolerance = 2 // 8-bit HSV
				}
				if d := int(got[i]) - int(tc.want[i]); d > tolerance || d < -tolerance {
					t.Errorf("%s, %s: %v, want %v", s.Name(), tc.name, got, tc.want)
					break
				}
			}
		}
	}
}

// pillowTurn is Pillow's arithmetic, which goes through float64 here and there.
func pillowTurn(r, g, b, shift byte) (byte, byte, byte) {
	hi, lo := max(r, g, b), min(r, g, b)
	var hue, s byte
	if hi != lo {
		span := float32(hi - lo)
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
		h = float32(math.Mod(float64(h)/6+1, 1))
		hue, s = byte(float64(h)*255), byte(float64(span/float32(hi))*255)
	}
	hue += shift
	if s == 0 {
		return hi, hi, hi
	}
	sixths := float64(hue) * 6 / 255
	sector := math.Floor(sixths)
	f, fs, v := float32(sixths-sector), float32(float64(s)/255), float64(hi)
	low := byte(math.Round(v * (1 - float64(fs))))
	down := byte(math.Round(v * (1 - float64(fs*f))))
	up := byte(math.Round(v * (1 - float64(fs)*(1-float64(f)))))
	switch int(sector) % 6 {
	case 0:
		return hi, up, low
	case 1:
		return down, hi, low
	case 2:
		return low, hi, up
	case 3:
		return low, down, hi
	case 4:
		return up, low, hi
	}
	return hi, low, down
}

// Hue is Pillow's to the bit. All colours were tried once; here it is every
// third of each channel, or fewer when tests are to be short.
func TestHueIsPillows(t *testing.T) {
	step := 3
	if testing.Short() {
		step = 15
	}
	const row = 256
	got, shift := make([]byte, 3*row), byte(0)
	for r := 0; r < 256; r += step {
		for g := 0; g < 256; g += step {
			shift += 41
			for _, s := range Sets() {
				for b := range row {
					got[b], got[row+b], got[2*row+b] = byte(r), byte(g), byte(b)
				}
				s.ShiftHue(got, shift)
				for b := 0; b < row; b += step {
					wr, wg, wb := pillowTurn(byte(r), byte(g), byte(b), shift)
					if got[b] != wr || got[row+b] != wg || got[2*row+b] != wb {
						t.Fatalf("%s: (%d, %d, %d) turned by %d is (%d, %d, %d), want (%d, %d, %d)",
							s.Name(), r, g, b, shift, got[b], got[row+b], got[2*row+b], wr, wg, wb)
					}
				}
			}
		}
	}
}
