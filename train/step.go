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

// Method are the hyperparameters of SwAV itself, per step and resolved: no
// epochs, no automatic values.
type Method struct {
	Assign      []int   // crops whose codes the others predict, counted over all groups
	Temperature float64 // of the predictions; 0.1 in the paper
	Epsilon     float64 // of the assignment; 0.05 in the paper
	Iterations  int     // of Sinkhorn-Knopp; 3 in the paper
	Tolerance   float64 // > 0: Sinkhorn stops early at this marginal error
	Hard        bool    // one-hot codes
	FreezeSteps int     // prototypes are left alone in steps before this one
	QueueLength int     // rows per rank and assignment crop; 0: no queue
	QueueStart  int     // first step that fills the queue
}

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
	// Codes [Batch, K] of each assignment crop, valid after Accumulate.
	Codes []op.Tensor

	b          op.Backend
	comm       dist.Comm
	opt        optim.Optimizer
	others     []op.Segment // of every parameter but the prototypes
	prototypes []op.Segment
	lossValue  op.Tensor
	norm       op.Tensor
	rows       op.Tensor   // queue and batch scores [QueueLength+Batch, K]
	oldRows    op.Tensor   // the queue's of them
	newRows    op.Tensor   // the batch's
	full       []op.Tensor // their codes, one per assignment crop
	batch      []op.Tensor // scores of each assignment crop, within Plan.Scores
	embeds     []op.Tensor // embeddings of each assignment crop, within Plan.Embeddings
	queue      []queue
	filled     int // rows pushed into each queue so far, at most QueueLength
	owned      []op.Memory

	step  int // of the last Begin
	micro int // Accumulate calls since
	host  [1]float64
	sum   float64 // of the losses since Begin
}

// queue keeps the newest embeddings of one assignment crop, newest first. A push
// writes the other of two buffers, so that no copy overlaps itself.
type queue struct {
	buf [2]op.Tensor // [QueueLength, FeatureDim]
	// Parts of the buffers: where a batch is pushed to, what is kept of the old
	// rows, and where that goes. Made once, as a step allocates nothing.
	front, kept, moved [2]op.Tensor
	cur                int
}

func newQueue(a, b op.Tensor, batch int) queue {
	q := queue{buf: [2]op.Tensor{a, b}}
	for i, t := range q.buf {
		keep := t.Shape[0] - batch
		q.front[i], q.kept[i], q.moved[i] = t.Slice(0, batch), t.Slice(0, keep), t.Slice(batch, keep)
	}
	return q
}

