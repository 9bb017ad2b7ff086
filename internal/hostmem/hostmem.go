// Package hostmem is memory that this process can read: what the backends on
// the host (op/ref, op/cpu) put behind op.Memory, and typed views of tensors in
// it. It also holds the conversions between float32 and bfloat16, and Host, the
// part of a backend that is memory and transfers. No arithmetic.
package hostmem

import (
	"fmt"
	"unsafe"

	"swav/op"
)

// hardlyAnything is the size below which nobody asks how much memory there is.
const hardlyAnything = 1 << 20

// Alignment of every allocation in bytes.
const Alignment = 64

// Memory is zeroed host memory outside of Go's heap where the system offers it.
type Memory struct {
	b    []byte
	free func()
}

// Len is the size in bytes.
func (m *Memory) Len() int64 { return int64(len(m.b)) }

// Free gives the memory back. A second call does nothing.
func (m *Memory) Free() {
	if m.free != nil {
		m.free()
	}
	m.b, m.free = nil, nil
}

// Alloc returns zeroed memory aligned to Alignment. The error names the size
// and what is available.
func Alloc(bytes int64) (*Memory, error) {
	if bytes < 0 {
		return nil, fmt.Errorf("allocate %d bytes: negative size", bytes)
	}
	if bytes >= hardlyAnything {
		if avail, ok := Available(); ok && bytes > avail {
			return nil, &Shortage{Need: bytes, Have: avail}
		}
	}
	return alloc(bytes)
}

// Shortage is the error of an allocation that does not fit, in bytes.
type Shortage struct{ Need, Have int64 }

func (s *Shortage) Error() string {
	return fmt.Sprintf("allocate %s: only %s of memory is available; use a smaller batch or smaller crops", size(s.Need), size(s.Have))
}

func size(n int64) string {
	switch {
	case n >= 10<<30:
		return fmt.Sprintf("%d GiB", n>>30)
	case n >= 10<<20:
		return fmt.Sprintf("%d MiB", n>>20)
	}
	return fmt.Sprintf("%d bytes", n)
}

// Part is n elements of memory from byte offset on, for a backend's own scratch
// memory; tensors have views with checks of their type.
func Part[T float32 | float64](m *Memory, offset int64, n int) []T {
	var t T
	size := int64(unsafe.Sizeof(t))
	if offset < 0 || offset%size != 0 || int64(n) < 0 || offset+int64(n)*size > int64(len(m.b)) {
		panic(fmt.Sprintf("hostmem: %d elements of %d bytes at byte %d of %d", n, size, offset, len(m.b)))
	}
	if n == 0 {
		return nil
	}
	return unsafe.Slice((*T)(unsafe.Pointer(&m.b[offset])), n)
}

// onHeap is the fallback: Go's heap, aligned by hand.
func onHeap(bytes int64) *Memory {
	raw := make([]byte, bytes+Alignment)
	skip := int64(-uintptr(unsafe.Pointer(&raw[0])) & (Alignment - 1))
	return &Memory{b: raw[skip : skip+bytes : skip+bytes]}
}

// bytes is the memory of t. It panics where t does not lie in this memory.
func bytes(t op.Tensor) []byte {
	m, ok := t.Mem.(*Memory)
	if !ok {
		panic(fmt.Sprintf("hostmem: tensor %v is not in host memory (%T)", t, t.Mem))
	}
	end := t.Offset + t.Bytes()
	if t.Offset < 0 || end > int64(len(m.b)) || t.Offset%int64(t.DType.Size()) != 0 {
		panic(fmt.Sprintf("hostmem: tensor %v at byte %d of %d", t, t.Offset, len(m.b)))
	}
	return m.b[t.Offset:end:end]
}

// Ptr is the address of t's first element, nil for an absent or empty tensor.
func Ptr(t op.Tensor) unsafe.Pointer {
	if !t.Present() {
		return nil
	}
	b := bytes(t)
	if len(b) == 0 {
		return nil
	}
	return unsafe.Pointer(&b[0])
}

// Float32 is a view of a float32 tensor; nil where it is absent.
func Float32(t op.Tensor) []float32 { return view[float32](t, op.Float32) }

// BFloat16 is a view of a bfloat16 tensor; nil where it is absent.
func BFloat16(t op.Tensor) []uint16 { return view[uint16](t, op.BFloat16) }

// Float64 is a view of a float64 tensor; nil where it is absent.
func Float64(t op.Tensor) []float64 { return view[float64](t, op.Float64) }

// Uint8 is a view of an uint8 tensor; nil where it is absent.
func Uint8(t op.Tensor) []uint8 { return view[uint8](t, op.Uint8) }

func view[T any](t op.Tensor, d op.DType) []T {
	if !t.Present() {
		return nil
	}
	if t.DType != d {
		panic(fmt.Sprintf("hostmem: tensor %v seen as %v", t, d))
	}
	b := bytes(t)
	if len(b) == 0 {
		return nil
	}
	return unsafe.Slice((*T)(unsafe.Pointer(&b[0])), t.Elems())
}
