package engine

import (
	"fmt"

	"swav/nn"
	"swav/op"
)

// Model is a network's parameters in a backend's memory: one flat buffer per
// kind, which several plans (training crops, evaluation images) share.
type Model struct {
	Backend op.Backend
	Net     *nn.Network
	Weights op.Tensor // float32 [Net.NumParams]
	Grads   op.Tensor // float32 [Net.NumParams]; absent in a model that is not trained
	Buffers op.Tensor // float32 [Net.NumBuffers]: running statistics
}

// NewModel allocates the flat buffers, zeroed, on b; those of gradients only
// for training.
func NewModel(b op.Backend, net *nn.Network, training bool) (*Model, error) {
	m := &Model{Backend: b, Net: net}
	for _, f := range []struct {
		t    *op.Tensor
		n    int
		want bool
	}{{&m.Weights, net.NumParams, true}, {&m.Grads, net.NumParams, training}, {&m.Buffers, net.NumBuffers, true}} {
		if !f.want {
			continue
		}
		t, err := NewTensor(b, op.Float32, f.n)
		if err != nil {
			m.Close()
			return nil, fmt.Errorf("parameters of %v: %w", net.Arch, err)
		}
		*f.t = t
	}
	return m, nil
}

// NewTensor allocates a zeroed tensor of its own on b.
func NewTensor(b op.Backend, d op.DType, shape ...int) (op.Tensor, error) {
	t := op.Tensor{Shape: shape, DType: d}
	mem, err := b.Alloc(t.Bytes())
	if err != nil {
		return op.Tensor{}, err
	}
	t.Mem = mem
	return t, nil
}

// Set writes weights and running statistics, flat and in the order of
// Net.Params and Net.Buffers.
func (m *Model) Set(weights, buffers []float32) {
	m.Backend.Write(m.Weights, weights)
	m.Backend.Write(m.Buffers, buffers)
}

// Get reads weights and running statistics into slices of the same length.
func (m *Model) Get(weights, buffers []float32) {
	m.Backend.Read(weights, m.Weights)
	m.Backend.Read(buffers, m.Buffers)
}

// Param is parameter i of Net.Params within the flat buffer of weights.
func (m *Model) Param(i int) op.Tensor { return part(m.Weights, m.Net.Params[i]) }

// Grad is the gradient of parameter i.
func (m *Model) Grad(i int) op.Tensor { return part(m.Grads, m.Net.Params[i]) }

// Prototypes is the prototype matrix [K, FeatureDim]. A classifier has none.
func (m *Model) Prototypes() op.Tensor { return m.Param(m.Net.Prototypes) }

func (m *Model) buffer(i int) op.Tensor { return part(m.Buffers, m.Net.Buffers[i]) }

func part(flat op.Tensor, p nn.Param) op.Tensor { return flat.Part(p.Offset, p.Shape...) }

// Close frees the buffers.
func (m *Model) Close() {
	for _, t := range []op.Tensor{m.Weights, m.Grads, m.Buffers} {
		if t.Present() {
			m.Backend.Free(t.Mem)
		}
	}
	m.Weights, m.Grads, m.Buffers = op.Tensor{}, op.Tensor{}, op.Tensor{}
}
