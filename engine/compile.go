package engine

import (
	"fmt"
	"slices"

	"swav/nn"
	"swav/op"
)

// compiler collects steps over buffers whose places are not known yet, then
// places the buffers and binds the steps to tensors.
type compiler struct {
	plan    *Plan
	buffers []buffer
	pending []pending
	convs   map[string]op.Conv // by layer: the first crop group's, which takes the weights for all
	written map[int]int        // by parameter: the backward step after which its gradient is whole
	steps   int                // of the backward pass so far
	now     int                // index of the step being added; grows over forward and backward
	err     error
}

// pending is a step whose operands are still refs.
type pending struct {
	step     Step
	backward bool
	bind     func(at func(ref) op.Tensor) func()
}

// pass remembers what the backward pass of one backbone pass, or of the head,
// needs.
type pass struct {
	layers  []nn.Layer
	values  []ref // by nn.Value
	moments []ref // by layer: batch norm
	index   []ref // by layer: max pooling
	convs   []op.Conv
	grads   [][]ref // by nn.Value: contributions to the gradient, at most two
	made    []int   // by nn.Value: 1 + the batch norm that makes it again in the backward pass; 0: it is kept
	rows    int     // images of the pass
}

func (c *compiler) compile() error {
	p := c.plan
	b, net, cfg := p.Model.Backend, p.Model.Net, p.Config
	rows := p.Views() * cfg.Batch

	fixed := func(dst *op.Tensor, shape ...int) {
		if c.err != nil {
			return
		}
		t, err := NewTensor(b, op.Float32, shape...)
		if err != nil {
			c.err = err
			return
		}
		p.owned = append(p.owned, t.Mem)
		*dst = t
	}
	for _, g := range p.groups {
		var in op.Tensor
		fixed(&in, g.Count*cfg.Batch, g.Size, g.Size, net.Arch.InChannels)
		p.Inputs = append(p.Inputs, in)
	}
	fixed(&p.Features, rows, net.FeatureDim())
	if net.Embedding != nn.None {
		fixed(&p.Embeddings, rows, net.Arch.FeatureDim)
	}
	fixed(&p.Scores, rows, net.Outputs())
	if cfg.Train {
		fixed(&p.ScoreGrads, rows, net.Outputs())
	}
	if c.err != nil {
		return fmt.Errorf("inputs and outputs of the plan: %w", c.err)
	}

	passes := make([]*pass, len(p.groups))
	at := 0
	for i, g := range p.groups {
		n := g.Count * cfg.Batch
		passes[i] = c.backbone(p.Inputs[i], p.Features.Slice(at, n), n)
		at += n
	}
	head := c.head(rows)
	if cfg.Train && c.err == nil {
		dfeatures := c.headBackward(head)
		for i := len(passes) - 1; i >= 0; i-- {
			at -= passes[i].rows
			c.backboneBackward(passes[i], dfeatures, at)
		}
	}
	if c.err != nil {
		return c.err
	}
	return c.bind()
}

// bind places the buffers and turns the pending steps into calls.
func (c *compiler) bind() error {
	p := c.plan
	p.arenaSize = place(c.buffers)
	mem, err := p.Model.Backend.Alloc(max(p.arenaSize, alignment))
	if err != nil {
		return fmt.Errorf("intermediates of a batch of %d images: %w", p.Config.Batch, err)
	}
	p.arena = mem
	p.owned = append(p.owned, mem)
	at := func(r ref) op.Tensor {
		if r == absent {
			return op.Tensor{}
		}
		b := &c.buffers[r]
		return op.Tensor{Mem: mem, Offset: b.offset, Shape: b.shape, DType: b.dtype}
	}
	if p.Config.Train {
		p.whole = c.whole()
	}
	for _, s := range c.pending {
		s.step.run = s.bind(at)
		if s.backward {
			p.backward = append(p.backward, s.step)
		} else {
			p.forward = append(p.forward, s.step)
		}
	}
	return nil
}

// wrote tells that the step added last adds to the gradients of some parameters; -1 is
// none.
func (c *compiler) wrote(params ...int) {
	for _, p := range params {
		if p >= 0 {
			c.written[p] = c.steps - 1
		}
	}
}

// whole finds, for every backward step, the element of the flat gradient from which on
// all are final after it.
func (c *compiler) whole() []int {
	params := c.plan.Model.Net.Params
	from := make([]int, c.steps)
	for i := range from {
		from[i] = c.plan.Model.Net.NumParams
	}
	last := 0 // step that ends what lies behind
	for p := len(params) - 1; p >= 0; p-- {
		last = max(last, c.written[p])
		from[last] = params[p].Offset
	}
	for i := 1; i < len(from); i++ {
		from[i] = min(from[i], from[i-1])
	}
	return from
}

func (c *compiler) newBuffer(d op.DType, shape ...int) ref {
	c.buffers = append(c.buffers, buffer{shape: shape, dtype: d, first: -1, last: -1})
	return ref(len(c.buffers) - 1)
}

// like is a new buffer shaped like r.
func (c *compiler) like(r ref) ref { return c.newBuffer(c.buffers[r].dtype, c.buffers[r].shape...) }

// add appends a step that uses the given buffers.
func (c *compiler) add(backward bool, layer, kind string, macs int64, uses []ref, bind func(at func(ref) op.Tensor) func()) {
	var bytes int64
	for i, r := range uses {
		if r == absent {
			continue
		}
		b := &c.buffers[r]
		if b.first < 0 {
			b.first = c.now
		}
		b.last = c.now
		if !slices.Contains(uses[:i], r) { // in place counts once
			bytes += b.bytes()
		}
	}
	if backward {
		c.steps++
	}
	c.pending = append(c.pending, pending{Step{Layer: layer, Kind: kind, MACs: macs, Bytes: bytes}, backward, bind})
	c.now++
}

// conv compiles a convolution and lists the refresh of its weights; with norm,
// one with that batch norm folded in.
func (c *compiler) conv(l nn.Layer, in []int, norm *nn.Layer) op.Conv {
	p := c.plan
	m := p.Model
	params := convParams(l, in)
	params.DType, params.Inference, params.NoBackwardData, params.Direct = p.Precision, !p.Config.Train, l.In == 0, p.Config.Direct
	if norm != nil {
		params.Folded, params.Residual, params.ReLU = true, norm.Residual != nn.None, norm.ReLU
	}
	conv, err := m.Backend.NewConv(params)
	if err != nil {
		c.err = fmt.Errorf("layer %s on %dx%d crops: %w", l.Name, in[1], in[2], err)
		return nil
	}
	p.convs = append(p.convs, conv)
	if first := c.convs[l.Name]; first != nil && norm == nil {
		conv.ShareWeights(first)
		return conv
	}
	c.convs[l.Name] = conv
	w := m.Param(l.Weight)
	set := func() { conv.SetWeights(w) }
	if norm != nil {
		gamma, beta, mean, variance := m.Param(norm.Weight), m.Param(norm.Bias), m.buffer(norm.Mean), m.buffer(norm.Var)
		set = func() { conv.SetFolded(w, gamma, beta, mean, variance, p.Config.BatchNormEps) }
	}
	p.refresh = append(p.refresh, Step{Layer: l.Name, Kind: "weights", run: set})
	return conv
}
