// Package verify replays reference traces of training steps and of the image
// pipeline, and says by how much this implementation deviates from them.
//
// It drives the code that training uses, not a copy of it: train.Stepper for
// the steps, augment.Apply for the views.
package verify

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"sync"

	"swav/dist"
	"swav/engine"
	"swav/interop"
	"swav/nn"
	"swav/op"
	"swav/optim"
	"swav/train"
)

// Case is a reference trace's case.json.
type Case struct {
	Format             int     `json:"format"`
	Name               string  `json:"name"`
	Temperature        float64 `json:"temperature"`
	Epsilon            float64 `json:"epsilon"`
	SinkhornIterations int     `json:"sinkhorn_iterations"`
	CropsForAssign     []int   `json:"crops_for_assign"`
	HardAssignment     bool    `json:"hard_assignment"`
	Ranks              int     `json:"ranks"`
	Queue              struct {
		LengthPerRank int `json:"length_per_rank"`
		StartStep     int `json:"start_step"`
	} `json:"queue"`
	FreezePrototypesSteps int `json:"freeze_prototypes_steps"`
	Optimizer             struct {
		Momentum    float64 `json:"momentum"`
		WeightDecay float64 `json:"weight_decay"`
		LARC        *struct {
			Trust float64 `json:"trust"`
			Clip  bool    `json:"clip"`
			Eps   float64 `json:"eps"`
		} `json:"larc"`
	} `json:"optimizer"`
	BatchNorm struct {
		Eps      float64 `json:"eps"`
		Momentum float64 `json:"momentum"`
	} `json:"bn"`
	Arch struct {
		Block      string  `json:"block"`
		Layers     []int   `json:"layers"`
		Width      float64 `json:"width"`
		Stem       string  `json:"stem"`
		InChannels int     `json:"in_channels"`
		Hidden     int     `json:"hidden"`
		FeatureDim int     `json:"feature_dim"`
		Prototypes int     `json:"prototypes"`
	} `json:"arch"`
	Crops []struct {
		Count int `json:"count"`
		Size  int `json:"size"`
	} `json:"crops"`
	BatchPerRank     int                `json:"batch_per_rank"`
	Steps            int                `json:"steps"`
	LR               []float64          `json:"lr"`
	Float32Deviation map[string]float64 `json:"float32_deviation"`
}

// Quantity is what one row of a report compares: all tensors of one kind at one
// step.
type Quantity struct {
	Step      int
	Kind      string // loss, scores, codes, grad, param, momentum, buffer, queue, features
	Worst     string // name of the tensor that deviates most
	Deviation float64
	PyTorch   float64 // PyTorch's own float32 deviation from float64
	Limit     float64
	Pass      bool
}

// TraceReport is the outcome of one case.
type TraceReport struct {
	Case       string
	Backend    string
	Precision  op.DType // whose rule was applied
	Computed   op.DType // that the plan chose: float64 where the case is small (package engine)
	Quantities []Quantity
	Pass       bool
}

// Options choose what replays a trace.
type Options struct {
	NewBackend func() (op.Backend, error) // called once a rank
	Precision  op.DType
	NoWidening bool // compute in Precision however small the case

	// Comm replays as one rank of a group, all of which call Trace; only rank 0 gets a
	// report. nil: Ranks goroutines replay.
	Comm dist.Comm
	// Ranks is how many there are without Comm; 0: as many as the case has. A case of one
	// rank can be replayed by any number that divides its batch.
	Ranks int
}

// bfloat16 rule: a bf16 run follows its own trajectory, so only step 0 is
// compared.
const (
	bf16LossLimit   = 0.01 // relative
	bf16CosineLimit = 0.98
	bf16MinElems    = 1000
)

