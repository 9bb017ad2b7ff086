package optest

import (
	"math"

	"swav/op"
)

// geometries are the convolutions of the ResNets, shrunk, and odd ones.
var geometries = []op.ConvParams{
	{Batch: 1, Height: 1, Width: 1, In: 1, Out: 1, Kernel: 1, Stride: 1},
	{Batch: 1, Height: 1, Width: 1, In: 3, Out: 17, Kernel: 3, Stride: 1, Pad: 1},
	{Batch: 2, Height: 5, Width: 4, In: 1, Out: 3, Kernel: 3, Stride: 1, Pad: 1},
	{Batch: 1, Height: 7, Width: 7, In: 3, Out: 8, Kernel: 7, Stride: 2, Pad: 3},
	{Batch: 2, Height: 9, Width: 12, In: 3, Out: 16, Kernel: 7, Stride: 2, Pad: 3},
	{Batch: 1, Height: 6, Width: 6, In: 17, Out: 5, Kernel: 1, Stride: 2},
	{Batch: 3, Height: 4, Width: 4, In: 16, Out: 32, Kernel: 1, Stride: 1},
	{Batch: 1, Height: 8, Width: 8, In: 16, Out: 16, Kernel: 3, Stride: 2, Pad: 1},
	{Batch: 2, Height: 3, Width: 5, In: 17, Out: 17, Kernel: 3, Stride: 2, Pad: 1},
	{Batch: 1, Height: 4, Width: 6, In: 64, Out: 1, Kernel: 3, Stride: 1},
	{Batch: 5, Height: 2, Width: 2, In: 8, Out: 24, Kernel: 1, Stride: 2},
	{Batch: 1, Height: 11, Width: 9, In: 2, Out: 4, Kernel: 7, Stride: 1},
	{Batch: 2, Height: 6, Width: 7, In: 4, Out: 12, Kernel: 3, Stride: 1, Pad: 2},
	{Batch: 4, Height: 8, Width: 8, In: 32, Out: 32, Kernel: 3, Stride: 1, Pad: 1},
	{Batch: 3, Height: 3, Width: 3, In: 33, Out: 50, Kernel: 3, Stride: 1, Pad: 1},
	{Batch: 2, Height: 19, Width: 21, In: 24, Out: 72, Kernel: 1, Stride: 1}, // more pixels than kernels take at a time
	{Batch: 3, Height: 17, Width: 13, In: 20, Out: 40, Kernel: 3, Stride: 2, Pad: 1},
	// What fast algorithms are for: whole tiles, cut tiles, more tiles than are transformed at a time, widths that fill no block.
	{Batch: 3, Height: 3, Width: 3, In: 32, Out: 48, Kernel: 3, Stride: 1, Pad: 1},
	{Batch: 2, Height: 7, Width: 9, In: 48, Out: 80, Kernel: 3, Stride: 1, Pad: 1},
	{Batch: 5, Height: 22, Width: 19, In: 32, Out: 32, Kernel: 3, Stride: 1, Pad: 1},
}

// fast tells whether there are fast algorithms for a convolution.
func fast(p op.ConvParams) bool { return p.Kernel == 3 && p.Stride == 1 && !p.Direct }

// naive is a convolution and its gradients as seven nested loops: the truth
// that shares nothing with op/ref.
func naive(p op.ConvParams, x, w, dy []float64) (y, dx, dw []float64) {
	oh, ow := p.OutHeight(), p.OutWidth()
	y, dx, dw = make([]float64, p.Batch*oh*ow*p.Out), make([]float64, len(x)), make([]float64, len(w))
	for n := range p.Batch {
		for i := range oh {
			for j := range ow {
				for o := range p.Out {
					at := ((n*oh+i)*ow+j)*p.Out + o
					for r := range p.Kernel {
						for s := range p.Kernel {
							h, v := i*p.Stride+r-p.Pad, j*p.Stride+s-p.Pad
							if h < 0 || h >= p.Height || v < 0 || v >= p.Width {
								continue
							}
							for c := range p.In {
								xi := ((n*p.Height+h)*p.Width+v)*p.In + c
								wi := ((o*p.In+c)*p.Kernel+r)*p.Kernel + s
								y[at] += x[xi] * w[wi]
								dx[xi] += dy[at] * w[wi]
								dw[wi] += dy[at] * x[xi]
							}
						}
					}
				}
			}
		}
	}
	return y, dx, dw
}

// convCall holds one convolution's operands; integers are so small that every
// sum is exact in bfloat16.
type convCall struct {
	*call
	p                   op.ConvParams
	x, w, y, dx, dy, dw *operand
}

