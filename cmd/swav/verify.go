package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"swav/dist/join"
	"swav/op"
	"swav/train"
	"swav/verify"
)

func newVerify() *cobra.Command {
	var backend, precision string
	var augment, asJSON, noWidening bool
	var ranks int
	c := &cobra.Command{
		Use:   "verify [flags] DIR...",
		Short: "Replay reference traces and compare the numbers",
		Long: `Replays training steps recorded with PyTorch in float64 (case.json and
tensors.safetensors in each DIR), or with --augment recorded image
transformations, and prints the worst deviation of each quantity beside
PyTorch's own float32 deviation and the limit. Exit status 1 if any is beyond.

As in training, a case too small to be slow is computed in fp64 whatever less is
asked for, and the first line says so; --no-widening shows what fp32 and bf16
alone do to it.

Under mpirun or srun the ranks replay together: a case of several ranks by as many of
them, one of a single rank by as many as its batch divides among.`,
		Example: `  swav verify ../shared/golden/resnet*
  swav verify --backend ref ../shared/golden/resnet18-small
  swav verify --precision bf16 ../shared/golden/resnet50-queue
  mpirun -n 2 swav verify ../shared/golden/resnet*
  swav verify --augment ../shared/golden/augment/*/`,
		Args: withUsage(cobra.MinimumNArgs(1)),
		RunE: func(c *cobra.Command, dirs []string) error {
			if augment {
				return verifyAugment(c.OutOrStdout(), dirs, asJSON)
			}
			if ranks < 0 {
				return usageError{fmt.Errorf("--ranks %d: want 1 or more", ranks)}
			}
			d, err := op.ParsePrecision(precision)
			if err != nil {
				return usageError{err}
			}
			o := verify.Options{Precision: d, NoWidening: noWidening, Ranks: ranks}
			return joined(c.Context(), func(g *join.Group) error {
				w := c.OutOrStdout()
				if g == nil {
					return verifyTraces(w, dirs, backend, o, asJSON)
				}
				if g.Rank() > 0 {
					w = io.Discard
				}
				return verifyTogether(w, g, dirs, backend, o, asJSON)
			})
		},
	}
	c.Flags().StringVar(&backend, "backend", "auto", "what computes: cpu, ref, or auto")
	c.Flags().StringVar(&precision, "precision", "fp32", "of activations, and whose rule counts: fp32, bf16 or fp64")
	c.Flags().BoolVar(&noWidening, "no-widening", false, "compute in --precision, however small the case")
	c.Flags().IntVar(&ranks, "ranks", 0, "ranks within this process that share a case of one rank; 0: as many as the case has")
	c.Flags().BoolVar(&augment, "augment", false, "the DIRs are recorded image transformations")
	c.Flags().BoolVar(&asJSON, "json", false, "print one JSON object per DIR")
	return c
}

// verifyTogether replays each case by as many of the ranks as can.
func verifyTogether(w io.Writer, g *join.Group, dirs []string, backend string, o verify.Options, asJSON bool) error {
	pass := true
	for _, dir := range dirs {
		n, err := verify.Fitting(dir, g.Size())
		if err != nil {
			return err
		}
		color := 0
		if g.Rank() >= n {
			color = 1
		}
		part, err := g.Split(color)
		if err != nil {
			return err
		}
		if color == 0 {
			o.Comm = part
			if g.Rank() == 0 {
				fmt.Fprintf(w, "%d of %d ranks, %s: ", n, g.Size(), g.Describe())
			}
			switch err := verifyTraces(w, []string{dir}, backend, o, asJSON); {
			case errors.Is(err, errNotPassed):
				pass = false
			case err != nil:
				return err
			}
		}
		// The rest waits, so that none runs into the next case.
		if err := g.Barrier(); err != nil {
			return err
		}
	}
	if !pass {
		return errNotPassed
	}
	return nil
}

func verifyTraces(w io.Writer, dirs []string, backend string, o verify.Options, asJSON bool) error {
	pass := true
	o.NewBackend = func() (op.Backend, error) { return train.NewBackend(backend, 0) }
	for _, dir := range dirs {
		r, err := verify.Trace(dir, o)
		if err != nil {
			return hint(err, "want a folder with case.json and tensors.safetensors; image transformations need --augment")
		}
		if r == nil {
			continue // rank 0 has the report
		}
		pass = pass && r.Pass
		if asJSON {
			if err := json.NewEncoder(w).Encode(r); err != nil {
				return err
			}
			continue
		}
		precision := r.Precision.String()
		if r.Computed != r.Precision {
			precision = fmt.Sprintf("%v asked, so small a case is computed in %v", r.Precision, r.Computed)
		}
		fmt.Fprintf(w, "%s  (%s, %s)\n", r.Case, r.Backend, precision)
		tw := tabwriter.NewWriter(w, 2, 0, 2, ' ', tabwriter.AlignRight)
		fmt.Fprintln(tw, "step\tquantity\tdeviation\tPyTorch fp32\tlimit\t\t")
		for _, q := range r.Quantities {
			own, note := "-", ""
			if q.PyTorch > 0 {
				own = fmt.Sprintf("%.1e", q.PyTorch)
			}
			if !q.Pass {
				note = "beyond, at " + q.Worst
			}
			fmt.Fprintf(tw, "%d\t%s\t%.1e\t%s\t%.1e\t %s\t\n", q.Step, q.Kind, q.Deviation, own, q.Limit, verdict(q.Pass)+" "+note)
		}
		if err := tw.Flush(); err != nil {
			return err
		}
		fmt.Fprintf(w, "%s: %s\n\n", r.Case, verdict(r.Pass))
	}
	if !pass {
		return errNotPassed
	}
	return nil
}

func verdict(pass bool) string {
	if pass {
		return "pass"
	}
	return "FAIL"
}

func verifyAugment(w io.Writer, dirs []string, asJSON bool) error {
	pass := true
	for _, dir := range dirs {
		r, err := verify.Augment(dir)
		if err != nil {
			return hint(err, "want a folder with case.json, an image and expect.safetensors")
		}
		pass = pass && r.Pass
		if asJSON {
			if err := json.NewEncoder(w).Encode(r); err != nil {
				return err
			}
			continue
		}
		fmt.Fprintf(w, "%s  (%s, %s): %s\n", r.Case, r.Decoder, r.Kernels, verdict(r.Pass))
		tw := tabwriter.NewWriter(w, 2, 0, 2, ' ', tabwriter.AlignRight)
		fmt.Fprintln(tw, "stage\tmean\tlimit\tp99.9\tlimit\t\t")
		for _, s := range r.Stages {
			fmt.Fprintf(tw, "%s\t%.3f\t%.1f\t%.1f\t%.1f\t %s\t\n", s.Name, s.Mean, s.MeanLimit, s.P999, s.P999Limit, verdict(s.Pass))
		}
		if err := tw.Flush(); err != nil {
			return err
		}
	}
	if !pass {
		return errNotPassed
	}
	return nil
}