// NewStepper allocates the state of a run's steps. Weights are the caller's to
// set.
func NewStepper(plan *engine.Plan, method Method, opt optim.Optimizer) (*Stepper, error) {
	m := plan.Model
	arch := m.Net.Arch
	s := &Stepper{Plan: plan, Model: m, Method: method, b: m.Backend, comm: plan.Config.Comm, opt: opt}
	views, batch := plan.Views(), plan.Config.Batch
	if views < 2 {
		return nil, fmt.Errorf("%d crop per image: swapped prediction needs at least 2", views)
	}
	if len(method.Assign) == 0 {
		return nil, fmt.Errorf("no assignment crops")
	}
	for _, a := range method.Assign {
		if a < 0 || a >= views {
			return nil, fmt.Errorf("assignment crop %d: the views are 0 to %d", a, views-1)
		}
	}
	if method.QueueLength > 0 && method.QueueLength < batch {
		return nil, fmt.Errorf("queue of %d rows per rank is shorter than the batch of %d: make it a multiple of the batch, or 0", method.QueueLength, batch)
	}
	var err error
	alloc := func(d op.DType, shape ...int) op.Tensor {
		if err != nil {
			return op.Tensor{}
		}
		var t op.Tensor
		if t, err = engine.NewTensor(s.b, d, shape...); err == nil {
			s.owned = append(s.owned, t.Mem)
		}
		return t
	}
	s.Momentum = alloc(op.Float32, m.Net.NumParams)
	if opt.Kind == optim.KindAdamW {
		s.Second = alloc(op.Float32, m.Net.NumParams)
	}
	s.lossValue, s.norm = alloc(op.Float64, 1), alloc(op.Float64, 1)
	if method.QueueLength > 0 {
		s.rows = alloc(op.Float32, method.QueueLength+batch, arch.Prototypes)
		if err == nil {
			s.oldRows, s.newRows = s.rows.Slice(0, method.QueueLength), s.rows.Slice(method.QueueLength, batch)
		}
	}
	for _, a := range method.Assign {
		full := alloc(op.Float32, method.QueueLength+batch, arch.Prototypes)
		s.full = append(s.full, full)
		if method.QueueLength > 0 {
			a, b := alloc(op.Float32, method.QueueLength, arch.FeatureDim), alloc(op.Float32, method.QueueLength, arch.FeatureDim)
			if err != nil {
				break
			}
			s.queue = append(s.queue, newQueue(a, b, batch))
		}
		if err != nil {
			break
		}
		s.Codes = append(s.Codes, full.Slice(method.QueueLength, batch))
		s.batch = append(s.batch, plan.Scores.Slice(a*batch, batch))
		s.embeds = append(s.embeds, plan.Embeddings.Slice(a*batch, batch))
	}
	if err != nil {
		s.Close()
		return nil, fmt.Errorf("optimizer and queue: %w", err)
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

// Bytes is the memory of weights, gradients, moments and queue.
func (s *Stepper) Bytes() int64 {
	n := s.Model.Weights.Bytes() + s.Model.Grads.Bytes() + s.Model.Buffers.Bytes()
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
}

// Begin starts step number step: prototypes go back to the unit sphere, where
// the original puts them before every forward pass, and gradients to zero.
func (s *Stepper) Begin(step int) {
	s.step, s.micro, s.sum = step, 0, 0
	s.b.NormalizeRows(s.Model.Prototypes())
	s.b.Zero(s.Model.Grads)
}

// Accumulate runs forward, codes, loss and backward on Plan.Inputs and adds to
// the gradients. It returns this rank's loss.
func (s *Stepper) Accumulate() (float64, error) {
	s.Plan.Forward()
	s.codes()
	s.loss()
	s.Plan.Backward()
	s.micro++
	if err := s.b.Sync(); err != nil {
		return math.NaN(), err
	}
	s.b.ReadFloat64(s.host[:], s.lossValue)
	s.sum += s.host[0]
	return s.host[0], nil
}

// codes assigns the assignment crops to the prototypes and fills the queues.
func (s *Stepper) codes() {
	for i := range s.Method.Assign {
		s.assign(i)
	}
	if s.queueOn() {
		s.filled = min(s.filled+s.Plan.Config.Batch, s.Method.QueueLength)
	}
}

// loss computes the swapped prediction and its gradient.
func (s *Stepper) loss() {
	s.b.SwapLoss(s.lossValue, s.Plan.ScoreGrads, s.Plan.Scores, s.Codes, op.LossParams{
		Views: s.Plan.Views(), Batch: s.Plan.Config.Batch, Assign: s.Method.Assign, Temperature: s.Method.Temperature})
}

func (s *Stepper) queueOn() bool {
	return s.Method.QueueLength > 0 && s.step >= s.Method.QueueStart
}

// queueFull tells whether the queue's rows take part in the assignment: only
// once all of them have been filled.
func (s *Stepper) queueFull() bool { return s.filled >= s.Method.QueueLength }

// assign computes the codes of assignment crop i, with the queue's rows before
// the batch's where it is in use, and then pushes the batch into the queue.
func (s *Stepper) assign(i int) {
	p := op.SinkhornParams{Epsilon: s.Method.Epsilon, Iterations: s.Method.Iterations, Tolerance: s.Method.Tolerance, Hard: s.Method.Hard}
	if !s.queueOn() || !s.queueFull() {
		s.b.Sinkhorn(s.Codes[i], s.batch[i], p, s.comm)
	} else {
		q := &s.queue[i]
		s.b.Linear(s.oldRows, q.buf[q.cur], s.Model.Prototypes(), op.Tensor{})
		s.b.Copy(s.newRows, s.batch[i])
		s.b.Sinkhorn(s.full[i], s.rows, p, s.comm)
	}
	if s.queueOn() {
		q := &s.queue[i]
		s.b.Copy(q.front[1-q.cur], s.embeds[i])
		s.b.Copy(q.moved[1-q.cur], q.kept[q.cur])
		q.cur = 1 - q.cur
	}
}

// Reduce averages the gradients over ranks and accumulated batches and returns
// the mean loss of all ranks. It comes before Update.
func (s *Stepper) Reduce() (float64, error) {
	s.b.AllReduce(s.Model.Grads, s.comm)
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
	if s.step >= s.Method.FreezeSteps {
		s.update(s.prototypes, lr, s.step+1-s.Method.FreezeSteps)
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

// Queue reads the queue of assignment crop i, [QueueLength, FeatureDim] and
// newest first, into dst.
func (s *Stepper) Queue(dst []float32, i int) {
	s.b.Read(dst, s.queue[i].buf[s.queue[i].cur])
}

// SetQueue fills the queue of assignment crop i with rows, newest first, of
// which the first filled hold embeddings. All queues are filled alike.
func (s *Stepper) SetQueue(i int, rows []float32, filled int) {
	s.b.Write(s.queue[i].buf[s.queue[i].cur], rows)
	s.filled = min(filled, s.Method.QueueLength)
}

// QueueFilled is the number of queue rows that hold embeddings.
func (s *Stepper) QueueFilled() int { return s.filled }
