package main

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"swav/engine"
	"swav/nn"
	"swav/op"
	"swav/train"
)

func newBench() *cobra.Command {
	c := &cobra.Command{
		Use:   "bench",
		Short: "Time parts of swav on this machine",
		Long: `Times parts of swav, on random pixels but for data, and prints Go's benchmark format, which
benchstat compares. Rates stand beside the share of the peak that this machine
reaches in register-only loops, measured in the same run.`,
	}
	c.AddCommand(newBenchStep(), newBenchInfer(), newBenchOp(), newBenchPeak(), newBenchData(), newBenchKNN(), newBenchServe(), newBenchScaling())
	return c
}

func newBenchStep() *cobra.Command {
	c := &cobra.Command{
		Use:   "step",
		Short: "Time whole training steps",
		Long: `Times whole training steps (forward, codes, loss, backward, LARC): the median of
the steps. --breakdown shows where the time goes and how near each kind of
operator is to the machine's peak.`,
		Example: `  swav bench step --arch resnet50 --crops 2x224,6x96 --batch-size 16 --precision bf16 --steps 5 --breakdown
  swav bench step --layers 1,1,1 --width 0.25 --stem small --crops 2x28,2x16 --batch-size 64`,
	}
	return timed(c, "Step", false, "2x224,6x96", 16)
}

func newBenchInfer() *cobra.Command {
	c := &cobra.Command{
		Use:     "infer",
		Short:   "Time the features of images",
		Example: `  swav bench infer --arch resnet50 --crops 1x224 --batch-size 32 --precision bf16`,
	}
	return timed(c, "Infer", true, "1x224", 32)
}

// timed makes c time training steps, or features, of the network in its flags.
func timed(c *cobra.Command, name string, infer bool, crops string, batch int) *cobra.Command {
	var b benchFlags
	var breakdown bool
	passes := 3 // over the products: forward, and backward for data and weights
	if infer {
		passes = 1
	}
	c.Args = withUsage(cobra.NoArgs)
	c.RunE = func(c *cobra.Command, _ []string) error {
		r, peak, err := b.run(infer)
		if err != nil {
			return err
		}
		b.print(c.OutOrStdout(), name, r, peak, passes)
		if breakdown {
			printKinds(c.OutOrStdout(), r, peak)
		}
		return nil
	}
	b.add(c.Flags(), crops, batch)
	c.Flags().BoolVar(&breakdown, "breakdown", false, "also print the time of each kind of operator")
	return c
}

func newBenchOp() *cobra.Command {
	var b benchFlags
	var only string
	c := &cobra.Command{
		Use:     "op",
		Short:   "Time every operator of a training step, layer by layer",
		Example: `  swav bench op --arch resnet50 --only "conv backward weights"`,
		Args:    withUsage(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			r, peak, err := b.run(false)
			if err != nil {
				return err
			}
			w := c.OutOrStdout()
			b.header(w, r, peak)
			for _, o := range r.Layers {
				if !strings.Contains(o.Kind, only) {
					continue
				}
				name := strings.ReplaceAll(o.Kind, " ", "_")
				if o.Layer != "" {
					name = o.Layer + "/" + name
				}
				fmt.Fprintf(w, "BenchmarkOp/%s \t1\t%d ns/op%s\n", name, o.Time.Nanoseconds(), rates(o, r, peak))
			}
			return nil
		},
	}
	b.add(c.Flags(), "2x224,6x96", 16)
	c.Flags().StringVar(&only, "only", "", "operators whose kind contains this")
	return c
}

func newBenchPeak() *cobra.Command {
	var threads int
	c := &cobra.Command{
		Use:   "peak",
		Short: "Measure what this machine does at most",
		Long: `Measures multiply-accumulates on registers only, in float32 and bfloat16, and the
bandwidth of memory: the yardsticks of the other benchmarks.`,
		Example: `  swav bench peak --threads 1`,
		Args:    withUsage(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			return train.OnThread(func() error {
				b, err := train.NewBackend("cpu", threads)
				if err != nil {
					return err
				}
				defer b.Close()
				p := b.(op.Peaker).Peak()
				w := c.OutOrStdout()
				fmt.Fprintf(w, "device: %s\n", b.Describe())
				fmt.Fprintf(w, "BenchmarkPeak/fp32 \t1\t%.1f GFLOP/s\n", p.FP32/1e9)
				if p.BF16 > 0 {
					fmt.Fprintf(w, "BenchmarkPeak/bf16 \t1\t%.1f GFLOP/s\n", p.BF16/1e9)
				}
				fmt.Fprintf(w, "BenchmarkPeak/memory \t1\t%.1f GB/s\n", p.Bandwidth/1e9)
				return nil
			})
		},
	}
	c.Flags().IntVar(&threads, "threads", 0, "compute threads; 0: all processors")
	return c
}

