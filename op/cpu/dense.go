//go:build cgo

package cpu

// #include "call.h"
import "C"

import "swav/op"

// Linear computes y = x wᵀ + bias.
func (b *Backend) Linear(y, x, w, bias op.Tensor) {
	op.CheckLinear(y, x, w, bias)
	b.gemm(false, true, x.Rows(), y.Cols(), x.Cols(), ptr(x), ptr(w), x.Cols(), w.Cols(), 0, ptr(y), y.Cols())
	if bias.Present() {
		C.k_add_bias(b.k, f32(y), f32(bias), rows(y), cols(y), b.threads)
	}
}

// LinearBackwardData computes dx = dy w.
func (b *Backend) LinearBackwardData(dx, dy, w op.Tensor) {
	op.CheckLinear(dy, dx, w, op.Tensor{})
	b.gemm(false, false, dx.Rows(), dx.Cols(), dy.Cols(), ptr(dy), ptr(w), dy.Cols(), w.Cols(), 0, ptr(dx), dx.Cols())
}

// LinearBackwardWeights adds dyᵀ x to dw and the column sums of dy to db.
func (b *Backend) LinearBackwardWeights(dw, db, x, dy op.Tensor) {
	op.CheckLinear(dy, x, dw, db)
	b.gemm(true, false, dy.Cols(), x.Cols(), x.Rows(), ptr(dy), ptr(x), dy.Cols(), x.Cols(), 1, ptr(dw), x.Cols())
	if db.Present() {
		C.k_column_sums(b.k, f32(db), f32(dy), rows(dy), cols(dy), b.threads)
	}
}

// L2Normalize brings each row to unit length.
func (b *Backend) L2Normalize(y, norms, x op.Tensor) {
	op.CheckNormalize(y, norms, x, x)
	C.k_normalize(b.k, f32(y), f32(norms), f32(x), rows(x), cols(x), b.threads)
}

// L2NormalizeBackward removes the radial part and divides by the norm.
func (b *Backend) L2NormalizeBackward(dx, dy, y, norms op.Tensor) {
	op.CheckNormalize(y, norms, dx, dy)
	C.k_normalize_backward(b.k, f32(dx), f32(dy), f32(y), f32(norms), rows(y), cols(y), b.threads)
}

// NormalizeRows brings each row of w to unit length in place.
func (b *Backend) NormalizeRows(w op.Tensor) {
	op.CheckFloat32("normalize rows", w)
	C.k_normalize_rows(b.k, f32(w), rows(w), cols(w), b.threads)
}
