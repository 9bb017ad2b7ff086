// Package finetune learns classes by labels on the network that a run has trained:
// the whole network end to end (Run), which gives a Classifier, or linear classifiers
// on augmented views of a frozen one (Linear). It has the protocols of the original's
// eval_semisup.py and eval_linear.py.
//
// Protocols that only need each image's features once are in package eval. Training
// without labels is package train's.
package finetune

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"

	"swav/augment"
	"swav/checkpoint"
	"swav/config"
	"swav/dataset"
	"swav/dist"
	"swav/engine"
	"swav/loader"
	"swav/nn"
	"swav/op"
	"swav/train"
)

// Options are the settings of Run. Zero values are the original's.
type Options struct {
	Run  string // run directory, or a checkpoint within
	Data string // source; "": the run's

	// Which labelled images are learnt from: a share of them, drawn class by class, or
	// those that a file names (see ReadNames). 0 and no file: all.
	Fraction float64
	List     string

	Epochs int // 0: 20
	Batch  int // 0: 256, fewer where an epoch would have less than 50 steps, at least 32
	// Learning rates of backbone and classifier for batches of 256; other batches have
	// them in proportion. 0: 0.02 and 5 for up to 3% of the labels, 0.01 and 0.2 above,
	// which the original found for 1% and 10%.
	BackboneLR, HeadLR float64
	MinScale           float64 // of the random crops; 0: 0.08
	Queries            int     // at most; 0: all
	Seed               uint64

	Skip     func(id string, err error)
	Note     func(text string)
	Progress func(stage string) func(done, total int)
	// Epoch, if not nil, is told of each epoch.
	Epoch func(Epoch)
}

const (
	batchOfRates = 256 // that learning rates are given for
	leastBatch   = 32  // fewer are too few for batch norm
	epochSteps   = 50  // of the original's 1% of ImageNet
	fewLabels    = 0.03
	momentum     = 0.9
	stepFactor   = 0.2 // of the learning rates, after 60% and 80% of the epochs
)

// Epoch is where an epoch has led to.
type Epoch struct {
	Epoch      int     `json:"epoch"` // from 1
	BackboneLR float64 `json:"backbone_lr"`
	HeadLR     float64 `json:"head_lr"`
	Loss       float64 `json:"loss"` // cross-entropy, mean over the epoch's steps
	Top1       float64 `json:"top1"` // of the queries, percent
	Top5       float64 `json:"top5"`
}

// Run trains network and classifier on labelled images, evaluates them after each
// epoch, and writes the classifier into the run, each epoch over the one before.
func Run(ctx context.Context, o Options) (*Report, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	c, err := train.OpenCheckpoint(o.Run)
	if err != nil {
		return nil, err
	}
	p, err := train.OpenParts(ctx, c.Recipe, cmp.Or(o.Data, c.Data), 0, o.Queries, o.Note)
	if err != nil {
		return nil, err
	}
	index, err := choose(p.Refs, o)
	if err != nil {
		return nil, err
	}
	learn := dataset.Subset(p.Refs, index)
	o.settle(learn.Len(), float64(learn.Len())/float64(p.Refs.Len()))
	t := &tuner{o: o, ckpt: c, learn: learn, queries: p.Queries,
		out: &Classifier{Recipe: c.Recipe, Arch: c.Arch.Classifier(len(p.Classes)), Classes: p.Classes}}
	t.report = &Report{Checkpoint: c.Path, Dir: c.Dir, Classifier: FileOf(c.Dir, o.Fraction, o.List), Images: learn.Len(), Labelled: p.Refs.Len(),
		Queries: p.Queries.Len(), Features: c.Arch.OutChannels(), Classes: len(p.Classes), Holdout: p.Holdout, Batch: o.Batch, fraction: o.Fraction, list: o.List}
	if err := train.OnThread(func() error { return t.run(ctx) }); err != nil {
		return nil, err
	}
	return t.report, nil
}

