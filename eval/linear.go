package eval

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
)

// LinearOptions are the settings of the linear probe. DefaultLinear are the
// original's (its eval_linear.py), with a sweep around its learning rate.
type LinearOptions struct {
	LR, WeightDecay []float64 // of SGD: every pair is tried; none: no SGD
	Epochs, Batch   int
	Momentum        float64
	Seed            uint64
	C               []float64 // of L-BFGS: inverse strengths of the penalty, as scikit-learn's C; none: no L-BFGS
}

// DefaultLinear is the original's protocol: SGD with momentum 0.9, batches of 256,
// 100 epochs, learning rate 0.3 along a cosine that falls once an epoch, weight decay
// 1e-6. Which rate is best depends on the size of the features.
func DefaultLinear() LinearOptions {
	return LinearOptions{LR: []float64{0.03, 0.1, 0.3, 1, 3, 10}, WeightDecay: []float64{1e-6, 1e-4}, Epochs: 100, Batch: 256, Momentum: 0.9,
		C: []float64{0.001, 0.01, 0.1, 1, 10}}
}

func (o LinearOptions) check() error {
	switch {
	case len(o.LR)*len(o.WeightDecay)+len(o.C) == 0:
		return fmt.Errorf("linear: no learning rates with weight decays and no C: nothing to fit")
	case o.Epochs < 1 || o.Batch < 1:
		return fmt.Errorf("linear: %d epochs, batches of %d: want 1 or more", o.Epochs, o.Batch)
	case !(o.Momentum >= 0 && o.Momentum < 1):
		return fmt.Errorf("linear: momentum %v: want 0 to below 1", o.Momentum)
	}
	for _, x := range append(append([]float64{}, o.LR...), o.C...) {
		if !(x > 0) || math.IsInf(x, 0) {
			return fmt.Errorf("linear: learning rate or C %v: want above 0", x)
		}
	}
	for _, x := range o.WeightDecay {
		if !(x >= 0) || math.IsInf(x, 0) {
			return fmt.Errorf("linear: weight decay %v: want 0 or more", x)
		}
	}
	return nil
}

// LinearTrainer fits linear classifiers by SGD to batches that the caller brings, such
// as features of augmented views: one for every learning rate and weight decay.
type LinearTrainer struct {
	o       LinearOptions
	classes int
	gemm    Gemm
	sgds    []*sgd // one for each weight decay
}

// NewLinearTrainer takes Classes and Gemm of the options. C has no meaning here.
func NewLinearTrainer(dim int, l LinearOptions, o Options) (*LinearTrainer, error) {
	l.C = nil
	if err := l.check(); err != nil {
		return nil, err
	}
	if dim < 1 || o.Classes < 1 {
		return nil, fmt.Errorf("linear: %d features, %d classes: want 1 or more", dim, o.Classes)
	}
	t := &LinearTrainer{o: l, classes: o.Classes, gemm: o.Gemm.orDefault()}
	for _, decay := range l.WeightDecay {
		t.sgds = append(t.sgds, newSGD(dim, l, decay, o.Classes, t.gemm))
	}
	return t, nil
}

// Step learns from a batch of at most o.Batch rows, in an epoch counted from 0.
func (t *LinearTrainer) Step(features []float32, labels []int, epoch int) error {
	batch := Set{Dim: t.sgds[0].dim, Features: features, Labels: labels}
	if err := batch.check("batch", t.classes); err != nil {
		return fmt.Errorf("linear: %w", err)
	}
	if len(labels) > t.o.Batch {
		return fmt.Errorf("linear: %d rows in a batch of %d", len(labels), t.o.Batch)
	}
	err := parallel(len(t.sgds), func(_, i int) error { return t.sgds[i].step(features, labels, t.o.fall(epoch)) })
	if err != nil {
		return fmt.Errorf("linear: %w", err)
	}
	return nil
}

// Report classifies queries.
func (t *LinearTrainer) Report(query Set) (*LinearReport, error) {
	if err := query.check("query", t.classes); err != nil {
		return nil, fmt.Errorf("linear: %w", err)
	}
	report := &LinearReport{}
	for _, s := range t.sgds {
		rows, err := s.report(query)
		if err != nil {
			return nil, fmt.Errorf("linear: %w", err)
		}
		report.Rows = append(report.Rows, rows...)
	}
	return report, nil
}

