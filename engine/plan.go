// Package engine compiles a network, its crops, a batch size and a precision
// for one backend into a Plan: the order of operators, where each
// intermediate lives in one arena, and what of it is kept for the backward pass.
// A plan allocates nothing while it runs.
//
// One plan serves one rank and is used by one goroutine. Backward passes are
// written out by hand, layer by layer; there is no automatic differentiation.
//
// What does not belong here: which loss is computed from the scores, what an
// optimizer does with the gradients (package train), and any arithmetic.
package engine

import (
	"fmt"

	"swav/dist"
	"swav/nn"
	"swav/op"
)

// Group is a run of crops of equal size: one pass of the backbone.
type Group struct {
	Count int // crops per image
	Size  int // side in pixels
}

// Config is what a plan is compiled for.
type Config struct {
	Groups []Group // in crop order; neighbours of equal size are merged into one pass
	Batch  int     // images of this rank
	// Precision is the least precision of the backbone's activations: a plan
	// too small to be slow computes in float64 (wideMACs), unless NoWidening.
	Precision  op.DType
	NoWidening bool
	Direct     bool      // no fast algorithm for convolutions that rounds more than plain sums (op.ConvParams)
	Comm       dist.Comm // the ranks that train together; nil: one rank
	// Norm are the ranks over which batch-norm statistics are summed, a part of Comm's
	// from Comm.Split, or dist.Solo(); nil: all of Comm's.
	Norm dist.Comm
	// Train compiles forward (batch statistics, running statistics updated)
	// and backward. Otherwise the plan only runs forward, on running statistics.
	Train bool
	// Map keeps the last feature map, before the average, as Plan.Map; with one crop
	// group.
	Map bool
	// BatchNormEps and BatchNormMomentum default to PyTorch's 1e-5 and 0.1.
	BatchNormEps, BatchNormMomentum float64
}

// Step is one operator call of a plan.
type Step struct {
	Layer string // module name, "conv1"
	Kind  string // operator, "conv forward"
	MACs  int64  // multiply-accumulates of a convolution or product; 0 elsewhere
	// Bytes of the activations that the step reads or writes, each once: what
	// must cross the memory bus where no cache helps. Weights are left out.
	Bytes int64
	run   func()
}

// Plan is a compiled network. Its tensors stay valid until Close.
type Plan struct {
	Config    Config
	Model     *Model
	Precision op.DType // of the backbone's activations

	// Inputs has one tensor per merged group, float32 [Count*Batch, Size, Size,
	// channels], crop-major; write it before Forward.
	Inputs []op.Tensor
	// Features are the pooled features [views*Batch, FeatureDim], Embeddings
	// the normalised embeddings, Scores the prototype scores; float32 and
	// crop-major, valid after Forward. A classifier has no embeddings, and its scores
	// are of classes, before the softmax.
	Features, Embeddings, Scores op.Tensor
	// Map is the last feature map, float32 [views*Batch, height, width, FeatureDim],
	// with Config.Map.
	Map op.Tensor
	// ScoreGrads, shaped like Scores, is read by Backward; write it before.
	ScoreGrads op.Tensor

	groups    []Group // merged
	refresh   []Step  // weights into the convolutions
	forward   []Step
	backward  []Step
	whole     []int // by step of backward: gradients from this element on are final after it
	arena     op.Memory
	arenaSize int64
	owned     []op.Memory
	convs     []op.Conv
}

// Views is the number of crops of one image.
func (p *Plan) Views() int {
	n := 0
	for _, g := range p.groups {
		n += g.Count
	}
	return n
}

// Groups are the passes of the backbone, in order.
func (p *Plan) Groups() []Group { return p.groups }

// ArenaBytes is the memory of all intermediates.
func (p *Plan) ArenaBytes() int64 { return p.arenaSize }

// MACs are the multiply-accumulates of all crops of one image, forward.
func (p *Plan) MACs() int64 { return macs(p.Model.Net, p.groups) }

// SetWeights gives the current weights to the convolutions. Forward of a
// training plan does it by itself; an evaluation plan needs it after every
// change of the model.
func (p *Plan) SetWeights() { run(p.refresh) }

// Forward computes Features, Embeddings and Scores from Inputs. Failures are
// reported by the backend's Sync.
func (p *Plan) Forward() {
	if p.Config.Train {
		p.SetWeights()
	}
	run(p.forward)
}

// Backward adds the gradients of all parameters, for the loss whose gradient
// with respect to the scores is in ScoreGrads, to the model's Grads.
func (p *Plan) Backward() {
	if !p.Config.Train {
		panic("engine: backward pass of an evaluation plan")
	}
	run(p.backward)
}

