package engine

import (
	"fmt"
	"slices"

	"swav/nn"
	"swav/op"
)

// backbone appends the forward pass of one crop group: input is [n, size,
// size, channels], features the group's rows of the pooled features.
func (c *compiler) backbone(input, features op.Tensor, n int) *pass {
	p := c.plan
	b, net, d := p.Model.Backend, p.Model.Net, p.Precision
	s := newPass(net.Backbone, net.Values, n)
	if p.Config.Train {
		s.forget()
	}

	x := c.newBuffer(d, input.Shape...)
	s.values[0] = x
	c.add(false, "input", "cast", 0, []ref{x}, func(at func(ref) op.Tensor) func() {
		dst := at(x)
		return func() { b.Copy(dst, input) }
	})
	for i, l := range net.Backbone {
		if c.err != nil {
			return s
		}
		x := s.values[l.In]
		if x == absent { // made by a convolution that waits for its batch norm
			c.folded(s, net.Backbone, l)
			continue
		}
		in := c.buffers[x].shape
		switch l.Kind {
		case nn.Conv:
			if !p.Config.Train {
				continue // comes with its batch norm
			}
			conv := c.conv(l, in, nil)
			if conv == nil {
				return s
			}
			s.convs[i] = conv
			params := convParams(l, in)
			y := c.newBuffer(d, in[0], params.OutHeight(), params.OutWidth(), l.OutChannels)
			s.values[l.Out] = y
			c.add(false, l.Name, "conv forward", params.MACs(), []ref{x, y}, func(at func(ref) op.Tensor) func() {
				x, y := at(x), at(y)
				return func() { conv.Forward(y, x) }
			})
		case nn.BatchNorm:
			c.norm(s, i, l)
		case nn.MaxPool:
			pool := op.PoolParams{Kernel: l.Kernel, Stride: l.Stride, Pad: l.Pad}
			y := c.newBuffer(d, in[0], pool.Out(in[1]), pool.Out(in[2]), in[3])
			s.values[l.Out] = y
			if p.Config.Train {
				s.index[i] = c.newBuffer(op.Uint8, c.buffers[y].shape...)
			}
			index := s.index[i]
			c.add(false, l.Name, "pool", 0, []ref{x, y, index}, func(at func(ref) op.Tensor) func() {
				x, y, index := at(x), at(y), at(index)
				return func() { b.MaxPool(y, index, x, pool) }
			})
		case nn.AvgPool:
			if p.Config.Map {
				c.keepMap(x)
			}
			c.add(false, l.Name, "pool", 0, []ref{x}, func(at func(ref) op.Tensor) func() {
				x := at(x)
				return func() { b.AvgPool(features, x) }
			})
		}
	}
	return s
}

// keepMap appends a copy of the last feature map to a place that outlives the pass.
func (c *compiler) keepMap(x ref) {
	p := c.plan
	b := p.Model.Backend
	t, err := NewTensor(b, op.Float32, c.buffers[x].shape...)
	if err != nil {
		c.err = fmt.Errorf("last feature map: %w", err)
		return
	}
	p.owned = append(p.owned, t.Mem)
	p.Map = t
	c.add(false, "map", "cast", 0, []ref{x}, func(at func(ref) op.Tensor) func() {
		x := at(x)
		return func() { b.Copy(t, x) }
	})
}

// folded appends, in evaluation, a convolution with the batch norm that reads
// it: one pass for the product, the normalisation, the residual and the ReLU. The
// result takes the place of the residual, which nobody reads after it: a block's
// input feeds its first convolution and its shortcut, both behind.
func (c *compiler) folded(s *pass, layers []nn.Layer, norm nn.Layer) {
	l := layers[slices.IndexFunc(layers, func(l nn.Layer) bool { return l.Kind == nn.Conv && l.Out == norm.In })]
	x := s.values[l.In]
	in := c.buffers[x].shape
	conv := c.conv(l, in, &norm)
	if conv == nil {
		return
	}
	params := convParams(l, in)
	y, residual := absent, absent
	if norm.Residual != nn.None {
		residual = s.values[norm.Residual]
		y = residual
	} else {
		y = c.newBuffer(c.plan.Precision, in[0], params.OutHeight(), params.OutWidth(), l.OutChannels)
	}
	s.values[norm.Out] = y
	c.add(false, l.Name, "conv forward", params.MACs(), []ref{x, y, residual}, func(at func(ref) op.Tensor) func() {
		x, y, residual := at(x), at(y), at(residual)
		return func() { conv.ForwardFolded(y, x, residual) }
	})
}

func newPass(layers []nn.Layer, values, rows int) *pass {
	s := &pass{layers: layers, rows: rows,
		values: make([]ref, values), grads: make([][]ref, values),
		made: make([]int, values), moments: make([]ref, len(layers)), index: make([]ref, len(layers)), convs: make([]op.Conv, len(layers))}
	for i := range s.values {
		s.values[i] = absent
	}
	for i := range layers {
		s.moments[i], s.index[i] = absent, absent
	}
	return s
}

// convParams has the geometry of a layer alone, for shapes and counts.
func convParams(l nn.Layer, in []int) op.ConvParams {
	return op.ConvParams{Batch: in[0], Height: in[1], Width: in[2], In: l.InChannels, Out: l.OutChannels,
		Kernel: l.Kernel, Stride: l.Stride, Pad: l.Pad}
}

