package optest

import (
	"math"

	"swav/op"
)

// products are rows, inputs and outputs of linear layers.
var products = [][3]int{{1, 1, 1}, {3, 17, 5}, {2, 8, 3}, {5, 64, 33}, {33, 128, 31}, {1, 300, 2}, {64, 3, 130}}

// linearCall holds a linear layer's operands and, for integers, the truth by
// naive loops.
type linearCall struct {
	*call
	x, w, b, dy      *operand
	y, dx, dw, db    []float64 // the truth, gradients of parameters without what was there
	r, i, o          int       // rows, inputs, outputs
	integers, biased bool
}

func (c *check) linearCall(size [3]int, integers, biased bool) *linearCall {
	draw := c.normal
	if integers {
		draw = func(n int) []float64 { return c.ints(n, -9, 9) }
	}
	k := c.call()
	l := &linearCall{call: k, r: size[0], i: size[1], o: size[2], integers: integers, biased: biased}
	l.x = k.in("x", op.Float32, draw(l.r*l.i), l.r, l.i)
	l.w = k.in("w", op.Float32, draw(l.o*l.i), l.o, l.i)
	l.dy = k.in("dy", op.Float32, draw(l.r*l.o), l.r, l.o)
	if biased {
		l.b = k.in("b", op.Float32, draw(l.o), l.o)
	}
	if integers {
		l.y, l.dx = make([]float64, l.r*l.o), make([]float64, l.r*l.i)
		l.dw, l.db = make([]float64, l.o*l.i), make([]float64, l.o)
		for r := range l.r {
			for o := range l.o {
				g := l.dy.init[r*l.o+o]
				l.db[o] += g
				if biased {
					l.y[r*l.o+o] = l.b.init[o]
				}
				for i := range l.i {
					l.y[r*l.o+o] += l.x.init[r*l.i+i] * l.w.init[o*l.i+i]
					l.dx[r*l.i+i] += g * l.w.init[o*l.i+i]
					l.dw[o*l.i+i] += g * l.x.init[r*l.i+i]
				}
			}
		}
	}
	return l
}

func everyLinear(f func(c *check, l *linearCall)) []example {
	each := func(integers bool) func(c *check) {
		return func(c *check) {
			for _, size := range products {
				for _, biased := range []bool{false, true} {
					f(c, c.linearCall(size, integers, biased))
				}
			}
		}
	}
	return []example{{"integers against naive loops", each(true)}, {"real numbers", each(false)}}
}

