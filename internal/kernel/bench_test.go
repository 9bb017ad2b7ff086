package kernel

import "testing"

// BenchmarkSets times the loops on a view of 224 pixels, each set by itself.
func BenchmarkSets(b *testing.B) {
	const side, inW, inH = 224, 400, 300
	rgb := make([]byte, 3*side*side)
	for i := range rgb {
		rgb[i] = byte(i * 2654435761 >> 13)
	}
	src := make([]byte, 3*inW*inH+16)
	copy(src, rgb)
	var x, y Taps
	x.Set(inW, side, 0, side, false)
	y.Set(inH, side, 0, side, false)
	rows := make([]byte, 3*inH*side)
	box, _ := BoxFor(1.5)
	tmp := make([]byte, BlurMemory(side, side, box))
	out := make([]float32, len(rgb))
	scale, shift := []float32{0.017, 0.017, 0.017}, []float32{-2, -2, -2}
	for _, op := range []struct {
		name string
		do   func(s Set)
	}{
		{"Taps", func(Set) { x.Set(inW, side, 0, side, false) }},
		{"ResizeRows", func(s Set) { s.ResizeRows(rows, src, inH, 3*inW, 3, &x) }},
		{"ResizeColumns", func(s Set) { s.ResizeColumns(rgb, rows, side, 3, inH, 0, &y) }},
		{"Towards", func(s Set) { s.Towards(rgb, 100, 1) }},
		{"SumLuma", func(s Set) { s.SumLuma(rgb) }},
		{"Saturate", func(s Set) { s.Saturate(rgb, 1) }},
		{"ShiftHue", func(s Set) { s.ShiftHue(rgb, 9) }},
		{"Blur", func(s Set) { s.Blur(rgb, tmp, side, side, 3, box) }},
		{"Normalise", func(s Set) { s.Normalise(out, rgb, 3, scale, shift) }},
	} {
		for _, s := range Sets() {
			b.Run(op.name+"/"+s.Name(), func(b *testing.B) {
				for b.Loop() {
					op.do(s)
				}
			})
		}
	}
}
