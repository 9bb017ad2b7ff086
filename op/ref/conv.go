package ref

import (
	"fmt"
	"math"

	"swav/op"
)

type conv struct {
	p       op.ConvParams
	w       []float64 // [Out, Kernel, Kernel, In]: the inner loops run over In
	sharing []*conv   // that have their weights from this one
	// of a folded batch norm, [Out]: scale is in w already
	bias []float64
}

// NewConv accepts every geometry.
func (b *Backend) NewConv(p op.ConvParams) (op.Conv, error) {
	if err := p.Validate(); err != nil {
		return nil, fmt.Errorf("ref: %w", err)
	}
	return &conv{p: p}, nil
}

func (c *conv) Close() {}

// SetWeights rounds the weights to the activations' precision, as a product of
// that precision does.
func (c *conv) SetWeights(w op.Tensor) {
	op.CheckConvWeights(c.p, w)
	c.pack(load(w))
}

// ShareWeights has the weights set together with from's.
func (c *conv) ShareWeights(from op.Conv) {
	f := from.(*conv)
	f.sharing = append(f.sharing, c)
}

// SetFolded scales the weights by the batch norm behind them before they are
// rounded.
func (c *conv) SetFolded(w, gamma, beta, mean, variance op.Tensor, eps float64) {
	op.CheckFolded(c.p, w, gamma, beta, mean, variance)
	src, g, b, m, v := load(w), load(gamma), load(beta), load(mean), load(variance)
	for o := range g {
		scale := g[o] / math.Sqrt(v[o]+eps)
		b[o] -= m[o] * scale
		row := src[o*len(src)/len(g):][:len(src)/len(g)]
		for i := range row {
			row[i] *= scale
		}
	}
	c.bias = b
	c.pack(src)
}

func (c *conv) pack(src []float64) {
	p := c.p
	c.w = make([]float64, len(src))
	for _, s := range c.sharing {
		s.w = c.w
	}
	for o := range p.Out {
		for i := range p.In {
			for r := range p.Kernel * p.Kernel {
				v := src[(o*p.In+i)*p.Kernel*p.Kernel+r]
				if p.DType == op.BFloat16 {
					v = roundBFloat16(v)
				}
				c.w[(o*p.Kernel*p.Kernel+r)*p.In+i] = v
			}
		}
	}
}

// taps calls f for every output place and every kernel tap that falls inside
// the input, with the offsets of the pixel in one image and of the tap.
func (c *conv) taps(f func(out, in, tap int)) {
	p := c.p
	oh, ow := p.OutHeight(), p.OutWidth()
	for y := range oh {
		for x := range ow {
			for r := range p.Kernel {
				h := y*p.Stride + r - p.Pad
				if h < 0 || h >= p.Height {
					continue
				}
				for s := range p.Kernel {
					w := x*p.Stride + s - p.Pad
					if w < 0 || w >= p.Width {
						continue
					}
					f(y*ow+x, h*p.Width+w, r*p.Kernel+s)
				}
			}
		}
	}
}

func (c *conv) Forward(y, x op.Tensor) {
	op.CheckForward(c.p, y, x)
	store(y, c.forward(y, x))
}

func (c *conv) ForwardFolded(y, x, residual op.Tensor) {
	op.CheckForwardFolded(c.p, y, x, residual)
	v, r := c.forward(y, x), load(residual)
	for i := range v {
		v[i] += c.bias[i%c.p.Out]
		if r != nil {
			v[i] += r[i]
		}
		if c.p.ReLU && v[i] < 0 {
			v[i] = 0
		}
	}
	store(y, v)
}

func (c *conv) forward(y, x op.Tensor) []float64 {
	p := c.p
	xv, yv := load(x), make([]float64, y.Elems())
	inImage, outImage := p.Height*p.Width*p.In, p.OutHeight()*p.OutWidth()*p.Out
	parallel(p.Batch, func(n int) {
		xn, yn := xv[n*inImage:], yv[n*outImage:]
		c.taps(func(out, in, tap int) {
			pixel := xn[in*p.In:][:p.In]
			for o := range p.Out {
				w := c.w[(o*p.Kernel*p.Kernel+tap)*p.In:][:p.In]
				var sum float64
				for i, v := range pixel {
					sum += v * w[i]
				}
				yn[out*p.Out+o] += sum
			}
		})
	})
	return yv
}

func (c *conv) BackwardData(dx, dy op.Tensor) {
	op.CheckConv(c.p, "backward data", dx, dy)
	p := c.p
	if p.Inference || p.NoBackwardData {
		panic("ref: backward data of a convolution compiled without it")
	}
	dyv, dxv := load(dy), make([]float64, dx.Elems())
	inImage, outImage := p.Height*p.Width*p.In, p.OutHeight()*p.OutWidth()*p.Out
	parallel(p.Batch, func(n int) {
		dxn, dyn := dxv[n*inImage:], dyv[n*outImage:]
		c.taps(func(out, in, tap int) {
			pixel := dxn[in*p.In:][:p.In]
			for o := range p.Out {
				g := dyn[out*p.Out+o]
				w := c.w[(o*p.Kernel*p.Kernel+tap)*p.In:][:p.In]
				for i := range pixel {
					pixel[i] += g * w[i]
				}
			}
		})
	})
	store(dx, dxv)
}

func (c *conv) BackwardWeights(dw, x, dy op.Tensor) {
	op.CheckConv(c.p, "backward weights", x, dy)
	op.CheckConvWeights(c.p, dw)
	p := c.p
	if p.Inference {
		panic("ref: backward weights of a convolution compiled for inference")
	}
	xv, dyv, dwv := load(x), load(dy), load(dw)
	inImage, outImage := p.Height*p.Width*p.In, p.OutHeight()*p.OutWidth()*p.Out
	parallel(p.Out, func(o int) {
		sum := make([]float64, p.Kernel*p.Kernel*p.In)
		for n := range p.Batch {
			xn, dyn := xv[n*inImage:], dyv[n*outImage:]
			c.taps(func(out, in, tap int) {
				g := dyn[out*p.Out+o]
				pixel := xn[in*p.In:][:p.In]
				s := sum[tap*p.In:][:p.In]
				for i, v := range pixel {
					s[i] += g * v
				}
			})
		}
		for i := range p.In {
			for tap := range p.Kernel * p.Kernel {
				dwv[(o*p.In+i)*p.Kernel*p.Kernel+tap] += sum[tap*p.In+i]
			}
		}
	})
	store(dw, dwv)
}
