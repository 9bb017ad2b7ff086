package optest

import (
	"fmt"
	"math"

	"swav/op"
)

// planes are activation shapes: odd channels, one row, images of one pixel, and
// enough rows for several threads.
var planes = [][]int{{4, 1}, {2, 3}, {1, 1, 1, 3}, {2, 3, 3, 5}, {65, 17}, {130, 16}, {2, 9, 7, 33}, {300, 8}, {3000, 19}}

func channels(shape []int) int { return shape[len(shape)-1] }

func rows(shape []int) int { return product(shape...) / channels(shape) }

// momentsFor are plausible means and inverse standard deviations.
func (c *check) momentsFor(channels int) []float64 {
	m := c.normal(2 * channels)
	for i := channels; i < 2*channels; i++ {
		m[i] = 0.5 + math.Abs(m[i])
	}
	return m
}

var batchNormExamples = map[string][]example{
	"BatchNormSums": {
		{"integers", func(c *check) {
			for _, shape := range planes {
				for _, d := range c.precisions() {
					k := c.call()
					x := k.in("x", d, c.ints(product(shape...), -8, 9), shape...)
					n := channels(shape)
					sums := k.out("sums", op.Float64, 2, n)
					sums.truth = make([]float64, 2*n)
					for i, v := range x.init {
						sums.truth[i%n] += v
						sums.truth[n+i%n] += v * v
					}
					k.run(func(s *side) { s.BatchNormSums(s.at(sums), s.at(x)) })
				}
			}
		}},
		{"real numbers", func(c *check) {
			for _, shape := range planes {
				for _, d := range c.precisions() {
					k := c.call()
					x := k.in("x", d, c.normal(product(shape...)), shape...)
					sums := k.out("sums", op.Float64, 2, channels(shape))
					k.run(func(s *side) { s.BatchNormSums(s.at(sums), s.at(x)) })
				}
			}
		}},
	},
	"BatchNormMoments": {
		{"by hand", func(c *check) {
			k := c.call()
			// Channel 0 holds 1, 3, 1, 3; channel 1 holds -6, -6, -6, -6. With
			// eps 3 the deviations are 2 and sqrt(3).
			sums := k.in("sums", op.Float64, []float64{8, -24, 20, 144}, 2, 2)
			moments := k.out("moments", op.Float32, 2, 2)
			mean := k.update("running mean", op.Float32, []float64{4, 0}, 2)
			variance := k.update("running variance", op.Float32, []float64{1, 1}, 2)
			moments.truth = []float64{2, -6, 0.5, 1 / math.Sqrt(3)}
			mean.truth = []float64{3.5, -1.5}
			variance.truth = []float64{0.75 + 0.25*4/3, 0.75} // unbiased: 4/3
			k.run(func(s *side) {
				s.BatchNormMoments(s.at(moments), s.at(mean), s.at(variance), s.at(sums), 4, 3, 0.25)
			})
		}},
		{"one row", func(c *check) {
			k := c.call()
			sums := k.in("sums", op.Float64, []float64{8, 64}, 2, 1)
			moments := k.out("moments", op.Float32, 2, 1)
			mean := k.update("running mean", op.Float32, []float64{4}, 1)
			variance := k.update("running variance", op.Float32, []float64{1}, 1)
			moments.truth, mean.truth, variance.truth = []float64{8, 2}, []float64{6}, []float64{0.5}
			k.run(func(s *side) {
				s.BatchNormMoments(s.at(moments), s.at(mean), s.at(variance), s.at(sums), 1, 0.25, 0.5)
			})
		}},
		{"real numbers", func(c *check) {
			for _, n := range []int{1, 3, 17, 64} {
				k := c.call()
				x := k.in("x", op.Float32, c.normal(50*n), 50, n)
				sums := k.out("sums", op.Float64, 2, n)
				sums.scale = 1
				moments := k.out("moments", op.Float32, 2, n)
				mean := k.update("running mean", op.Float32, c.normal(n), n)
				variance := k.update("running variance", op.Float32, c.normal(n), n)
				k.run(func(s *side) {
					s.BatchNormSums(s.at(sums), s.at(x))
					s.BatchNormMoments(s.at(moments), s.at(mean), s.at(variance), s.at(sums), 50, 1e-5, 0.1)
				})
			}
		}},
		// The variance of 100 +- 0.01 is a difference of sums that agree in
		// eight digits: sums kept in float32 lose it.
		{"large mean", func(c *check) {
			for _, rows := range []int{64, 5000} {
				k := c.call()
				x := make([]float64, 3*rows)
				for i, v := range c.normal(len(x)) {
					x[i] = 100 + 0.01*v
				}
				xo := k.in("x", op.Float32, x, rows, 3)
				sums := k.out("sums", op.Float64, 2, 3)
				moments := k.out("moments", op.Float32, 2, 3)
				mean := k.update("running mean", op.Float32, c.normal(3), 3)
				variance := k.update("running variance", op.Float32, c.normal(3), 3)
				k.alone(func(s *side) {
					s.BatchNormSums(s.at(sums), s.at(xo))
					s.BatchNormMoments(s.at(moments), s.at(mean), s.at(variance), s.at(sums), rows, 1e-8, 0.1)
				})
				for ch := range 3 {
					var m, v float64
					for i := ch; i < len(x); i += 3 {
						m += xo.init[i] / float64(rows)
					}
					for i := ch; i < len(x); i += 3 {
						v += (xo.init[i] - m) * (xo.init[i] - m) / float64(rows)
					}
					if want := 1 / math.Sqrt(v+1e-8); !(math.Abs(moments.got[3+ch]/want-1) < 1e-3) {
						c.errorf("%d rows, channel %d: 1/deviation is %v, want %v", rows, ch, moments.got[3+ch], want)
					}
				}
			}
		}},
		{"constant channel", func(c *check) {
			for _, d := range c.precisions() {
				k := c.call()
				x := make([]float64, 301)
				for i := range x {
					x[i] = 0.3
				}
				xo := k.in("x", d, x, 301, 1)
				sums := k.out("sums", op.Float64, 2, 1)
				moments := k.out("moments", d.Statistics(), 2, 1)
				mean := k.update("running mean", op.Float32, []float64{0}, 1)
				variance := k.update("running variance", op.Float32, []float64{1}, 1)
				k.alone(func(s *side) {
					s.BatchNormSums(s.at(sums), s.at(xo))
					s.BatchNormMoments(s.at(moments), s.at(mean), s.at(variance), s.at(sums), 301, 1e-5, 0.1)
				})
				if want := 1 / math.Sqrt(1e-5); !(math.Abs(moments.got[1]/want-1) < 0.02) {
					c.errorf("%v: 1/deviation of a constant is %v, want %v", d, moments.got[1], want)
				}
			}
		}},
	},
	"BatchNormRunning": {
		{"by hand", func(c *check) {
			k := c.call()
			mean := k.in("running mean", op.Float32, []float64{4, -1, 0}, 3)
			variance := k.in("running variance", op.Float32, []float64{3, 15, 0}, 3)
			moments := k.out("moments", op.Float32, 2, 3)
			moments.truth = []float64{4, -1, 0, 0.5, 0.25, 1}
			k.run(func(s *side) { s.BatchNormRunning(s.at(moments), s.at(mean), s.at(variance), 1) })
		}},
		{"real numbers", func(c *check) {
			for _, n := range []int{1, 17, 300} {
				k := c.call()
				mean := k.in("running mean", op.Float32, c.normal(n), n)
				variance := k.in("running variance", op.Float32, c.momentsFor(n)[n:], n)
				moments := k.out("moments", op.Float32, 2, n)
				k.run(func(s *side) { s.BatchNormRunning(s.at(moments), s.at(mean), s.at(variance), 1e-5) })
			}
		}},
	},
	"BatchNormApply": {
		{"by hand", func(c *check) {
			for _, d := range c.precisions() {
				for _, relu := range []bool{false, true} {
					k := c.call()
					x := k.in("x", d, []float64{1, 2, 3, 6}, 2, 2)
					residual := k.in("residual", d, []float64{-2, 0, 3, -1}, 2, 2)
					moments := k.in("moments", d.Statistics(), []float64{2, 4, 2, 0.5}, 2, 2)
					gamma := k.in("gamma", op.Float32, []float64{3, -2}, 2)
					beta := k.in("beta", op.Float32, []float64{1, 0}, 2)
					y := k.out("y", d, 2, 2)
					y.truth = []float64{-7, 2, 10, -3} // -5-2, 2+0, 7+3, -2-1
					if relu {
						y.truth = []float64{0, 2, 10, 0}
					}
					k.run(func(s *side) {
						s.BatchNormApply(s.at(y), s.at(x), s.at(moments), s.at(gamma), s.at(beta), s.at(residual), relu)
					})
				}
			}
		}},
		{"every combination", func(c *check) {
			for _, shape := range planes {
				for _, d := range c.precisions() {
					for _, relu := range []bool{false, true} {
						for _, place := range []string{"apart", "over x", "residual", "over x, residual", "over residual"} {
							c.apply(shape, d, relu, place)
						}
					}
				}
			}
		}},
		{"NaN", func(c *check) {
			for _, d := range c.precisions() {
				for _, n := range []int{1, 16, 33} {
					k := c.call()
					x := k.in("x", d, c.normal(3*n), 3, n)
					x.init[n] = math.NaN()
					moments := k.in("moments", d.Statistics(), c.momentsFor(n), 2, n)
					gamma, beta := k.in("gamma", op.Float32, c.normal(n), n), k.in("beta", op.Float32, c.normal(n), n)
					y := k.out("y", d, 3, n)
					y.nan, y.scale = true, 1
					k.run(func(s *side) {
						s.BatchNormApply(s.at(y), s.at(x), s.at(moments), s.at(gamma), s.at(beta), op.Tensor{}, true)
					})
				}
			}
		}},
	},
}