// benchFlags say what is timed.
type benchFlags struct {
	arch, block, layers, stem, crops, precision, backend string
	width                                                float64
	channels, hidden, dim, prototypes, queue             int
	batch, steps, warmup, threads                        int
	noWidening, direct                                   bool

	device string // filled by run
	net    nn.Arch
}

func (b *benchFlags) add(f *pflag.FlagSet, crops string, batch int) {
	f.StringVar(&b.arch, "arch", "resnet50", "network: resnet18, resnet34, resnet50, resnet101, resnet50w2, -w4, -w5")
	f.StringVar(&b.layers, "layers", "", "blocks per stage instead of --arch, such as 2,2,2,2")
	f.StringVar(&b.block, "block", "basic", "with --layers: basic or bottleneck")
	f.Float64Var(&b.width, "width", 0, "multiplies the channels of every stage; 0: as --arch has it")
	f.StringVar(&b.stem, "stem", "imagenet", "imagenet or small")
	f.IntVar(&b.channels, "channels", 3, "of the input")
	f.IntVar(&b.hidden, "hidden", 2048, "hidden units of the head; 0: one linear layer")
	f.IntVar(&b.dim, "feature-dim", 128, "dimension of the embedding")
	f.IntVar(&b.prototypes, "prototypes", 3000, "number of prototypes")
	f.IntVar(&b.queue, "queue", 0, "rows of the queue, a multiple of the batch")
	f.StringVar(&b.crops, "crops", crops, "crops per image: COUNTxSIZE,…")
	f.IntVar(&b.batch, "batch-size", batch, "images at a time")
	f.StringVar(&b.precision, "precision", "bf16", "of activations: fp32, bf16 or fp64")
	f.BoolVar(&b.noWidening, "no-widening", false, "compute in --precision, however small the step")
	f.BoolVar(&b.direct, "no-winograd", false, "convolutions by plain products")
	f.StringVar(&b.backend, "backend", "auto", "cpu, ref, or auto")
	f.IntVar(&b.threads, "threads", 0, "compute threads; 0: all processors")
	f.IntVar(&b.steps, "steps", 5, "rounds that are timed")
	f.IntVar(&b.warmup, "warmup", 2, "rounds before that")
}

// config reads the flags.
func (b *benchFlags) config() (train.BenchConfig, error) {
	c := train.BenchConfig{Batch: b.batch, NoWidening: b.noWidening, Direct: b.direct, Queue: b.queue, Warmup: b.warmup, Rounds: b.steps}
	var err error
	if c.Precision, err = op.ParsePrecision(b.precision); err != nil {
		return c, err
	}
	if c.Groups, err = parseCrops(b.crops); err != nil {
		return c, err
	}
	if b.steps < 1 || b.warmup < 0 {
		return c, fmt.Errorf("--steps %d --warmup %d: want at least 1 round and no negative warm-up", b.steps, b.warmup)
	}
	if b.queue < 0 || b.batch < 1 || b.queue%b.batch != 0 {
		return c, fmt.Errorf("--queue %d --batch-size %d: want a queue of whole batches", b.queue, b.batch)
	}
	if b.net, err = nn.ResNet(b.arch); err != nil {
		return c, err
	}
	if b.layers != "" {
		b.net.Block, b.net.Layers = nn.Block(b.block), nil
		for s := range strings.SplitSeq(b.layers, ",") {
			n, err := strconv.Atoi(s)
			if err != nil {
				return c, fmt.Errorf("--layers %s: want blocks per stage, such as 2,2,2,2", b.layers)
			}
			b.net.Layers = append(b.net.Layers, n)
		}
		b.arch = b.block
	}
	if b.width != 0 {
		b.net.Width = b.width
	}
	b.net.Stem, b.net.InChannels, b.net.Hidden, b.net.FeatureDim, b.net.Prototypes = nn.Stem(b.stem), b.channels, b.hidden, b.dim, b.prototypes
	c.Arch = b.net
	return c, nil
}

func (b *benchFlags) run(infer bool) (*train.BenchResult, op.Peak, error) {
	var r *train.BenchResult
	var peak op.Peak
	c, err := b.config()
	if err != nil {
		return nil, peak, usageError{err}
	}
	c.Infer = infer
	err = train.OnThread(func() error {
		backend, err := train.NewBackend(b.backend, b.threads)
		if err != nil {
			return err
		}
		defer backend.Close()
		b.device = backend.Describe()
		if p, ok := backend.(op.Peaker); ok {
			peak = p.Peak()
		}
		r, err = train.Bench(backend, c)
		return err
	})
	return r, peak, err
}

