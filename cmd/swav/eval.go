package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"swav/eval"
	"swav/op/cpu"
	"swav/runlog"
	"swav/train"
)

func newEval() *cobra.Command {
	c := &cobra.Command{
		Use:   "eval PROTOCOL RUN",
		Short: "Say what features are worth, by labels that the training has not seen",
		Long: `Evaluates the features of a run, of one of its checkpoints, or of files that
swav embed wrote. Labels come from the data: sub-folders, or the labels of
idx files and CIFAR batches. References are the images trained on, queries the
test part, or, where the data has none, held-out training images.

The result is printed and written to RUN/eval/PROTOCOL.json; with --json it is
printed as JSON.`,
		Example: `  swav eval knn runs/photos
  swav eval linear runs/photos/checkpoints/step-0001000
  swav embed runs/c10 --out train.npy && swav embed runs/c10 --split test --out test.npy
  swav eval knn train.npy test.npy --json`,
		Args: withUsage(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			return usageError{hint(errors.New("no protocol given"), "name one: `%s --help` lists them", c.CommandPath())}
		},
	}
	c.AddCommand(newEvalKNN(), newEvalLinear(), newEvalFinetune(), newEvalCluster(), newEvalRetrieval(), newEvalProbe())
	return c
}

// protocol is an evaluation as a command: where its data comes from and where its
// result goes.
type protocol struct {
	name, data, run     string
	references, queries int
	pool                int // see train.EvalOptions
	json                bool
	progress            *runlog.Progress

	// before, if not nil, checks flags. It may set whole, which then evaluates a run in
	// the place of the features.
	before func(*cobra.Command) error
	whole  func(ctx context.Context, run string) (r *eval.Report, dir string, err error)
}

// command makes the command of a protocol. Evaluate gets the options that all
// protocols share; it may leave Report's fields but Result empty.
func (p *protocol) command(c *cobra.Command, evaluate func(context.Context, *train.EvalData, eval.Options) (eval.Tabular, error)) *cobra.Command {
	p.name, _, _ = strings.Cut(c.Use, " ")
	c.Use = p.name + " RUN | REFERENCES.npy QUERIES.npy"
	c.Args = withUsage(cobra.MaximumNArgs(2))
	f := c.Flags()
	f.StringVar(&p.run, "run", "", "run directory, or one checkpoint in it; the same as the argument")
	f.StringVar(&p.data, "data", "", "images: folder, idx files, CIFAR batches (default: the run's)")
	f.IntVar(&p.references, "references", 0, "at most this many labelled training images; 0: all")
	f.IntVar(&p.queries, "queries", 0, "at most this many images to evaluate; 0: all")
	f.BoolVar(&p.json, "json", false, "print the result as JSON")
	c.RunE = func(c *cobra.Command, args []string) error {
		if p.before != nil {
			if err := p.before(c); err != nil {
				return err
			}
		}
		p.progress = runlog.NewProgress(c.ErrOrStderr())
		report, dir, err := p.evaluate(c, args, evaluate)
		p.progress.Close()
		if err != nil {
			return err
		}
		return p.show(c.OutOrStdout(), report, dir)
	}
	return c
}

func (p *protocol) evaluate(c *cobra.Command, args []string, evaluate func(context.Context, *train.EvalData, eval.Options) (eval.Tabular, error)) (*eval.Report, string, error) {
	if p.run != "" {
		args = append([]string{p.run}, args...)
	}
	if err := p.check(c, args); err != nil {
		return nil, "", err
	}
	if p.whole != nil {
		return p.whole(c.Context(), args[0])
	}
	d, source, closeFiles, err := p.open(c, args)
	if err != nil {
		return nil, "", err
	}
	defer closeFiles()
	start := time.Now()
	result, err := evaluate(c.Context(), d, eval.Options{Classes: len(d.Classes), Gemm: cpu.Gemm, Scanner: cpu.Scanner{}, Progress: p.progress.Stage(p.name)})
	if err != nil {
		return nil, "", err
	}
	checkpoint, name := "", p.name
	if d.Checkpoint != "" {
		checkpoint = filepath.Base(d.Checkpoint)
	}
	if p.pool != 0 {
		name = fmt.Sprintf("%s-%dx%d", name, p.pool, p.pool)
	}
	return &eval.Report{Protocol: name, Source: source, Checkpoint: checkpoint, References: d.Refs.Len(), Queries: d.Queries.Len(),
		Features: d.Refs.Dim, Classes: len(d.Classes), Holdout: d.Holdout, Seconds: time.Since(start).Seconds(), Result: result}, d.Dir, nil
}

