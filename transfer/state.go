package transfer

import (
	"fmt"
	"io"
	"strings"

	"swav/interop"
	"swav/nn"
)

// classes is the size of torchvision's classifier.
const classes = 1000

// StateDict lists the weights as PyTorch modules keep them, in torchvision's
// order. Without head, a network of four stages gets torchvision's classifier fc,
// all zero, so that load_state_dict finds all that it asks for. With head it is
// the original's state dict: projection head and prototypes instead of fc.
func (m *Model) StateDict(head bool) ([]interop.Tensor, error) {
	if head {
		if err := m.needHead(); err != nil {
			return nil, err
		}
	}
	ts := m.tensors(head)
	if !head && len(m.Net.Arch.Layers) == 4 {
		d := m.Net.FeatureDim()
		ts = append(ts, interop.Tensor{Name: "fc.weight", Shape: []int{classes, d}, Data: make([]float32, classes*d)},
			interop.Tensor{Name: "fc.bias", Shape: []int{classes}, Data: make([]float32, classes)})
	}
	return ts, nil
}

// tensors are the weights in the order of PyTorch's modules: running statistics
// stand behind the bias of their batch norm.
func (m *Model) tensors(head bool) []interop.Tensor {
	var ts []interop.Tensor
	for i, p := range m.Net.Params {
		if !head && !inBackbone(p.Name) {
			continue
		}
		ts = append(ts, interop.Tensor{Name: p.Name, Shape: p.Shape, Data: m.param(i)})
		if p.Role != nn.NormBias {
			continue
		}
		module := strings.TrimSuffix(p.Name, "bias")
		for _, name := range []string{"running_mean", "running_var"} {
			b := m.Net.Buffer(module + name)
			ts = append(ts, interop.Tensor{Name: module + name, Shape: p.Shape, Data: m.buffer(b)})
		}
		ts = append(ts, interop.Tensor{Name: module + "num_batches_tracked", Data: []int64{0}})
	}
	return ts
}

// WriteSafetensors writes the state dict as safetensors.
func (m *Model) WriteSafetensors(w io.Writer, head bool) error {
	ts, err := m.StateDict(head)
	if err != nil {
		return err
	}
	return interop.WriteSafetensors(w, ts, m.metadata())
}

// WritePyTorch writes the state dict as torch.save does.
func (m *Model) WritePyTorch(w io.Writer, head bool) error {
	ts, err := m.StateDict(head)
	if err != nil {
		return err
	}
	return interop.WritePyTorch(w, ts)
}

// metadata is what files say about how images are shown to the network. "format:
// pt" is what PyTorch-side readers look for.
func (m *Model) metadata() map[string]string {
	return map[string]string{
		"format": "pt", "producer": "swav", "network": m.Net.Arch.String(),
		"image_size": fmt.Sprint(m.Size), "resize": fmt.Sprint(m.resize()), "mean": fmt.Sprint(m.Mean), "std": fmt.Sprint(m.Std),
	}
}

// resize is the shorter side that images are scaled to before the centre is cut
// out.
func (m *Model) resize() int { return m.Size * 256 / 224 }
