package train

import (
	"context"
	"fmt"
	"math"

	"swav/checkpoint"
	"swav/op"
)

// SwAV is the method of the paper: codes by Sinkhorn-Knopp, the swapped
// prediction, the queue. Its settings are per step and resolved: no epochs, no
// automatic values.
type SwAV struct {
	Assign      []int   // crops whose codes the others predict, counted over all groups
	Temperature float64 // of the predictions; 0.1 in the paper
	Epsilon     float64 // of the assignment; 0.05 in the paper
	Iterations  int     // of Sinkhorn-Knopp; 3 in the paper
	Tolerance   float64 // > 0: Sinkhorn stops early at this marginal error
	Hard        bool    // one-hot codes
	FreezeSteps int     // prototypes are left alone in steps before this one
	QueueLength int     // rows per rank and assignment crop; 0: no queue
	QueueStart  int     // first step that fills the queue

	// Codes [Batch, K] of each assignment crop, valid after Accumulate.
	Codes []op.Tensor

	s       *Stepper
	rows    op.Tensor   // queue and batch scores [QueueLength+Batch, K]
	oldRows op.Tensor   // the queue's of them
	newRows op.Tensor   // the batch's
	full    []op.Tensor // their codes, one per assignment crop
	scores  []op.Tensor // of each assignment crop, within Plan.Scores
	embeds  []op.Tensor // of each assignment crop, within Plan.Embeddings
	queue   []queue
	filled  int // rows pushed into each queue so far, at most QueueLength
}

var _ Method = (*SwAV)(nil)

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

func (m *SwAV) attach(s *Stepper, alloc func(d op.DType, shape ...int) op.Tensor) error {
	plan, arch := s.Plan, s.Model.Net.Arch
	views, batch := plan.Views(), plan.Config.Batch
	if views < 2 {
		return fmt.Errorf("%d crop per image: swapped prediction needs at least 2", views)
	}
	if len(m.Assign) == 0 {
		return fmt.Errorf("no assignment crops")
	}
	for _, a := range m.Assign {
		if a < 0 || a >= views {
			return fmt.Errorf("assignment crop %d: the views are 0 to %d", a, views-1)
		}
	}
	if m.QueueLength > 0 && m.QueueLength < batch {
		return fmt.Errorf("queue of %d rows per rank is shorter than the batch of %d: make it a multiple of the batch, or 0", m.QueueLength, batch)
	}
	m.s = s
	if m.QueueLength > 0 {
		m.rows = alloc(op.Float32, m.QueueLength+batch, arch.Prototypes)
		m.oldRows, m.newRows = m.rows.Slice(0, m.QueueLength), m.rows.Slice(m.QueueLength, batch)
	}
	for _, a := range m.Assign {
		full := alloc(op.Float32, m.QueueLength+batch, arch.Prototypes)
		m.full = append(m.full, full)
		if m.QueueLength > 0 {
			m.queue = append(m.queue, newQueue(alloc(op.Float32, m.QueueLength, arch.FeatureDim), alloc(op.Float32, m.QueueLength, arch.FeatureDim), batch))
		}
		m.Codes = append(m.Codes, full.Slice(m.QueueLength, batch))
		m.scores = append(m.scores, plan.Scores.Slice(a*batch, batch))
		m.embeds = append(m.embeds, plan.Embeddings.Slice(a*batch, batch))
	}
	return nil
}

// begin puts the prototypes back on the unit sphere, where the original puts
// them before every forward pass.
func (m *SwAV) begin() { m.s.b.NormalizeRows(m.s.Model.Prototypes()) }

// targets assigns the assignment crops to the prototypes and fills the queues.
func (m *SwAV) targets() {
	for i := range m.Assign {
		m.assign(i)
	}
	if m.queueOn() {
		m.filled = min(m.filled+m.s.Plan.Config.Batch, m.QueueLength)
	}
}

// loss computes the swapped prediction and its gradient.
func (m *SwAV) loss() {
	p := m.s.Plan
	m.s.b.SwapLoss(m.s.lossValue, p.ScoreGrads, p.Scores, m.Codes, op.LossParams{
		Views: p.Views(), Batch: p.Config.Batch, Assign: m.Assign, Temperature: m.Temperature})
}