// check looks at the arguments: a run, or two files of features.
func (p *protocol) check(c *cobra.Command, args []string) error {
	switch len(args) {
	case 0:
		return usageError{hint(errors.New("no run directory given"), "name it: %s RUN; `%s --help` has an example", c.CommandPath(), c.CommandPath())}
	case 1:
		if ext := filepath.Ext(args[0]); ext == ".npy" || ext == ".safetensors" {
			return usageError{hint(fmt.Errorf("%s alone", args[0]), "name two files of features: references and queries")}
		}
	default:
		if p.whole != nil || p.pool != 0 {
			return usageError{fmt.Errorf("%s, %s: --augment and --pool need the images: name a run", args[0], args[1])}
		}
	}
	return nil
}

// open computes or reads the features.
func (p *protocol) open(c *cobra.Command, args []string) (d *train.EvalData, source string, closeFiles func(), err error) {
	if len(args) == 2 {
		return openFeatures(args[0], args[1])
	}
	d, err = train.EvalFeatures(c.Context(), train.EvalOptions{Run: args[0], Data: p.data, References: p.references, Queries: p.queries, Pool: p.pool,
		Skip: reportSkip(c), Note: reportNote(c), Progress: p.progress.Stage})
	return d, args[0], func() {}, err
}

// openFeatures reads two files of features.
func openFeatures(refs, queries string) (*train.EvalData, string, func(), error) {
	a, err := eval.OpenFeatures(refs)
	if err != nil {
		return nil, "", nil, err
	}
	b, err := eval.OpenFeatures(queries)
	if err != nil {
		return nil, "", nil, errors.Join(err, a.Close())
	}
	d := &train.EvalData{}
	if d.Refs, d.Queries, d.Classes, err = eval.LabelledSets(a, b); err != nil {
		return nil, "", nil, errors.Join(err, a.Close(), b.Close())
	}
	return d, refs + ", " + queries, func() { _, _ = a.Close(), b.Close() }, nil
}

// show prints a report and, for a run, writes it beside it.
func (p *protocol) show(w io.Writer, r *eval.Report, dir string) error {
	path := ""
	if dir != "" {
		var err error
		if path, err = r.Save(dir); err != nil {
			return err
		}
		table := r.Result.Table()
		if err := runlog.AddToReport(filepath.Join(dir, "report.html"), r.Protocol, &runlog.Comparison{Caption: r.Title(), Head: table[0], Rows: table[1:]}); err != nil {
			return err
		}
	}
	if p.json {
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		return e.Encode(r)
	}
	if err := r.Write(w); err != nil {
		return err
	}
	if path != "" {
		fmt.Fprintf(w, "  %s\n", path)
	}
	return nil
}

func newEvalKNN() *cobra.Command {
	p := &protocol{}
	var ks []int
	var temperature float64
	c := p.command(&cobra.Command{
		Use:   "knn",
		Short: "Nearest neighbours vote",
		Long: `Classifies each query by the votes of its most similar references (cosine),
exactly, for several numbers of neighbours in one pass: weighted by
exp(similarity / temperature) as in Wu et al. 2018, and plain.`,
		Example: `  swav eval knn runs/photos
  swav eval knn train.npy test.npy --k 20 --json`,
	}, func(ctx context.Context, d *train.EvalData, o eval.Options) (eval.Tabular, error) {
		var rules []eval.Rule
		for _, k := range ks {
			rules = append(rules, eval.Rule{K: k, Temperature: temperature}, eval.Rule{K: k, Uniform: true})
		}
		results, err := eval.Votes(ctx, d.Refs, d.Queries, rules, o)
		if err != nil {
			return nil, err
		}
		return eval.NewKNNReport(rules, results), nil
	})
	c.Flags().IntSliceVar(&ks, "k", []int{10, 20, 100, 200}, "nearest neighbours that vote")
	c.Flags().Float64Var(&temperature, "temperature", 0.07, "of weighted votes")
	return c
}

// poolFlag is a flag such as 6x6.
type poolFlag int

func (p *poolFlag) String() string {
	if *p == 0 {
		return ""
	}
	return fmt.Sprintf("%dx%d", int(*p), int(*p))
}

func (p *poolFlag) Set(s string) error {
	a, b, ok := strings.Cut(s, "x")
	n, err := strconv.Atoi(a)
	if !ok || a != b || err != nil || n < 1 {
		return errors.New("want a square of places, such as 6x6")
	}
	*p = poolFlag(n)
	return nil
}

func (p *poolFlag) Type() string { return "NxN" }