func (c *check) convCall(p op.ConvParams, d op.DType, integers bool) *convCall {
	p.DType = d
	draw := func(n int) []float64 {
		if integers {
			return c.ints(n, -1, 1)
		}
		return c.normal(n)
	}
	k := c.call()
	v := &convCall{call: k, p: p}
	in, out := []int{p.Batch, p.Height, p.Width, p.In}, []int{p.Batch, p.OutHeight(), p.OutWidth(), p.Out}
	weights := []int{p.Out, p.In, p.Kernel, p.Kernel}
	v.x = k.in("x", d, draw(product(in...)), in...)
	v.w = k.in("w", op.Float32, draw(product(weights...)), weights...)
	v.dy = k.in("dy", d, draw(product(out...)), out...)
	v.y = k.out("y", d, out...)
	v.dx = k.out("dx", d, in...)
	v.dw = k.update("dw", op.Float32, draw(product(weights...)), weights...)
	taps := p.Kernel * p.Kernel
	v.y.scale = math.Sqrt(float64(taps * p.In))
	v.dx.scale = math.Sqrt(float64(taps * p.Out))
	v.dw.scale = math.Sqrt(float64(p.Batch * p.OutHeight() * p.OutWidth()))
	if fast(p) {
		for _, o := range []*operand{v.y, v.dx, v.dw} {
			o.loose = fastBound(d)
		}
	}
	if integers {
		y, dx, dw := naive(p, v.x.init, v.w.init, v.dy.init)
		for i, x := range v.dw.init {
			dw[i] += x
		}
		v.y.truth, v.dx.truth, v.dw.truth = y, dx, dw
	}
	return v
}

// only keeps the output that f fills; the others would be checked as well.
func (v *convCall) only(out *operand, f func(s *side, c op.Conv)) {
	var rest []*operand
	for _, o := range v.operands {
		if o.role == input || o == out {
			rest = append(rest, o)
		}
	}
	v.operands = rest
	v.run(func(s *side) {
		c := s.conv(v.p)
		defer c.Close()
		c.SetWeights(s.at(v.w))
		f(s, c)
	})
}

// foldedCall holds the operands of a convolution with a batch norm folded in.
type foldedCall struct {
	*call
	p                                              op.ConvParams
	x, w, gamma, beta, mean, variance, residual, y *operand
}

// foldedCall draws operands; place tells where the residual is: "" for nowhere.
func (c *check) foldedCall(p op.ConvParams, d op.DType, place string, relu bool) *foldedCall {
	p.DType, p.Inference, p.Folded, p.Residual, p.ReLU = d, true, true, place != "", relu
	k := c.call()
	f := &foldedCall{call: k, p: p}
	in, out := []int{p.Batch, p.Height, p.Width, p.In}, []int{p.Batch, p.OutHeight(), p.OutWidth(), p.Out}
	f.x = k.in("x", d, c.normal(product(in...)), in...)
	f.w = k.in("w", op.Float32, c.normal(p.Out*p.In*p.Kernel*p.Kernel), p.Out, p.In, p.Kernel, p.Kernel)
	f.gamma, f.beta = k.in("gamma", op.Float32, c.normal(p.Out), p.Out), k.in("beta", op.Float32, c.normal(p.Out), p.Out)
	f.mean, f.variance = k.in("mean", op.Float32, c.normal(p.Out), p.Out), k.in("variance", op.Float32, c.momentsFor(p.Out)[p.Out:], p.Out)
	if p.Residual {
		f.residual = k.in("residual", d, c.normal(product(out...)), out...)
	}
	if place == "over residual" {
		f.y = k.outOver("y over residual", f.residual)
	} else {
		f.y = k.out("y", d, out...)
	}
	f.y.scale = 2 * math.Sqrt(float64(p.Kernel*p.Kernel*p.In))
	if fast(p) {
		f.y.loose = fastBound(d)
	}
	return f
}

func (f *foldedCall) folded(s *side) {
	conv := s.conv(f.p)
	defer conv.Close()
	conv.SetFolded(s.at(f.w), s.at(f.gamma), s.at(f.beta), s.at(f.mean), s.at(f.variance), 1)
	conv.ForwardFolded(s.at(f.y), s.at(f.x), s.at(f.residual))
}

// everyConv runs f for all geometries and precisions, on integers and on real
// numbers, by plain products too where there are fast algorithms.
func everyConv(f func(v *convCall)) []example {
	each := func(integers bool) func(c *check) {
		return func(c *check) {
			for _, p := range geometries {
				for _, d := range c.precisions() {
					f(c.convCall(p, d, integers))
					if fast(p) {
						p := p
						p.Direct = true
						f(c.convCall(p, d, integers))
					}
				}
			}
		}
	}
	return []example{{"integers against naive loops", each(true)}, {"real numbers", each(false)}}
}