func (m *SwAV) thaw() int { return m.FreezeSteps }

func (m *SwAV) queueOn() bool { return m.QueueLength > 0 && m.s.step >= m.QueueStart }

// queueFull tells whether the queue's rows take part in the assignment: only
// once all of them have been filled.
func (m *SwAV) queueFull() bool { return m.filled >= m.QueueLength }

// assign computes the codes of assignment crop i, with the queue's rows before
// the batch's where it is in use, and then pushes the batch into the queue.
func (m *SwAV) assign(i int) {
	b := m.s.b
	p := op.SinkhornParams{Epsilon: m.Epsilon, Iterations: m.Iterations, Tolerance: m.Tolerance, Hard: m.Hard}
	if !m.queueOn() || !m.queueFull() {
		b.Sinkhorn(m.Codes[i], m.scores[i], p, m.s.comm)
	} else {
		q := &m.queue[i]
		b.Linear(m.oldRows, q.buf[q.cur], m.s.Model.Prototypes(), op.Tensor{})
		b.Copy(m.newRows, m.scores[i])
		b.Sinkhorn(m.full[i], m.rows, p, m.s.comm)
	}
	if m.queueOn() {
		q := &m.queue[i]
		b.Copy(q.front[1-q.cur], m.embeds[i])
		b.Copy(q.moved[1-q.cur], q.kept[q.cur])
		q.cur = 1 - q.cur
	}
}

func (m *SwAV) prepare(context.Context, *run) (*Clusters, error) { return nil, nil }

func (m *SwAV) batch(int, int, []int) {}

// watch keeps codes, scores and embeddings of the assignment crops.
func (m *SwAV) watch(w *watched) {
	w.clusters = m.s.Model.Net.Arch.Prototypes
	w.chance = math.Log(float64(w.clusters))
	w.queue, w.queueOn = m.filled, m.queueOn() && m.queueFull()
	for i := range m.Assign {
		w.codes = download32(w.codes, m.s.b, m.Codes[i])
		w.scores = download32(w.scores, m.s.b, m.scores[i])
		w.embeddings = download32(w.embeddings, m.s.b, m.embeds[i])
	}
}

// queueName is a queue's in optimizer.safetensors.
const queueName = "queue.%d"

// save keeps the queues as one rank would have them: batch by batch, newest first, and
// of each batch the ranks' parts in their order.
func (m *SwAV) save(st *State) ([]checkpoint.Tensor, error) {
	comm, dim := m.s.comm, m.s.Model.Net.Arch.FeatureDim
	st.QueueFilled = m.filled * comm.Size()
	var ts []checkpoint.Tensor
	rows := make([]float32, m.QueueLength*dim)
	for i := range m.queue {
		m.Queue(rows, i)
		all, err := gatherRows(comm, rows, m.s.Plan.Config.Batch, dim)
		if err != nil {
			return nil, err
		}
		ts = append(ts, checkpoint.Tensor{Name: fmt.Sprintf(queueName, i), Shape: []int{m.QueueLength * comm.Size(), dim}, Data: all})
	}
	return ts, nil
}

func (m *SwAV) load(ts []checkpoint.Tensor, st *State) error {
	comm := m.s.comm
	for i, t := range ts {
		m.SetQueue(i, ownRows(comm, t.Data, m.s.Plan.Config.Batch, m.s.Model.Net.Arch.FeatureDim), st.QueueFilled/comm.Size())
	}
	return nil
}

// Queue reads the queue of assignment crop i, [QueueLength, FeatureDim] and
// newest first, into dst.
func (m *SwAV) Queue(dst []float32, i int) {
	m.s.b.Read(dst, m.queue[i].buf[m.queue[i].cur])
}

// SetQueue fills the queue of assignment crop i with rows, newest first, of
// which the first filled hold embeddings. All queues are filled alike.
func (m *SwAV) SetQueue(i int, rows []float32, filled int) {
	m.s.b.Write(m.queue[i].buf[m.queue[i].cur], rows)
	m.filled = min(filled, m.QueueLength)
}
