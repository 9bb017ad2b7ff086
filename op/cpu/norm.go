//go:build cgo

package cpu

// #include "call.h"
// #include "wide.h"
import "C"

import (
	"math"

	"swav/internal/hostmem"
	"swav/op"
)

// virtualCols is at least the columns of the kernels' virtual rows (kernels_body.h,
// fold).
func virtualCols(c int) int { return max(c, 64) }

// partial is scratch memory for the kernels' partial sums: the size of three
// float64 per column and thread (kernels_body.h, SUMS_SCRATCH).
func (b *Backend) partial(c int) *C.double {
	m := b.temp(int64(b.threads) * 3 * int64(virtualCols(c)) * 8)
	if m == nil {
		return nil
	}
	return whole(m)
}

// BatchNormSums sums x and x².
func (b *Backend) BatchNormSums(sums, x op.Tensor) {
	op.CheckSums(sums, x)
	if wide(x) {
		C.swav_wide_norm_sums(f64(sums), f64(x), rows(x), cols(x), b.threads)
		return
	}
	if p := b.partial(x.Cols()); p != nil {
		C.k_norm_sums(b.k, bf16(x), ptr(x), rows(x), cols(x), f64(sums), p, b.threads)
	}
}

// BatchNormMoments turns sums into mean and inverse standard deviation.
func (b *Backend) BatchNormMoments(moments, runningMean, runningVar, sums op.Tensor, count int, eps, momentum float64) {
	op.CheckMoments(moments, runningMean, runningVar)
	op.CheckTotals(sums, moments, count)
	m, s := statistics(moments), hostmem.Float64(sums)
	mean, variance := hostmem.Float32(runningMean), hostmem.Float32(runningVar)
	c, n := len(mean), float64(count)
	bessel := 1.0
	if count > 1 {
		bessel = n / (n - 1)
	}
	for i := range c {
		mu := s[i] / n
		v := s[c+i]/n - mu*mu
		if v < 0 {
			v = 0
		}
		m.set(i, mu)
		m.set(c+i, 1/math.Sqrt(v+eps))
		mean[i] += float32(momentum * (mu - float64(mean[i])))
		variance[i] += float32(momentum * (v*bessel - float64(variance[i])))
	}
}

// BatchNormRunning takes moments from running statistics.
func (b *Backend) BatchNormRunning(moments, runningMean, runningVar op.Tensor, eps float64) {
	op.CheckMoments(moments, runningMean, runningVar)
	m, mean := statistics(moments), hostmem.Float32(runningMean)
	for i, v := range hostmem.Float32(runningVar) {
		m.set(i, float64(mean[i]))
		m.set(len(mean)+i, 1/math.Sqrt(float64(v)+eps))
	}
}

// stats are moments in either type.
type stats struct {
	f32 []float32
	f64 []float64
}

func statistics(moments op.Tensor) stats {
	if wide(moments) {
		return stats{f64: hostmem.Float64(moments)}
	}
	return stats{f32: hostmem.Float32(moments)}
}

func (s stats) set(i int, v float64) {
	if s.f64 != nil {
		s.f64[i] = v
	} else {
		s.f32[i] = float32(v)
	}
}

// vectors returns n float32 vectors of c elements in scratch memory.
func (b *Backend) vectors(n, c int) [][]float32 {
	m := b.temp(int64(n) * int64(c) * 4)
	if m == nil {
		return nil
	}
	all := hostmem.Part[float32](m, 0, n*c)
	b.parts = b.parts[:0]
	for i := range n {
		b.parts = append(b.parts, all[i*c:(i+1)*c])
	}
	return b.parts
}

func slice32(x []float32) *C.float { return (*C.float)(&x[0]) }

// BatchNormApply normalises, adds and rectifies in one pass, as
// gamma invstd (x - mean) + beta: subtracting the mean first keeps the digits of
// channels whose mean is large beside their deviation.
func (b *Backend) BatchNormApply(y, x, moments, gamma, beta, residual op.Tensor, relu bool) {
	op.CheckNormApply(y, x, moments, gamma, beta, residual)
	if wide(x) {
		b.wideNormApply(y, x, moments, gamma, beta, residual, relu)
		return
	}
	c := x.Cols()
	v := b.vectors(1, c)
	if v == nil {
		return
	}
	m, g, scale := hostmem.Float32(moments), hostmem.Float32(gamma), v[0]
	for i := range c {
		scale[i] = g[i] * m[c+i]
	}
	C.k_norm_apply(b.k, bf16(x), ptr(y), ptr(x), ptr(residual), f32(moments), slice32(scale), f32(beta), rows(x), cols(x), flag(relu), b.threads)
}

// gate is y where a ReLU closed some elements, absent where there is none.
func gate(y op.Tensor, relu bool) op.Tensor {
	if relu {
		return y
	}
	return op.Tensor{}
}

