package optest

import (
	"fmt"
	"math"

	"swav/op"
)

// segments of a flat buffer of 50,100 elements: with gaps (frozen tensors), one
// element, none, and more than any threshold for threads.
var segments = []op.Segment{
	{Offset: 0, Len: 3, WeightDecay: 0.5, Adapt: true},
	{Offset: 5, Len: 1, Adapt: false},
	{Offset: 6, Len: 0, WeightDecay: 1e-2, Adapt: true},
	{Offset: 17, Len: 40000, WeightDecay: 1e-2, Adapt: true},
	{Offset: 40017, Len: 83, WeightDecay: 1e-2, Adapt: false},
	{Offset: 40200, Len: 300, WeightDecay: 0.1, Adapt: true}, // zero weights
	{Offset: 40600, Len: 300, WeightDecay: 0.1, Adapt: true}, // zero gradient
	{Offset: 41000, Len: 9000, Adapt: true},
}

const buffer = 50100

// optimizerCall draws the buffers of an optimizer.
func (c *check) optimizerCall() (k *call, w, m, v, g *operand) {
	k = c.call()
	wv, mv, vv, gv := c.normal(buffer), c.normal(buffer), c.normal(buffer), c.normal(buffer)
	clear(wv[40200:40500])
	clear(gv[40600:40900])
	for i := range vv {
		vv[i] *= vv[i]
	}
	w, m = k.update("w", op.Float32, wv, buffer), k.update("m", op.Float32, mv, buffer)
	v, g = k.update("v", op.Float32, vv, buffer), k.in("g", op.Float32, gv, buffer)
	return k, w, m, v, g
}

// frozen wants every element outside of the segments to keep its bits.
func (c *check) frozen(segments []op.Segment, operands ...*operand) {
	covered := make([]bool, buffer)
	for _, s := range segments {
		for i := range s.Len {
			covered[s.Offset+i] = true
		}
	}
	for _, o := range operands {
		for i, v := range o.got {
			if !covered[i] && !same(v, o.init[i]) {
				c.errorf("%s: element %d of no segment was %v, is %v", o.name, i, o.init[i], v)
				break
			}
		}
	}
}

// larc is the contract's formula, element by element.
func larc(w, m, g []float64, s op.Segment, p op.LARCParams) (w2, m2 []float64) {
	wn, gn := math.Sqrt(dot(w, w)), math.Sqrt(dot(g, g))
	for i := range w {
		d := g[i]
		switch {
		case !s.Adapt:
			d += s.WeightDecay * w[i]
		case wn != 0 && gn != 0:
			factor := p.Trust * wn / (gn + s.WeightDecay*wn + p.Eps)
			if p.Clip {
				factor = math.Min(factor/p.LR, 1)
			}
			d = (d + s.WeightDecay*w[i]) * factor
		}
		m2 = append(m2, p.Momentum*m[i]+d)
		w2 = append(w2, w[i]-p.LR*m2[i])
	}
	return w2, m2
}

