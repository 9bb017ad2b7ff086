package main

import (
	"context"
	"errors"
	"time"

	"github.com/spf13/cobra"

	"swav/eval"
	"swav/finetune"
	"swav/train"
)

func newEvalLinear() *cobra.Command {
	p := &protocol{}
	l := eval.DefaultLinear()
	var augment bool
	var minScale float64
	c := p.command(&cobra.Command{
		Use:   "linear",
		Short: "A linear classifier on the features",
		Long: `Fits linear classifiers to the references' features, computed once without
augmentation, and classifies the queries: by SGD as the original does (momentum,
learning rate along a cosine), for several learning rates and weight decays in
one pass, and by L-BFGS to the optimum of a penalised logistic regression on
standardised features (C as in scikit-learn).

--augment computes the features anew in every epoch, of random crops and flips, as
the original does; SGD alone learns from them. --pool 6x6 has the original's larger
features: of a ResNet-50 at 224 pixels the means of 6x6 of the 7x7 places, 8,192
numbers.`,
		Example: `  swav eval linear runs/photos
  swav eval linear runs/imagenet --augment --pool 6x6 --lr 0.3 --weight-decay 1e-6
  swav eval linear train.npy test.npy --lr 0.3 --weight-decay 1e-6 --c ""`,
	}, func(ctx context.Context, d *train.EvalData, o eval.Options) (eval.Tabular, error) {
		return eval.Linear(ctx, d.Refs, d.Queries, l, o)
	})
	f := c.Flags()
	f.Float64SliceVar(&l.LR, "lr", l.LR, "learning rates of SGD; \"\" for none")
	f.Float64SliceVar(&l.WeightDecay, "weight-decay", l.WeightDecay, "weight decays of SGD")
	f.IntVar(&l.Epochs, "epochs", l.Epochs, "of SGD")
	f.IntVar(&l.Batch, "batch", l.Batch, "of SGD")
	f.Float64Var(&l.Momentum, "momentum", l.Momentum, "of SGD")
	f.Float64SliceVar(&l.C, "c", l.C, "inverse strengths of the penalty, for L-BFGS; \"\" for none")
	f.Uint64Var(&l.Seed, "seed", 0, "of the first weights and the order of images")
	f.BoolVar(&augment, "augment", false, "features of random crops and flips, new in every epoch")
	f.Float64Var(&minScale, "min-scale", 0.08, "with --augment: smallest share of the image's area that a crop shows")
	f.Var((*poolFlag)(&p.pool), "pool", "features are means of this many places of the last feature map, such as 6x6 (default: of all)")
	p.before = func(c *cobra.Command) error {
		if !augment {
			if f.Changed("min-scale") {
				return usageError{errors.New("--min-scale goes with --augment")}
			}
			return nil
		}
		if f.Changed("c") && len(l.C) > 0 {
			return usageError{hint(errors.New("--augment learns by SGD alone"), "leave out --c")}
		}
		l.C = nil
		p.whole = func(ctx context.Context, run string) (*eval.Report, string, error) {
			start := time.Now()
			r, dir, err := finetune.Linear(ctx, finetune.LinearOptions{LinearOptions: l, Run: run, Data: p.data, Pool: p.pool, MinScale: minScale,
				References: p.references, Queries: p.queries, Skip: reportSkip(c), Note: reportNote(c), Progress: p.progress.Stage})
			if err != nil {
				return nil, "", err
			}
			r.Source, r.Seconds = run, time.Since(start).Seconds()
			return r, dir, nil
		}
		return nil
	}
	return c
}