// header describes what was timed.
func (b *benchFlags) header(w io.Writer, r *train.BenchResult, peak op.Peak) {
	fmt.Fprintf(w, "network: %v\ndevice: %s\nmemory: %.2f GB of intermediates\n", b.net, b.device, float64(r.ArenaBytes)/1e9)
	if peak.FP32 > 0 {
		fmt.Fprintf(w, "peak: fp32 %.0f GFLOP/s, bf16 %.0f GFLOP/s, memory %.1f GB/s\n", peak.FP32/1e9, peak.BF16/1e9, peak.Bandwidth/1e9)
	}
}

// print writes one benchmark line; passes is how often the forward pass's
// products are done in all.
func (b *benchFlags) print(w io.Writer, name string, r *train.BenchResult, peak op.Peak, passes int) {
	b.header(w, r, peak)
	sec := r.Median().Seconds()
	flops := 2 * float64(passes) * float64(r.MACs) * float64(b.batch) / sec
	share := ""
	if p := peakOf(peak, r.Precision); p > 0 {
		share = fmt.Sprintf("\t%.1f %%peak", 100*flops/p)
	}
	fmt.Fprintf(w, "Benchmark%s/%s/%s/batch%d/%v \t%d\t%d ns/op\t%.2f img/s\t%.1f GFLOP/s%s\t%d min-ns\t%d max-ns\n",
		name, b.arch, b.crops, b.batch, r.Precision, b.steps, r.Median().Nanoseconds(), float64(b.batch)/sec, flops/1e9, share,
		r.Times[0].Nanoseconds(), r.Times[len(r.Times)-1].Nanoseconds())
}

// peakOf is the peak of a precision; 0 where it is not known.
func peakOf(p op.Peak, d op.DType) float64 {
	switch d {
	case op.Float32:
		return p.FP32
	case op.BFloat16:
		return p.BF16
	}
	return 0
}

// rates are a benchmark line's figures of one operator.
func rates(o train.OpTime, r *train.BenchResult, peak op.Peak) string {
	var s strings.Builder
	sec := o.Time.Seconds()
	if o.MACs > 0 {
		fmt.Fprintf(&s, "\t%.1f GFLOP/s", 2*float64(o.MACs)/sec/1e9)
		if p := peakOf(peak, r.Precision); p > 0 {
			fmt.Fprintf(&s, "\t%.1f %%peak", 200*float64(o.MACs)/sec/p)
		}
	}
	if o.Bytes > 0 {
		fmt.Fprintf(&s, "\t%.1f GB/s", float64(o.Bytes)/sec/1e9)
		if peak.Bandwidth > 0 {
			fmt.Fprintf(&s, "\t%.1f %%bandwidth", 100*float64(o.Bytes)/sec/peak.Bandwidth)
		}
	}
	return s.String()
}

// printKinds is the table of --breakdown, with the roofline: the time that each
// operator would take at the machine's peak or bandwidth, whichever is longer.
func printKinds(w io.Writer, r *train.BenchResult, peak op.Peak) {
	var total, roof float64
	roofs := map[string]float64{}
	for _, o := range r.Layers {
		least := 0.0
		if p := peakOf(peak, r.Precision); p > 0 {
			least = 2 * float64(o.MACs) / p
		}
		if peak.Bandwidth > 0 {
			least = max(least, float64(o.Bytes)/peak.Bandwidth)
		}
		roofs[o.Kind] += least
		roof += least
		total += o.Time.Seconds()
	}
	fmt.Fprintln(w)
	t := tabwriter.NewWriter(w, 2, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "operator\tcalls\tms\tshare\tGFLOP\tGFLOP/s\tpeak\tGB\tGB/s\tbandwidth\troofline ms\t")
	line := func(name string, calls int, sec float64, macs, bytes int64, roof float64) {
		cell := func(ok bool, format string, v float64) string {
			if !ok {
				return "-"
			}
			return fmt.Sprintf(format, v)
		}
		flops, p := 2*float64(macs), peakOf(peak, r.Precision)
		fmt.Fprintf(t, "%s\t%d\t%.2f\t%.1f%%\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t\n", name, calls, sec*1e3, 100*sec/total,
			cell(macs > 0, "%.1f", flops/1e9), cell(macs > 0, "%.0f", flops/sec/1e9), cell(macs > 0 && p > 0, "%.0f%%", 100*flops/sec/p),
			cell(bytes > 0, "%.2f", float64(bytes)/1e9), cell(bytes > 0, "%.1f", float64(bytes)/sec/1e9),
			cell(bytes > 0 && peak.Bandwidth > 0, "%.0f%%", 100*float64(bytes)/sec/peak.Bandwidth), cell(roof > 0, "%.2f", roof*1e3))
	}
	var macs, bytes int64
	for _, k := range r.Kinds {
		line(k.Kind, k.Calls, k.Time.Seconds(), k.MACs, k.Bytes, roofs[k.Kind])
		macs, bytes = macs+k.MACs, bytes+k.Bytes
	}
	line("all", len(r.Layers), total, macs, bytes, roof)
	t.Flush()
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