// BatchNormBackwardSums sums g and g xhat.
func (b *Backend) BatchNormBackwardSums(sums, dgamma, dbeta, dy, dy2, y, x, moments op.Tensor, relu bool) {
	op.CheckNormBackward(x, dy, dy2, y, moments, sums, relu)
	op.CheckNormParamGrads(dgamma, dbeta, x)
	if wide(x) {
		b.wideNormBackwardSums(sums, dgamma, dbeta, dy, dy2, y, x, moments, relu)
		return
	}
	p := b.partial(x.Cols())
	if p == nil {
		return
	}
	C.k_norm_backward_sums(b.k, bf16(x), ptr(dy), ptr(dy2), ptr(gate(y, relu)), ptr(x), f32(moments), rows(x), cols(x), f64(sums), p, b.threads)
	s, m := hostmem.Float64(sums), hostmem.Float32(moments)
	dg, db := hostmem.Float32(dgamma), hostmem.Float32(dbeta)
	c := len(dg)
	for i := range c {
		s[c+i] *= float64(m[c+i])
		db[i] += float32(s[i])
		dg[i] += float32(s[c+i])
	}
}

// BatchNormBackward computes the gradient of the input and of the residual in
// one pass, with everything per channel folded into dx = a g + b (x - mean) + k.
func (b *Backend) BatchNormBackward(dx, dresidual, dy, dy2, y, x, moments, gamma, sums op.Tensor, count int, relu bool) {
	op.CheckNormBackward(x, dy, dy2, y, moments, sums, relu)
	op.CheckNormInputGrads(dx, dresidual, x, gamma, count)
	if wide(x) {
		b.wideNormBackward(dx, dresidual, dy, dy2, y, x, moments, gamma, sums, count, relu)
		return
	}
	c, n := x.Cols(), float64(count)
	v := b.vectors(3, c)
	if v == nil {
		return
	}
	m, g, s := hostmem.Float32(moments), hostmem.Float32(gamma), hostmem.Float64(sums)
	for i := range c {
		invstd := float64(m[c+i])
		a := float64(g[i]) * invstd
		v[0][i] = float32(a)
		v[1][i] = float32(-a * invstd * s[c+i] / n)
		v[2][i] = float32(-a * s[i] / n)
	}
	C.k_norm_backward(b.k, bf16(x), ptr(dx), ptr(dresidual), ptr(dy), ptr(dy2), ptr(gate(y, relu)), ptr(x), f32(moments),
		slice32(v[0]), slice32(v[1]), slice32(v[2]), rows(x), cols(x), b.threads)
}

// MaxPool keeps the largest of each window.
func (b *Backend) MaxPool(y, index, x op.Tensor, p op.PoolParams) {
	op.CheckMaxPool(y, index, x, p)
	if wide(x) {
		b.wideMaxPool(y, index, x, p)
		return
	}
	s := shapeOf(x, y)
	C.k_max_pool(b.k, bf16(x), ptr(y), (*C.uint8_t)(ptr(index)), ptr(x), s[0], s[1], s[2], s[3], s[4], s[5], C.int(p.Kernel), C.int(p.Stride), C.int(p.Pad), b.threads)
}

// MaxPoolBackward gives each gradient to its window's winner.
func (b *Backend) MaxPoolBackward(dx, dy, index op.Tensor, p op.PoolParams) {
	op.CheckMaxPoolBackward(dx, dy, index, p)
	if wide(dx) {
		b.wideMaxPoolBackward(dx, dy, index, p)
		return
	}
	s := shapeOf(dx, dy)
	C.k_max_pool_backward(b.k, bf16(dx), ptr(dx), ptr(dy), (*C.uint8_t)(ptr(index)), s[0], s[1], s[2], s[3], s[4], s[5], C.int(p.Kernel), C.int(p.Stride), C.int(p.Pad), b.threads)
}

// shapeOf is n, h, w, c of x and h, w of y.
func shapeOf(x, y op.Tensor) [6]C.int64_t {
	return [6]C.int64_t{C.int64_t(x.Shape[0]), C.int64_t(x.Shape[1]), C.int64_t(x.Shape[2]), C.int64_t(x.Shape[3]), C.int64_t(y.Shape[1]), C.int64_t(y.Shape[2])}
}

// AvgPool averages over all places.
func (b *Backend) AvgPool(y, x op.Tensor) {
	op.CheckAvgPool(y, x)
	if wide(x) {
		C.swav_wide_avg_pool(f32(y), f64(x), C.int64_t(x.Shape[0]), C.int64_t(x.Shape[1]*x.Shape[2]), cols(x), b.threads)
		return
	}
	C.k_avg_pool(b.k, bf16(x), f32(y), ptr(x), C.int64_t(x.Shape[0]), C.int64_t(x.Shape[1]*x.Shape[2]), cols(x), b.threads)
}

// AvgPoolBackward spreads the gradient evenly.
func (b *Backend) AvgPoolBackward(dx, dy op.Tensor) {
	op.CheckAvgPool(dy, dx)
	if wide(dx) {
		C.swav_wide_avg_pool_backward(f64(dx), f32(dy), C.int64_t(dx.Shape[0]), C.int64_t(dx.Shape[1]*dx.Shape[2]), cols(dx), b.threads)
		return
	}
	C.k_avg_pool_backward(b.k, bf16(dx), ptr(dx), f32(dy), C.int64_t(dx.Shape[0]), C.int64_t(dx.Shape[1]*dx.Shape[2]), cols(dx), b.threads)
}
