// Package ref implements every operator contract in plain Go, slow and obvious:
// each operator reads its operands into float64, computes what the contract
// says, and rounds once on the way out. It is what other backends are tested
// against, and it works without cgo.
package ref

import (
	"fmt"
	"runtime"
	"sync"

	"swav/internal/hostmem"
	"swav/op"
)

// Backend implements op.Backend.
type Backend struct{ hostmem.Host }

var _ op.Backend = (*Backend)(nil)

// New returns a reference backend.
func New() *Backend { return &Backend{} }

// Name is "ref".
func (*Backend) Name() string { return "ref" }

// Describe names the implementation.
func (*Backend) Describe() string {
	return fmt.Sprintf("ref: plain Go, %d threads", runtime.GOMAXPROCS(0))
}

// Supports tells that all activation types are possible.
func (*Backend) Supports(d op.DType) bool {
	return d == op.Float32 || d == op.BFloat16 || d == op.Float64
}

// load reads a tensor into float64; nil where it is absent.
func load(t op.Tensor) []float64 {
	if !t.Present() {
		return nil
	}
	x := make([]float64, t.Elems())
	switch t.DType {
	case op.Float32:
		for i, v := range hostmem.Float32(t) {
			x[i] = float64(v)
		}
	case op.BFloat16:
		for i, v := range hostmem.BFloat16(t) {
			x[i] = float64(hostmem.FromBFloat16(v))
		}
	case op.Float64:
		copy(x, hostmem.Float64(t))
	case op.Uint8:
		for i, v := range hostmem.Uint8(t) {
			x[i] = float64(v)
		}
	}
	return x
}

// store rounds x into a tensor.
func store(t op.Tensor, x []float64) {
	switch t.DType {
	case op.Float32:
		dst := hostmem.Float32(t)
		for i, v := range x {
			dst[i] = float32(v)
		}
	case op.BFloat16:
		dst := hostmem.BFloat16(t)
		for i, v := range x {
			dst[i] = hostmem.ToBFloat16(float32(v))
		}
	case op.Float64:
		copy(hostmem.Float64(t), x)
	case op.Uint8:
		dst := hostmem.Uint8(t)
		for i, v := range x {
			dst[i] = uint8(v)
		}
	}
}

// parallel calls f for every i below n, on all processors; f must write to
// places of its own.
func parallel(n int, f func(i int)) {
	workers := min(n, runtime.GOMAXPROCS(0))
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := w; i < n; i += workers {
				f(i)
			}
		})
	}
	wg.Wait()
}