// norm appends batch norm of layer i: statistics of the batch over all ranks
// in training, running statistics otherwise. A training plan keeps the input for
// the backward pass; in an evaluation plan the result overwrites it.
func (c *compiler) norm(s *pass, i int, l nn.Layer) {
	p := c.plan
	b, m, cfg := p.Model.Backend, p.Model, p.Config
	x, residual := s.values[l.In], absent
	if l.Residual != nn.None {
		residual = s.values[l.Residual]
	}
	mean, variance := m.buffer(l.Mean), m.buffer(l.Var)
	moments := c.newBuffer(c.buffers[x].dtype.Statistics(), 2, l.OutChannels)
	s.moments[i] = moments
	if cfg.Train {
		sums := c.newBuffer(op.Float64, 2, l.OutChannels)
		count := c.count(x)
		c.add(false, l.Name, "norm forward", 0, []ref{x, sums}, func(at func(ref) op.Tensor) func() {
			x, sums := at(x), at(sums)
			return func() { b.BatchNormSums(sums, x) }
		})
		c.reduce(false, l.Name, sums)
		c.add(false, l.Name, "norm forward", 0, []ref{sums, moments}, func(at func(ref) op.Tensor) func() {
			sums, moments := at(sums), at(moments)
			return func() {
				b.BatchNormMoments(moments, mean, variance, sums, count, cfg.BatchNormEps, cfg.BatchNormMomentum)
			}
		})
	} else {
		c.add(false, l.Name, "norm forward", 0, []ref{moments}, func(at func(ref) op.Tensor) func() {
			moments := at(moments)
			return func() { b.BatchNormRunning(moments, mean, variance, cfg.BatchNormEps) }
		})
	}
	y := x
	if cfg.Train {
		y = c.like(x)
	}
	s.values[l.Out] = y
	c.apply(false, "norm forward", l, x, y, moments, residual)
}

// apply appends the pass that normalises, adds and rectifies.
func (c *compiler) apply(backward bool, kind string, l nn.Layer, x, y, moments, residual ref) {
	b, m := c.plan.Model.Backend, c.plan.Model
	gamma, beta := m.Param(l.Weight), m.Param(l.Bias)
	c.add(backward, l.Name, kind, 0, []ref{x, y, moments, residual}, func(at func(ref) op.Tensor) func() {
		x, y, moments, residual := at(x), at(y), at(moments), at(residual)
		return func() { b.BatchNormApply(y, x, moments, gamma, beta, residual, l.ReLU) }
	})
}

// forget chooses the values that are not kept for the backward pass but made
// again there from the input of their batch norm, which is kept anyway: those
// within blocks, and the result of every second block, whose residual is kept.
// That is a third of the memory of activations for a hundredth of the time.
func (s *pass) forget() {
	kept := make([]bool, len(s.values)) // of those that batch norms with a ReLU make
	for i, l := range s.layers {
		if l.Kind != nn.BatchNorm || !l.ReLU {
			continue
		}
		if l.Residual == nn.None || kept[l.Residual] {
			s.made[l.Out] = i + 1
		} else {
			kept[l.Out] = true
		}
	}
}

// count is the number of rows of r over all ranks that share statistics.
func (c *compiler) count(r ref) int {
	return op.Tensor{Shape: c.buffers[r].shape}.Rows() * c.plan.Config.Norm.Size()
}

// reduce sums a small tensor over them.
func (c *compiler) reduce(backward bool, layer string, sums ref) {
	comm, b := c.plan.Config.Norm, c.plan.Model.Backend
	if comm.Size() == 1 {
		return
	}
	c.add(backward, layer, "all-reduce", 0, []ref{sums}, func(at func(ref) op.Tensor) func() {
		sums := at(sums)
		return func() { b.AllReduce(sums, comm) }
	})
}

// head appends the projection head and the prototype scores over all crops.
func (c *compiler) head(rows int) *pass {
	p := c.plan
	b, net, m := p.Model.Backend, p.Model.Net, p.Model
	s := newPass(net.Head, net.HeadVals, rows)
	x := c.newBuffer(op.Float32, rows, net.FeatureDim())
	s.values[0] = x
	c.add(false, "features", "cast", 0, []ref{x}, func(at func(ref) op.Tensor) func() {
		dst := at(x)
		return func() { b.Copy(dst, p.Features) }
	})
	for i, l := range net.Head {
		x := s.values[l.In]
		switch l.Kind {
		case nn.Linear:
			y := c.newBuffer(op.Float32, rows, l.OutChannels)
			s.values[l.Out] = y
			w, bias := m.Param(l.Weight), m.Param(l.Bias)
			c.add(false, l.Name, "linear forward", linearMACs(rows, l), []ref{x, y}, func(at func(ref) op.Tensor) func() {
				x, y := at(x), at(y)
				return func() { b.Linear(y, x, w, bias) }
			})
		case nn.BatchNorm:
			c.norm(s, i, l)
		case nn.Normalize:
			s.moments[i] = c.newBuffer(op.Float32, rows)
			norms := s.moments[i]
			c.add(false, l.Name, "normalize", 0, []ref{x, norms}, func(at func(ref) op.Tensor) func() {
				x, norms := at(x), at(norms)
				return func() { b.L2Normalize(p.Embeddings, norms, x) }
			})
		case nn.Scores:
			w, bias := m.Param(l.Weight), op.Tensor{}
			if l.Bias >= 0 {
				bias = m.Param(l.Bias)
			}
			c.add(false, l.Name, "linear forward", linearMACs(rows, l), []ref{x}, func(at func(ref) op.Tensor) func() {
				x := c.scored(x, at)
				return func() { b.Linear(p.Scores, x, w, bias) }
			})
		}
	}
	return s
}

// scored is what the scores are computed from: the embeddings, which have a place of
// their own, or the features x.
func (c *compiler) scored(x ref, at func(ref) op.Tensor) op.Tensor {
	if x == absent {
		return c.plan.Embeddings
	}
	return at(x)
}

func linearMACs(rows int, l nn.Layer) int64 {
	return int64(rows) * int64(l.InChannels) * int64(l.OutChannels)
}