func (c *check) apply(shape []int, d op.DType, relu bool, place string) {
	k := c.call()
	n := channels(shape)
	x := k.in("x", d, c.normal(product(shape...)), shape...)
	moments := k.in("moments", d.Statistics(), c.momentsFor(n), 2, n)
	gamma, beta := k.in("gamma", op.Float32, c.normal(n), n), k.in("beta", op.Float32, c.normal(n), n)
	var residual *operand
	if place != "apart" && place != "over x" {
		residual = k.in("residual", d, c.normal(product(shape...)), shape...)
	}
	var y *operand
	switch place {
	case "over x", "over x, residual":
		y = k.outOver("y over x", x)
	case "over residual":
		y = k.outOver("y over residual", residual)
	default:
		y = k.out("y", d, shape...)
	}
	y.scale = 3
	k.run(func(s *side) {
		s.BatchNormApply(s.at(y), s.at(x), s.at(moments), s.at(gamma), s.at(beta), s.at(residual), relu)
	})
}

// gradientCall is a batch norm's backward pass with random operands.
type gradientCall struct {
	*call
	x, dy, dy2, y, moments, gamma *operand
	sums, dgamma, dbeta           *operand
	relu                          bool
	count                         int
}

func (c *check) gradientCall(shape []int, d op.DType, two, relu, integers bool) *gradientCall {
	k := c.call()
	n, total := channels(shape), product(shape...)
	draw := func(n int) []float64 {
		if integers {
			return c.ints(n, -4, 4)
		}
		return c.normal(n)
	}
	g := &gradientCall{call: k, relu: relu, count: rows(shape)}
	g.x, g.dy = k.in("x", d, draw(total), shape...), k.in("dy", d, draw(total), shape...)
	if two {
		g.dy2 = k.in("dy2", d, draw(total), shape...)
	}
	if relu {
		y := c.ints(total, -1, 2) // a ReLU's output, and what is not one
		for i := range y {
			y[i] *= 0.5
		}
		g.y = k.in("y", d, y, shape...)
	}
	moments := c.momentsFor(n)
	if integers {
		for i := range n {
			moments[i], moments[n+i] = float64(i%3), []float64{1, 2, 0.5}[i%3]
		}
	}
	g.moments = k.in("moments", d.Statistics(), moments, 2, n)
	g.gamma = k.in("gamma", op.Float32, draw(n), n)
	return g
}

