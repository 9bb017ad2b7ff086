package train

import (
	"fmt"
	"math"

	"swav/dist"
	"swav/engine"
	"swav/nn"
	"swav/op"
	"swav/optim"
)

// Stepper does training steps of one rank on a compiled plan: the numbers of
// the method, nothing of files, images or schedules. The reference traces are
// replayed on it, so it is the thing that is proved right.
//
// One step is Begin, then once or several times (gradient accumulation): write
// Plan.Inputs and call Accumulate; then Update.
type Stepper struct {
	Plan   *engine.Plan
	Model  *engine.Model
	Method Method

	// Momentum is the optimizer's first moment, flat like the weights; Second
	// the second moment of AdamW, otherwise absent.
	Momentum, Second op.Tensor

	b          op.Backend
	comm       dist.Comm
	opt        optim.Optimizer
	others     []op.Segment // of every parameter but the prototypes
	prototypes []op.Segment
	lossValue  op.Tensor
	norm       op.Tensor
	owned      []op.Memory
	hostBytes  int64 // bytes that the method keeps on the host

	// Parts is how often Accumulate is called in a step, 1 if not set. In the last part
	// gradients are summed over the ranks beside the backward pass.
	Parts   int
	wire    dist.Comm      // sums gradients; comm, or dist.Half of it
	buckets []bucket       // of several ranks
	started int            // buckets that are being summed
	final   func(from int) // start, made once

	step  int // of the last Begin
	micro int // Accumulate calls since
	host  [1]float64
	sum   float64 // of the losses since Begin
}

// NewStepper allocates the state of a run's steps. Weights are the caller's to
// set.
func NewStepper(plan *engine.Plan, method Method, opt optim.Optimizer) (*Stepper, error) {
	m := plan.Model
	s := &Stepper{Plan: plan, Model: m, Method: method, b: m.Backend, comm: plan.Config.Comm, wire: plan.Config.Comm, opt: opt}
	var err error
	alloc := func(d op.DType, shape ...int) op.Tensor {
		if err != nil {
			return op.Tensor{Shape: shape, DType: d}
		}
		var t op.Tensor
		if t, err = engine.NewTensor(s.b, d, shape...); err != nil {
			return op.Tensor{Shape: shape, DType: d}
		}
		s.owned = append(s.owned, t.Mem)
		return t
	}
	s.Momentum = alloc(op.Float32, m.Net.NumParams)
	if opt.Kind == optim.KindAdamW {
		s.Second = alloc(op.Float32, m.Net.NumParams)
	}
	s.lossValue, s.norm = alloc(op.Float64, 1), alloc(op.Float64, 1)
	if bad := method.attach(s, alloc); bad != nil {
		s.Close()
		return nil, bad
	}
	if err != nil {
		s.Close()
		return nil, fmt.Errorf("optimizer and method: %w", err)
	}
	if s.comm.Size() > 1 {
		s.makeBuckets()
		s.final = s.start
	}
	for _, p := range m.Net.Params {
		seg := segment(p, opt)
		if p.Role == nn.PrototypeWeight {
			s.prototypes = append(s.prototypes, seg)
		} else {
			s.others = append(s.others, seg)
		}
	}
	return s, nil
}

// segment is a parameter as the optimizer sees it.
func segment(p nn.Param, o optim.Optimizer) op.Segment {
	decay, adapt := o.Group(p.Role == nn.NormWeight || p.Role == nn.NormBias || p.Role == nn.LinearBias)
	return op.Segment{Offset: p.Offset, Len: p.Len, WeightDecay: decay, Adapt: adapt}
}

// Bytes is the memory of weights, gradients, moments and what the method keeps.
func (s *Stepper) Bytes() int64 {
	n := s.hostBytes + s.Model.Weights.Bytes() + s.Model.Grads.Bytes() + s.Model.Buffers.Bytes()
	for _, m := range s.owned {
		n += m.Len()
	}
	return n
}

// Close frees what the stepper allocated; plan and model are the caller's.
func (s *Stepper) Close() {
	for _, m := range s.owned {
		s.b.Free(m)
	}
	s.owned = nil
	if s.wire != s.comm {
		_ = s.wire.Close()
	}
}

// Begin starts step number step, with gradients of zero.
func (s *Stepper) Begin(step int) {
	s.step, s.micro, s.sum, s.started = step, 0, 0, 0
	s.Method.begin()
	s.b.Zero(s.Model.Grads)
}

// Accumulate runs forward, targets, loss and backward on Plan.Inputs and adds to
// the gradients. It returns this rank's loss.
func (s *Stepper) Accumulate() (float64, error) {
	s.Plan.Forward()
	s.Method.targets()
	s.Method.loss()
	switch s.micro++; {
	case s.comm.Size() == 1 || s.micro < s.Parts:
		s.Plan.Backward()
	case s.micro > max(1, s.Parts):
		return math.NaN(), fmt.Errorf("part %d of a step of %d: its gradients are summed over the ranks already", s.micro, max(1, s.Parts))
	default:
		s.Plan.BackwardWhole(s.final)
	}
	if err := s.b.Sync(); err != nil {
		return math.NaN(), err
	}
	s.b.ReadFloat64(s.host[:], s.lossValue)
	s.sum += s.host[0]
	return s.host[0], nil
}

// Reduce averages the gradients over ranks and accumulated batches and returns
// the mean loss of all ranks. It comes before Update.
func (s *Stepper) Reduce() (float64, error) {
	if err := s.finish(); err != nil {
		return math.NaN(), err
	}
	if n := s.comm.Size() * s.micro; n > 1 {
		s.b.Scale(s.Model.Grads, 1/float64(n))
	}
	s.host[0] = s.sum / float64(s.micro)
	if s.comm.Size() > 1 {
		if err := s.comm.AllReduce64(s.host[:], dist.Sum); err != nil {
			return math.NaN(), err
		}
		s.host[0] /= float64(s.comm.Size())
	}
	return s.host[0], s.b.Sync()
}

// GradNorm is the norm of all gradients, after Reduce.
func (s *Stepper) GradNorm() float64 {
	s.b.SumSquares(s.norm, s.Model.Grads)
	s.b.ReadFloat64(s.host[:], s.norm)
	return math.Sqrt(s.host[0])
}

// Update moves the weights, with prototypes left alone while they are frozen.
func (s *Stepper) Update(lr float64) error {
	s.update(s.others, lr, s.step+1)
	if thaw := s.Method.thaw(); s.step >= thaw {
		s.update(s.prototypes, lr, s.step+1-thaw)
	}
	return s.b.Sync()
}

// update moves some tensors; nth counts their updates from 1.
func (s *Stepper) update(segments []op.Segment, lr float64, nth int) {
	switch s.opt.Kind {
	case optim.KindAdamW:
		s.b.AdamW(s.Model.Weights, s.Momentum, s.Second, s.Model.Grads, segments, op.AdamWParams{
			LR: lr, Beta1: s.opt.Beta1, Beta2: s.opt.Beta2, Eps: s.opt.AdamEps, Step: nth})
	default:
		s.b.LARC(s.Model.Weights, s.Momentum, s.Model.Grads, segments, op.LARCParams{
			LR: lr, Momentum: s.opt.Momentum, Trust: s.opt.Trust, Eps: s.opt.LARCEps, Clip: s.opt.Clip})
	}
}
