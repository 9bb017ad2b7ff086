package train

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"swav/checkpoint"
	"swav/dataset"
	"swav/dist"
	"swav/engine"
	"swav/eval"
	"swav/op/cpu"
)

// Evaluation is one of those that happen while a run trains.
type Evaluation struct {
	Step     int // steps done
	Epoch    int
	Protocol string  // knn, linear or cluster
	Score    float64 // accuracy in percent; of cluster the prototypes' NMI, 0 to 1
	Best     bool    // the highest so far: the checkpoint is kept as RUN/best
	Seconds  float64
}

// bestDir is a run directory of its own within a run's, which holds the checkpoint
// with the highest score.
const bestDir = "best"

// monitor evaluates a run while it trains.
type monitor struct {
	every         int // steps
	refs, queries dataset.Source
	seen          *viewer
}

// watch prepares the evaluations that the recipe asks for.
func (t *run) watch(ctx context.Context) error {
	e := t.recipe.Eval
	every := e.Every.Resolve(t.res.StepsPerEpoch)
	if e.Every.IsZero() {
		return nil
	}
	if err := hasClasses(t.source); err != nil {
		return fmt.Errorf("%w; or switch them off: --set eval.every=0", err)
	}
	refs, queries, _, err := t.evalSets(ctx)
	if err != nil {
		return err
	}
	t.monitor = &monitor{every: max(1, every), refs: refs, queries: queries,
		seen: &viewer{recipe: t.recipe, precision: t.stepper.Plan.Config.Precision}}
	return nil
}

// due tells whether the run is to be evaluated where it stands.
func (t *run) due() bool {
	s := t.state.Step
	return t.monitor != nil && s > 0 && (s%t.monitor.every == 0 || s == t.res.Steps) && t.state.Evaluated != s
}

// evaluate evaluates a copy of the network where that is due, so that training goes
// on as if nothing had happened, and keeps the checkpoint if it is the best so far.
func (t *run) evaluate(ctx context.Context) error {
	if !t.due() {
		return nil
	}
	e, err := t.look(ctx)
	// The others learn what rank 0 found.
	var verdict [2]float64 // whether it is the best; whether it was interrupted
	switch {
	case errors.Is(err, context.Canceled):
		verdict[1] = 1
	case err != nil:
		return fmt.Errorf("evaluate at step %d: %w", t.state.Step, err)
	case e.Best:
		verdict[0] = 1
	}
	if err := t.comm.AllReduce64(verdict[:], dist.Max); err != nil {
		return err
	}
	if verdict[1] > 0 {
		return context.Canceled
	}
	t.state.Evaluated = t.state.Step
	if verdict[0] > 0 {
		t.state.BestStep, t.state.BestScore = t.state.Step, e.Score
		if err := t.keepBest(); err != nil {
			if !checkpoint.DiskFull(err) {
				return err
			}
			t.opts.Log.Warn(fmt.Sprintf("best checkpoint: %v; the run goes on", err))
		}
	}
	return t.opts.Log.Evaluated(e)
}

// look evaluates a copy of the network, on rank 0.
func (t *run) look(ctx context.Context) (Evaluation, error) {
	e := Evaluation{Step: t.state.Step, Epoch: t.state.Epoch, Protocol: t.recipe.Eval.Protocol}
	if !t.root() {
		return e, nil
	}
	start := time.Now()
	m := t.stepper.Model
	twin, err := engine.NewModel(m.Backend, m.Net, false)
	if err != nil {
		return e, err
	}
	defer twin.Close()
	twin.Set(download(m.Backend, m.Weights), download(m.Backend, m.Buffers))
	prototypesOnSphere(twin)
	e.Score, err = t.monitor.score(ctx, twin, t.recipe.Eval.Protocol)
	e.Best = t.state.BestStep == 0 || e.Score > t.state.BestScore
	e.Seconds = time.Since(start).Seconds()
	return e, err
}

// keepBest writes RUN/best, which holds this checkpoint alone.
func (t *run) keepBest() error {
	dir := filepath.Join(t.opts.Dir, bestDir)
	snap, err := snapshot(t.stepper, t.state)
	if err != nil || !t.root() {
		return err
	}
	if name := notFinite(snap.Model); name != "" {
		return fmt.Errorf("step %d: %s: %w", t.state.Step, name, ErrNonFinite)
	}
	if _, err := checkpoint.Write(dir, snap, 1); err != nil {
		return err
	}
	return t.writeRecipe(dir)
}

// score evaluates a network by a protocol.
func (w *monitor) score(ctx context.Context, m *engine.Model, protocol string) (float64, error) {
	queries, err := w.seen.embed(ctx, m, w.queries, nil)
	if err != nil {
		return 0, err
	}
	if len(queries.Index) == 0 {
		return 0, fmt.Errorf("%s: no labelled images that can be read", w.queries.Name())
	}
	if protocol == "cluster" {
		a, err := eval.Agree(queries.Prototype, m.Net.Arch.Clusters(), labels(w.queries, queries.Index))
		return a.NMI, err
	}
	refs, err := w.seen.embed(ctx, m, w.refs, nil)
	if err != nil {
		return 0, err
	}
	a, b := set(w.refs, refs), set(w.queries, queries)
	r := w.seen.recipe.Eval
	o := eval.Options{K: r.K, Temperature: r.Temperature, Classes: len(w.refs.Classes()), Gemm: cpu.Gemm, Scanner: cpu.Scanner{}}
	if protocol == "linear" {
		l := eval.DefaultLinear()
		l.LR, l.C = nil, []float64{1}
		report, err := eval.Linear(ctx, a, b, l, o)
		if err != nil {
			return 0, err
		}
		return report.Best().Top1, nil
	}
	result, err := eval.KNN(ctx, a, b, o)
	return percent(result.Top1, err)
}
