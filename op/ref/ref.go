// Package ref implements every operator contract in plain Go, slow and obvious:
// each operator reads its operands into float64, computes what the contract
// says, and rounds once on the way out. It is what other backends are tested
// against, and it works without cgo.
package ref

import (
	"fmt"
	"runtime"
	"sync"

	"swav/dist"
	"swav/internal/hostmem"
	"swav/op"
)

// Backend implements op.Backend.
type Backend struct {
	err  error // first failure since the last Sync
	live map[*hostmem.Memory]bool
}

var _ op.Backend = (*Backend)(nil)

// New returns a reference backend.
func New() *Backend { return &Backend{live: map[*hostmem.Memory]bool{}} }

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

// Alloc returns zeroed memory.
func (b *Backend) Alloc(bytes int64) (op.Memory, error) {
	m, err := hostmem.Alloc(bytes)
	if err != nil {
		return nil, err
	}
	b.live[m] = true
	return m, nil
}

// Free gives memory back.
func (b *Backend) Free(m op.Memory) {
	h := m.(*hostmem.Memory)
	delete(b.live, h)
	h.Free()
}

// Close frees everything.
func (b *Backend) Close() error {
	for m := range b.live {
		m.Free()
	}
	clear(b.live)
	return nil
}

// Sync returns the first failure since the last call.
func (b *Backend) Sync() error {
	err := b.err
	b.err = nil
	return err
}

func (b *Backend) fail(err error) {
	if err != nil && b.err == nil {
		b.err = err
	}
}

// Write converts src into dst.
func (b *Backend) Write(dst op.Tensor, src []float32) {
	op.CheckHost("write", dst, len(src))
	switch dst.DType {
	case op.Float32:
		copy(hostmem.Float32(dst), src)
	case op.BFloat16:
		hostmem.RoundSlice(hostmem.BFloat16(dst), src)
	case op.Float64:
		for i, x := range src {
			hostmem.Float64(dst)[i] = float64(x)
		}
	case op.Uint8:
		for i, x := range src {
			hostmem.Uint8(dst)[i] = uint8(x)
		}
	}
}

// Read converts src into dst.
func (b *Backend) Read(dst []float32, src op.Tensor) {
	op.CheckHost("read", src, len(dst))
	switch src.DType {
	case op.Float32:
		copy(dst, hostmem.Float32(src))
	case op.BFloat16:
		hostmem.WidenSlice(dst, hostmem.BFloat16(src))
	case op.Float64:
		for i, x := range hostmem.Float64(src) {
			dst[i] = float32(x)
		}
	case op.Uint8:
		for i, x := range hostmem.Uint8(src) {
			dst[i] = float32(x)
		}
	}
}

// ReadFloat64 copies a float64 tensor.
func (b *Backend) ReadFloat64(dst []float64, src op.Tensor) {
	op.CheckHost("read", src, len(dst))
	copy(dst, hostmem.Float64(src))
}

// AllReduce sums x over all ranks.
func (b *Backend) AllReduce(x op.Tensor, c dist.Comm) {
	if c.Size() == 1 {
		return
	}
	if x.DType == op.Float64 {
		b.fail(c.AllReduce64(hostmem.Float64(x), dist.Sum))
	} else {
		b.fail(c.AllReduce32(hostmem.Float32(x), dist.Sum))
	}
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
