package ref

import (
	"math"

	"swav"
	"swav/internal/hostmem"
	"swav/op"
)

// Linear computes y = x wᵀ + bias.
func (b *Backend) Linear(y, x, w, bias op.Tensor) {
	op.CheckLinear(y, x, w, bias)
	rows, in, out := x.Rows(), x.Cols(), y.Cols()
	xv, wv, bv, yv := load(x), load(w), load(bias), make([]float64, y.Elems())
	parallel(rows, func(r int) {
		for o := range out {
			var sum float64
			for i, v := range xv[r*in:][:in] {
				sum += v * wv[o*in+i]
			}
			if bv != nil {
				sum += bv[o]
			}
			yv[r*out+o] = sum
		}
	})
	store(y, yv)
}

// LinearBackwardData computes dx = dy w.
func (b *Backend) LinearBackwardData(dx, dy, w op.Tensor) {
	op.CheckLinear(dy, dx, w, op.Tensor{})
	rows, in, out := dx.Rows(), dx.Cols(), dy.Cols()
	dyv, wv, dxv := load(dy), load(w), make([]float64, dx.Elems())
	parallel(rows, func(r int) {
		row := dxv[r*in:][:in]
		for o, g := range dyv[r*out:][:out] {
			for i := range row {
				row[i] += g * wv[o*in+i]
			}
		}
	})
	store(dx, dxv)
}

// LinearBackwardWeights adds dyᵀ x to dw and the column sums of dy to db.
func (b *Backend) LinearBackwardWeights(dw, db, x, dy op.Tensor) {
	op.CheckLinear(dy, x, dw, db)
	rows, in, out := x.Rows(), x.Cols(), dy.Cols()
	dyv, xv, dwv, dbv := load(dy), load(x), load(dw), load(db)
	parallel(out, func(o int) {
		sum := make([]float64, in)
		var bias float64
		for r := range rows {
			g := dyv[r*out+o]
			bias += g
			for i, v := range xv[r*in:][:in] {
				sum[i] += g * v
			}
		}
		for i, s := range sum {
			dwv[o*in+i] += s
		}
		if dbv != nil {
			dbv[o] += bias
		}
	})
	store(dw, dwv)
	if db.Present() {
		store(db, dbv)
	}
}

// minNorm keeps the division by a zero row's norm finite, as PyTorch's
// normalize does.
const minNorm = 1e-12

// L2Normalize brings each row to unit length.
func (b *Backend) L2Normalize(y, norms, x op.Tensor) {
	op.CheckNormalize(y, norms, x, x)
	c := x.Cols()
	v, nv := load(x), make([]float64, x.Rows())
	for r := range nv {
		row := v[r*c:][:c]
		var sum float64
		for _, t := range row {
			sum += t * t
		}
		nv[r] = max(math.Sqrt(sum), minNorm)
		for i := range row {
			row[i] /= nv[r]
		}
	}
	store(y, v)
	store(norms, nv)
}

// L2NormalizeBackward removes the radial part and divides by the norm.
func (b *Backend) L2NormalizeBackward(dx, dy, y, norms op.Tensor) {
	op.CheckNormalize(y, norms, dx, dy)
	c := y.Cols()
	g, yv, nv := load(dy), load(y), load(norms)
	for r := range nv {
		row, u := g[r*c:][:c], yv[r*c:][:c]
		var radial float64
		for i := range row {
			radial += row[i] * u[i]
		}
		for i := range row {
			row[i] = (row[i] - u[i]*radial) / nv[r]
		}
	}
	store(dx, g)
}

// NormalizeRows is swav.NormalizeRows.
func (b *Backend) NormalizeRows(w op.Tensor) {
	op.CheckFloat32("normalize rows", w)
	swav.NormalizeRows(hostmem.Float32(w), w.Rows(), w.Cols())
}