// fall is PyTorch's CosineAnnealingLR: one factor for a whole epoch.
func (o LinearOptions) fall(epoch int) float64 {
	return (1 + math.Cos(math.Pi*float64(epoch)/float64(o.Epochs))) / 2
}

// Linear fits linear classifiers to the references' features and classifies the
// queries: by SGD for every learning rate and weight decay, in one pass over the
// features for all rates, and by L-BFGS to the optimum for every C.
func Linear(ctx context.Context, ref, query Set, l LinearOptions, o Options) (*LinearReport, error) {
	if o.Classes == 0 {
		o.Classes = classesOf(ref.Labels, query.Labels)
	}
	if err := checkSets(ref, query, o.Classes); err != nil {
		return nil, fmt.Errorf("linear: %w", err)
	}
	if err := l.check(); err != nil {
		return nil, err
	}
	gemm := o.Gemm.orDefault()
	bar := newProgress(o.Progress, len(l.WeightDecay)*l.Epochs+len(l.C))
	if len(l.LR) == 0 {
		bar = newProgress(o.Progress, len(l.C))
	}
	report := &LinearReport{}
	if len(l.LR) > 0 {
		rows := make([][]LinearRow, len(l.WeightDecay))
		err := parallel(len(l.WeightDecay), func(_, i int) error {
			s := newSGD(ref.Dim, l, l.WeightDecay[i], o.Classes, gemm)
			if err := s.fit(ctx, ref, bar); err != nil {
				return err
			}
			var err error
			rows[i], err = s.report(query)
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("linear: %w", err)
		}
		for _, r := range rows {
			report.Rows = append(report.Rows, r...)
		}
	}
	err := logistic(ctx, ref, l.C, o.Classes, gemm, func(c float64, h *head) error {
		top1, top5, err := h.accuracy(query, gemm)
		report.Rows = append(report.Rows, LinearRow{Solver: "lbfgs", C: c, Top1: percent(top1), Top5: percent(top5)})
		bar.add(1)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("linear: %w", err)
	}
	return report, nil
}

// head is a linear classifier.
type head struct {
	classes, dim int
	w            []float32 // [classes, dim]
	b            []float32 // [classes]
}

// headBlock is how many rows are classified at once.
const headBlock = 512

// accuracy is the shares of queries whose label has the largest and one of the five
// largest scores; equal scores go by class.
func (h *head) accuracy(query Set, gemm Gemm) (top1, top5 float64, err error) {
	n := query.Len()
	ranks := make([]int, n)
	err = parallel(blocks(n, headBlock), func(_, b int) error {
		from := b * headBlock
		m := min(headBlock, n-from)
		scores := make([]float32, m*h.classes)
		if err := gemm(false, true, m, h.classes, h.dim, query.Features[from*h.dim:], h.dim, h.w, h.dim, 0, scores, h.classes); err != nil {
			return err
		}
		for i := range m {
			row := scores[i*h.classes:][:h.classes]
			for c := range row {
				row[c] += h.b[c]
			}
			label := query.Labels[from+i]
			for c, s := range row {
				if s > row[label] || s == row[label] && c < label || s != s {
					ranks[from+i]++
				}
			}
		}
		return nil
	})
	for _, r := range ranks {
		if r == 0 {
			top1++
		}
		if r < 5 {
			top5++
		}
	}
	return top1 / float64(n), top5 / float64(n), err
}

// sgd trains one head for each learning rate on the same batches: side by side their
// weights are one matrix [rates*classes, dim].
type sgd struct {
	dim         int
	o           LinearOptions
	weightDecay float64
	classes     int
	gemm        Gemm

	w, v  []float32 // weights and momentum
	b, vb []float32 // of the biases
	err   []float32 // scores of a batch, then their gradients
}

func newSGD(dim int, o LinearOptions, weightDecay float64, classes int, gemm Gemm) *sgd {
	rows := len(o.LR) * classes
	s := &sgd{dim: dim, o: o, weightDecay: weightDecay, classes: classes, gemm: gemm,
		w: make([]float32, rows*dim), v: make([]float32, rows*dim), b: make([]float32, rows), vb: make([]float32, rows),
		err: make([]float32, o.Batch*rows)}
	// All heads start alike, normal with deviation 0.01 as the original's.
	rng := rand.New(rand.NewPCG(o.Seed, 0x11ea4))
	one := s.w[:classes*dim]
	for i := range one {
		one[i] = float32(0.01 * rng.NormFloat64())
	}
	for i := range o.LR {
		copy(s.w[i*len(one):], one)
	}
	return s
}

// fit learns from features that are there as a whole.
func (s *sgd) fit(ctx context.Context, ref Set, bar *progress) error {
	rng := rand.New(rand.NewPCG(s.o.Seed, 0xba7c4))
	n := ref.Len()
	x, labels := make([]float32, s.o.Batch*s.dim), make([]int, s.o.Batch)
	for epoch := range s.o.Epochs {
		order := rng.Perm(n)
		for from := 0; from < n; from += s.o.Batch {
			if err := ctx.Err(); err != nil {
				return err
			}
			batch := order[from:min(from+s.o.Batch, n)]
			for i, at := range batch {
				copy(x[i*s.dim:][:s.dim], ref.Row(at))
				labels[i] = ref.Labels[at]
			}
			if err := s.step(x, labels[:len(batch)], s.o.fall(epoch)); err != nil {
				return err
			}
		}
		bar.add(1)
	}
	return nil
}

// report classifies queries by each head.
func (s *sgd) report(query Set) ([]LinearRow, error) {
	var rows []LinearRow
	for i, lr := range s.o.LR {
		size := s.classes * s.dim
		h := &head{classes: s.classes, dim: s.dim, w: s.w[i*size:][:size], b: s.b[i*s.classes:][:s.classes]}
		top1, top5, err := h.accuracy(query, s.gemm)
		if err != nil {
			return nil, err
		}
		rows = append(rows, LinearRow{Solver: "sgd", LR: lr, WeightDecay: s.weightDecay, Top1: percent(top1), Top5: percent(top5)})
	}
	return rows, nil
}

// step learns from a batch.
func (s *sgd) step(x []float32, labels []int, fall float64) error {
	n, dim, rows := len(labels), s.dim, len(s.b)
	if err := s.gemm(false, true, n, rows, dim, x, dim, s.w, dim, 0, s.err, rows); err != nil {
		return err
	}
	momentum, decay := float32(s.o.Momentum), float32(s.weightDecay)
	for j := range s.vb {
		s.vb[j] = momentum*s.vb[j] + decay*s.b[j]
	}
	for i := range n {
		for r := range s.o.LR {
			row := s.err[i*rows+r*s.classes:][:s.classes]
			softmaxGradient(row, s.b[r*s.classes:], labels[i], 1/float64(n))
			for c, e := range row {
				s.vb[r*s.classes+c] += e
			}
		}
	}
	// v = momentum v + errᵀ x, and the decay below.
	if err := s.gemm(true, false, rows, dim, n, s.err, rows, x, dim, momentum, s.v, dim); err != nil {
		return err
	}
	for r, lr := range s.o.LR {
		rate := float32(lr * fall)
		from, to := r*s.classes*dim, (r+1)*s.classes*dim
		w, v := s.w[from:to], s.v[from:to]
		for i := range w {
			v[i] += decay * w[i]
			w[i] -= rate * v[i]
		}
		for c := r * s.classes; c < (r+1)*s.classes; c++ {
			s.b[c] -= rate * s.vb[c]
		}
	}
	return nil
}

// softmaxGradient replaces scores without bias by the gradient of scale times their
// cross-entropy, and returns the cross-entropy.
func softmaxGradient(scores, bias []float32, label int, scale float64) float64 {
	top := float32(math.Inf(-1))
	for c := range scores {
		scores[c] += bias[c]
		top = max(top, scores[c])
	}
	own := float64(scores[label] - top)
	var sum float64
	for c, s := range scores {
		e := math.Exp(float64(s - top))
		scores[c] = float32(e)
		sum += e
	}
	for c := range scores {
		scores[c] = float32(float64(scores[c]) / sum * scale)
	}
	scores[label] -= float32(scale)
	return math.Log(sum) - own
}