// g is dy + dy2 behind the ReLU, as the contract has it.
func (g *gradientCall) g(i int) float64 {
	if g.relu && g.y.init[i] <= 0 {
		return 0
	}
	v := g.dy.init[i]
	if g.dy2 != nil {
		v += g.dy2.init[i]
	}
	return v
}

// everyGradient runs f for all shapes, precisions and optional operands.
func everyGradient(integers bool, f func(c *check, g *gradientCall, shape []int, d op.DType)) func(c *check) {
	return func(c *check) {
		for _, shape := range planes {
			for _, d := range c.precisions() {
				for _, two := range []bool{false, true} {
					for _, relu := range []bool{false, true} {
						f(c, c.gradientCall(shape, d, two, relu, integers), shape, d)
					}
				}
			}
		}
	}
}

func runBackwardSums(c *check, g *gradientCall, shape []int, integers bool) {
	n := channels(shape)
	g.sums = g.out("sums", op.Float64, 2, n)
	g.dgamma = g.update("dgamma", op.Float32, c.ints(n, -5, 5), n)
	g.dbeta = g.update("dbeta", op.Float32, c.ints(n, -5, 5), n)
	for _, o := range []*operand{g.sums, g.dgamma, g.dbeta} {
		o.scale = 3 * math.Sqrt(float64(g.count))
	}
	if integers {
		g.sums.truth = make([]float64, 2*n)
		m := g.moments.init
		for i, x := range g.x.init {
			g.sums.truth[i%n] += g.g(i)
			g.sums.truth[n+i%n] += g.g(i) * (x - m[i%n]) * m[n+i%n]
		}
		g.dbeta.truth, g.dgamma.truth = append([]float64(nil), g.dbeta.init...), append([]float64(nil), g.dgamma.init...)
		for i := range n {
			g.dbeta.truth[i] += g.sums.truth[i]
			g.dgamma.truth[i] += g.sums.truth[n+i]
		}
	}
	g.run(func(s *side) {
		s.BatchNormBackwardSums(s.at(g.sums), s.at(g.dgamma), s.at(g.dbeta), s.at(g.dy), s.at(g.dy2), s.at(g.y), s.at(g.x), s.at(g.moments), g.relu)
	})
}