// withDefaults checks what does not depend on the data.
func (o Options) withDefaults() (Options, error) {
	o.Fraction, o.Epochs, o.MinScale = cmp.Or(o.Fraction, 1), cmp.Or(o.Epochs, 20), cmp.Or(o.MinScale, 0.08)
	switch {
	case !(o.Fraction > 0 && o.Fraction <= 1):
		return o, fmt.Errorf("finetune: fraction %v of the labels: want above 0, at most 1", o.Fraction)
	case o.List != "" && o.Fraction != 1:
		return o, errors.New("finetune: a fraction and a list of images: give one of them")
	case o.Epochs < 1 || o.Batch < 0 || o.Batch == 1:
		return o, fmt.Errorf("finetune: %d epochs, batches of %d: want at least 1 epoch and batches of 2", o.Epochs, o.Batch)
	case !(o.MinScale > 0 && o.MinScale <= 1):
		return o, fmt.Errorf("finetune: crops from a share of %v of the image: want above 0, at most 1", o.MinScale)
	}
	for _, lr := range []float64{o.BackboneLR, o.HeadLR} {
		if !(lr >= 0) || math.IsInf(lr, 1) {
			return o, fmt.Errorf("finetune: learning rate %v: want 0 or more", lr)
		}
	}
	if o.Progress == nil {
		o.Progress = func(string) func(int, int) { return func(int, int) {} }
	}
	if o.Epoch == nil {
		o.Epoch = func(Epoch) {}
	}
	return o, nil
}

// settle fills in what depends on the images: how many there are, and which share of
// the labelled ones.
func (o *Options) settle(images int, share float64) {
	if o.Batch == 0 {
		o.Batch = min(batchOfRates, max(leastBatch, images/epochSteps))
	}
	o.Batch = min(o.Batch, images)
	backbone, head := 0.01, 0.2
	if share <= fewLabels {
		backbone, head = 0.02, 5
	}
	scale := float64(o.Batch) / batchOfRates
	o.BackboneLR, o.HeadLR = cmp.Or(o.BackboneLR, backbone)*scale, cmp.Or(o.HeadLR, head)*scale
}

// rateFactor is PyTorch's MultiStepLR: a fifth after 60% and 80% of the epochs, which
// are the original's 12 and 16 of 20.
func rateFactor(epoch, epochs int) float64 {
	f := 1.0
	for _, at := range []int{epochs * 3 / 5, epochs * 4 / 5} {
		if epoch >= at && at > 0 {
			f *= stepFactor
		}
	}
	return f
}

// tuner is a fine-tuning under way.
type tuner struct {
	o              Options
	ckpt           *train.Checkpoint
	learn, queries dataset.Source
	out            *Classifier
	report         *Report

	model          *engine.Model
	plan           *engine.Plan
	momentum       op.Tensor
	backbone, head []op.Segment
	shown          *train.Extractor
	scores         []float32
}

func (t *tuner) run(ctx context.Context) error {
	r := t.ckpt.Recipe
	b, err := train.NewBackend(r.Train.Backend, 0)
	if err != nil {
		return err
	}
	defer b.Close()
	if err := t.compile(b); err != nil {
		return err
	}
	views, err := views(r, t.out.Arch.InChannels, t.o.MinScale)
	if err != nil {
		return err
	}
	l, err := loader.New(t.learn, loader.Config{Recipe: views, Batch: t.o.Batch, Seed: t.o.Seed, Workers: workers(r), MaxSkip: r.Data.MaxSkip, OnSkip: t.o.Skip})
	if err != nil {
		return err
	}
	l.Start(loader.Position{})
	defer l.Close()
	for epoch := range t.o.Epochs {
		f := rateFactor(epoch, t.o.Epochs)
		e := Epoch{Epoch: epoch + 1, BackboneLR: t.o.BackboneLR * f, HeadLR: t.o.HeadLR * f}
		progress := t.o.Progress(fmt.Sprintf("epoch %d/%d", epoch+1, t.o.Epochs))
		for step := range l.StepsPerEpoch() {
			loss, err := t.step(ctx, l, e)
			if err != nil {
				return fmt.Errorf("epoch %d, step %d: %w", epoch+1, step, err)
			}
			e.Loss += loss / float64(l.StepsPerEpoch())
			progress(step+1, l.StepsPerEpoch())
		}
		if e.Top1, e.Top5, err = t.evaluate(ctx); err != nil {
			return err
		}
		t.report.Epochs = append(t.report.Epochs, e)
		t.out.read(t.model)
		if err := t.out.Save(t.report.Classifier); err != nil {
			return err
		}
		t.o.Epoch(e)
	}
	return nil
}

