package main

import (
	"context"

	"github.com/spf13/cobra"

	"swav/eval"
	"swav/train"
)

func newEvalLinear() *cobra.Command {
	p := &protocol{}
	l := eval.DefaultLinear()
	c := p.command(&cobra.Command{
		Use:   "linear",
		Short: "A linear classifier on the features",
		Long: `Fits linear classifiers to the references' features, computed once without
augmentation, and classifies the queries: by SGD as the original does (momentum,
learning rate along a cosine), for several learning rates and weight decays in
one pass, and by L-BFGS to the optimum of a penalised logistic regression on
standardised features (C as in scikit-learn).`,
		Example: `  swav eval linear runs/photos
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
	return c
}
