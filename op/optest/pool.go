package optest

import (
	"math"

	"swav/op"
)

// windows are the stem's pooling, windows without overlap, and windows that
// reach beyond tiny images.
var windows = []struct {
	shape []int
	p     op.PoolParams
}{
	{[]int{1, 1, 1, 1}, op.PoolParams{Kernel: 1, Stride: 1}},
	{[]int{1, 1, 1, 3}, op.PoolParams{Kernel: 3, Stride: 2, Pad: 1}},
	{[]int{2, 5, 4, 17}, op.PoolParams{Kernel: 3, Stride: 2, Pad: 1}},
	{[]int{2, 8, 8, 16}, op.PoolParams{Kernel: 3, Stride: 2, Pad: 1}},
	{[]int{1, 7, 6, 3}, op.PoolParams{Kernel: 2, Stride: 2}},
	{[]int{3, 4, 5, 1}, op.PoolParams{Kernel: 3, Stride: 1, Pad: 1}},
	{[]int{1, 9, 9, 5}, op.PoolParams{Kernel: 3, Stride: 2}},
	{[]int{1, 2, 3, 2}, op.PoolParams{Kernel: 7, Stride: 2, Pad: 3}},
	{[]int{4, 20, 20, 24}, op.PoolParams{Kernel: 3, Stride: 2, Pad: 1}},
}

func pooled(shape []int, p op.PoolParams) []int {
	return []int{shape[0], p.Out(shape[1]), p.Out(shape[2]), shape[3]}
}

var areas = [][]int{{1, 1, 1, 1}, {1, 1, 1, 17}, {2, 7, 7, 33}, {3, 2, 5, 3}, {5, 4, 4, 16}, {1, 3, 3, 1}, {40, 7, 7, 64}}

