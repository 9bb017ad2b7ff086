//go:build !cgo

// Package cpu implements the operators with oneDNN and C kernels. This build is
// without cgo, so it can only say so.
package cpu

import (
	"errors"

	"swav/op"
)

// Options choose how a backend computes.
type Options struct {
	Threads int
	ISA     string
}

// New reports that this build has no such backend.
func New(Options) (op.Backend, error) {
	return nil, errors.New("this build has no cpu backend: build with cgo (gcc and oneDNN: `make deps build`), or use the backend ref")
}

// Gemm is nil: this build has no fast product.
var Gemm func(ta, tb bool, m, n, k int, a []float32, lda int, b []float32, ldb int, beta float32, c []float32, ldc int) error

// Scanner is absent from this build: its Tile is 0, 0.
type Scanner struct{}

// Tile is 0, 0.
func (Scanner) Tile() (queries, refs int) { return 0, 0 }

// Above must not be called.
func (Scanner) Above([]float32, int, []float32, int, int, []float32, []uint32, []float32, []int32) {
	panic("cpu: a build without cgo has no scanner")
}

// HasBF16 is false.
func (Scanner) HasBF16() bool { return false }

// AboveBF16 must not be called.
func (Scanner) AboveBF16([]uint32, int, []uint32, int, int, []float32, []uint32, []float32, []int32) {
	panic("cpu: a build without cgo has no scanner")
}

// Dots must not be called.
func (Scanner) Dots([]float64, []float32, []float32, []uint32) {
	panic("cpu: a build without cgo has no scanner")
}
