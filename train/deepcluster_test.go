package train

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"swav"
	"swav/checkpoint"
	"swav/dist"
	"swav/engine"
	"swav/interop"
	"swav/nn"
	"swav/optim"
	"swav/runlog"
)

// stepperOf compiles a network for a batch and attaches a method to it.
func stepperOf(t *testing.T, backend string, arch nn.Arch, groups []engine.Group, batch int, method Method, opt optim.Optimizer, comm dist.Comm) *Stepper {
	t.Helper()
	b, err := NewBackend(backend, 1)
	if err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { b.Close() })
	net, err := nn.Build(arch)
	if err != nil {
		t.Fatal(err)
	}
	m, err := engine.NewModel(b, net, true)
	if err != nil {
		t.Fatal(err)
	}
	m.Set(net.Init(1))
	plan, err := engine.Compile(m, engine.Config{Groups: groups, Batch: batch, Comm: comm, Train: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(plan.Close)
	s, err := NewStepper(plan, method, opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// Three epochs of a small network, step by step as plain PyTorch does them
// (testdata/deepcluster.py): the same clusters, losses and weights.
func TestDeepClusterIsPyTorchs(t *testing.T) {
	data, err := os.ReadFile("testdata/deepcluster.json")
	if err != nil {
		t.Fatal(err)
	}
	var c struct {
		Images, Batch, Iterations        int
		Heads                            []int
		Groups                           [][2]int
		Temperature, LR, Momentum, Decay float64
		Epochs                           []struct {
			Order  []int
			Starts [][]int
			Labels [][]int32
			Losses []float64
		}
	}
	if err := json.Unmarshal(data, &c); err != nil {
		t.Fatal(err)
	}
	st, err := interop.OpenSafetensors("testdata/deepcluster.safetensors")
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	tensor := func(name string) []float32 {
		x, err := st.Float32(name)
		if err != nil {
			t.Fatal(err)
		}
		return x
	}
	for _, backend := range []string{"ref", "cpu"} {
		t.Run(backend, func(t *testing.T) {
			arch := nn.Arch{Block: nn.Basic, Layers: []int{1, 1}, Width: 0.125, Stem: nn.SmallStem, InChannels: 1, Hidden: 8, FeatureDim: 6}.WithHeads(c.Heads)
			var groups []engine.Group
			for _, g := range c.Groups {
				groups = append(groups, engine.Group{Count: g[0], Size: g[1]})
			}
			rows := len(c.Epochs[0].Order)
			m := &DeepCluster{Heads: c.Heads, Views: []int{0, 1}, Temperature: c.Temperature, Iterations: c.Iterations, Images: c.Images, Rows: rows}
			s := stepperOf(t, backend, arch, groups, c.Batch, m, optim.Optimizer{Kind: optim.KindSGD, Momentum: c.Momentum, WeightDecay: c.Decay}, dist.Solo())
			net := s.Model.Net
			weights := make([]float32, net.NumParams)
			for _, p := range net.Params {
				copy(weights[p.Offset:], tensor("init/"+p.Name))
			}
			s.b.Write(s.Model.Weights, weights)
			show := func(epoch, step int) {
				for g, in := range s.Plan.Inputs {
					s.b.Write(in, tensor(fmt.Sprintf("input/%d/%d/%d", epoch, step, g)))
				}
				m.batch(step, 0, c.Epochs[epoch].Order[step*c.Batch:][:c.Batch])
			}
			for step := range rows / c.Batch {
				show(0, step)
				s.Plan.Forward()
				m.targets()
			}
			done := 0
			for epoch, e := range c.Epochs {
				if _, err := m.cluster(context.Background(), done, func(h int) []int { return e.Starts[h] }); err != nil {
					t.Fatal(err)
				}
				for h, want := range e.Labels {
					if !slices.Equal(m.assigned[h], want) {
						t.Fatalf("epoch %d, head %d: clusters %v, want %v", epoch, h, m.assigned[h], want)
					}
				}
				for step, want := range e.Losses {
					s.Begin(done)
					show(epoch, step)
					loss, err := s.Accumulate()
					if err != nil {
						t.Fatal(err)
					}
					if math.Abs(loss-want) > 2e-5*want {
						t.Errorf("epoch %d, step %d: loss %v, PyTorch's %v", epoch, step, loss, want)
					}
					if _, err := s.Reduce(); err != nil {
						t.Fatal(err)
					}
					if err := s.Update(c.LR); err != nil {
						t.Fatal(err)
					}
					done++
				}
			}
			s.b.Read(weights, s.Model.Weights)
			for _, p := range net.Params {
				want, got := tensor("expect/"+p.Name), weights[p.Offset:][:p.Len]
				var diff, size float64
				for i, w := range want {
					diff += float64(got[i]-w) * float64(got[i]-w)
					size += float64(w) * float64(w)
				}
				// The bias before a batch norm has no gradient but rounding.
				if p.Name != "projection_head.0.bias" && !(diff <= 1e-8*size) {
					t.Errorf("%s: deviates by %.2g of its norm", p.Name, math.Sqrt(diff/size))
				}
			}
		})
	}
}

var tinyDeepCluster = nn.Arch{Block: nn.Basic, Layers: []int{1}, Width: 0.0625, Stem: nn.SmallStem, InChannels: 1, FeatureDim: 5}

// Two ranks with half of the rows each come to the clusters of one that has all,
// and both know the cluster of every image.
func TestDeepClusterOverRanks(t *testing.T) {
	const batch, images = 2, 30
	heads := []int{4, 3}
	arch := tinyDeepCluster.WithHeads(heads)
	groups := []engine.Group{{Count: 2, Size: 4}}
	rng := rand.New(rand.NewPCG(1, 9))
	const all = 24
	index := rng.Perm(images)[:all]
	banks := make([][]float32, 2)
	for i := range banks {
		banks[i] = make([]float32, all*arch.FeatureDim)
		for j := range banks[i] {
			banks[i][j] = float32(rng.NormFloat64())
		}
		swav.NormalizeRows(banks[i], all, arch.FeatureDim)
	}
	starts := [][]int{{0, 3, 7, 11}, {2, 9, 5}} // within rank 0's half
	assigned := func(ranks int) [][][]int32 {
		comms := dist.Local(ranks)
		out := make([][][]int32, ranks)
		var wg sync.WaitGroup
		rows := all / ranks
		methods := make([]*DeepCluster, ranks)
		for r, comm := range comms {
			m := &DeepCluster{Heads: heads, Views: []int{0, 1}, Temperature: 0.1, Iterations: 10, Images: images, Rows: rows}
			stepperOf(t, "ref", arch, groups, batch, m, optim.Default(optim.KindSGD), comm)
			for i := range banks {
				copy(m.banks[i], banks[i][r*rows*arch.FeatureDim:])
			}
			copy(m.images, index[r*rows:])
			methods[r] = m
		}
		for r, m := range methods {
			wg.Go(func() {
				if _, err := m.cluster(context.Background(), 0, func(h int) []int { return starts[h] }); err != nil {
					t.Error(err)
				}
				out[r] = m.assigned
			})
		}
		wg.Wait()
		return out
	}
	want := assigned(1)[0]
	for r, got := range assigned(2) {
		for h := range heads {
			if !slices.Equal(got[h], want[h]) {
				t.Errorf("rank %d of 2, head %d: clusters %v, want %v", r, h, got[h], want[h])
			}
		}
	}
	without := 0
	for _, c := range want[0] {
		if c < 0 {
			without++
		}
	}
	if without != images-all {
		t.Errorf("%d images have no cluster, want %d", without, images-all)
	}
}

// What a checkpoint holds is what was there: between a clustering and the end of
// its step, the clusters before it.
func TestDeepClusterSavesWhatLeadsOn(t *testing.T) {
	const images = 1<<20 + 20 // image numbers beyond one half of a saved pair
	arch := tinyDeepCluster.WithHeads([]int{3, 2})
	fresh := func() *DeepCluster {
		m := &DeepCluster{Heads: arch.HeadSizes(), Views: []int{1}, Temperature: 0.1, Iterations: 3, Images: images, Rows: 6}
		stepperOf(t, "ref", arch, []engine.Group{{Count: 2, Size: 4}}, 2, m, optim.Default(optim.KindSGD), dist.Solo())
		return m
	}
	m := fresh()
	for i := range m.banks[0] {
		m.banks[0][i] = float32(i%7) - 3
	}
	swav.NormalizeRows(m.banks[0], 6, arch.FeatureDim)
	copy(m.images, []int{4, images - 1, 0, 1<<20 - 1, 1 << 20, -1})
	if _, err := m.cluster(context.Background(), 0, func(h int) []int { return m.starts(0, h) }); err != nil {
		t.Fatal(err)
	}
	within, after := fresh(), fresh()
	saved := func(step int) []checkpoint.Tensor {
		ts, err := m.save(&State{Step: step})
		if err != nil {
			t.Fatal(err)
		}
		return ts
	}
	if err := errors.Join(within.load(saved(0), nil), after.load(saved(1), nil)); err != nil {
		t.Fatal(err)
	}
	for _, l := range []*DeepCluster{within, after} {
		if !slices.Equal(l.images, m.images) || !slices.Equal(l.banks[0], m.banks[0]) {
			t.Errorf("images %v, want %v", l.images, m.images)
		}
	}
	for h := range m.Heads {
		if !slices.Equal(after.assigned[h], m.assigned[h]) {
			t.Errorf("head %d: clusters differ", h)
		}
		if slices.ContainsFunc(within.assigned[h], func(c int32) bool { return c >= 0 }) {
			t.Errorf("head %d: a checkpoint within the step has its clusters already", h)
		}
	}
	for name, spoil := range map[string]func(ts []checkpoint.Tensor){
		"image beyond":       func(ts []checkpoint.Tensor) { ts[1].Data[0] = 2 },
		"image not a number": func(ts []checkpoint.Tensor) { ts[1].Data[1] = float32(math.NaN()) },
		"image negative":     func(ts []checkpoint.Tensor) { ts[1].Data[1] = -5 },
		"cluster beyond":     func(ts []checkpoint.Tensor) { ts[2].Data[0] = 4 },
		"cluster infinite":   func(ts []checkpoint.Tensor) { ts[3].Data[0] = float32(math.Inf(1)) },
	} {
		ts := saved(1)
		spoil(ts)
		if err := fresh().load(ts, nil); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestDeepClusterSettingsAreChecked(t *testing.T) {
	arch := tinyDeepCluster.WithHeads([]int{3, 2})
	for want, m := range map[string]*DeepCluster{
		"no views for the memory bank": {Heads: []int{3, 2}, Images: 10, Rows: 8},
		"view 2":                       {Heads: []int{3, 2}, Views: []int{2}, Images: 10, Rows: 8},
		"memory bank of 1 rows":        {Heads: []int{3, 2}, Views: []int{0}, Images: 10, Rows: 1},
		"head 1 of 9 clusters":         {Heads: []int{3, 9}, Views: []int{0}, Images: 10, Rows: 8},
	} {
		b, err := NewBackend("ref", 1)
		if err != nil {
			t.Fatal(err)
		}
		net, err := nn.Build(arch)
		if err != nil {
			t.Fatal(err)
		}
		model, err := engine.NewModel(b, net, true)
		if err != nil {
			t.Fatal(err)
		}
		plan, err := engine.Compile(model, engine.Config{Groups: []engine.Group{{Count: 2, Size: 4}}, Batch: 2, Train: true})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := NewStepper(plan, m, optim.Default(optim.KindSGD)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
		plan.Close()
		b.Close()
	}
}

// A step allocates nothing, with clusters as with codes.
func TestDeepClusterStepAllocatesNothing(t *testing.T) {
	arch := tinyDeepCluster.WithHeads([]int{3, 2})
	m := &DeepCluster{Heads: arch.HeadSizes(), Views: []int{0, 1}, Temperature: 0.1, Iterations: 3, Images: 8, Rows: 8}
	s := stepperOf(t, "cpu", arch, []engine.Group{{Count: 2, Size: 8}, {Count: 1, Size: 6}}, 4, m, optim.Default(optim.KindLARC), dist.Solo())
	for _, in := range s.Plan.Inputs {
		s.b.Write(in, noise(in.Elems()))
	}
	step, images := 0, []int{1, 3, 5, 7}
	run := func() {
		m.batch(step%2, 0, images)
		if err := s.whole(step); err != nil {
			t.Fatal(err)
		}
		step++
	}
	for range 4 {
		run()
	}
	if n := testing.AllocsPerRun(3, run); n != 0 {
		t.Errorf("%.0f allocations a step", n)
	}
}

var deepClusterKeys = []string{"train.method=deepclusterv2", "deepcluster.prototypes=4,5,3"}

// interrupter ends a run at a note.
type interrupter struct {
	*RunLog
	at     string
	cancel context.CancelFunc
}

func (i interrupter) Note(text string) {
	if strings.Contains(text, i.at) {
		i.cancel()
	}
	i.RunLog.Note(text)
}

// A run that is stopped in the pass before the first step begins again with it,
// to the same end.
func TestDeepClusterInterruptedBeforeTheFirstStep(t *testing.T) {
	data := photos(t, 20)
	whole, parts := t.TempDir(), t.TempDir()
	if _, _, err := execute(context.Background(), Options{Recipe: recipe(t, deepClusterKeys...), Data: data, Dir: whole}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var screen strings.Builder
	log := interrupter{NewRunLog(&screen, &screen, parts), "memory bank", cancel}
	_, err := Run(ctx, Options{Recipe: recipe(t, deepClusterKeys...), Data: data, Dir: parts, Log: log})
	if err := errors.Join(log.Close()); err != nil {
		t.Fatal(err)
	}
	if !errors.Is(err, ErrInterrupted) {
		t.Fatalf("%v\n%s", err, screen.String())
	}
	if _, _, err := execute(context.Background(), Options{Dir: parts, Resume: true}); err != nil {
		t.Fatal(err)
	}
	sameRuns(t, whole, parts)
}

// What a user of DeepCluster watches is on the screen, in the metrics and in the
// report.
func TestDeepClusterShowsItsClusters(t *testing.T) {
	dir := t.TempDir()
	out, screen, err := execute(context.Background(), Options{Recipe: recipe(t, deepClusterKeys...), Data: photos(t, 20), Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"DeepCluster-v2", "4 + 5 + 3 prototypes", "memory bank", "epoch 0  5 clusters of head 1", "since the last epoch", "NMI"} {
		if !strings.Contains(screen, want) {
			t.Errorf("the console does not show %q:\n%s", want, screen)
		}
	}
	if len(out.Prototypes.Counts) != 4 {
		t.Errorf("images are sorted by %d prototypes, want the 4 of the first head", len(out.Prototypes.Counts))
	}
	ms, err := runlog.ReadMetrics(dir)
	if err != nil {
		t.Fatal(err)
	}
	for i, m := range ms { // epochs of 3 steps
		if want := 3 * (1 - min(1, i%3)); len(m.Clusters) != want {
			t.Errorf("step %d tells of %d heads, want %d", i, len(m.Clusters), want)
		}
		for _, c := range m.Clusters {
			if c.Images != 18 || i == 0 && c.Compared != 0 || i > 0 && (c.Compared == 0 || c.Compared > 18) {
				t.Errorf("step %d: %+v", i, c)
			}
		}
		if m.CodeEntropy != 0 || m.Queue != 0 {
			t.Errorf("step %d: entropy of the codes %v, %d in the queue", i, m.CodeEntropy, m.Queue)
		}
	}
	page, err := os.ReadFile(filepath.Join(dir, "report.html"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"DeepCluster-v2 on", "Clusters against those of the epoch before", "Images that moved", "Largest cluster"} {
		if !strings.Contains(string(page), want) {
			t.Errorf("the report lacks %q", want)
		}
	}
	// Prototypes are centroids to the end: unit vectors that no gradient moved.
	prototypes := finalTensors(t, dir)["prototypes.weight"]
	for r := range 12 {
		var square float64
		for _, v := range prototypes[r*8:][:8] {
			square += float64(v) * float64(v)
		}
		if math.Abs(square-1) > 1e-5 {
			t.Errorf("prototype %d has length %v", r, math.Sqrt(square))
		}
	}
}

func TestDeepClusterRefusesWhatItCannot(t *testing.T) {
	data, dir := photos(t, 20), t.TempDir()
	if _, _, err := execute(context.Background(), Options{Recipe: recipe(t), Data: data, Dir: dir}); err != nil {
		t.Fatal(err)
	}
	for want, o := range map[string]Options{
		"train.method":          {Recipe: recipe(t, deepClusterKeys...), Data: "repeat:" + shards(t, 20), Dir: t.TempDir()},
		"19 clusters":           {Recipe: recipe(t, "train.method=deepclusterv2", "model.prototypes=19"), Data: data, Dir: t.TempDir()},
		"optimizer or method":   {Recipe: recipe(t, "train.method=deepclusterv2"), Dir: dir, Resume: true},
		"holds another network": {Recipe: recipe(t, deepClusterKeys...), Dir: dir, Resume: true},
	} {
		if _, _, err := execute(context.Background(), o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want one with %q", err, want)
		}
	}
}

// Scores of a trained network are those of the first head, row by row.
func TestFeaturesGoByTheFirstHead(t *testing.T) {
	got := firstColumns([]float32{9, 1, 2, 3, 4, 5, 6}, 1, 2, 3, 2)
	if want := []float32{9, 1, 2, 4, 5}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}
