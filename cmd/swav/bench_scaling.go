package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"swav/dist"
	"swav/dist/join"
	"swav/dist/scaling"
	"swav/internal/numa"
	"swav/train"
)

// scalingFlags say what is timed and for whom a prediction is made.
type scalingFlags struct {
	benchFlags
	ranks        int
	at, networks string
	wire         string
	syncBN       string
	compute      time.Duration
}

func newBenchScaling() *cobra.Command {
	var b scalingFlags
	c := &cobra.Command{
		Use:   "scaling",
		Short: "Time a step on several ranks, and predict it on more",
		Long: `Times training steps of a rank alone and with the others, notes the messages of a
step, times messages of several sizes, and prints the step's time as the model of
docs/scaling.md predicts it beside the one measured. Then the same model's
prediction for other numbers of ranks and other networks, and the measured step in
Go's benchmark format.

The ranks are those of a launcher, or --ranks within this process. A prediction for
ranks of another machine takes --compute, which swav bench step measures there.`,
		Example: `  mpirun -n 2 swav bench scaling --batch-size 4 --threads 1
  swav bench scaling --ranks 2 --threads 1 --layers 1,1,1 --width 0.25 --stem small --crops 2x28,2x16 --batch-size 64
  swav bench scaling --ranks 2 --batch-size 64 --compute 900ms --at 64,512,4096 --networks 1:30us,10:15us,100:3us`,
		Args: withUsage(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			ranks, networks, err := b.predictions()
			if err != nil {
				return usageError{err}
			}
			return joined(c.Context(), func(g *join.Group) error {
				r, of, how, err := b.measure(g)
				if err != nil || r == nil {
					return err
				}
				w := c.OutOrStdout()
				fmt.Fprintf(w, "network: %v\ndevice: %s\nranks: %d, %s\n", b.net, b.device, of, how)
				printScaling(w, r, of, b.batch)
				step := r.Step
				step.Compute = r.Alone
				if b.compute > 0 {
					step = step.Scaled(b.compute)
				}
				what := fmt.Sprintf("%d images a rank, own work %s", b.batch, short(step.Compute))
				if b.compute > 0 {
					what = "own work " + short(step.Compute)
				}
				printPredictions(w, step, ranks, networks, what)
				sec := r.Together.Seconds()
				fmt.Fprintf(w, "\nBenchmarkScaling/%s/%s/batch%d/ranks%d \t%d\t%d ns/op\t%.2f img/s\t%.1f %%alone\n",
					b.arch, b.crops, b.batch, of, b.steps, r.Together.Nanoseconds(), float64(of*b.batch)/sec, 100*r.Alone.Seconds()/sec)
				return nil
			})
		},
	}
	b.add(c.Flags(), "2x224,6x96", 4)
	f := c.Flags()
	f.IntVar(&b.ranks, "ranks", 2, "ranks within this process, where no launcher has started it")
	f.StringVar(&b.wire, "wire", "fp32", "how gradients travel: fp32 or bf16 (the recipe's train.wire)")
	f.StringVar(&b.syncBN, "sync-bn", "global", "statistics of batch norm: global or off (the recipe's train.sync_bn)")
	f.StringVar(&b.at, "at", "64,512,4096", "numbers of ranks to predict for")
	f.StringVar(&b.networks, "networks", "1:50us,10:30us,100:5us", "networks to predict for: GBIT_PER_SECOND:LATENCY,…")
	f.DurationVar(&b.compute, "compute", 0, "predict for ranks that take so long for a step of their own; 0: as long as here")
	return c
}

// named is a network with the words by which it was asked for.
type named struct {
	name string
	scaling.Network
}

// predictions reads --at and --networks.
func (b *scalingFlags) predictions() (ranks []int, networks []named, err error) {
	for s := range strings.SplitSeq(b.at, ",") {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 || n > 1<<20 {
			return nil, nil, fmt.Errorf("--at %s: want numbers of ranks, such as 64,512", b.at)
		}
		ranks = append(ranks, n)
	}
	for s := range strings.SplitSeq(b.networks, ",") {
		speed, delay, found := strings.Cut(s, ":")
		gbit, err1 := strconv.ParseFloat(speed, 64)
		latency, err2 := time.ParseDuration(delay)
		if !found || err1 != nil || err2 != nil || !(gbit > 0) || gbit > 1e6 || latency < 0 {
			return nil, nil, fmt.Errorf("--networks %s: want GBIT_PER_SECOND:LATENCY,… such as 10:30us", b.networks)
		}
		networks = append(networks, named{fmt.Sprintf("%s Gbit/s, %s", speed, delay), scaling.Network{Latency: latency, Bandwidth: gbit / 8 * 1e9}})
	}
	if b.compute < 0 {
		return nil, nil, fmt.Errorf("--compute %v: want the time of a step", b.compute)
	}
	return ranks, networks, nil
}