var optimizerExamples = map[string][]example{
	"LARC": {
		{"by hand", func(c *check) {
			// |w| = 5 and |g| = 5: with decay 1 and trust 2 the factor is
			// 2 5/(5 + 5) = 1. The second tensor's weights are zero: plain
			// gradient. The third one does not adapt.
			k := c.call()
			w := k.update("w", op.Float32, []float64{3, 4, 0, 0, 2}, 5)
			m := k.update("m", op.Float32, []float64{1, 0, 2, 0, 4}, 5)
			g := k.in("g", op.Float32, []float64{0, 5, 8, -8, 1}, 5)
			m.truth = []float64{0.5 + (0 + 3), 0 + (5 + 4), 1 + 8, -8, 2 + (1 + 2)}
			w.truth = []float64{3 - 0.25*3.5, 4 - 0.25*9, -0.25 * 9, 0.25 * 8, 2 - 0.25*5}
			list := []op.Segment{{Offset: 0, Len: 2, WeightDecay: 1, Adapt: true}, {Offset: 2, Len: 2, WeightDecay: 1, Adapt: true}, {Offset: 4, Len: 1, WeightDecay: 1}}
			k.run(func(s *side) {
				s.LARC(s.at(w), s.at(m), s.at(g), list, op.LARCParams{LR: 0.25, Momentum: 0.5, Trust: 2})
			})
		}},
		{"the formula", func(c *check) {
			for _, p := range []op.LARCParams{
				{LR: 0.3, Momentum: 0.9, Trust: 0.001, Eps: 1e-8},
				{LR: 0.3, Momentum: 0.9, Trust: 0.001, Eps: 1e-8, Clip: true},
				{LR: 1e-4, Momentum: 0.9, Trust: 0.01, Eps: 1e-8, Clip: true}, // clipped
				{LR: 4.8, Momentum: 0, Trust: 0.001, Eps: 0.5},
			} {
				k, w, m, v, g := c.optimizerCall()
				k.operands = without(k.operands, v)
				k.run(func(s *side) { s.LARC(s.at(w), s.at(m), s.at(g), segments, p) })
				c.frozen(segments, w, m)
				for _, s := range segments {
					from, to := s.Offset, s.Offset+s.Len
					w2, m2 := larc(w.init[from:to], m.init[from:to], g.init[from:to], s, p)
					c.compare(fmt.Sprintf("w of %+v", s), w.got[from:to], w2, c.bound(), w)
					c.compare(fmt.Sprintf("m of %+v", s), m.got[from:to], m2, c.bound(), m)
				}
			}
		}},
		{"nothing to do", func(c *check) {
			k, w, m, v, g := c.optimizerCall()
			k.operands = without(k.operands, v)
			w.truth, m.truth = w.init, m.init
			k.run(func(s *side) { s.LARC(s.at(w), s.at(m), s.at(g), nil, op.LARCParams{LR: 1}) })
		}},
		// A NaN in one tensor's gradient is that tensor's ruin and shows.
		{"NaN", func(c *check) {
			k, w, m, v, g := c.optimizerCall()
			k.operands = without(k.operands, v)
			g.init[41234] = math.NaN()
			w.nan, m.nan = true, true
			k.run(func(s *side) {
				s.LARC(s.at(w), s.at(m), s.at(g), segments, op.LARCParams{LR: 0.3, Momentum: 0.9, Trust: 0.001, Eps: 1e-8, Clip: true})
			})
		}},
	},
	"AdamW": {
		{"the first step goes by the sign", func(c *check) {
			k := c.call()
			w := k.update("w", op.Float32, []float64{1, 1, -2}, 3)
			m, v := k.update("m", op.Float32, make([]float64, 3), 3), k.update("v", op.Float32, make([]float64, 3), 3)
			g := k.in("g", op.Float32, []float64{4, -0.25, 0}, 3)
			m.truth, v.truth = []float64{2, -0.125, 0}, []float64{4, 0.25 * 0.0625, 0}
			w.truth = []float64{1 - 0.5, 1 + 0.5, -2}
			k.run(func(s *side) {
				s.AdamW(s.at(w), s.at(m), s.at(v), s.at(g), []op.Segment{{Len: 3}}, op.AdamWParams{LR: 0.5, Beta1: 0.5, Beta2: 0.75, Eps: 1e-30, Step: 1})
			})
		}},
		{"the formula", func(c *check) {
			for _, step := range []int{1, 2, 1000} {
				k, w, m, v, g := c.optimizerCall()
				p := op.AdamWParams{LR: 0.01, Beta1: 0.9, Beta2: 0.999, Eps: 1e-8, Step: step}
				k.run(func(s *side) { s.AdamW(s.at(w), s.at(m), s.at(v), s.at(g), segments, p) })
				c.frozen(segments, w, m, v)
				for _, s := range segments {
					var w2, m2, v2 []float64
					for i := s.Offset; i < s.Offset+s.Len; i++ {
						d := g.init[i]
						mi, vi := 0.9*m.init[i]+0.1*d, 0.999*v.init[i]+0.001*d*d
						mhat, vhat := mi/(1-math.Pow(0.9, float64(step))), vi/(1-math.Pow(0.999, float64(step)))
						m2, v2 = append(m2, mi), append(v2, vi)
						w2 = append(w2, w.init[i]-0.01*s.WeightDecay*w.init[i]-0.01*mhat/(math.Sqrt(vhat)+1e-8))
					}
					from, to := s.Offset, s.Offset+s.Len
					c.compare(fmt.Sprintf("w of %+v", s), w.got[from:to], w2, c.bound(), w)
					c.compare(fmt.Sprintf("m of %+v", s), m.got[from:to], m2, c.bound(), m)
					c.compare(fmt.Sprintf("v of %+v", s), v.got[from:to], v2, c.bound(), v)
				}
			}
		}},
	},
}
