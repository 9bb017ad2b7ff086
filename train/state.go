package train

import (
	"fmt"
	"reflect"
	"slices"

	"swav"
	"swav/checkpoint"
	"swav/engine"
	"swav/loader"
	"swav/nn"
	"swav/op"
)

// State is what a checkpoint's state.json holds besides tensors: where the run
// stands. Positions are global, not per rank.
type State struct {
	Step        int // steps done
	Epoch       int // position of the sampler: epoch …
	EpochStep   int // … and steps done in it
	QueueFilled int // rows of each queue that hold embeddings, per rank
	Arch        nn.Arch
	Images      int // of the data set, so that another one is noticed
	Data        string
	Alarm       swav.AlarmState
	Seconds     float64 // spent in training so far

	// Of the evaluations during training; 0 where there are none.
	Evaluated, BestStep int // step of the last one, and of the best
	BestScore           float64

	Stream *loader.StreamPosition `json:",omitempty"` // of a stream, instead of the sampler's
}

// Tensor names in optimizer.safetensors.
const (
	momentumPrefix = "momentum."
	secondPrefix   = "second."
)

// snapshot copies all that a run needs to go on out of the backend.
func snapshot(s *Stepper, st State) checkpoint.Snapshot {
	m := s.Model
	method := s.Method.save(&st)
	snap := checkpoint.Snapshot{Step: st.Step, State: st, Model: modelTensors(m)}
	snap.Optimizer = split(momentumPrefix, m.Net.Params, download(m.Backend, s.Momentum))
	if s.Second.Present() {
		snap.Optimizer = append(snap.Optimizer, split(secondPrefix, m.Net.Params, download(m.Backend, s.Second))...)
	}
	snap.Optimizer = append(snap.Optimizer, method...)
	return snap
}

// notFinite names the first tensor with an element that is not finite, "" if
// there is none: such weights must not take the place of good ones.
func notFinite(ts []checkpoint.Tensor) string {
	for _, t := range ts {
		for _, v := range t.Data {
			if v-v != 0 {
				return t.Name
			}
		}
	}
	return ""
}

// restore puts a checkpoint's tensors back. The error of a checkpoint of
// another architecture or method names the difference.
func restore(s *Stepper, l *checkpoint.Loaded) (State, error) {
	var st State
	if err := l.DecodeState(&st); err != nil {
		return st, err
	}
	m := s.Model
	if err := sameArch(st.Arch, m.Net.Arch); err != nil {
		return st, fmt.Errorf("checkpoint %s: %w", l.Path, err)
	}
	if err := LoadModel(m, l.Model); err != nil {
		return st, fmt.Errorf("checkpoint %s: %w", l.Path, err)
	}
	want := snapshot(s, st).Optimizer // names and shapes; the data is overwritten
	if err := checkpoint.Restore(want, l.Optimizer); err != nil {
		return st, fmt.Errorf("checkpoint %s: optimizer or method differ from the recipe's: %w", l.Path, err)
	}
	momentum := make([]float32, m.Net.NumParams)
	second := make([]float32, m.Net.NumParams)
	n := len(m.Net.Params)
	join(momentum, m.Net.Params, want[:n])
	m.Backend.Write(s.Momentum, momentum)
	rest := want[n:]
	if s.Second.Present() {
		join(second, m.Net.Params, rest[:n])
		m.Backend.Write(s.Second, second)
		rest = rest[n:]
	}
	if err := s.Method.load(rest, &st); err != nil {
		return st, fmt.Errorf("checkpoint %s: %w", l.Path, err)
	}
	return st, m.Backend.Sync()
}

func sameArch(have, want nn.Arch) error {
	if !reflect.DeepEqual(have, want) {
		return fmt.Errorf("holds another network: %v; the recipe wants %v. Resume with the run's own recipe, or train into another --run", have, want)
	}
	return nil
}

// modelTensors are the weights and running statistics under torchvision's
// names.
func modelTensors(m *engine.Model) []checkpoint.Tensor {
	ts := split("", m.Net.Params, download(m.Backend, m.Weights))
	return append(ts, split("", m.Net.Buffers, download(m.Backend, m.Buffers))...)
}

// LoadModel puts a checkpoint's weights into a model of the same architecture.
func LoadModel(m *engine.Model, tensors []checkpoint.Tensor) error {
	weights, buffers, err := flatten(m.Net, tensors)
	if err != nil {
		return err
	}
	m.Set(weights, buffers)
	return m.Backend.Sync()
}

// flatten is a checkpoint's weights in the order of a network of the same
// architecture.
func flatten(net *nn.Network, tensors []checkpoint.Tensor) (weights, buffers []float32, err error) {
	weights, buffers = make([]float32, net.NumParams), make([]float32, net.NumBuffers)
	want := append(split("", net.Params, weights), split("", net.Buffers, buffers)...)
	return weights, buffers, checkpoint.Restore(want, tensors)
}

// split names the parts of a flat buffer; the parts share its memory.
func split(prefix string, params []nn.Param, flat []float32) []checkpoint.Tensor {
	ts := make([]checkpoint.Tensor, len(params))
	for i, p := range params {
		ts[i] = checkpoint.Tensor{Name: prefix + p.Name, Shape: p.Shape, Data: flat[p.Offset : p.Offset+p.Len]}
	}
	return ts
}

// join is the reverse of split, for tensors in the order of params.
func join(flat []float32, params []nn.Param, ts []checkpoint.Tensor) {
	for i, p := range params {
		copy(flat[p.Offset:p.Offset+p.Len], ts[i].Data)
	}
}

func download(b op.Backend, t op.Tensor) []float32 {
	x := make([]float32, t.Elems())
	b.Read(x, t)
	return x
}

// download32 appends a tensor to dst.
func download32(dst []float32, b op.Backend, t op.Tensor) []float32 {
	at := len(dst)
	dst = slices.Grow(dst, t.Elems())[:at+t.Elems()]
	b.Read(dst[at:], t)
	return dst
}