// measure times the ranks of a launcher or, without one, those of this process. The
// result is rank 0's, nil on others.
func (b *scalingFlags) measure(g *join.Group) (r *train.ScalingResult, ranks int, how string, err error) {
	c, err := b.config()
	if err == nil && b.wire != "fp32" && b.wire != "bf16" {
		err = fmt.Errorf("--wire %s: want fp32 or bf16", b.wire)
	}
	if err == nil && b.syncBN != "global" && b.syncBN != "off" {
		err = fmt.Errorf("--sync-bn %s: want global or off", b.syncBN)
	}
	if err != nil {
		return nil, 0, "", usageError{err}
	}
	c.HalfWire, c.OwnNorm = b.wire == "bf16", b.syncBN == "off"
	one := func(comm dist.Comm) (r *train.ScalingResult, err error) {
		err = train.OnThread(func() error {
			place := func(rank int) (int, error) { return numa.Settle(rank, b.ranks) }
			if g != nil {
				place = g.Place
			}
			share, err := place(comm.Rank())
			if err != nil {
				return err
			}
			backend, err := train.NewBackend(b.backend, cmp.Or(b.threads, share))
			if err != nil {
				return err
			}
			defer backend.Close()
			if comm.Rank() == 0 {
				b.device = backend.Describe()
			}
			r, err = train.BenchScaling(backend, c, comm)
			return err
		})
		return r, err
	}
	if g != nil {
		if r, err = one(g); err != nil || g.Rank() > 0 {
			return nil, g.Size(), "", err
		}
		return r, g.Size(), g.Describe(), nil
	}
	if b.ranks < 2 || b.ranks > 1024 {
		return nil, 0, "", usageError{hint(fmt.Errorf("--ranks %d: one rank has nobody to talk to", b.ranks), "give --ranks 2, or start several by mpirun -n 2 swav bench scaling …")}
	}
	defer train.Room(b.ranks)()
	comms := dist.Local(b.ranks)
	errs := make([]error, b.ranks)
	var wg sync.WaitGroup
	for i, comm := range comms {
		wg.Go(func() {
			own, err := one(comm)
			if errs[i] = err; err != nil {
				comm.Abort(err)
			} else if i == 0 {
				r = own
			}
		})
	}
	wg.Wait()
	return r, b.ranks, "in this process", errors.Join(errs[0])
}

// printScaling is what was measured beside what the model makes of it.
func printScaling(w io.Writer, r *train.ScalingResult, ranks, batch int) {
	fmt.Fprintf(w, "\nmessages of a step, %s in all:\n", size(r.Step.Bytes()))
	for _, k := range r.Step.Kinds() {
		beside := ""
		if k.Beside {
			beside = ", beside the backward pass"
		}
		fmt.Fprintf(w, "  %5d x %-9s %s%s\n", k.Count, size(k.Bytes), k.Name, beside)
	}
	fmt.Fprint(w, "\nall-reduce:")
	for i, p := range r.Probes {
		sep := ","
		if i == 0 {
			sep = ""
		}
		fmt.Fprintf(w, "%s %s %s", sep, size(p.Bytes), short(p.Time))
	}
	net, err := scaling.Fit(r.Probes, ranks)
	if err != nil {
		fmt.Fprintf(w, "\n  no prediction: %v\n", err)
		return
	}
	fmt.Fprintf(w, "\n  as by a latency of %s and %.2f Gbit/s\n\n", short(net.Latency), net.Bandwidth*8/1e9)
	step := r.Step
	step.Compute = r.Alone
	p := step.On(net, ranks)
	t := tabwriter.NewWriter(w, 2, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "a step\tpredicted\tmeasured\t")
	fmt.Fprintf(t, "own work\t\t%s\t\n", short(r.Alone))
	fmt.Fprintf(t, "in calls that it waits for\t%s\t\t\n", short(p.Blocking))
	fmt.Fprintf(t, "for calls beside the work\t%s\t\t\n", short(p.Exposed))
	fmt.Fprintf(t, "(hidden by the work)\t%s\t\t\n", short(p.Hidden))
	fmt.Fprintf(t, "whole\t%s\t%s\t\n", short(p.Total()), short(r.Together))
	fmt.Fprintf(t, "of a rank alone\t%.1f%%\t%.1f%%\t\n", 100*p.Efficiency(r.Alone), 100*r.Alone.Seconds()/r.Together.Seconds())
	fmt.Fprintf(t, "img/s\t%.2f\t%.2f\t\n", float64(ranks*batch)/p.Total().Seconds(), float64(ranks*batch)/r.Together.Seconds())
	t.Flush()
}

// printPredictions is a table of a step's time and of its speed for each number of ranks,
// as a share of so many ranks that need not talk.
func printPredictions(w io.Writer, step scaling.Timeline, ranks []int, networks []named, what string) {
	fmt.Fprintf(w, "\nprediction, %s a step:\n", what)
	t := tabwriter.NewWriter(w, 2, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(t, "ranks\t")
	for _, n := range networks {
		fmt.Fprintf(t, "%s\t", n.name)
	}
	fmt.Fprintln(t)
	for _, n := range ranks {
		fmt.Fprintf(t, "%d\t", n)
		for _, net := range networks {
			p := step.On(net.Network, n)
			fmt.Fprintf(t, "%s, %.0f%%\t", short(p.Total()), 100*p.Efficiency(step.Compute))
		}
		fmt.Fprintln(t)
	}
	t.Flush()
}

// short is a duration with three figures.
func short(d time.Duration) string {
	switch {
	case d <= 0:
		return "0"
	case d < time.Millisecond:
		return fmt.Sprintf("%.3g us", float64(d)/1e3)
	case d < time.Second:
		return fmt.Sprintf("%.3g ms", float64(d)/1e6)
	}
	return fmt.Sprintf("%.3g s", d.Seconds())
}

// size is a number of bytes with three figures.
func size(n int) string {
	switch {
	case n < 1000:
		return fmt.Sprintf("%d B", n)
	case n < 1e6:
		return fmt.Sprintf("%.3g KB", float64(n)/1e3)
	case n < 1e9:
		return fmt.Sprintf("%.3g MB", float64(n)/1e6)
	}
	return fmt.Sprintf("%.3g GB", float64(n)/1e9)
}
