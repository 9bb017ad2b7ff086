package hostmem

import (
	"fmt"

	"swav/dist"
	"swav/op"
)

// Host is what the backends on the host have alike of op.Device: memory, the
// first failure, and transfers that convert on one thread. A backend embeds it.
type Host struct {
	err  error // first failure since the last Sync
	live map[*Memory]bool
}

// Alloc returns zeroed memory.
func (h *Host) Alloc(bytes int64) (op.Memory, error) {
	m, err := Alloc(bytes)
	if err != nil {
		return nil, err
	}
	if h.live == nil {
		h.live = map[*Memory]bool{}
	}
	h.live[m] = true
	return m, nil
}

// Free gives memory back.
func (h *Host) Free(m op.Memory) {
	own := m.(*Memory)
	delete(h.live, own)
	own.Free()
}

// Close frees everything that is still held.
func (h *Host) Close() error {
	for m := range h.live {
		m.Free()
	}
	clear(h.live)
	return nil
}

// Fail keeps the first failure for Sync; nil is none.
func (h *Host) Fail(err error) {
	if err != nil && h.err == nil {
		h.err = err
	}
}

// Sync returns the first failure since the last call; operators on the host have
// finished when they return.
func (h *Host) Sync() error {
	err := h.err
	h.err = nil
	return err
}

// Read converts src into dst.
func (h *Host) Read(dst []float32, src op.Tensor) {
	op.CheckHost("read", src, len(dst))
	switch src.DType {
	case op.Float32:
		copy(dst, Float32(src))
	case op.BFloat16:
		WidenSlice(dst, BFloat16(src))
	case op.Float64:
		for i, x := range Float64(src) {
			dst[i] = float32(x)
		}
	case op.Uint8:
		for i, x := range Uint8(src) {
			dst[i] = float32(x)
		}
	default:
		panic(fmt.Sprintf("hostmem: read from %v", src))
	}
}

// Write converts src into dst.
func (h *Host) Write(dst op.Tensor, src []float32) {
	op.CheckHost("write", dst, len(src))
	switch dst.DType {
	case op.Float32:
		copy(Float32(dst), src)
	case op.BFloat16:
		RoundSlice(BFloat16(dst), src)
	case op.Float64:
		for i, x := range src {
			Float64(dst)[i] = float64(x)
		}
	case op.Uint8:
		for i, x := range src {
			Uint8(dst)[i] = uint8(x)
		}
	default:
		panic(fmt.Sprintf("hostmem: write to %v", dst))
	}
}

// ReadFloat64 copies a float64 tensor.
func (h *Host) ReadFloat64(dst []float64, src op.Tensor) {
	op.CheckHost("read", src, len(dst))
	copy(dst, Float64(src))
}

// StartAllReduce begins to sum x over all ranks.
func (h *Host) StartAllReduce(x op.Tensor, c dist.Comm) dist.Handle {
	op.CheckFloat32("all-reduce", x)
	return c.StartAllReduce32(Float32(x), dist.Sum)
}

// AllReduce sums x over all ranks.
func (h *Host) AllReduce(x op.Tensor, c dist.Comm) {
	if c.Size() == 1 {
		return
	}
	if x.DType == op.Float64 {
		h.Fail(c.AllReduce64(Float64(x), dist.Sum))
	} else {
		h.Fail(c.AllReduce32(Float32(x), dist.Sum))
	}
}
