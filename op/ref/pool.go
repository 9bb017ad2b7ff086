package ref

import (
	"math"

	"swav/op"
)

// MaxPool keeps the largest of each window, and NaN where there is one.
func (b *Backend) MaxPool(y, index, x op.Tensor, p op.PoolParams) {
	op.CheckMaxPool(y, index, x, p)
	h, w, c := x.Shape[1], x.Shape[2], x.Shape[3]
	oh, ow := y.Shape[1], y.Shape[2]
	xv := load(x)
	out, idx := make([]float64, y.Elems()), make([]float64, y.Elems())
	for i := range out {
		k, col, row, img := i%c, i/c%ow, i/c/ow%oh, i/c/ow/oh
		best, at := math.Inf(-1), -1
		for r := range p.Kernel {
			for s := range p.Kernel {
				hy, wx := row*p.Stride+r-p.Pad, col*p.Stride+s-p.Pad
				if hy < 0 || hy >= h || wx < 0 || wx >= w {
					continue
				}
				v := xv[((img*h+hy)*w+wx)*c+k]
				if at < 0 || v > best || v != v && best == best {
					best, at = v, r*p.Kernel+s
				}
			}
		}
		out[i], idx[i] = best, float64(at)
	}
	store(y, out)
	if index.Present() {
		store(index, idx)
	}
}

// MaxPoolBackward gives each gradient to its window's winner.
func (b *Backend) MaxPoolBackward(dx, dy, index op.Tensor, p op.PoolParams) {
	op.CheckMaxPoolBackward(dx, dy, index, p)
	h, w, c := dx.Shape[1], dx.Shape[2], dx.Shape[3]
	oh, ow := dy.Shape[1], dy.Shape[2]
	dyv, idx, out := load(dy), load(index), make([]float64, dx.Elems())
	for i, g := range dyv {
		k, col, row, img := i%c, i/c%ow, i/c/ow%oh, i/c/ow/oh
		at := int(idx[i])
		hy, wx := row*p.Stride+at/p.Kernel-p.Pad, col*p.Stride+at%p.Kernel-p.Pad
		out[((img*h+hy)*w+wx)*c+k] += g
	}
	store(dx, out)
}

// AvgPool averages over all places.
func (b *Backend) AvgPool(y, x op.Tensor) {
	op.CheckAvgPool(y, x)
	c, places := x.Shape[3], x.Shape[1]*x.Shape[2]
	out := make([]float64, y.Elems())
	for i, v := range load(x) {
		out[i/(places*c)*c+i%c] += v / float64(places)
	}
	store(y, out)
}

// AvgPoolBackward spreads the gradient evenly.
func (b *Backend) AvgPoolBackward(dx, dy op.Tensor) {
	op.CheckAvgPool(dy, dx)
	c, places := dx.Shape[3], dx.Shape[1]*dx.Shape[2]
	g, out := load(dy), make([]float64, dx.Elems())
	for i := range out {
		out[i] = g[i/(places*c)*c+i%c] / float64(places)
	}
	store(dx, out)
}