// Trace replays the case in dir. The error is for traces that cannot be
// replayed; a deviation beyond the rule is a report with Pass false.
func Trace(dir string, o Options) (*TraceReport, error) {
	c, err := readCase(filepath.Join(dir, "case.json"))
	if err != nil {
		return nil, err
	}
	path := filepath.Join(dir, "tensors.safetensors")
	st, err := interop.OpenSafetensors(path)
	if err != nil {
		return nil, err
	}
	defer st.Close()
	t := &trace{c: c, o: o, st: st, got: map[string][]float32{}, ranks: cmp.Or(o.Ranks, c.Ranks)}
	if o.Comm != nil {
		t.ranks = o.Comm.Size()
	}
	switch {
	case t.ranks == c.Ranks:
	case c.Ranks > 1:
		return nil, fmt.Errorf("replay %s: %w", dir, &Unfit{fmt.Sprintf("a case of %d ranks cannot be replayed by %d", c.Ranks, t.ranks)})
	case c.BatchPerRank%t.ranks != 0:
		return nil, fmt.Errorf("replay %s: %w", dir, &Unfit{fmt.Sprintf("a batch of %d does not divide among %d ranks", c.BatchPerRank, t.ranks)})
	}
	t.batch = c.Ranks * c.BatchPerRank / t.ranks
	if err := t.replay(); err != nil {
		return nil, fmt.Errorf("replay %s: %w", dir, err)
	}
	if o.Comm != nil && o.Comm.Rank() > 0 {
		return nil, nil
	}
	r := &TraceReport{Case: c.Name, Backend: t.backend, Precision: o.Precision, Computed: t.computed}
	if r.Case == "" {
		r.Case = filepath.Base(dir)
	}
	if o.Precision == op.BFloat16 {
		err = t.compareBFloat16(r)
	} else {
		err = t.compare(r)
	}
	if err != nil {
		return nil, fmt.Errorf("compare %s: %w", dir, err)
	}
	r.Pass = len(r.Quantities) > 0
	for _, q := range r.Quantities {
		r.Pass = r.Pass && q.Pass
	}
	return r, nil
}

// Fitting is how many of a number of ranks can replay a case together: as many as it has,
// or, where it has one, the most that divide its batch.
func Fitting(dir string, ranks int) (int, error) {
	c, err := readCase(filepath.Join(dir, "case.json"))
	if err != nil {
		return 0, err
	}
	if c.Ranks > 1 {
		if c.Ranks > ranks {
			return 0, &Unfit{fmt.Sprintf("%s takes %d ranks, and there are %d", dir, c.Ranks, ranks)}
		}
		return c.Ranks, nil
	}
	n := min(ranks, c.BatchPerRank)
	for c.BatchPerRank%n != 0 {
		n--
	}
	return n, nil
}

// Unfit tells that a case cannot be replayed by so many ranks.
type Unfit struct{ why string }

func (u *Unfit) Error() string { return u.why }

func readCase(path string) (*Case, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reference trace: %w", err)
	}
	c := &Case{}
	if err := json.Unmarshal(data, c); err != nil {
		return nil, fmt.Errorf("reference trace %s: %w", path, err)
	}
	switch {
	case c.Format != 1:
		err = fmt.Errorf("format %d, this build reads 1", c.Format)
	case c.Ranks < 1 || c.Ranks > 64:
		err = fmt.Errorf("%d ranks: want 1 to 64", c.Ranks)
	case c.Steps < 1 || len(c.LR) < c.Steps:
		err = fmt.Errorf("%d steps with %d learning rates", c.Steps, len(c.LR))
	case c.BatchPerRank < 1:
		err = fmt.Errorf("batch of %d images per rank", c.BatchPerRank)
	case len(c.Crops) == 0:
		err = fmt.Errorf("no crops")
	}
	if err != nil {
		return nil, fmt.Errorf("reference trace %s: %w", path, err)
	}
	return c, nil
}

// trace is one replay under way. Ranks bring what they found to rank 0, which files it
// in got by the trace's own names.
type trace struct {
	ranks    int // that replay: the case's, or several that share a case of one
	batch    int // images of one of them
	c        *Case
	o        Options
	st       *interop.Safetensors
	backend  string
	computed op.DType
	mu       sync.Mutex
	got      map[string][]float32
	losses   [][]float64 // by step, by rank of the case
}

