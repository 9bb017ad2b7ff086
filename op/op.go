// Package op holds the operator contracts: what a device must be able to do so
// that a ResNet can be trained on it with SwAV, and nothing about how.
//
// A Backend owns memory that Go code outside of it never dereferences; between
// operators only Tensor values travel, which name a region of that memory. The
// operators of a backend run in the order of the calls, as on a CUDA stream.
// They return nothing: the first failure is kept and reported by Sync, and
// whatever is called after a failure may compute rubbish, but must not crash.
//
// Conventions, the same for every operator:
//
//   - The destination comes first, as in copy.
//   - Activations are NHWC, or [rows, channels] where space does not matter;
//     convolution weights are OIHW and linear weights [out, in], the layouts of
//     a torchvision checkpoint.
//   - Gradients of parameters ADD to their destination (crop groups and
//     accumulated batches meet there); gradients of activations OVERWRITE it.
//   - Weights, statistics, and everything from the pooled features on are
//     float32; the activations of convolutions, batch norms and max pooling are
//     float32, bfloat16 or float64, and batch norm's moments float64 with the
//     last. Sums over a batch are float64.
//   - Wrong shapes, types or sizes are mistakes of the caller and panic before
//     any work, naming the shapes.
//   - Every sum over the batch that SwAV makes global is split off as a tensor
//     of its own, so that AllReduce can stand between the two halves.
//
// What does not belong here: arithmetic (op/ref, op/cpu), the order of
// operators and their memory (engine), the method's decisions (package swav).
package op

import (
	"fmt"
	"strconv"
	"strings"
)

// DType is the element type of a tensor.
type DType uint8

// The element types. BFloat16 is the upper half of a float32, rounded to
// nearest even.
const (
	Float32 DType = iota
	BFloat16
	Float64
	Uint8
)

// Size returns the bytes of one element.
func (d DType) Size() int {
	switch d {
	case Float32:
		return 4
	case BFloat16:
		return 2
	case Float64:
		return 8
	case Uint8:
		return 1
	}
	panic("op: unknown element type " + strconv.Itoa(int(d)))
}

func (d DType) String() string {
	switch d {
	case Float32:
		return "fp32"
	case BFloat16:
		return "bf16"
	case Float64:
		return "fp64"
	case Uint8:
		return "u8"
	}
	return "dtype(" + strconv.Itoa(int(d)) + ")"
}

// Statistics is the type of batch norm's moments for activations of type d.
func (d DType) Statistics() DType {
	if d == Float64 {
		return Float64
	}
	return Float32
}

// ParsePrecision reads the name of an activation type as users write it: fp32,
// bf16 or fp64.
func ParsePrecision(s string) (DType, error) {
	switch strings.ToLower(s) {
	case "fp32", "float32":
		return Float32, nil
	case "bf16", "bfloat16":
		return BFloat16, nil
	case "fp64", "float64":
		return Float64, nil
	}
	return 0, fmt.Errorf("precision %q: want fp32, bf16 or fp64", s)
}

// Memory is a region of a backend's memory. Only the backend that allocated it
// knows what is behind it.
type Memory interface {
	// Len is the size in bytes.
	Len() int64
}

// Tensor names a dense, row-major part of a Memory. The zero Tensor stands for
// "absent" where an operator takes an optional operand.
type Tensor struct {
	Mem    Memory
	Offset int64 // bytes from the start of Mem, a multiple of the element size
	Shape  []int
	DType  DType
}

// Present tells whether the tensor names memory at all.
func (t Tensor) Present() bool { return t.Mem != nil }

// Elems is the number of elements.
func (t Tensor) Elems() int {
	n := 1
	for _, d := range t.Shape {
		n *= d
	}
	return n
}

// Bytes is the size of the tensor in memory.
func (t Tensor) Bytes() int64 { return int64(t.Elems()) * int64(t.DType.Size()) }

// Cols is the last dimension: the channels of an activation, the columns of a
// matrix.
func (t Tensor) Cols() int { return t.Shape[len(t.Shape)-1] }

// Rows is the product of all dimensions but the last.
func (t Tensor) Rows() int {
	n := 1
	for _, d := range t.Shape[:len(t.Shape)-1] {
		n *= d
	}
	return n
}

// Slice returns n leading-dimension entries from the i-th on, without copying.
func (t Tensor) Slice(i, n int) Tensor {
	if i < 0 || n < 0 || i+n > t.Shape[0] {
		panic(fmt.Sprintf("op: slice [%d, %d) of tensor %v", i, i+n, t))
	}
	row := 1
	for _, d := range t.Shape[1:] {
		row *= d
	}
	s := t
	s.Offset += int64(i) * int64(row) * int64(t.DType.Size())
	s.Shape = append([]int{n}, t.Shape[1:]...)
	return s
}

// Reshape returns the same memory under another shape of as many elements.
func (t Tensor) Reshape(shape ...int) Tensor {
	r := t
	r.Shape = shape
	if r.Elems() != t.Elems() {
		panic(fmt.Sprintf("op: reshape %v to %v", t, shape))
	}
	return r
}

// Part returns n elements from element i on as a tensor of the given shape: a
// parameter within its flat buffer.
func (t Tensor) Part(i int, shape ...int) Tensor {
	p := t
	p.Offset += int64(i) * int64(t.DType.Size())
	p.Shape = shape
	if i < 0 || i+p.Elems() > t.Elems() {
		panic(fmt.Sprintf("op: part [%d, %d) of tensor %v", i, i+p.Elems(), t))
	}
	return p
}

func (t Tensor) String() string {
	if !t.Present() {
		return "absent"
	}
	return fmt.Sprintf("%v %v", t.DType, t.Shape)
}