// compile makes model and plans. What the classifier's network has in common with the
// checkpoint's begins with its weights.
func (t *tuner) compile(b op.Backend) error {
	r := t.ckpt.Recipe
	net, err := nn.Build(t.out.Arch)
	if err != nil {
		return err
	}
	weights, buffers := net.Init(t.o.Seed)
	if err := restoreBackbone(net, weights, buffers, t.ckpt.Model); err != nil {
		return fmt.Errorf("checkpoint %s: %w", t.ckpt.Path, err)
	}
	if t.model, err = engine.NewModel(b, net, true); err != nil {
		return err
	}
	t.model.Set(weights, buffers)
	size, precision := train.EvalSize(r), train.Precision(r, b.Name())
	if t.plan, err = engine.Compile(t.model, engine.Config{Groups: []engine.Group{{Count: 1, Size: size}}, Batch: t.o.Batch, Precision: precision,
		Direct: !r.Train.Winograd, Comm: dist.Solo(), Train: true}); err != nil {
		return fmt.Errorf("%w (a smaller batch takes less)", err)
	}
	if t.shown, err = train.NewExtractor(t.model, size, min(shownAtOnce, t.queries.Len()), precision); err != nil {
		return err
	}
	if t.momentum, err = engine.NewTensor(b, op.Float32, net.NumParams); err != nil {
		return err
	}
	for _, p := range net.Params {
		s := op.Segment{Offset: p.Offset, Len: p.Len}
		if p.Name == "fc.weight" || p.Name == "fc.bias" {
			t.head = append(t.head, s)
		} else {
			t.backbone = append(t.backbone, s)
		}
	}
	t.scores = make([]float32, t.plan.Scores.Elems())
	return b.Sync()
}

// restoreBackbone copies the tensors that a network without the head has.
func restoreBackbone(net *nn.Network, weights, buffers []float32, saved []checkpoint.Tensor) error {
	var want, have []checkpoint.Tensor
	names := map[string]bool{}
	add := func(params []nn.Param, flat []float32) {
		for _, p := range params {
			if p.Name != "fc.weight" && p.Name != "fc.bias" {
				want = append(want, checkpoint.Tensor{Name: p.Name, Shape: p.Shape, Data: flat[p.Offset : p.Offset+p.Len]})
				names[p.Name] = true
			}
		}
	}
	add(net.Params, weights)
	add(net.Buffers, buffers)
	for _, s := range saved {
		if names[s.Name] {
			have = append(have, s)
		}
	}
	return checkpoint.Restore(want, have)
}

// views is the original's augmentation with labels: one crop, perhaps flipped.
func views(r *config.Recipe, channels int, minScale float64) (augment.Recipe, error) {
	v, err := train.Views(r, channels)
	if err != nil {
		return v, err
	}
	return augment.Recipe{Groups: []augment.Group{{Size: train.EvalSize(r), Count: 1, MinScale: minScale, MaxScale: 1}}, FlipP: v.FlipP, Mean: v.Mean, Std: v.Std}, nil
}

func workers(r *config.Recipe) int { return cmp.Or(r.Data.Workers, runtime.NumCPU()) }

// step learns from a batch and returns its loss.
func (t *tuner) step(ctx context.Context, l *loader.Loader, e Epoch) (float64, error) {
	batch, err := l.Next(ctx)
	if err != nil {
		return 0, err
	}
	b := t.model.Backend
	b.Write(t.plan.Inputs[0], batch.Groups[0])
	labels := make([]int, len(batch.Indices))
	for i, n := range batch.Indices {
		labels[i] = t.learn.Label(n)
	}
	batch.Release()
	t.plan.Forward()
	b.Read(t.scores, t.plan.Scores)
	if err := b.Sync(); err != nil {
		return 0, err
	}
	loss := crossEntropy(t.scores, labels)
	if math.IsNaN(loss) || math.IsInf(loss, 0) {
		return 0, fmt.Errorf("loss %v: lower the learning rates (now %g and %g)", loss, e.BackboneLR, e.HeadLR)
	}
	b.Write(t.plan.ScoreGrads, t.scores)
	b.Zero(t.model.Grads)
	t.plan.Backward()
	for _, g := range []struct {
		segments []op.Segment
		lr       float64
	}{{t.backbone, e.BackboneLR}, {t.head, e.HeadLR}} {
		b.LARC(t.model.Weights, t.momentum, t.model.Grads, g.segments, op.LARCParams{LR: g.lr, Momentum: momentum})
	}
	return loss, b.Sync()
}

