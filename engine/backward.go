package engine

import (
	"swav/nn"
	"swav/op"
)

// headBackward appends the backward pass of the head and returns the gradient
// of the pooled features.
func (c *compiler) headBackward(s *pass) ref {
	p := c.plan
	b, m := p.Model.Backend, p.Model
	var dy ref = absent
	for i := len(s.layers) - 1; i >= 0; i-- {
		l := s.layers[i]
		x := s.values[l.In]
		switch l.Kind {
		case nn.Scores:
			dx := c.newBuffer(op.Float32, s.rows, l.InChannels)
			w, dw, db := m.Param(l.Weight), m.Grad(l.Weight), op.Tensor{}
			if l.Bias >= 0 {
				db = m.Grad(l.Bias)
			}
			c.add(true, l.Name, "linear backward", 2*linearMACs(s.rows, l), []ref{x, dx}, func(at func(ref) op.Tensor) func() {
				x, dx := c.scored(x, at), at(dx)
				return func() {
					b.LinearBackwardWeights(dw, db, x, p.ScoreGrads)
					b.LinearBackwardData(dx, p.ScoreGrads, w)
				}
			})
			c.wrote(l.Weight, l.Bias)
			dy = dx
		case nn.Normalize:
			dx, norms, from := c.newBuffer(op.Float32, s.rows, l.InChannels), s.moments[i], dy
			c.add(true, l.Name, "normalize", 0, []ref{dx, norms, from}, func(at func(ref) op.Tensor) func() {
				dx, norms, dy := at(dx), at(norms), at(from)
				return func() { b.L2NormalizeBackward(dx, dy, p.Embeddings, norms) }
			})
			dy = dx
		case nn.Linear:
			dx, from := c.newBuffer(op.Float32, s.rows, l.InChannels), dy
			w, dw, db := m.Param(l.Weight), m.Grad(l.Weight), m.Grad(l.Bias)
			c.add(true, l.Name, "linear backward", 2*linearMACs(s.rows, l), []ref{x, dx, from}, func(at func(ref) op.Tensor) func() {
				x, dx, dy := at(x), at(dx), at(from)
				return func() {
					b.LinearBackwardWeights(dw, db, x, dy)
					b.LinearBackwardData(dx, dy, w)
				}
			})
			c.wrote(l.Weight, l.Bias)
			dy = dx
		case nn.BatchNorm:
			s.grads[l.Out] = []ref{dy}
			c.normBackward(s, i, l)
			dy = s.grads[l.In][0]
		}
	}
	return dy
}

// backboneBackward appends the backward pass of one crop group; its rows of
// the gradient of the pooled features start at row from.
//
// Walking the layers in reverse, each value's gradient is whole when its
// producer is reached. A block's input feeds its first convolution and its
// shortcut; the two contributions are not added up in a pass of their own but
// read together by the batch norm that produced the value.
func (c *compiler) backboneBackward(s *pass, dfeatures ref, from int) {
	p := c.plan
	b, m := p.Model.Backend, p.Model
	for i := len(s.layers) - 1; i >= 0; i-- {
		l := s.layers[i]
		x := s.values[l.In]
		switch l.Kind {
		case nn.AvgPool:
			dx := c.like(x)
			c.add(true, l.Name, "pool", 0, []ref{dx, dfeatures}, func(at func(ref) op.Tensor) func() {
				dx, dy := at(dx), at(dfeatures).Slice(from, s.rows)
				return func() { b.AvgPoolBackward(dx, dy) }
			})
			s.give(l.In, dx)
		case nn.MaxPool:
			dy, index, dx := c.sum(s, l), s.index[i], c.like(x)
			pool := op.PoolParams{Kernel: l.Kernel, Stride: l.Stride, Pad: l.Pad}
			c.add(true, l.Name, "pool", 0, []ref{dx, dy, index}, func(at func(ref) op.Tensor) func() {
				dx, dy, index := at(dx), at(dy), at(index)
				return func() { b.MaxPoolBackward(dx, dy, index, pool) }
			})
			s.give(l.In, dx)
		case nn.BatchNorm:
			c.normBackward(s, i, l)
		case nn.Conv:
			x = c.value(s, l.In)
			dy, conv, dw := s.grads[l.Out][0], s.convs[i], m.Grad(l.Weight)
			macs := convParams(l, c.buffers[x].shape).MACs()
			c.add(true, l.Name, "conv backward weights", macs, []ref{x, dy}, func(at func(ref) op.Tensor) func() {
				x, dy := at(x), at(dy)
				return func() { conv.BackwardWeights(dw, x, dy) }
			})
			c.wrote(l.Weight)
			if l.In == 0 {
				continue // nobody wants the gradient of the pixels
			}
			dx := c.like(x)
			c.add(true, l.Name, "conv backward data", macs, []ref{dx, dy}, func(at func(ref) op.Tensor) func() {
				dx, dy := at(dx), at(dy)
				return func() { conv.BackwardData(dx, dy) }
			})
			s.give(l.In, dx)
		}
	}
}

