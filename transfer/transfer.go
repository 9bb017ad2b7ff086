// Package transfer carries networks between swav and other tools: it knows under
// which names the original, torchvision, VISSL, lightly, solo-learn and Hugging
// Face keep the weights of a ResNet and of SwAV's head, and writes networks as
// PyTorch state dicts, ONNX graphs, and folders for timm and Hugging Face.
//
// How files look inside is package interop's; what a network computes is package
// nn's. Files come from anywhere: shapes are compared with the network before
// elements are read.
package transfer

import (
	"fmt"

	"swav/nn"
)

// Model is a network with its weights, and how images are shown to it.
type Model struct {
	Net     *nn.Network
	Weights []float32 // flat, in the order of Net.Params
	Buffers []float32 // flat, in the order of Net.Buffers
	// Head tells that projection head and prototypes are there; where it is false,
	// Net has a head of the smallest size, with zeros.
	Head bool

	Size      int       // side of the images
	Mean, Std []float32 // of each channel; pixels are 0 to 1
	Source    string    // what it is, for people
}

// param is a tensor of Net.Params.
func (m *Model) param(i int) []float32 {
	p := m.Net.Params[i]
	return m.Weights[p.Offset : p.Offset+p.Len]
}

// buffer is a tensor of Net.Buffers.
func (m *Model) buffer(i int) []float32 {
	p := m.Net.Buffers[i]
	return m.Buffers[p.Offset : p.Offset+p.Len]
}

// needHead is an error for a network without a head.
func (m *Model) needHead() error {
	if !m.Head {
		return fmt.Errorf("%s has no projection head and prototypes: only its backbone can be written", m.Source)
	}
	return nil
}

// inBackbone tells whether a layer's or a parameter's name is of the backbone.
func inBackbone(name string) bool { return !headName.MatchString(name) }
