package finetune

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"swav/engine"
	"swav/eval"
	"swav/loader"
	"swav/op"
	"swav/op/cpu"
	"swav/train"
)

// LinearOptions are the settings of Linear.
type LinearOptions struct {
	eval.LinearOptions        // of SGD; C must be empty
	Run, Data          string // as in Options
	Pool               int    // as in train.EvalOptions
	MinScale           float64
	References         int // at most; 0: all
	Queries            int

	Skip     func(id string, err error)
	Note     func(text string)
	Progress func(stage string) func(done, total int)
}

// Linear fits linear classifiers to the features of augmented views: the backbone is
// frozen and in evaluation mode, and every epoch sees other crops, as in the original.
// All learning rates and weight decays learn from the same views. The queries are not
// augmented. It returns the evaluation without its Seconds, and the run directory.
func Linear(ctx context.Context, o LinearOptions) (*eval.Report, string, error) {
	if len(o.C) > 0 {
		return nil, "", errors.New("linear: augmented views are learnt from by SGD alone: leave out C")
	}
	ckpt, err := train.OpenCheckpoint(o.Run)
	if err != nil {
		return nil, "", err
	}
	p, err := train.OpenParts(ctx, ckpt.Recipe, cmp.Or(o.Data, ckpt.Data), o.References, o.Queries, o.Note)
	if err != nil {
		return nil, "", err
	}
	r := ckpt.Recipe
	if o.Batch = min(o.Batch, p.Refs.Len()); o.Batch < 1 {
		return nil, "", fmt.Errorf("linear: batches of %d", o.Batch)
	}
	views, err := views(r, ckpt.Arch.InChannels, cmp.Or(o.MinScale, 0.08))
	if err != nil {
		return nil, "", err
	}
	if o.Progress == nil {
		o.Progress = func(string) func(int, int) { return func(int, int) {} }
	}
	name := "linear-augmented"
	if o.Pool != 0 {
		name += fmt.Sprintf("-%dx%d", o.Pool, o.Pool)
	}
	report := &eval.Report{Protocol: name, Checkpoint: filepath.Base(ckpt.Path), References: p.Refs.Len(), Classes: len(p.Classes), Holdout: p.Holdout}
	err = ckpt.On(func(m *engine.Model, precision op.DType) error {
		l, err := loader.New(p.Refs, loader.Config{Recipe: views, Batch: o.Batch, Seed: o.Seed, Workers: workers(r), MaxSkip: r.Data.MaxSkip, OnSkip: o.Skip})
		if err != nil {
			return err
		}
		e, err := train.NewPooledExtractor(m, train.EvalSize(r), min(shownAtOnce, o.Batch), precision, o.Pool)
		if err != nil {
			return err
		}
		defer e.Close()
		report.Features = e.Dim()
		heads, err := eval.NewLinearTrainer(e.Dim(), o.LinearOptions, eval.Options{Classes: len(p.Classes), Gemm: cpu.Gemm})
		if err != nil {
			return err
		}
		l.Start(loader.Position{})
		defer l.Close()
		steps := l.StepsPerEpoch()
		progress := o.Progress("epochs")
		labels, features := make([]int, o.Batch), make([]float32, 0, o.Batch*e.Dim())
		for step := range o.Epochs * steps {
			batch, err := l.Next(ctx)
			if err != nil {
				return err
			}
			if features, err = batchFeatures(e, batch.Groups[0], features[:0], o.Batch); err != nil {
				return err
			}
			for i, n := range batch.Indices {
				labels[i] = p.Refs.Label(n)
			}
			batch.Release()
			if err := heads.Step(features, labels, step/steps); err != nil {
				return err
			}
			progress(step+1, o.Epochs*steps)
		}
		queries := eval.Set{Dim: e.Dim()}
		s := show{src: p.Queries, recipe: r, channels: ckpt.Arch.InChannels, skip: o.Skip, progress: o.Progress("queries")}
		err = s.run(ctx, e.Batch(), func(index []int, pixels []float32) error {
			for _, n := range index {
				queries.Labels = append(queries.Labels, p.Queries.Label(n))
			}
			return e.Run(pixels, len(index), &queries.Features, nil, nil)
		})
		if err != nil {
			return err
		}
		report.Queries = queries.Len()
		report.Result, err = heads.Report(queries)
		return err
	})
	return report, ckpt.Dir, err
}

// batchFeatures runs n images through an extractor that takes fewer at a time.
func batchFeatures(e *train.Extractor, pixels, features []float32, n int) ([]float32, error) {
	one := len(pixels) / n
	for from := 0; from < n; from += e.Batch() {
		to := min(from+e.Batch(), n)
		if err := e.Run(pixels[from*one:to*one], to-from, &features, nil, nil); err != nil {
			return nil, err
		}
	}
	return features, nil
}