// placements are where BatchNormBackward's outputs may lie.
var placements = []struct{ dx, dresidual string }{
	{"apart", ""}, {"apart", "apart"}, {"dy", ""}, {"dy2", ""}, {"dy", "apart"}, {"apart", "dy"},
	{"dy", "dy2"}, {"dy2", "dy"}, {"apart", "dy2"}, {"dy2", "apart"},
}

func runBackward(c *check, g *gradientCall, shape []int, d op.DType, dx, dresidual string) {
	n := channels(shape)
	g.sums = g.in("sums", op.Float64, c.normal(2*n), 2, n)
	for i := range g.sums.init {
		g.sums.init[i] = float64(float32(g.sums.init[i] * math.Sqrt(float64(g.count))))
	}
	place := func(name, where string) *operand {
		switch where {
		case "dy":
			return g.outOver(name, g.dy)
		case "dy2":
			return g.outOver(name, g.dy2)
		case "apart":
			return g.out(name, d, shape...)
		}
		return nil
	}
	dxo, dro := place("dx", dx), place("dresidual", dresidual)
	dxo.scale = 3
	g.run(func(s *side) {
		s.BatchNormBackward(s.at(dxo), s.at(dro), s.at(g.dy), s.at(g.dy2), s.at(g.y), s.at(g.x), s.at(g.moments), s.at(g.gamma), s.at(g.sums), g.count, g.relu)
	})
}

var batchNormBackwardExamples = map[string][]example{
	"BatchNormBackwardSums": {
		{"integers", everyGradient(true, func(c *check, g *gradientCall, shape []int, d op.DType) {
			runBackwardSums(c, g, shape, true)
		})},
		{"real numbers", everyGradient(false, func(c *check, g *gradientCall, shape []int, d op.DType) {
			runBackwardSums(c, g, shape, false)
		})},
		{"finite differences of gamma and beta", func(c *check) {
			for _, relu := range []bool{false, true} {
				n := newNormProblem(c, 24, 5, relu)
				c.slope(fmt.Sprintf("gamma, relu %v", relu), n.gamma, n.dgamma, func(v []float64) float64 { return n.loss(n.x, v, n.beta, n.residual) })
				c.slope(fmt.Sprintf("beta, relu %v", relu), n.beta, n.dbeta, func(v []float64) float64 { return n.loss(n.x, n.gamma, v, n.residual) })
			}
		}},
	},
	"BatchNormBackward": {
		{"every combination", func(c *check) {
			for _, shape := range planes {
				for _, d := range c.precisions() {
					for _, relu := range []bool{false, true} {
						for _, p := range placements {
							two := p.dx == "dy2" || p.dresidual == "dy2" || relu
							runBackward(c, c.gradientCall(shape, d, two, relu, false), shape, d, p.dx, p.dresidual)
						}
					}
				}
			}
		}},
		{"one gradient", func(c *check) {
			for _, d := range c.precisions() {
				runBackward(c, c.gradientCall([]int{65, 17}, d, false, true, false), []int{65, 17}, d, "dy", "apart")
			}
		}},
		{"by hand", func(c *check) {
			for _, d := range c.precisions() {
				k := c.call()
				x := k.in("x", d, []float64{1, 3}, 2, 1) // xhat -1 and 1
				dy := k.in("dy", d, []float64{2, 6}, 2, 1)
				moments := k.in("moments", d.Statistics(), []float64{2, 1}, 2, 1)
				gamma := k.in("gamma", op.Float32, []float64{2}, 1)
				sums := k.in("sums", op.Float64, []float64{16, 4}, 2, 1) // over two ranks
				dx := k.out("dx", d, 2, 1)
				dx.truth = []float64{2 * (2 - 4 + 1), 2 * (6 - 4 - 1)}
				k.run(func(s *side) {
					s.BatchNormBackward(s.at(dx), op.Tensor{}, s.at(dy), op.Tensor{}, op.Tensor{}, s.at(x), s.at(moments), s.at(gamma), s.at(sums), 4, false)
				})
			}
		}},
		{"finite differences of x and residual", func(c *check) {
			for _, relu := range []bool{false, true} {
				n := newNormProblem(c, 24, 5, relu)
				c.slope(fmt.Sprintf("x, relu %v", relu), n.x, n.dx, func(v []float64) float64 { return n.loss(v, n.gamma, n.beta, n.residual) })
				c.slope(fmt.Sprintf("residual, relu %v", relu), n.residual, n.dresidual, func(v []float64) float64 { return n.loss(n.x, n.gamma, n.beta, v) })
			}
		}},
	},
}

