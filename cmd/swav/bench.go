package main

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"swav/engine"
	"swav/nn"
	"swav/op"
	"swav/train"
)

func newBench() *cobra.Command {
	c := &cobra.Command{Use: "bench", Short: "Time parts of swav on this machine"}
	c.AddCommand(newBenchStep())
	return c
}

func newBenchStep() *cobra.Command {
	var arch, block, layers, stem, crops, precision, backend string
	var width float64
	var channels, hidden, dim, prototypes, batch, steps, warmup, threads int
	var breakdown, noWidening bool
	c := &cobra.Command{
		Use:   "step",
		Short: "Time whole training steps on random pixels",
		Long: `Times whole training steps (forward, codes, loss, backward, LARC) on random
pixels and prints them in Go's benchmark format: the median of the steps, and
images and multiply-accumulates per second.`,
		Example: `  swav bench step --arch resnet50 --crops 2x224,6x96 --batch-size 16 --precision bf16 --steps 5 --breakdown
  swav bench step --layers 1,1,1 --width 0.25 --stem small --crops 2x28,2x16 --batch-size 64`,
		Args: withUsage(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			d, err := op.ParsePrecision(precision)
			if err != nil {
				return usageError{err}
			}
			groups, err := parseCrops(crops)
			if err != nil {
				return usageError{err}
			}
			if steps < 1 || warmup < 0 {
				return usageError{fmt.Errorf("--steps %d --warmup %d: want at least 1 step and no negative warm-up", steps, warmup)}
			}
			a, err := nn.ResNet(arch)
			if err != nil {
				return usageError{err}
			}
			if layers != "" {
				a.Block, a.Layers = nn.Block(block), nil
				for s := range strings.SplitSeq(layers, ",") {
					n, err := strconv.Atoi(s)
					if err != nil {
						return usageError{fmt.Errorf("--layers %s: want blocks per stage, such as 2,2,2,2", layers)}
					}
					a.Layers = append(a.Layers, n)
				}
			}
			if c.Flags().Changed("width") {
				a.Width = width
			}
			a.Stem, a.InChannels, a.Hidden, a.FeatureDim, a.Prototypes = nn.Stem(stem), channels, hidden, dim, prototypes
			var r *train.BenchResult
			var device string
			err = train.OnThread(func() error {
				b, err := train.NewBackend(backend, threads)
				if err != nil {
					return err
				}
				defer b.Close()
				device = b.Describe()
				r, err = train.Bench(b, train.BenchConfig{Arch: a, Groups: groups, Batch: batch, Precision: d, NoWidening: noWidening, Warmup: warmup, Steps: steps})
				return err
			})
			if err != nil {
				return err
			}
			w := c.OutOrStdout()
			sec := r.Median.Seconds()
			macs := 3 * float64(r.MACs) * float64(batch)
			fmt.Fprintf(w, "network: %v\ndevice: %s\nmemory: %.2f GB of intermediates\n", a, device, float64(r.ArenaBytes)/1e9)
			fmt.Fprintf(w, "BenchmarkStep/%s/%s/batch%d/%v \t%d\t%d ns/op\t%.2f img/s\t%.1f GFLOP/s\t%d min-ns\t%d max-ns\n",
				arch, crops, batch, r.Precision, steps, r.Median.Nanoseconds(), float64(batch)/sec, 2*macs/sec/1e9, r.Min.Nanoseconds(), r.Max.Nanoseconds())
			if breakdown {
				fmt.Fprintf(w, "\n%-24s %6s %10s %8s %10s\n", "operator", "calls", "ms", "share", "GFLOP/s")
				var sum float64
				for _, k := range r.Kinds {
					sum += k.Time.Seconds()
				}
				for _, k := range r.Kinds {
					rate := "-"
					if k.MACs > 0 {
						rate = fmt.Sprintf("%.0f", 2*float64(k.MACs)/k.Time.Seconds()/1e9)
					}
					fmt.Fprintf(w, "%-24s %6d %10.2f %7.1f%% %10s\n", k.Kind, k.Calls, k.Time.Seconds()*1e3, 100*k.Time.Seconds()/sum, rate)
				}
				fmt.Fprintf(w, "%-24s %6s %10.2f\n", "network, sum", "", sum*1e3)
				fmt.Fprintf(w, "%-24s %6s %10.2f\n", "codes, loss, optimizer", "", (sec-sum)*1e3)
			}
			return nil
		},
	}
	f := c.Flags()
	f.StringVar(&arch, "arch", "resnet50", "network: resnet18, resnet34, resnet50, resnet101, resnet50w2, -w4, -w5")
	f.StringVar(&layers, "layers", "", "blocks per stage instead of --arch, such as 2,2,2,2")
	f.StringVar(&block, "block", "basic", "with --layers: basic or bottleneck")
	f.Float64Var(&width, "width", 1, "multiplies the channels of every stage")
	f.StringVar(&stem, "stem", "imagenet", "imagenet or small")
	f.IntVar(&channels, "channels", 3, "of the input")
	f.IntVar(&hidden, "hidden", 2048, "hidden units of the head; 0: one linear layer")
	f.IntVar(&dim, "feature-dim", 128, "dimension of the embedding")
	f.IntVar(&prototypes, "prototypes", 3000, "number of prototypes")
	f.StringVar(&crops, "crops", "2x224,6x96", "crops per image: COUNTxSIZE,…")
	f.IntVar(&batch, "batch-size", 16, "images per step")
	f.StringVar(&precision, "precision", "bf16", "of activations: fp32, bf16 or fp64")
	f.BoolVar(&noWidening, "no-widening", false, "compute in --precision, however small the step")
	f.StringVar(&backend, "backend", "auto", "cpu, ref, or auto")
	f.IntVar(&threads, "threads", 0, "compute threads; 0: all processors")
	f.IntVar(&steps, "steps", 5, "steps that are timed")
	f.IntVar(&warmup, "warmup", 2, "steps before that")
	f.BoolVar(&breakdown, "breakdown", false, "also print the time of each kind of operator")
	return c
}

// parseCrops reads "2x224,6x96".
func parseCrops(s string) ([]engine.Group, error) {
	var groups []engine.Group
	for part := range strings.SplitSeq(s, ",") {
		count, size, ok := strings.Cut(part, "x")
		n, err1 := strconv.Atoi(count)
		px, err2 := strconv.Atoi(size)
		if !ok || err1 != nil || err2 != nil {
			return nil, fmt.Errorf("--crops %q: want COUNTxSIZE,… such as 2x224,6x96", s)
		}
		groups = append(groups, engine.Group{Count: n, Size: px})
	}
	return groups, nil
}
