package train

import (
	"fmt"
	"sort"
	"time"

	"swav/engine"
	"swav/nn"
	"swav/op"
	"swav/optim"
)

// BenchConfig is a training step to be timed on random pixels.
type BenchConfig struct {
	Arch      nn.Arch
	Groups    []engine.Group
	Batch     int
	Precision op.DType
	// NoWidening computes in Precision even where a run would take float64
	// (package engine).
	NoWidening bool
	Warmup     int // steps that are not counted
	Steps      int
}

// BenchResult is what a timed step cost.
type BenchResult struct {
	Median, Min, Max time.Duration
	MACs             int64    // of the forward pass of one image
	Precision        op.DType // that was computed in
	ArenaBytes       int64
	Kinds            []KindTime // by operator, the dearest first, of one step
	Loss             float64    // of the last step
}

// KindTime is the time of one kind of operator within a step.
type KindTime struct {
	Kind  string
	Time  time.Duration
	MACs  int64
	Calls int
}

// Bench times whole training steps (forward, codes, loss, backward, LARC) on a
// backend, then one more with a clock around every operator.
func Bench(b op.Backend, c BenchConfig) (*BenchResult, error) {
	net, err := nn.Build(c.Arch)
	if err != nil {
		return nil, err
	}
	model, err := engine.NewModel(b, net, true)
	if err != nil {
		return nil, err
	}
	defer model.Close()
	model.Set(net.Init(1))
	plan, err := engine.Compile(model, engine.Config{Groups: c.Groups, Batch: c.Batch, Precision: c.Precision, NoWidening: c.NoWidening, Train: true})
	if err != nil {
		return nil, err
	}
	defer plan.Close()
	s, err := NewStepper(plan, Method{Assign: []int{0, 1}, Temperature: 0.1, Epsilon: 0.05, Iterations: 3},
		optim.Default(optim.KindLARC))
	if err != nil {
		return nil, err
	}
	defer s.Close()
	for _, in := range plan.Inputs {
		b.Write(in, noise(in.Elems()))
	}
	r := &BenchResult{MACs: plan.MACs(), Precision: plan.Precision, ArenaBytes: plan.ArenaBytes()}
	var times []time.Duration
	for i := range c.Warmup + c.Steps {
		start := time.Now()
		s.Begin(i)
		if r.Loss, err = s.Accumulate(); err != nil {
			return nil, err
		}
		if _, err := s.Reduce(); err != nil {
			return nil, err
		}
		if err := s.Update(0.1); err != nil {
			return nil, err
		}
		if i >= c.Warmup {
			times = append(times, time.Since(start))
		}
	}
	if len(times) == 0 {
		return nil, fmt.Errorf("no steps to time")
	}
	sort.Slice(times, func(i, j int) bool { return times[i] < times[j] })
	r.Min, r.Median, r.Max = times[0], times[len(times)/2], times[len(times)-1]
	r.Kinds = breakdown(plan)
	return r, b.Sync()
}

// breakdown runs the plan once with a clock around every operator.
func breakdown(plan *engine.Plan) []KindTime {
	at := map[string]int{}
	var kinds []KindTime
	visit := func(s *engine.Step, run func()) {
		start := time.Now()
		run()
		d := time.Since(start)
		i, ok := at[s.Kind]
		if !ok {
			i = len(kinds)
			at[s.Kind] = i
			kinds = append(kinds, KindTime{Kind: s.Kind})
		}
		kinds[i].Time += d
		kinds[i].MACs += s.MACs
		kinds[i].Calls++
	}
	plan.Visit(engine.Weights, visit)
	plan.Visit(engine.ForwardPass, visit)
	plan.Visit(engine.BackwardPass, visit)
	sort.SliceStable(kinds, func(i, j int) bool { return kinds[i].Time > kinds[j].Time })
	return kinds
}

// noise is n numbers that look like normalised pixels, the same each time.
func noise(n int) []float32 {
	x := make([]float32, n)
	state := uint64(1)
	for i := range x {
		state = state*6364136223846793005 + 1442695040888963407
		x[i] = float32(int32(state>>32)) / (1 << 30)
	}
	return x
}