func (t *trace) put(name string, x []float32) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.got[name] = x
}

func (t *trace) arch() nn.Arch {
	a := t.c.Arch
	if a.InChannels == 0 {
		a.InChannels = 3
	}
	return nn.Arch{Block: nn.Block(a.Block), Layers: a.Layers, Width: a.Width, Stem: nn.Stem(a.Stem),
		InChannels: a.InChannels, Hidden: a.Hidden, FeatureDim: a.FeatureDim, Prototypes: a.Prototypes}
}

func (t *trace) replay() error {
	net, err := nn.Build(t.arch())
	if err != nil {
		return err
	}
	weights, err := t.initial(net.Params, net.NumParams)
	if err != nil {
		return err
	}
	buffers, err := t.initial(net.Buffers, net.NumBuffers)
	if err != nil {
		return err
	}
	t.losses = make([][]float64, t.c.Steps)
	if t.o.Comm != nil {
		return train.OnThread(func() error { return t.rank(t.o.Comm, net, weights, buffers) })
	}
	comms := dist.Local(t.ranks)
	errs := make([]error, t.ranks)
	var wg sync.WaitGroup
	for r := range t.ranks {
		wg.Go(func() {
			errs[r] = train.OnThread(func() error { return t.rank(comms[r], net, weights, buffers) })
			if errs[r] != nil {
				comms[r].Abort(errs[r])
			}
		})
	}
	wg.Wait()
	for r, err := range errs {
		if err != nil {
			return fmt.Errorf("rank %d: %w", r, err)
		}
	}
	return nil
}

// initial gathers a flat buffer from the trace's init tensors.
func (t *trace) initial(params []nn.Param, n int) ([]float32, error) {
	flat := make([]float32, n)
	for _, p := range params {
		x, err := t.tensor("init/"+p.Name, p.Len)
		if err != nil {
			return nil, err
		}
		copy(flat[p.Offset:], x)
	}
	return flat, nil
}

func (t *trace) tensor(name string, n int) ([]float32, error) {
	x, err := t.st.Float32(name)
	if err != nil {
		return nil, err
	}
	if n >= 0 && len(x) != n {
		return nil, fmt.Errorf("tensor %s has %d elements, the case's network and batch want %d", name, len(x), n)
	}
	return x, nil
}