// BackwardWhole is Backward that tells on the way how far it is: whole is called, with
// ever lower numbers, when the elements of the flat gradient from that number on are
// final. A Backward adds to gradients, so of several that do, only the last may.
func (p *Plan) BackwardWhole(whole func(from int)) {
	if !p.Config.Train {
		panic("engine: backward pass of an evaluation plan")
	}
	at := p.Model.Net.NumParams
	for i := range p.backward {
		p.backward[i].run()
		if p.whole[i] < at {
			at = p.whole[i]
			whole(at)
		}
	}
}

func run(steps []Step) {
	for i := range steps {
		steps[i].run()
	}
}

// Pass names a part of a plan for Visit.
type Pass uint8

// The parts of a training step that are the plan's.
const (
	Weights Pass = iota // current weights into the convolutions
	ForwardPass
	BackwardPass
)

// Visit calls f for every step of a part of the plan instead of running them
// straight; f runs the step by calling its second argument.
func (p *Plan) Visit(part Pass, f func(s *Step, run func())) {
	steps := [][]Step{p.refresh, p.forward, p.backward}[part]
	for i := range steps {
		f(&steps[i], steps[i].run)
	}
}

// Close frees everything but the model.
func (p *Plan) Close() {
	for _, c := range p.convs {
		c.Close()
	}
	for _, m := range p.owned {
		p.Model.Backend.Free(m)
	}
	p.convs, p.owned = nil, nil
}

// Compile builds the plan. The error names what the backend cannot do, or how
// much memory is missing.
func Compile(m *Model, cfg Config) (*Plan, error) {
	if cfg.Comm == nil {
		cfg.Comm = dist.Solo()
	}
	if cfg.Norm == nil {
		cfg.Norm = cfg.Comm
	}
	if cfg.BatchNormEps == 0 {
		cfg.BatchNormEps = 1e-5
	}
	if cfg.BatchNormMomentum == 0 {
		cfg.BatchNormMomentum = 0.1
	}
	groups, err := merge(m.Net.Arch, cfg)
	if err != nil {
		return nil, err
	}
	if cfg.Map && len(groups) != 1 {
		return nil, fmt.Errorf("feature maps of %d crop groups: want one group", len(groups))
	}
	precision := cfg.Precision
	if !m.Backend.Supports(precision) {
		return nil, fmt.Errorf("backend %s does not support precision %v: use fp32", m.Backend.Name(), precision)
	}
	if !cfg.NoWidening && m.Backend.Supports(op.Float64) && macs(m.Net, groups)*int64(cfg.Batch) <= wideMACs {
		precision = op.Float64
	}
	if cfg.Train && !m.Grads.Present() {
		return nil, fmt.Errorf("model has no gradient buffer: create it for training")
	}
	c := &compiler{convs: map[string]op.Conv{}, written: map[int]int{}, plan: &Plan{Config: cfg, Model: m, Precision: precision, groups: groups}}
	if err := c.compile(); err != nil {
		c.plan.Close()
		return nil, err
	}
	return c.plan, nil
}

// wideMACs is the work of a forward pass below which a plan computes in float64
// whatever less is asked for. So small a step takes a few hundredths of a second
// either way, and a small one is where rounding shows: a pre-activation that
// rounds to the other side of zero opens a ReLU, and where few samples share a
// batch norm the gradients of all layers before it then differ from the exact
// ones in the second or third digit (docs/numerics.md). A ResNet-18 of an eighth
// of the width on 8 images of 2x32 + 4x16 pixels is 0.2 G.
const wideMACs = 1 << 28

// macs is the work of all crops of one image, forward.
func macs(net *nn.Network, groups []Group) int64 {
	var n int64
	for _, g := range groups {
		n += int64(g.Count) * net.MACs(g.Size)
	}
	return n
}

func merge(a nn.Arch, cfg Config) ([]Group, error) {
	var groups []Group
	for _, g := range cfg.Groups {
		if g.Count < 1 {
			return nil, fmt.Errorf("crop group of %d crops: want at least 1", g.Count)
		}
		if g.Size < 1 || g.Size > 1<<14 {
			return nil, fmt.Errorf("crops of %d pixels: want 1 to 16384", g.Size)
		}
		if n := len(groups); n > 0 && groups[n-1].Size == g.Size {
			groups[n-1].Count += g.Count
		} else {
			groups = append(groups, g)
		}
	}
	if len(groups) == 0 {
		return nil, fmt.Errorf("no crop groups")
	}
	if cfg.Batch < 1 {
		return nil, fmt.Errorf("batch of %d images: want at least 1", cfg.Batch)
	}
	return groups, nil
}
