package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"swav/finetune"
	"swav/runlog"
)

func newEvalFinetune() *cobra.Command {
	p := &protocol{}
	var o finetune.Options
	c := &cobra.Command{
		Use:   "finetune RUN",
		Short: "Train backbone and classifier end to end on labelled images",
		Long: `Puts a linear classifier on the backbone and trains both with labels, as the
original's semi-supervised evaluation does: SGD with momentum, random crops and
flips, one learning rate for the backbone and one for the classifier, both cut to
a fifth after 60% and 80% of the epochs. --fraction 0.01 and 0.1 learn from that
share of each class; --labels-from from the images that a file names, such as the
original's splits of ImageNet.

The classifier is written to RUN/classifier.safetensors (of a fraction:
RUN/classifier-FRACTION.safetensors), with torchvision's names; swav predict uses it.
Learning rates are given for batches of 256 and scaled to the batch.`,
		Example: `  swav eval finetune runs/photos
  swav eval finetune runs/imagenet --fraction 0.01
  swav eval finetune runs/imagenet --labels-from 10percent.txt --json
  swav predict runs/photos new/*.jpg`,
		Args: withUsage(cobra.MaximumNArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			if p.run != "" {
				args = append([]string{p.run}, args...)
			}
			if len(args) != 1 {
				return usageError{hint(errors.New("want one run directory"), "name it: %s RUN; `%s --help` has an example", c.CommandPath(), c.CommandPath())}
			}
			if o.List != "" && c.Flags().Changed("fraction") {
				return usageError{errors.New("--fraction and --labels-from: give one of them")}
			}
			progress := runlog.NewProgress(c.ErrOrStderr())
			o.Run, o.Data, o.Queries, o.Skip, o.Note, o.Progress = args[0], p.data, p.queries, reportSkip(c), reportNote(c), progress.Stage
			o.Epoch = func(e finetune.Epoch) {
				progress.Print(fmt.Sprintf("epoch %d/%d  loss %.4f  top-1 %.2f %%  top-5 %.2f %%", e.Epoch, o.Epochs, e.Loss, e.Top1, e.Top5))
			}
			start := time.Now()
			r, err := finetune.Run(c.Context(), o)
			progress.Close()
			if err != nil {
				return err
			}
			if err := p.show(c.OutOrStdout(), r.Evaluation(args[0], time.Since(start).Seconds()), r.Dir); err != nil {
				return err
			}
			if !p.json {
				fmt.Fprintf(c.OutOrStdout(), "  %s\n", r.Classifier)
			}
			return nil
		},
	}
	f := c.Flags()
	f.StringVar(&p.run, "run", "", "run directory, or one checkpoint in it; the same as the argument")
	f.StringVar(&p.data, "data", "", "images: folder, list, shards, idx files, CIFAR batches (default: the run's)")
	f.IntVar(&p.queries, "queries", 0, "at most this many images to evaluate; 0: all")
	f.BoolVar(&p.json, "json", false, "print the result as JSON")
	f.Float64Var(&o.Fraction, "fraction", 1, "share of the labels of each class that is learnt from")
	f.StringVar(&o.List, "labels-from", "", "file with the names of the images that are learnt from, one a line")
	f.IntVar(&o.Epochs, "epochs", 20, "passes over the images learnt from")
	f.IntVar(&o.Batch, "batch", 0, "images of a step; 0: 256, fewer (at least 32) where an epoch would have less than 50 steps")
	f.Float64Var(&o.BackboneLR, "lr", 0, "learning rate of the backbone for batches of 256; 0: 0.01, of up to 3% of the labels 0.02")
	f.Float64Var(&o.HeadLR, "head-lr", 0, "learning rate of the classifier for batches of 256; 0: 0.2, of up to 3% of the labels 5")
	f.Float64Var(&o.MinScale, "min-scale", 0.08, "smallest share of the image's area that a crop shows")
	f.Uint64Var(&o.Seed, "seed", 0, "of the choice of images, first weights, order and crops")
	return c
}