var poolExamples = map[string][]example{
	"MaxPool": {
		{"by hand", func(c *check) {
			for _, d := range c.precisions() {
				k := c.call()
				x := k.in("x", d, []float64{
					-1, -2, -3,
					-4, -5, -6,
					-7, -8, -7}, 1, 3, 3, 1)
				y, index := k.out("y", d, 1, 2, 2, 1), k.out("index", op.Uint8, 1, 2, 2, 1)
				y.truth = []float64{-1, -2, -4, -5}
				index.truth = []float64{4, 3, 1, 0} // places in windows that begin at -1 and 1
				k.run(func(s *side) {
					s.MaxPool(s.at(y), s.at(index), s.at(x), op.PoolParams{Kernel: 3, Stride: 2, Pad: 1})
				})
			}
		}},
		// Few different values, so that most windows have several winners.
		{"the first of equals", func(c *check) {
			for _, w := range windows {
				for _, d := range c.precisions() {
					k := c.call()
					x := k.in("x", d, c.ints(product(w.shape...), -4, -2), w.shape...)
					y, index := k.out("y", d, pooled(w.shape, w.p)...), k.out("index", op.Uint8, pooled(w.shape, w.p)...)
					k.run(func(s *side) { s.MaxPool(s.at(y), s.at(index), s.at(x), w.p) })
				}
			}
		}},
		{"without index", func(c *check) {
			for _, w := range windows {
				for _, d := range c.precisions() {
					k := c.call()
					x := k.in("x", d, c.normal(product(w.shape...)), w.shape...)
					y := k.out("y", d, pooled(w.shape, w.p)...)
					k.run(func(s *side) { s.MaxPool(s.at(y), op.Tensor{}, s.at(x), w.p) })
				}
			}
		}},
		{"NaN and infinities", func(c *check) {
			for _, d := range c.precisions() {
				for _, odd := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
					k := c.call()
					values := c.normal(product(2, 5, 4, 17))
					for i := range values {
						if i%3 == 0 {
							values[i] = odd
						}
					}
					x := k.in("x", d, values, 2, 5, 4, 17)
					y, index := k.out("y", d, 2, 3, 2, 17), k.out("index", op.Uint8, 2, 3, 2, 17)
					y.nan = true
					k.run(func(s *side) {
						s.MaxPool(s.at(y), s.at(index), s.at(x), op.PoolParams{Kernel: 3, Stride: 2, Pad: 1})
					})
				}
			}
		}},
	},
	"MaxPoolBackward": {
		{"adjoint to MaxPool", func(c *check) {
			for _, w := range windows {
				for _, d := range c.precisions() {
					k := c.call()
					out := pooled(w.shape, w.p)
					x := k.in("x", d, c.ints(product(w.shape...), -4, 4), w.shape...)
					dy := k.in("dy", d, c.ints(product(out...), -3, 3), out...)
					y, index := k.out("y", d, out...), k.out("index", op.Uint8, out...)
					dx := k.out("dx", d, w.shape...)
					k.run(func(s *side) {
						s.MaxPool(s.at(y), s.at(index), s.at(x), w.p)
						s.MaxPoolBackward(s.at(dx), s.at(dy), s.at(index), w.p)
					})
					if left, right := dot(dy.init, y.got), dot(dx.got, x.init); left != right {
						c.errorf("%v: <dy, pool(x)> = %v, <dx, x> = %v", w, left, right)
					}
				}
			}
		}},
		{"real numbers", func(c *check) {
			for _, w := range windows {
				for _, d := range c.precisions() {
					k := c.call()
					out := pooled(w.shape, w.p)
					x := k.in("x", d, c.normal(product(w.shape...)), w.shape...)
					dy := k.in("dy", d, c.normal(product(out...)), out...)
					y, index := k.out("y", d, out...), k.out("index", op.Uint8, out...)
					dx := k.out("dx", d, w.shape...)
					dx.scale = 3
					k.run(func(s *side) {
						s.MaxPool(s.at(y), s.at(index), s.at(x), w.p)
						s.MaxPoolBackward(s.at(dx), s.at(dy), s.at(index), w.p)
					})
				}
			}
		}},
	},
	"AvgPool": {
		{"exact", func(c *check) {
			for _, d := range c.precisions() {
				k := c.call()
				x := k.in("x", d, []float64{1, 10, 2, 20, 3, 30, 6, -60}, 1, 2, 2, 2)
				y := k.out("y", op.Float32, 1, 2)
				y.truth = []float64{3, 0}
				k.run(func(s *side) { s.AvgPool(s.at(y), s.at(x)) })
			}
		}},
		{"real numbers", func(c *check) {
			for _, shape := range areas {
				for _, d := range c.precisions() {
					k := c.call()
					x := k.in("x", d, c.normal(product(shape...)), shape...)
					y := k.out("y", op.Float32, shape[0], shape[3])
					y.scale = 1
					k.run(func(s *side) { s.AvgPool(s.at(y), s.at(x)) })
				}
			}
		}},
		{"NaN", func(c *check) {
			k := c.call()
			x := k.in("x", op.Float32, []float64{1, 2, math.NaN(), 4}, 1, 1, 2, 2)
			y := k.out("y", op.Float32, 1, 2)
			y.truth, y.nan = []float64{math.NaN(), 3}, true
			k.run(func(s *side) { s.AvgPool(s.at(y), s.at(x)) })
		}},
	},
	"AvgPoolBackward": {
		{"exact", func(c *check) {
			for _, d := range c.precisions() {
				k := c.call()
				dy := k.in("dy", op.Float32, []float64{4, -8}, 1, 2)
				dx := k.out("dx", d, 1, 2, 2, 2)
				dx.truth = []float64{1, -2, 1, -2, 1, -2, 1, -2}
				k.run(func(s *side) { s.AvgPoolBackward(s.at(dx), s.at(dy)) })
			}
		}},
		{"real numbers", func(c *check) {
			for _, shape := range areas {
				for _, d := range c.precisions() {
					k := c.call()
					dy := k.in("dy", op.Float32, c.normal(shape[0]*shape[3]), shape[0], shape[3])
					dx := k.out("dx", d, shape...)
					k.run(func(s *side) { s.AvgPoolBackward(s.at(dx), s.at(dy)) })
				}
			}
		}},
		{"adjoint to AvgPool", func(c *check) {
			for _, shape := range areas {
				k := c.call()
				x := k.in("x", op.Float32, c.normal(product(shape...)), shape...)
				dy := k.in("dy", op.Float32, c.normal(shape[0]*shape[3]), shape[0], shape[3])
				y, dx := k.out("y", op.Float32, shape[0], shape[3]), k.out("dx", op.Float32, shape...)
				k.alone(func(s *side) {
					s.AvgPool(s.at(y), s.at(x))
					s.AvgPoolBackward(s.at(dx), s.at(dy))
				})
				c.adjoint("<dy, pool(x)> = <dx, x>", dy.init, y.got, dx.got, x.init)
			}
		}},
	},
}
