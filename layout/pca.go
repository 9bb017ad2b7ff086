package layout

import (
	"fmt"
	"math/rand/v2"

	"gonum.org/v1/gonum/blas/blas32"
	"gonum.org/v1/gonum/mat"

	"swav/eval"
)

// Settings of the subspace iteration in PCA: directions beyond those wanted, and
// rounds. A round multiplies the error of a direction by the ratio of the
// variances beyond and at it.
const (
	spareDirections = 8
	subspaceRounds  = 12
)

// PCA projects n rows of d numbers onto the k directions in which they vary most:
// coords [n, k], and the share of the variance that each direction holds. It
// finds them by subspace iteration, so a covariance matrix of d x d is never
// made. The same rows give the same coordinates; each direction points to where
// its largest weight is positive. Gemm lends a fast product; nil is gonum's.
func PCA(x []float32, n, d, k int, gemm eval.Gemm) (coords, share []float64, err error) {
	gemm = orGonum(gemm)
	k = min(k, n, d)
	if k < 1 {
		return nil, nil, nil
	}
	m := min(k+spareDirections, n, d)
	centred, total := centre(x, n, d)
	rng := rand.New(rand.NewPCG(1, 2))
	q := make([]float32, d*m)
	for i := range q {
		q[i] = float32(rng.NormFloat64())
	}
	basis := blas32.General{Rows: d, Cols: m, Stride: m, Data: q}
	seen := make([]float32, n*m)
	project := func() error { return gemm(false, false, n, m, d, centred, d, q, m, 0, seen, m) }
	for range subspaceRounds {
		orthonormal(basis)
		if err = project(); err == nil {
			err = gemm(true, false, d, m, n, centred, d, seen, m, 0, q, m)
		}
		if err != nil {
			return nil, nil, fmt.Errorf("layout: %w", err)
		}
	}
	orthonormal(basis)
	if err = project(); err != nil {
		return nil, nil, fmt.Errorf("layout: %w", err)
	}

	// Within the subspace, exactly: the singular vectors of what is seen there.
	inside := mat.NewDense(n, m, widen(seen))
	var svd mat.SVD
	coords, share = make([]float64, n*k), make([]float64, k)
	if total == 0 || !svd.Factorize(inside, mat.SVDThin) {
		return coords, share, nil // all rows alike: nothing varies
	}
	var turn, directions, out mat.Dense
	svd.VTo(&turn)
	directions.Mul(mat.NewDense(d, m, widen(basis.Data)), &turn)
	out.Mul(inside, &turn)
	for j, s := range svd.Values(nil)[:k] {
		share[j] = s * s / total
		sign := 1.0
		for i, largest := 0, 0.0; i < d; i++ {
			if v := directions.At(i, j); v*v > largest {
				largest = v * v
				sign = 1
				if v < 0 {
					sign = -1
				}
			}
		}
		for i := range n {
			coords[i*k+j] = sign * out.At(i, j)
		}
	}
	return coords, share, nil
}

// centre subtracts the mean row; total is the sum of squares of what is left.
func centre(x []float32, n, d int) (centred []float32, total float64) {
	mean := make([]float64, d)
	for i, v := range x {
		mean[i%d] += float64(v) / float64(n)
	}
	centred = make([]float32, n*d)
	for i, v := range x {
		c := float64(v) - mean[i%d]
		centred[i] = float32(c)
		total += c * c
	}
	return centred, total
}

// orthonormal replaces the columns of a tall matrix by orthonormal ones that span
// the same space.
func orthonormal(q blas32.General) {
	var svd mat.SVD
	if !svd.Factorize(mat.NewDense(q.Rows, q.Cols, widen(q.Data)), mat.SVDThin) {
		return // not finite or not convergent: the columns stay as they are
	}
	var u mat.Dense
	svd.UTo(&u)
	for i := range q.Rows {
		for j := range q.Cols {
			q.Data[i*q.Stride+j] = float32(u.At(i, j))
		}
	}
}

func widen(x []float32) []float64 {
	out := make([]float64, len(x))
	for i, v := range x {
		out[i] = float64(v)
	}
	return out
}