var denseExamples = map[string][]example{
	"Linear": append(everyLinear(func(c *check, l *linearCall) {
		y := l.result("y", l.r, l.o)
		y.truth, y.scale = l.y, math.Sqrt(float64(l.i))
		l.run(func(s *side) { s.Linear(s.at(y), s.at(l.x), s.at(l.w), s.at(l.b)) })
	}), example{"NaN", func(c *check) {
		l := c.linearCall([3]int{3, 17, 5}, false, true)
		l.x.init[20] = math.NaN()
		y := l.result("y", 3, 5)
		y.nan, y.scale = true, 4
		l.run(func(s *side) { s.Linear(s.at(y), s.at(l.x), s.at(l.w), s.at(l.b)) })
	}}),
	"LinearBackwardData": append(everyLinear(func(c *check, l *linearCall) {
		dx := l.result("dx", l.r, l.i)
		dx.truth, dx.scale = l.dx, math.Sqrt(float64(l.o))
		l.run(func(s *side) { s.LinearBackwardData(s.at(dx), s.at(l.dy), s.at(l.w)) })
	}), example{"adjoint to Linear", func(c *check) {
		for _, size := range products {
			l := c.linearCall(size, false, false)
			y, dx := l.result("y", l.r, l.o), l.result("dx", l.r, l.i)
			l.alone(func(s *side) {
				s.Linear(s.at(y), s.at(l.x), s.at(l.w), op.Tensor{})
				s.LinearBackwardData(s.at(dx), s.at(l.dy), s.at(l.w))
			})
			c.adjoint("<dy, x wᵀ> = <dx, x>", l.dy.init, y.got, dx.got, l.x.init)
		}
	}}),
	"LinearBackwardWeights": append(everyLinear(func(c *check, l *linearCall) {
		dw := l.update("dw", op.Float32, c.ints(l.o*l.i, -5, 5), l.o, l.i)
		dw.scale = math.Sqrt(float64(l.r))
		var db *operand
		if l.biased {
			db = l.update("db", op.Float32, c.ints(l.o, -5, 5), l.o)
			db.scale = dw.scale
		}
		if l.integers {
			dw.truth = sum(dw.init, l.dw)
			if db != nil {
				db.truth = sum(db.init, l.db)
			}
		}
		l.run(func(s *side) { s.LinearBackwardWeights(s.at(dw), s.at(db), s.at(l.x), s.at(l.dy)) })
	}), example{"adds twice", func(c *check) {
		l := c.linearCall([3]int{5, 64, 33}, true, true)
		dw := l.update("dw", op.Float32, make([]float64, 33*64), 33, 64)
		db := l.update("db", op.Float32, make([]float64, 33), 33)
		dw.truth, db.truth = sum(l.dw, l.dw), sum(l.db, l.db)
		l.run(func(s *side) {
			s.LinearBackwardWeights(s.at(dw), s.at(db), s.at(l.x), s.at(l.dy))
			s.LinearBackwardWeights(s.at(dw), s.at(db), s.at(l.x), s.at(l.dy))
		})
	}}),
	"L2Normalize": {
		{"by hand", func(c *check) {
			k := c.call()
			x := k.in("x", op.Float32, []float64{3, 4, 0, 0, -8, 6, 0, 2}, 4, 2)
			y, norms := k.out("y", op.Float32, 4, 2), k.out("norms", op.Float32, 4)
			y.truth = []float64{0.6, 0.8, 0, 0, -0.8, 0.6, 0, 1}
			norms.truth = []float64{5, 1e-12, 10, 2} // a zero row stays zero
			k.run(func(s *side) { s.L2Normalize(s.at(y), s.at(norms), s.at(x)) })
		}},
		{"real numbers", func(c *check) {
			for _, shape := range [][2]int{{1, 1}, {3, 17}, {65, 128}, {400, 33}} {
				k := c.call()
				x := k.in("x", op.Float32, c.normal(shape[0]*shape[1]), shape[0], shape[1])
				y, norms := k.out("y", op.Float32, shape[0], shape[1]), k.out("norms", op.Float32, shape[0])
				k.run(func(s *side) { s.L2Normalize(s.at(y), s.at(norms), s.at(x)) })
			}
		}},
	},
	"L2NormalizeBackward": {
		{"real numbers", func(c *check) {
			for _, shape := range [][2]int{{1, 1}, {3, 17}, {65, 128}, {400, 33}} {
				k := c.call()
				y := k.in("y", op.Float32, c.normal(shape[0]*shape[1]), shape[0], shape[1])
				dy := k.in("dy", op.Float32, c.normal(shape[0]*shape[1]), shape[0], shape[1])
				norms := k.in("norms", op.Float32, c.momentsFor(shape[0])[shape[0]:], shape[0])
				dx := k.out("dx", op.Float32, shape[0], shape[1])
				dx.scale = math.Sqrt(float64(shape[1]))
				k.run(func(s *side) { s.L2NormalizeBackward(s.at(dx), s.at(dy), s.at(y), s.at(norms)) })
			}
		}},
		{"finite differences", func(c *check) {
			const rows, cols = 5, 17
			weights := round(op.Float32, c.normal(rows*cols))
			pass := func(v []float64, backward bool) (loss float64, gradient []float64) {
				k := c.call()
				x, dy := k.in("x", op.Float32, v, rows, cols), k.in("dy", op.Float32, weights, rows, cols)
				y, norms, dx := k.out("y", op.Float32, rows, cols), k.out("norms", op.Float32, rows), k.out("dx", op.Float32, rows, cols)
				k.alone(func(s *side) {
					s.L2Normalize(s.at(y), s.at(norms), s.at(x))
					if backward {
						s.L2NormalizeBackward(s.at(dx), s.at(dy), s.at(y), s.at(norms))
					}
				})
				return dot(y.got, weights), dx.got
			}
			x := c.normal(rows * cols)
			_, gradient := pass(x, true)
			c.slope("x", x, gradient, func(v []float64) float64 {
				loss, _ := pass(v, false)
				return loss
			})
		}},
	},
	"NormalizeRows": {
		{"by hand", func(c *check) {
			k := c.call()
			w := k.update("w", op.Float32, []float64{3, -4, 0, 0, 0, 0, 0, 0, -2}, 3, 3)
			w.truth = []float64{0.6, -0.8, 0, 0, 0, 0, 0, 0, -1}
			k.run(func(s *side) { s.NormalizeRows(s.at(w)) })
		}},
		{"real numbers", func(c *check) {
			for _, shape := range [][2]int{{1, 1}, {3, 17}, {65, 128}, {400, 33}} {
				k := c.call()
				w := k.update("w", op.Float32, c.normal(shape[0]*shape[1]), shape[0], shape[1])
				k.run(func(s *side) { s.NormalizeRows(s.at(w)) })
			}
		}},
	},
}

// result is a float32 output.
func (l *linearCall) result(name string, shape ...int) *operand {
	return l.out(name, op.Float32, shape...)
}

func sum(a, b []float64) []float64 {
	y := make([]float64, len(a))
	for i := range a {
		y[i] = a[i] + b[i]
	}
	return y
}