// crossEntropy is the mean over rows of scores [len(labels), ·], which it replaces by
// its gradient.
func crossEntropy(scores []float32, labels []int) float64 {
	k, n := len(scores)/len(labels), float64(len(labels))
	var loss float64
	for i, label := range labels {
		row := scores[i*k : (i+1)*k]
		top := float64(slices.Max(row))
		var sum float64
		for _, s := range row {
			sum += math.Exp(float64(s) - top)
		}
		loss += (math.Log(sum) + top - float64(row[label])) / n
		for c, s := range row {
			row[c] = float32(math.Exp(float64(s)-top) / sum / n)
		}
		row[label] -= float32(1 / n)
	}
	return loss
}

// evaluate classifies the queries; shares are in percent.
func (t *tuner) evaluate(ctx context.Context) (top1, top5 float64, err error) {
	t.shown.Plan.SetWeights()
	seen, hits1, hits5 := 0, 0, 0
	k := len(t.out.Classes)
	var scores []float32
	s := show{src: t.queries, recipe: t.ckpt.Recipe, channels: t.out.Arch.InChannels, skip: t.o.Skip, progress: t.o.Progress("queries")}
	if len(t.report.Epochs) > 0 {
		s.skip = nil // told of once
	}
	err = s.run(ctx, t.shown.Batch(), func(index []int, pixels []float32) error {
		scores = scores[:0]
		if err := t.shown.Run(pixels, len(index), nil, nil, &scores); err != nil {
			return err
		}
		for i, n := range index {
			row, label := scores[i*k:(i+1)*k], t.queries.Label(n)
			rank := 0
			for c, v := range row {
				if v > row[label] || v == row[label] && c < label {
					rank++
				}
			}
			seen++
			if rank == 0 {
				hits1++
			}
			if rank < 5 {
				hits5++
			}
		}
		return nil
	})
	if err == nil && seen == 0 {
		err = fmt.Errorf("%s: none of %d images can be read", t.queries.Name(), t.queries.Len())
	}
	return 100 * float64(hits1) / float64(max(1, seen)), 100 * float64(hits5) / float64(max(1, seen)), err
}

// shownAtOnce is how many images an evaluation takes at a time.
const shownAtOnce = 64

// show passes a source's images as evaluation sees them.
type show struct {
	src      dataset.Source
	recipe   *config.Recipe
	channels int
	skip     func(id string, err error)
	progress func(done, total int) // may be nil
}

func (s show) run(ctx context.Context, batch int, see func(index []int, pixels []float32) error) error {
	norm, err := train.Views(s.recipe, s.channels)
	if err != nil {
		return err
	}
	all := make([]int, s.src.Len())
	for i := range all {
		all[i] = i
	}
	it, err := loader.NewEval(s.src, loader.EvalConfig{Index: all, Size: train.EvalSize(s.recipe), Batch: batch, Mean: norm.Mean, Std: norm.Std,
		Workers: workers(s.recipe), OnSkip: s.skip})
	if err != nil {
		return err
	}
	defer it.Close()
	for done := 0; ; {
		b, err := it.Next(ctx)
		if err != nil || b == nil {
			return err
		}
		if err := see(b.Indices, b.Pixels); err != nil {
			return err
		}
		if done += len(b.Indices); s.progress != nil {
			s.progress(done, len(all))
		}
	}
}

// shuffled is a fixed order of n things for a seed.
func shuffled(n int, seed, stream uint64) []int { return rand.New(rand.NewPCG(seed, stream)).Perm(n) }
