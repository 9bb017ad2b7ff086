package train

import (
	"context"
	"fmt"
	"math"
	"time"

	"swav"
	"swav/loader"
)

// StepRecord is what a run knows of one step when it is done.
type StepRecord struct {
	Step     int // counted from 0
	Epoch    int
	LR       float64
	Loss     float64 // mean over ranks
	GradNorm float64 // of all gradients, before LARC
	Health   swav.Health
	Queue    int // rows in use, all ranks
	// Clusters are those of the epoch that the step begins (DeepCluster-v2), nil
	// at other steps.
	Clusters *Clusters

	Images  int             // of the step, all ranks
	Elapsed time.Duration   // of the whole step
	Wait    time.Duration   // of it, for data
	Waits   []time.Duration // of each rank; nil: there is one
	Notices []swav.Notice   // alarms raised or over
}

// ErrNonFinite stops a run whose loss, scores or gradients are not finite any
// more.
var ErrNonFinite = swav.ErrNotFinite

// dataError is a failure to get data before a step has begun: the step before is
// whole.
type dataError struct{ error }

func (e dataError) Unwrap() error { return e.error }

// steps trains from the state's step to the end, or until ctx is done, and
// calls after each step. It returns ctx's error when interrupted; the state is
// then that of the last whole step.
func (t *run) steps(ctx context.Context, after func(*StepRecord) error) error {
	if p, ok := t.comm.(progress); ok && t.root() {
		watching, done := context.WithCancel(ctx)
		defer done()
		go patrol(watching, p, t.opts.Log.Warn)
	}
	rec := &StepRecord{}
	// A run that was interrupted in the middle of an evaluation makes up for it.
	if err := t.evaluate(ctx); err != nil {
		return err
	}
	for t.state.Step < t.res.Steps {
		if err := t.step(ctx, rec); err != nil {
			return err
		}
		if err := after(rec); err != nil {
			return err
		}
	}
	return nil
}

// step does one step: all its parts of a batch, then the update.
func (t *run) step(ctx context.Context, rec *StepRecord) error {
	s, step := t.stepper, t.state.Step
	if err := t.agree(ctx.Err()); err != nil {
		return err
	}
	clusters, err := s.Method.prepare(ctx, t)
	if err != nil {
		return err
	}
	begin := time.Now()
	*rec = StepRecord{Step: step, Epoch: t.state.Epoch, LR: t.schedule.LR(step), Clusters: clusters}
	s.Begin(step)
	t.watched.clear()
	var after *loader.StreamPosition
	for part := range t.recipe.Train.Accumulate {
		waiting := time.Now()
		if part > 0 {
			ctx = context.WithoutCancel(ctx) // a step that has begun is done whole
		}
		batch, err := t.loader.Next(ctx)
		if part == 0 {
			if p, ok := t.comm.(progress); ok && err == nil {
				p.Arrived(step + 1)
			}
			if err != nil && ctx.Err() == nil {
				err = dataError{err}
			}
			err = t.agree(err)
		}
		if err != nil {
			return err
		}
		rec.Wait += time.Since(waiting)
		after = batch.After
		t.show(batch, t.state.EpochStep, part)
		batch.Release()
		if _, err := s.Accumulate(); err != nil {
			return fmt.Errorf("step %d: %w", step, err)
		}
		s.Method.watch(&t.watched)
		rec.Images += t.res.RankBatch * s.comm.Size()
	}
	if rec.Waits, err = t.waits(rec.Wait); err != nil {
		return fmt.Errorf("step %d: %w", step, err)
	}
	loss, err := s.Reduce()
	if err != nil {
		return fmt.Errorf("step %d: %w", step, err)
	}
	rec.Loss, rec.GradNorm = loss, s.GradNorm()
	if math.IsNaN(loss) || math.IsInf(loss, 0) || math.IsNaN(rec.GradNorm) || math.IsInf(rec.GradNorm, 0) {
		return fmt.Errorf("step %d: loss %v, gradient norm %v: %w", step, loss, rec.GradNorm, ErrNonFinite)
	}
	if err := s.Update(rec.LR); err != nil {
		return fmt.Errorf("step %d: %w", step, err)
	}
	w, dim := &t.watched, s.Model.Net.Arch.FeatureDim
	rec.Health = swav.Measure(loss, w.codes, w.scores, w.embeddings, len(w.codes)/w.clusters, w.clusters, dim)
	if w.chance > 0 {
		rec.Health.LossRatio = loss / w.chance
	}
	rec.Queue = w.queue * s.comm.Size()
	rec.Notices = t.alarm.Observe(step, rec.Health, w.queueOn)
	t.state.Step++
	t.state.Epoch, t.state.EpochStep = t.state.Step/t.res.StepsPerEpoch, t.state.Step%t.res.StepsPerEpoch
	t.state.Stream = after
	rec.Elapsed = time.Since(begin)
	return nil
}

// show writes a batch to the plan's inputs, as part of a step of an epoch.
func (t *run) show(b *loader.Batch, epochStep, part int) {
	for g, in := range t.stepper.Plan.Inputs {
		t.stepper.Model.Backend.Write(in, t.group(b, g))
	}
	t.stepper.Method.batch(epochStep, part, b.Indices)
}

// group is the pixels of the plan's pass g: neighbouring crop groups of equal
// size are one pass, so several of the loader's groups may belong to it.
func (t *run) group(b *loader.Batch, g int) []float32 {
	groups := t.passes[g]
	if len(groups) == 1 {
		return b.Groups[groups[0]]
	}
	t.joined = t.joined[:0]
	for _, i := range groups {
		t.joined = append(t.joined, b.Groups[i]...)
	}
	return t.joined
}
