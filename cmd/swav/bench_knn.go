package main

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"swav/eval"
	"swav/op/cpu"
)

// knnBench is what `swav bench knn` times.
type knnBench struct{ references, queries, dim, k, steps int }

func newBenchKNN() *cobra.Command {
	var b knnBench
	c := &cobra.Command{
		Use:   "knn",
		Short: "Time the classification by nearest neighbours",
		Long: `Times the exact search and the votes of swav eval knn, on random features: the
median of the rounds. What is searched for is what the votes take, as --k says.`,
		Example: `  swav bench knn --references 50000 --queries 10000 --dim 512 --k 20`,
		Args:    withUsage(cobra.NoArgs),
		RunE:    func(c *cobra.Command, _ []string) error { return b.run(c.Context(), c.OutOrStdout()) },
	}
	f := c.Flags()
	f.IntVar(&b.references, "references", 50000, "rows that are searched")
	f.IntVar(&b.queries, "queries", 10000, "rows that are searched for")
	f.IntVar(&b.dim, "dim", 512, "features of a row")
	f.IntVar(&b.k, "k", 20, "nearest neighbours that vote")
	f.IntVar(&b.steps, "steps", 3, "rounds that are timed, after one that is not")
	return c
}

func (b *knnBench) run(ctx context.Context, w io.Writer) error {
	if b.references < 1 || b.queries < 1 || b.dim < 1 || b.k < 1 || b.steps < 1 {
		return usageError{fmt.Errorf("--references %d --queries %d --dim %d --k %d --steps %d: want at least 1 of each", b.references, b.queries, b.dim, b.k, b.steps)}
	}
	const classes = 10
	random := func(n int, seed uint64) eval.Set {
		rng := rand.New(rand.NewPCG(seed, 0x6b))
		s := eval.Set{Dim: b.dim, Features: make([]float32, n*b.dim), Labels: make([]int, n)}
		for i := range s.Features {
			s.Features[i] = float32(rng.NormFloat64())
		}
		for i := range s.Labels {
			s.Labels[i] = rng.IntN(classes)
		}
		return s
	}
	refs, queries := random(b.references, 1), random(b.queries, 2)
	times := make([]time.Duration, b.steps)
	for i := -1; i < b.steps; i++ {
		start := time.Now()
		if _, err := eval.KNN(ctx, refs, queries, eval.Options{K: b.k, Classes: classes, Gemm: cpu.Gemm, Scanner: cpu.Scanner{}}); err != nil {
			return err
		}
		if i >= 0 {
			times[i] = time.Since(start)
		}
	}
	slices.Sort(times)
	median := times[b.steps/2]
	flops := 2 * float64(b.references) * float64(b.queries) * float64(b.dim)
	fmt.Fprintf(w, "BenchmarkKNN/%dx%dx%d/k%d/threads%d \t%d\t%d ns/op\t%.1f queries/s\t%.1f GFLOP/s\t%d min-ns\t%d max-ns\n", b.queries, b.references, b.dim, b.k,
		runtime.GOMAXPROCS(0), b.steps, median.Nanoseconds(), float64(b.queries)/median.Seconds(), flops/median.Seconds()/1e9, times[0].Nanoseconds(), times[b.steps-1].Nanoseconds())
	return nil
}