// rank replays all steps of one rank.
func (t *trace) rank(comm dist.Comm, net *nn.Network, weights, buffers []float32) error {
	c := t.c
	b, err := t.o.NewBackend()
	if err != nil {
		return err
	}
	defer b.Close()
	model, err := engine.NewModel(b, net, true)
	if err != nil {
		return err
	}
	defer model.Close()
	model.Set(weights, buffers)
	cfg := engine.Config{Batch: t.batch, Precision: t.o.Precision, NoWidening: t.o.NoWidening, Comm: comm, Train: true,
		BatchNormEps: c.BatchNorm.Eps, BatchNormMomentum: c.BatchNorm.Momentum}
	for _, g := range c.Crops {
		cfg.Groups = append(cfg.Groups, engine.Group{Count: g.Count, Size: g.Size})
	}
	plan, err := engine.Compile(model, cfg)
	if err != nil {
		return err
	}
	defer plan.Close()
	method := &train.SwAV{Assign: c.CropsForAssign, Temperature: c.Temperature, Epsilon: c.Epsilon,
		Iterations: c.SinkhornIterations, Hard: c.HardAssignment, FreezeSteps: c.FreezePrototypesSteps,
		QueueLength: c.Queue.LengthPerRank * c.Ranks / t.ranks, QueueStart: c.Queue.StartStep}
	opt := optim.Optimizer{Kind: optim.KindSGD, Momentum: c.Optimizer.Momentum, WeightDecay: c.Optimizer.WeightDecay}
	if l := c.Optimizer.LARC; l != nil {
		opt.Kind, opt.Trust, opt.Clip, opt.LARCEps = optim.KindLARC, l.Trust, l.Clip, l.Eps
	}
	s, err := train.NewStepper(plan, method, opt)
	if err != nil {
		return err
	}
	defer s.Close()
	rank := comm.Rank()
	for step := range c.Steps {
		if err := t.feed(plan, step, rank); err != nil {
			return err
		}
		s.Begin(step)
		loss, err := s.Accumulate()
		if err != nil {
			return err
		}
		if err := t.loss(comm, step, loss); err != nil {
			return err
		}
		if err := t.merge(comm, fmt.Sprintf("expect/%d/scores/%%d", step), read(b, plan.Scores), plan.Views()); err != nil {
			return err
		}
		for i, crop := range c.CropsForAssign {
			if err := t.merge(comm, fmt.Sprintf("expect/%d/codes/%%d/%d", step, crop), read(b, method.Codes[i]), 1); err != nil {
				return err
			}
		}
		if _, err := s.Reduce(); err != nil {
			return err
		}
		if step == 0 && rank == 0 {
			t.split("expect/0/grad/", net.Params, read(b, model.Grads))
		}
		if err := s.Update(c.LR[step]); err != nil {
			return err
		}
	}
	last := c.Steps - 1
	if c.Queue.LengthPerRank > 0 {
		var all []float32
		for i := range c.CropsForAssign {
			q := make([]float32, method.QueueLength*net.Arch.FeatureDim)
			method.Queue(q, i)
			all = append(all, q...)
		}
		if err := t.merge(comm, fmt.Sprintf("expect/%d/queue/%%d", last), all, len(c.CropsForAssign)*method.QueueLength/t.batch); err != nil {
			return err
		}
	}
	if rank != 0 {
		return b.Sync()
	}
	t.backend, t.computed = b.Describe(), plan.Precision
	t.split(fmt.Sprintf("expect/%d/param/", last), net.Params, read(b, model.Weights))
	t.split(fmt.Sprintf("expect/%d/momentum/", last), net.Params, read(b, s.Momentum))
	t.split(fmt.Sprintf("expect/%d/buffer/", last), net.Buffers, read(b, model.Buffers))
	return t.features(model, cfg, last)
}

// loss brings together the ranks' losses of a step. Of several that share a case of one
// rank, its loss is their mean.
func (t *trace) loss(comm dist.Comm, step int, own float64) error {
	all := make([]float64, t.ranks)
	all[comm.Rank()] = own
	if err := comm.AllReduce64(all, dist.Sum); err != nil || comm.Rank() > 0 {
		return err
	}
	if t.ranks != t.c.Ranks {
		mean := 0.0
		for _, l := range all {
			mean += l / float64(len(all))
		}
		all = []float64{mean}
	}
	t.losses[step] = all
	return nil
}

// merge brings all ranks' x to rank 0, under a name with the case's rank. x has pieces,
// each with a row for every image of the batch; ranks that share a case of one rank have
// its images in their order.
func (t *trace) merge(comm dist.Comm, name string, x []float32, pieces int) error {
	all := make([]float32, t.ranks*len(x))
	if err := comm.AllGather(all, x); err != nil || comm.Rank() > 0 {
		return err
	}
	if t.ranks == t.c.Ranks {
		for r := range t.ranks {
			t.put(fmt.Sprintf(name, r), all[r*len(x):][:len(x)])
		}
		return nil
	}
	one, piece := make([]float32, 0, len(all)), len(x)/pieces
	for p := range pieces {
		for r := range t.ranks {
			one = append(one, all[r*len(x)+p*piece:][:piece]...)
		}
	}
	t.put(fmt.Sprintf(name, 0), one)
	return nil
}