// normProblem is <weights, batchnorm(x)>, with its gradients from the backend
// under test.
type normProblem struct {
	c                                    *check
	rows, channels                       int
	relu                                 bool
	x, gamma, beta, residual, weights    []float64
	dx, dgamma, dbeta, dresidual, output []float64
}

func newNormProblem(c *check, rows, channels int, relu bool) *normProblem {
	n := &normProblem{c: c, rows: rows, channels: channels, relu: relu}
	n.x, n.residual, n.weights = c.normal(rows*channels), c.normal(rows*channels), round(op.Float32, c.normal(rows*channels))
	n.gamma, n.beta = c.momentsFor(channels)[channels:], c.normal(channels)
	n.pass(n.x, n.gamma, n.beta, n.residual, true)
	return n
}

func (n *normProblem) loss(x, gamma, beta, residual []float64) float64 {
	n.pass(x, gamma, beta, residual, false)
	return dot(n.output, n.weights)
}

func (n *normProblem) pass(xv, gammav, betav, residualv []float64, backward bool) {
	k := n.c.call()
	r, ch := n.rows, n.channels
	x, residual := k.in("x", op.Float32, xv, r, ch), k.in("residual", op.Float32, residualv, r, ch)
	gamma, beta := k.in("gamma", op.Float32, gammav, ch), k.in("beta", op.Float32, betav, ch)
	dy := k.in("dy", op.Float32, n.weights, r, ch)
	zeros := make([]float64, ch)
	mean, variance := k.update("running mean", op.Float32, zeros, ch), k.update("running variance", op.Float32, zeros, ch)
	dgamma, dbeta := k.update("dgamma", op.Float32, zeros, ch), k.update("dbeta", op.Float32, zeros, ch)
	sums, moments := k.out("sums", op.Float64, 2, ch), k.out("moments", op.Float32, 2, ch)
	y, dx, dresidual := k.out("y", op.Float32, r, ch), k.out("dx", op.Float32, r, ch), k.out("dresidual", op.Float32, r, ch)
	k.alone(func(s *side) {
		s.BatchNormSums(s.at(sums), s.at(x))
		s.BatchNormMoments(s.at(moments), s.at(mean), s.at(variance), s.at(sums), r, 1e-5, 0.1)
		s.BatchNormApply(s.at(y), s.at(x), s.at(moments), s.at(gamma), s.at(beta), s.at(residual), n.relu)
		if backward {
			s.BatchNormBackwardSums(s.at(sums), s.at(dgamma), s.at(dbeta), s.at(dy), op.Tensor{}, s.at(y), s.at(x), s.at(moments), n.relu)
			s.BatchNormBackward(s.at(dx), s.at(dresidual), s.at(dy), op.Tensor{}, s.at(y), s.at(x), s.at(moments), s.at(gamma), s.at(sums), r, n.relu)
		}
	})
	n.output = y.got
	if backward {
		n.dx, n.dgamma, n.dbeta, n.dresidual = dx.got, dgamma.got, dbeta.got, dresidual.got
	}
}
