package interop

import (
	"io"
	"os"
)

// Tensors is an open file of named tensors, whatever its format.
type Tensors interface {
	// Names are the tensors' names, sorted.
	Names() []string
	// Shape is a tensor's shape; ok is false if there is none of that name.
	Shape(name string) (shape []int, ok bool)
	// Float32 returns a tensor of floating point numbers as float32, row-major.
	Float32(name string) ([]float32, error)
	Close() error
}

// OpenTensors opens a safetensors file or a PyTorch checkpoint, told apart by
// their first bytes: in the former, JSON follows the 8 bytes of its length.
func OpenTensors(path string) (Tensors, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	var head [9]byte
	n, err := io.ReadFull(f, head[:])
	f.Close()
	if err != nil && n == 0 && err != io.EOF {
		return nil, err
	}
	if head[8] != '{' && (head[0] == 0x80 || string(head[:2]) == "PK") {
		return unlessNil(OpenPyTorch(path))
	}
	return unlessNil(OpenSafetensors(path))
}

// unlessNil keeps a nil pointer from becoming an interface that is not nil.
func unlessNil[T interface {
	*Safetensors | *PyTorch
	Tensors
}](t T, err error) (Tensors, error) {
	if err != nil {
		return nil, err
	}
	return t, nil
}
