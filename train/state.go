package train

import (
	"fmt"
	"reflect"
	"slices"

	"swav"
	"swav/checkpoint"
	"swav/dist"
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
	QueueFilled int // rows of each queue that hold embeddings
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

// snapshot copies all that a run needs to go on out of the backend. All ranks call it;
// rank 0's is whole.
func snapshot(s *Stepper, st State) (checkpoint.Snapshot, error) {
	m := s.Model
	method, err := s.Method.save(&st)
	if err != nil {
		return checkpoint.Snapshot{}, err
	}
	snap := checkpoint.Snapshot{Step: st.Step, State: st, Model: modelTensors(m)}
	snap.Optimizer = split(momentumPrefix, m.Net.Params, download(m.Backend, s.Momentum))
	if s.Second.Present() {
		snap.Optimizer = append(snap.Optimizer, split(secondPrefix, m.Net.Params, download(m.Backend, s.Second))...)
	}
	snap.Optimizer = append(snap.Optimizer, method...)
	return snap, nil
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

// restore puts a checkpoint's tensors back on all ranks, of which rank 0 alone has read
// them. The error of a checkpoint of another architecture or method names the difference.
func restore(s *Stepper, l *checkpoint.Loaded, st State) (State, error) {
	m := s.Model
	if err := sameArch(st.Arch, m.Net.Arch); err != nil {
		return st, fmt.Errorf("resume: the checkpoint %w", err)
	}
	blank, err := snapshot(s, st) // names and shapes; the data is overwritten
	if err != nil {
		return st, err
	}
	want := blank.Optimizer
	if s.comm.Rank() == 0 {
		if err := checkpoint.Restore(blank.Model, l.Model); err != nil {
			return st, fmt.Errorf("checkpoint %s: %w", l.Path, err)
		}
		if err := checkpoint.Restore(want, l.Optimizer); err != nil {
			return st, fmt.Errorf("checkpoint %s: optimizer or method differ from the recipe's: %w", l.Path, err)
		}
	}
	if err := share(s.comm, blank.Model, want); err != nil {
		return st, err
	}
	if err := LoadModel(m, blank.Model); err != nil {
		return st, err
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
		return st, fmt.Errorf("resume: the checkpoint's %w", err)
	}
	return st, m.Backend.Sync()
}

// share sends rank 0's tensors to all.
func share(c dist.Comm, lists ...[]checkpoint.Tensor) error {
	if c.Size() == 1 {
		return nil
	}
	for _, ts := range lists {
		for i, t := range ts {
			if t.Data == nil {
				n := 1
				for _, d := range t.Shape {
					n *= d
				}
				ts[i].Data = make([]float32, n)
			}
			if err := c.Broadcast(ts[i].Data, 0); err != nil {
				return err
			}
		}
	}
	return nil
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
