package train

import (
	"errors"
	"math"
	"slices"
	"sort"
	"time"

	"swav/dist"
	"swav/engine"
	"swav/nn"
	"swav/op"
	"swav/optim"
)

// BenchConfig is work to be timed on random pixels.
type BenchConfig struct {
	Arch      nn.Arch
	Groups    []engine.Group
	Batch     int
	Precision op.DType
	// NoWidening computes in Precision even where a run would take float64
	// (package engine).
	NoWidening bool
	Direct     bool // convolutions by plain products
	HalfWire   bool // gradients between ranks in bfloat16
	OwnNorm    bool // each rank's batch norm has statistics of its own
	Queue      int  // rows of the queue, a multiple of Batch; full from the start
	Infer      bool
	Warmup     int // rounds that are not counted
	Rounds     int
}

// BenchResult is what a timed step, or a batch of features, cost.
type BenchResult struct {
	Times      []time.Duration // of all rounds, ascending
	MACs       int64           // of the forward pass of one image
	Precision  op.DType        // that was computed in
	ArenaBytes int64
	Kinds      []OpTime // of one more round with a clock around every operator
	Layers     []OpTime // the same, operator by operator, in order
}

// Median of the rounds.
func (r *BenchResult) Median() time.Duration { return r.Times[len(r.Times)/2] }

// OpTime is the time of one operator of one layer, or of one kind of operator.
type OpTime struct {
	Layer, Kind string // Layer is empty for a kind
	Time        time.Duration
	MACs, Bytes int64
	Calls       int
}

// Bench times whole training steps (forward, codes, loss, backward, LARC), or
// with Infer the features of a batch of images.
func Bench(b op.Backend, c BenchConfig) (*BenchResult, error) {
	if c.Rounds < 1 {
		return nil, errors.New("nothing to time: want at least 1 round")
	}
	s, err := newBenched(b, c, nil)
	if err != nil {
		return nil, err
	}
	defer s.close()
	plan := s.plan
	r := &BenchResult{MACs: plan.MACs(), Precision: plan.Precision, ArenaBytes: plan.ArenaBytes()}
	clock := &opClock{}
	round := func() error { plan.Forward(); return b.Sync() }
	profile := func() error { plan.Visit(engine.ForwardPass, clock.step); return b.Sync() }
	if !c.Infer {
		n := 0
		round = func() error { n++; return s.whole(n) }
		profile = func() error { n++; return s.profile(n, clock) }
	}
	for i := range c.Warmup + c.Rounds {
		start := time.Now()
		if err := round(); err != nil {
			return nil, err
		}
		if i >= c.Warmup {
			r.Times = append(r.Times, time.Since(start))
		}
	}
	slices.Sort(r.Times)
	if err := profile(); err != nil {
		return nil, err
	}
	r.Layers, r.Kinds = clock.ops, byKind(clock.ops)
	return r, nil
}

// benched is a compiled step, or with Infer a forward pass, on random pixels.
type benched struct {
	*Stepper // nil with Infer
	model    *engine.Model
	plan     *engine.Plan
}

// newBenched compiles a rank's step; comm is nil for a rank alone.
func newBenched(b op.Backend, c BenchConfig, comm dist.Comm) (s *benched, err error) {
	net, err := nn.Build(c.Arch)
	if err != nil {
		return nil, err
	}
	s = &benched{}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	if s.model, err = engine.NewModel(b, net, !c.Infer); err != nil {
		return nil, err
	}
	s.model.Set(net.Init(1))
	cfg := engine.Config{Groups: c.Groups, Batch: c.Batch, Precision: c.Precision, NoWidening: c.NoWidening, Direct: c.Direct, Comm: comm, Train: !c.Infer}
	if c.OwnNorm {
		cfg.Norm = dist.Solo()
	}
	s.plan, err = engine.Compile(s.model, cfg)
	if err != nil {
		return nil, err
	}
	for _, in := range s.plan.Inputs {
		b.Write(in, noise(in.Elems()))
	}
	s.plan.SetWeights()
	if c.Infer {
		return s, nil
	}
	method := &SwAV{Assign: []int{0, 1}, Temperature: 0.1, Epsilon: 0.05, Iterations: 3, QueueLength: c.Queue}
	if s.Stepper, err = NewStepper(s.plan, method, optim.Default(optim.KindLARC)); err != nil {
		return nil, err
	}
	if c.Queue > 0 {
		for i := range method.Assign {
			method.SetQueue(i, embeddings(c.Queue, c.Arch.FeatureDim), c.Queue)
		}
	}
	return s, nil
}

func (s *benched) close() {
	if s.Stepper != nil {
		s.Stepper.Close()
	}
	if s.plan != nil {
		s.plan.Close()
	}
	if s.model != nil {
		s.model.Close()
	}
}

// benchLR is the learning rate of timed steps.
const benchLR = 0.1

// whole is one training step.
func (s *Stepper) whole(step int) error {
	s.Begin(step)
	if _, err := s.Accumulate(); err != nil {
		return err
	}
	if _, err := s.Reduce(); err != nil {
		return err
	}
	return s.Update(benchLR)
}

// profile is whole with a clock around every operator.
func (s *Stepper) profile(step int, c *opClock) error {
	var err error
	c.time("optimizer", func() { s.Begin(step) })
	s.Plan.Visit(engine.Weights, c.step)
	s.Plan.Visit(engine.ForwardPass, c.step)
	c.time("codes", s.Method.targets)
	c.time("loss", s.Method.loss)
	s.Plan.Visit(engine.BackwardPass, c.step)
	c.time("optimizer", func() {
		s.micro = 1
		if _, err = s.Reduce(); err == nil {
			err = s.Update(benchLR)
		}
	})
	return err
}

// opClock collects the times of operators.
type opClock struct{ ops []OpTime }

func (c *opClock) step(s *engine.Step, run func()) {
	start := time.Now()
	run()
	c.ops = append(c.ops, OpTime{Layer: s.Layer, Kind: s.Kind, Time: time.Since(start), MACs: s.MACs, Bytes: s.Bytes, Calls: 1})
}

func (c *opClock) time(kind string, f func()) { c.step(&engine.Step{Kind: kind}, f) }

// byKind adds up operators of a kind, the dearest first.
func byKind(ops []OpTime) []OpTime {
	at := map[string]int{}
	var kinds []OpTime
	for _, o := range ops {
		i, ok := at[o.Kind]
		if !ok {
			i = len(kinds)
			at[o.Kind] = i
			kinds = append(kinds, OpTime{Kind: o.Kind})
		}
		k := &kinds[i]
		k.Time += o.Time
		k.MACs += o.MACs
		k.Bytes += o.Bytes
		k.Calls++
	}
	sort.SliceStable(kinds, func(i, j int) bool { return kinds[i].Time > kinds[j].Time })
	return kinds
}

// embeddings is [n, dim] noise with rows of length 1: scores of longer rows would
// be as spread as no training's, and Sinkhorn would take its slow, logarithmic way.
func embeddings(n, dim int) []float32 {
	x := noise(n * dim)
	for row := range slices.Chunk(x, dim) {
		var sum float64
		for _, v := range row {
			sum += float64(v) * float64(v)
		}
		for i := range row {
			row[i] /= float32(math.Sqrt(sum))
		}
	}
	return x
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