var convExamples = map[string][]example{
	"NewConv": {
		{"refuses what makes no sense", func(c *check) {
			good := geometries[3]
			for name, change := range map[string]func(p *op.ConvParams){
				"no images":    func(p *op.ConvParams) { p.Batch = 0 },
				"no channels":  func(p *op.ConvParams) { p.In = 0 },
				"no stride":    func(p *op.ConvParams) { p.Stride = 0 },
				"does not fit": func(p *op.ConvParams) { p.Pad, p.Kernel = 0, 8 },
				"a wrong type": func(p *op.ConvParams) { p.DType = op.Uint8 },
			} {
				p := good
				change(&p)
				if v, err := c.b.NewConv(p); err == nil {
					v.Close()
					c.errorf("%s: %+v is accepted", name, p)
				}
			}
			if err := c.b.Sync(); err != nil {
				c.errorf("a refused convolution is a failure of Sync too: %v", err)
			}
		}},
		{"inference", func(c *check) {
			for _, d := range c.precisions() {
				v := c.convCall(geometries[4], d, true)
				v.p.Inference = true
				v.only(v.y, func(s *side, conv op.Conv) { conv.Forward(s.at(v.y), s.at(v.x)) })
			}
		}},
		{"first layer", func(c *check) {
			for _, d := range c.precisions() {
				v := c.convCall(geometries[4], d, true)
				v.p.NoBackwardData = true
				v.only(v.dw, func(s *side, conv op.Conv) { conv.BackwardWeights(s.at(v.dw), s.at(v.x), s.at(v.dy)) })
			}
		}},
	},
	"Conv.SetWeights": {
		{"every change counts", func(c *check) {
			for _, p := range geometries {
				for _, d := range c.precisions() {
					v := c.convCall(p, d, true)
					old := v.in("old w", op.Float32, c.ints(len(v.w.init), -1, 1), v.w.shape...)
					v.operands = without(v.operands, v.dw)
					v.run(func(s *side) {
						conv := s.conv(v.p)
						defer conv.Close()
						for _, w := range []*operand{old, v.w} {
							conv.SetWeights(s.at(w))
							conv.Forward(s.at(v.y), s.at(v.x))
							conv.BackwardData(s.at(v.dx), s.at(v.dy))
						}
					})
				}
			}
		}},
		// The optimizer may already have changed w when the gradient of another
		// crop group is computed with the packed weights.
		{"w is not read later", func(c *check) {
			for _, d := range c.precisions() {
				v := c.convCall(geometries[8], d, true)
				spare := v.update("spare w", op.Float32, v.w.init, v.w.shape...)
				spare.truth = make([]float64, len(spare.init))
				v.operands = without(v.operands, v.dw)
				v.run(func(s *side) {
					conv := s.conv(v.p)
					defer conv.Close()
					conv.SetWeights(s.at(spare))
					s.Zero(s.at(spare))
					conv.Forward(s.at(v.y), s.at(v.x))
					conv.BackwardData(s.at(v.dx), s.at(v.dy))
				})
			}
		}},
	},
	"Conv.ShareWeights": {{"for images of another size", func(c *check) {
		for _, p := range geometries {
			for _, d := range c.precisions() {
				for _, direct := range []bool{false, true} { // by the same algorithm and by another
					v := c.convCall(p, d, true)
					v.operands = without(v.operands, v.dw)
					larger := v.p
					larger.Batch, larger.Height, larger.Width, larger.Direct = p.Batch+1, p.Height+5, p.Width+3, direct
					v.run(func(s *side) {
						from, conv := s.conv(larger), s.conv(v.p)
						defer from.Close()
						defer conv.Close()
						conv.ShareWeights(from)
						from.SetWeights(s.at(v.w))
						conv.Forward(s.at(v.y), s.at(v.x))
						conv.BackwardData(s.at(v.dx), s.at(v.dy))
					})
				}
			}
		}
	}}},
	"Conv.Forward": append(everyConv(func(v *convCall) {
		v.only(v.y, func(s *side, conv op.Conv) { conv.Forward(s.at(v.y), s.at(v.x)) })
	}), example{"NaN", func(c *check) {
		for _, d := range c.precisions() {
			v := c.convCall(geometries[2], d, false)
			v.x.init[7] = math.NaN()
			v.y.nan, v.y.taint = true, true // zeros may stand for padding in its products
			v.only(v.y, func(s *side, conv op.Conv) { conv.Forward(s.at(v.y), s.at(v.x)) })
		}
	}}),
	"Conv.SetFolded": {{"every change counts", func(c *check) {
		for _, d := range c.precisions() {
			f := c.foldedCall(geometries[8], d, "", true)
			old := f.in("old w", op.Float32, c.ints(len(f.w.init), -1, 1), f.w.shape...)
			f.run(func(s *side) {
				conv := s.conv(f.p)
				defer conv.Close()
				for _, w := range []*operand{old, f.w} {
					conv.SetFolded(s.at(w), s.at(f.gamma), s.at(f.beta), s.at(f.mean), s.at(f.variance), 1)
					conv.ForwardFolded(s.at(f.y), s.at(f.x), op.Tensor{})
				}
			})
		}
	}}},
	"Conv.ForwardFolded": {
		{"every combination", func(c *check) {
			for _, p := range geometries {
				for _, d := range c.precisions() {
					for _, place := range []string{"", "apart", "over residual"} {
						for _, relu := range []bool{false, true} {
							f := c.foldedCall(p, d, place, relu)
							f.run(f.folded)
						}
					}
				}
			}
		}},
		{"is batch norm behind a convolution", func(c *check) {
			for _, p := range geometries {
				f := c.foldedCall(p, op.Float32, "apart", true)
				f.alone(f.folded)
				got := f.y.got
				f.p.Folded, f.p.Residual, f.p.ReLU = false, false, false
				z := f.out("z", op.Float32, f.y.shape...)
				moments := f.out("moments", op.Float32, 2, p.Out)
				f.alone(func(s *side) {
					conv := s.conv(f.p)
					defer conv.Close()
					conv.SetWeights(s.at(f.w))
					conv.Forward(s.at(z), s.at(f.x))
					s.BatchNormRunning(s.at(moments), s.at(f.mean), s.at(f.variance), 1)
					s.BatchNormApply(s.at(f.y), s.at(z), s.at(moments), s.at(f.gamma), s.at(f.beta), s.at(f.residual), true)
				})
				c.compare("y", got, f.y.got, f.y.bound(c.bound()), f.y)
			}
		}},
		{"NaN", func(c *check) {
			f := c.foldedCall(geometries[2], op.Float32, "", false)
			f.x.init[7] = math.NaN()
			f.y.nan, f.y.taint = true, true
			f.run(f.folded)
		}},
	},
	"Conv.BackwardData": append(everyConv(func(v *convCall) {
		v.only(v.dx, func(s *side, conv op.Conv) { conv.BackwardData(s.at(v.dx), s.at(v.dy)) })
	}), example{"adjoint to Forward", func(c *check) {
		for _, p := range geometries {
			v := c.convCall(p, op.Float32, false)
			v.alone(func(s *side) {
				conv := s.conv(v.p)
				defer conv.Close()
				conv.SetWeights(s.at(v.w))
				conv.Forward(s.at(v.y), s.at(v.x))
				conv.BackwardData(s.at(v.dx), s.at(v.dy))
			})
			c.adjoint("<dy, conv(x)> = <dx, x>", v.dy.init, v.y.got, v.dx.got, v.x.init)
		}
	}}),
	"Conv.BackwardWeights": append(everyConv(func(v *convCall) {
		v.only(v.dw, func(s *side, conv op.Conv) { conv.BackwardWeights(s.at(v.dw), s.at(v.x), s.at(v.dy)) })
	}), example{"adjoint to Forward", func(c *check) {
		for _, p := range geometries {
			v := c.convCall(p, op.Float32, false)
			clear(v.dw.init)
			v.alone(func(s *side) {
				conv := s.conv(v.p)
				defer conv.Close()
				conv.SetWeights(s.at(v.w))
				conv.Forward(s.at(v.y), s.at(v.x))
				conv.BackwardWeights(s.at(v.dw), s.at(v.x), s.at(v.dy))
			})
			c.adjoint("<dy, conv(w)> = <dw, w>", v.dy.init, v.y.got, v.dw.got, v.w.init)
		}
	}}, example{"adds twice", func(c *check) {
		for _, d := range c.precisions() {
			v := c.convCall(geometries[7], d, true)
			for i, x := range v.dw.init {
				v.dw.truth[i] = 2*v.dw.truth[i] - x
			}
			v.only(v.dw, func(s *side, conv op.Conv) {
				conv.BackwardWeights(s.at(v.dw), s.at(v.x), s.at(v.dy))
				conv.BackwardWeights(s.at(v.dw), s.at(v.x), s.at(v.dy))
			})
		}
	}}),
	"Conv.Close": {{"leaves the others", func(c *check) {
		for _, d := range c.precisions() {
			v := c.convCall(geometries[4], d, true)
			v.only(v.y, func(s *side, conv op.Conv) {
				s.conv(v.p).Close()
				other := s.conv(v.p)
				other.SetWeights(s.at(v.w))
				other.Close()
				conv.Forward(s.at(v.y), s.at(v.x))
			})
		}
	}}},
}

func without(list []*operand, o *operand) []*operand {
	var rest []*operand
	for _, x := range list {
		if x != o {
			rest = append(rest, x)
		}
	}
	return rest
}
