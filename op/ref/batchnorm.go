package ref

import (
	"math"

	"swav/internal/hostmem"
	"swav/op"
)

func roundBFloat16(v float64) float64 {
	return float64(hostmem.FromBFloat16(hostmem.ToBFloat16(float32(v))))
}

// BatchNormSums sums x and x².
func (b *Backend) BatchNormSums(sums, x op.Tensor) {
	op.CheckSums(sums, x)
	c := x.Cols()
	s := make([]float64, 2*c)
	for i, v := range load(x) {
		s[i%c] += v
		s[c+i%c] += v * v
	}
	store(sums, s)
}

// BatchNormMoments turns sums into mean and inverse standard deviation.
func (b *Backend) BatchNormMoments(moments, runningMean, runningVar, sums op.Tensor, count int, eps, momentum float64) {
	op.CheckMoments(moments, runningMean, runningVar)
	op.CheckTotals(sums, moments, count)
	c := runningMean.Elems()
	s, mean, variance := load(sums), load(runningMean), load(runningVar)
	out := make([]float64, 2*c)
	n := float64(count)
	for i := range c {
		m := s[i] / n
		v := max(0, s[c+i]/n-m*m)
		out[i], out[c+i] = m, 1/math.Sqrt(v+eps)
		unbiased := v
		if count > 1 {
			unbiased = v * n / (n - 1)
		}
		mean[i] += momentum * (m - mean[i])
		variance[i] += momentum * (unbiased - variance[i])
	}
	store(moments, out)
	store(runningMean, mean)
	store(runningVar, variance)
}

// BatchNormRunning takes moments from running statistics.
func (b *Backend) BatchNormRunning(moments, runningMean, runningVar op.Tensor, eps float64) {
	op.CheckMoments(moments, runningMean, runningVar)
	mean := load(runningMean)
	out := append([]float64(nil), mean...)
	for _, v := range load(runningVar) {
		out = append(out, 1/math.Sqrt(v+eps))
	}
	store(moments, out)
}

// BatchNormApply normalises, adds and rectifies.
func (b *Backend) BatchNormApply(y, x, moments, gamma, beta, residual op.Tensor, relu bool) {
	op.CheckNormApply(y, x, moments, gamma, beta, residual)
	c := x.Cols()
	m, g, be, r, v := load(moments), load(gamma), load(beta), load(residual), load(x)
	for i := range v {
		k := i % c
		v[i] = g[k]*(v[i]-m[k])*m[c+k] + be[k]
		if r != nil {
			v[i] += r[i]
		}
		if relu && v[i] < 0 {
			v[i] = 0
		}
	}
	store(y, v)
}

// masked is g = dy + dy2, zero where a ReLU was closed.
func masked(dy, dy2, y op.Tensor, relu bool) []float64 {
	g, g2 := load(dy), load(dy2)
	for i := range g2 {
		g[i] += g2[i]
	}
	if relu {
		for i, v := range load(y) {
			if v <= 0 {
				g[i] = 0
			}
		}
	}
	return g
}

// BatchNormBackwardSums sums g and g xhat.
func (b *Backend) BatchNormBackwardSums(sums, dgamma, dbeta, dy, dy2, y, x, moments op.Tensor, relu bool) {
	op.CheckNormBackward(x, dy, dy2, y, moments, sums, relu)
	op.CheckNormParamGrads(dgamma, dbeta, x)
	c := x.Cols()
	g, v, m := masked(dy, dy2, y, relu), load(x), load(moments)
	s, dg, db := make([]float64, 2*c), load(dgamma), load(dbeta)
	for i := range g {
		k := i % c
		s[k] += g[i]
		s[c+k] += g[i] * (v[i] - m[k]) * m[c+k]
	}
	for k := range c {
		db[k] += s[k]
		dg[k] += s[c+k]
	}
	store(sums, s)
	store(dgamma, dg)
	store(dbeta, db)
}

// BatchNormBackward computes the gradient of the input and of the residual.
func (b *Backend) BatchNormBackward(dx, dresidual, dy, dy2, y, x, moments, gamma, sums op.Tensor, count int, relu bool) {
	op.CheckNormBackward(x, dy, dy2, y, moments, sums, relu)
	op.CheckNormInputGrads(dx, dresidual, x, gamma, count)
	c := x.Cols()
	g, v, m, s, ga := masked(dy, dy2, y, relu), load(x), load(moments), load(sums), load(gamma)
	n := float64(count)
	d := make([]float64, len(g))
	for i := range g {
		k := i % c
		xhat := (v[i] - m[k]) * m[c+k]
		d[i] = ga[k] * m[c+k] * (g[i] - s[k]/n - xhat*s[c+k]/n)
	}
	store(dx, d)
	if dresidual.Present() {
		store(dresidual, g)
	}
}