// features runs the first crop of the first step in evaluation mode.
func (t *trace) features(model *engine.Model, cfg engine.Config, last int) error {
	cfg.Train, cfg.Comm, cfg.Batch = false, nil, t.c.BatchPerRank
	cfg.Groups = []engine.Group{{Count: 1, Size: t.c.Crops[0].Size}}
	plan, err := engine.Compile(model, cfg)
	if err != nil {
		return err
	}
	defer plan.Close()
	in := plan.Inputs[0]
	crop, err := t.tensor("input/0/0/0", in.Elems())
	if err != nil {
		return err
	}
	nhwc := make([]float32, len(crop))
	toNHWC(nhwc, crop, in.Shape)
	model.Backend.Write(in, nhwc)
	plan.SetWeights()
	plan.Forward()
	t.put(fmt.Sprintf("expect/%d/eval/features", last), read(model.Backend, plan.Features))
	return model.Backend.Sync()
}

// feed writes one step's crops of a rank to the plan's inputs.
func (t *trace) feed(plan *engine.Plan, step, rank int) error {
	crop := 0
	for g, in := range plan.Inputs {
		buf := make([]float32, in.Elems())
		count := plan.Groups()[g].Count
		one := len(buf) / count
		for i := range count {
			of, part := rank, 0 // the case's rank, and which of its batch's parts
			if t.ranks != t.c.Ranks {
				of, part = 0, rank
			}
			x, err := t.tensor(fmt.Sprintf("input/%d/%d/%d", step, of, crop), one*t.c.BatchPerRank/t.batch)
			if err != nil {
				return err
			}
			x = x[part*one:][:one]
			shape := append([]int{in.Shape[0] / count}, in.Shape[1:]...)
			toNHWC(buf[i*one:(i+1)*one], x, shape)
			crop++
		}
		plan.Model.Backend.Write(in, buf)
	}
	return nil
}

// split files the parts of a flat buffer under their names.
func (t *trace) split(prefix string, params []nn.Param, flat []float32) {
	for _, p := range params {
		t.put(prefix+p.Name, flat[p.Offset:p.Offset+p.Len])
	}
}

func read(b op.Backend, x op.Tensor) []float32 {
	dst := make([]float32, x.Elems())
	b.Read(dst, x)
	return dst
}

// toNHWC reorders src, NCHW, into dst of the given NHWC shape.
func toNHWC(dst, src []float32, shape []int) {
	n, h, w, c := shape[0], shape[1], shape[2], shape[3]
	for i := range n {
		for k := range c {
			plane := src[(i*c+k)*h*w:][:h*w]
			for p, v := range plane {
				dst[(i*h*w+p)*c+k] = v
			}
		}
	}
}

// compare applies the float32 pass rule of the reference traces: for every
// tensor, rms(found - expected) over rms(expected) + 0.001 rms of all tensors
// of its step and kind, at most max(1e-4, 8 times PyTorch's own).
func (t *trace) compare(r *TraceReport) error {
	type key struct {
		step int
		kind string
	}
	groups := map[key][]string{}
	for _, name := range t.st.Names() {
		if !strings.HasPrefix(name, "expect/") {
			continue
		}
		step, kind, err := splitName(name)
		if err != nil {
			return err
		}
		groups[key{step, kind}] = append(groups[key{step, kind}], name)
	}
	keys := make([]key, 0, len(groups))
	for k := range groups {
		keys = append(keys, k)
	}
	sort.Slice(keys, func(i, j int) bool {
		if keys[i].step != keys[j].step {
			return keys[i].step < keys[j].step
		}
		return kindOrder(keys[i].kind) < kindOrder(keys[j].kind)
	})
	for _, k := range keys {
		own := t.c.Float32Deviation[fmt.Sprintf("%d/%s", k.step, k.kind)]
		q := Quantity{Step: k.step, Kind: k.kind, PyTorch: own, Limit: max(1e-4, 8*own)}
		if err := t.deviation(&q, groups[k]); err != nil {
			return err
		}
		q.Pass = q.Deviation <= q.Limit // false for NaN
		r.Quantities = append(r.Quantities, q)
	}
	return nil
}

var kinds = []string{"loss", "scores", "codes", "grad", "param", "momentum", "buffer", "queue", "features"}

func kindOrder(kind string) int {
	for i, k := range kinds {
		if k == kind {
			return i
		}
	}
	return len(kinds)
}

