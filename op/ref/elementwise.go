package ref

import "swav/op"

// Zero clears dst.
func (b *Backend) Zero(dst op.Tensor) { store(dst, make([]float64, dst.Elems())) }

// Copy converts src to dst.
func (b *Backend) Copy(dst, src op.Tensor) {
	op.CheckCopy(dst, src)
	store(dst, load(src))
}

// Add computes dst = x + y.
func (b *Backend) Add(dst, x, y op.Tensor) {
	op.CheckAdd(dst, x, y)
	xv, yv := load(x), load(y)
	for i := range xv {
		xv[i] += yv[i]
	}
	store(dst, xv)
}

// Scale multiplies x by s.
func (b *Backend) Scale(x op.Tensor, s float64) {
	op.CheckFloat32("scale", x)
	v := load(x)
	for i := range v {
		v[i] *= s
	}
	store(x, v)
}

// SumSquares writes the sum of squares of x.
func (b *Backend) SumSquares(dst, x op.Tensor) {
	op.CheckSumSquares(dst, x)
	var sum float64
	for _, v := range load(x) {
		sum += v * v
	}
	store(dst, []float64{sum})
}