// give records a contribution to the gradient of v.
func (s *pass) give(v nn.Value, d ref) { s.grads[v] = append(s.grads[v], d) }

// value returns v for the backward pass, making it again if it was not kept.
func (c *compiler) value(s *pass, v nn.Value) ref {
	if i := s.made[v] - 1; i >= 0 {
		l := s.layers[i]
		residual := absent
		if l.Residual != nn.None {
			residual = s.values[l.Residual]
		}
		x := s.values[l.In]
		y := c.like(x)
		c.apply(true, "norm again", l, x, y, s.moments[i], residual)
		s.values[v], s.made[v] = y, 0
	}
	return s.values[v]
}

// sum returns the whole gradient of a layer's output, adding contributions up
// where there are two.
func (c *compiler) sum(s *pass, l nn.Layer) ref {
	g := s.grads[l.Out]
	if len(g) == 1 {
		return g[0]
	}
	b := c.plan.Model.Backend
	c.add(true, l.Name, "add", 0, g, func(at func(ref) op.Tensor) func() {
		x, y := at(g[0]), at(g[1])
		return func() { b.Add(x, x, y) }
	})
	return g[0]
}

// normBackward appends the backward pass of batch norm (with its ReLU and
// residual) of layer i. The gradient of the input takes the place of the
// gradient of the output.
func (c *compiler) normBackward(s *pass, i int, l nn.Layer) {
	p := c.plan
	b, m := p.Model.Backend, p.Model
	g := s.grads[l.Out]
	dy, dy2 := g[0], absent
	if len(g) == 2 {
		dy2 = g[1]
	}
	x, y, moments := s.values[l.In], absent, s.moments[i]
	if l.ReLU {
		y = c.value(s, l.Out)
	}
	dx, dresidual := dy, absent
	if l.Residual != nn.None {
		if dresidual = dy2; dresidual == absent {
			dresidual = c.like(dy)
		}
	}
	gamma, dgamma, dbeta := m.Param(l.Weight), m.Grad(l.Weight), m.Grad(l.Bias)
	sums := c.newBuffer(op.Float64, 2, l.OutChannels)
	count := c.count(x)
	c.add(true, l.Name, "norm backward", 0, []ref{dy, dy2, x, y, moments, sums}, func(at func(ref) op.Tensor) func() {
		dy, dy2, x, y, moments, sums := at(dy), at(dy2), at(x), at(y), at(moments), at(sums)
		return func() { b.BatchNormBackwardSums(sums, dgamma, dbeta, dy, dy2, y, x, moments, l.ReLU) }
	})
	c.wrote(l.Weight, l.Bias)
	c.reduce(true, l.Name, sums)
	c.add(true, l.Name, "norm backward", 0, []ref{dx, dresidual, dy, dy2, x, y, moments, sums}, func(at func(ref) op.Tensor) func() {
		dx, dresidual, dy, dy2, x, y, moments, sums := at(dx), at(dresidual), at(dy), at(dy2), at(x), at(y), at(moments), at(sums)
		return func() { b.BatchNormBackward(dx, dresidual, dy, dy2, y, x, moments, gamma, sums, count, l.ReLU) }
	})
	s.give(l.In, dx)
	if l.Residual != nn.None {
		s.give(l.Residual, dresidual)
	}
}