// splitName reads "expect/STEP/KIND…"; expect/STEP/eval/features is of kind
// features.
func splitName(name string) (step int, kind string, err error) {
	parts := strings.Split(name, "/")
	if len(parts) < 3 {
		return 0, "", fmt.Errorf("tensor name %q: want expect/STEP/KIND", name)
	}
	if _, err := fmt.Sscanf(parts[1], "%d", &step); err != nil {
		return 0, "", fmt.Errorf("tensor name %q: step: %w", name, err)
	}
	kind = parts[2]
	if kind == "eval" && len(parts) > 3 {
		kind = parts[3]
	}
	return step, kind, nil
}

// found returns this implementation's values for one expected tensor.
func (t *trace) found(name string) ([]float32, error) {
	var step int
	if n, _ := fmt.Sscanf(name, "expect/%d/loss", &step); n == 1 && strings.HasSuffix(name, "/loss") && step < len(t.losses) {
		var mean float64
		out := make([]float32, 0, t.c.Ranks+1)
		for _, l := range t.losses[step] {
			out = append(out, float32(l))
			mean += l / float64(t.c.Ranks)
		}
		return append(out, float32(mean)), nil
	}
	x, ok := t.got[name]
	if !ok {
		return nil, fmt.Errorf("trace expects %s, which the replay does not produce", name)
	}
	return x, nil
}

func (t *trace) deviation(q *Quantity, names []string) error {
	var total float64
	var elems int
	type one struct {
		name       string
		diff, norm float64
	}
	var all []one
	for _, name := range names {
		got, err := t.found(name)
		if err != nil {
			return err
		}
		want, err := t.tensor(name, len(got))
		if err != nil {
			return err
		}
		var d2, b2 float64
		for i := range want {
			d := float64(got[i]) - float64(want[i])
			d2 += d * d
			b2 += float64(want[i]) * float64(want[i])
		}
		total += b2
		elems += len(want)
		all = append(all, one{name, math.Sqrt(d2 / float64(len(want))), math.Sqrt(b2 / float64(len(want)))})
	}
	floor := 0.001 * math.Sqrt(total/float64(elems))
	for _, a := range all {
		dev := a.diff / (a.norm + floor)
		if !(dev <= q.Deviation) { // also NaN
			q.Deviation, q.Worst = dev, a.name
		}
	}
	return nil
}

// compareBFloat16 applies the rule for bf16 to step 0.
func (t *trace) compareBFloat16(r *TraceReport) error {
	want, err := t.tensor("expect/0/loss", t.c.Ranks+1)
	if err != nil {
		return err
	}
	got, err := t.found("expect/0/loss")
	if err != nil {
		return err
	}
	q := Quantity{Kind: "loss", Limit: bf16LossLimit, Worst: "expect/0/loss"}
	for i := range want {
		dev := math.Abs(float64(got[i])/float64(want[i]) - 1)
		if !(dev <= q.Deviation) {
			q.Deviation = dev
		}
	}
	q.Pass = q.Deviation <= q.Limit
	r.Quantities = append(r.Quantities, q)

	g := Quantity{Kind: "grad (1 - cosine)", Limit: 1 - bf16CosineLimit}
	compared := 0
	for _, name := range t.st.Names() {
		if !strings.HasPrefix(name, "expect/0/grad/") {
			continue
		}
		got, err := t.found(name)
		if err != nil {
			return err
		}
		if len(got) <= bf16MinElems {
			continue
		}
		want, err := t.tensor(name, len(got))
		if err != nil {
			return err
		}
		var ab, aa, bb float64
		for i := range want {
			ab += float64(got[i]) * float64(want[i])
			aa += float64(got[i]) * float64(got[i])
			bb += float64(want[i]) * float64(want[i])
		}
		compared++
		dev := 1 - ab/math.Sqrt(aa*bb)
		if !(dev <= g.Deviation) {
			g.Deviation, g.Worst = dev, name
		}
	}
	g.Pass = compared > 0 && g.Deviation < g.Limit
	r.Quantities = append(r.Quantities, g)
	return nil
}
