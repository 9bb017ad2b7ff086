package engine_test

import (
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"swav/engine"
	"swav/nn"
	"swav/op"
	"swav/op/ref"
)

func model(t *testing.T, a nn.Arch) *engine.Model {
	t.Helper()
	net, err := nn.Build(a)
	if err != nil {
		t.Fatal(err)
	}
	b := ref.New()
	m, err := engine.NewModel(b, net, true)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close(); b.Close() })
	m.Set(net.Init(7))
	return m
}

func compile(t *testing.T, m *engine.Model, c engine.Config) *engine.Plan {
	t.Helper()
	p, err := engine.Compile(m, c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

var tiny = nn.Arch{Block: nn.Basic, Layers: []int{1, 1}, Width: 0.0625, Stem: nn.SmallStem, InChannels: 2, Hidden: 6, FeatureDim: 5, Prototypes: 7}

func TestSmallPlansAreWidened(t *testing.T) {
	m := model(t, tiny)
	for _, tc := range []struct {
		asked      op.DType
		size       int
		noWidening bool
		want       op.DType
	}{
		{op.Float32, 8, false, op.Float64},
		{op.BFloat16, 8, false, op.Float64},
		{op.Float32, 8, true, op.Float32},
		{op.BFloat16, 8, true, op.BFloat16},
		{op.Float64, 8, true, op.Float64},
		{op.BFloat16, 700, false, op.BFloat16},
	} {
		p := compile(t, m, engine.Config{Groups: []engine.Group{{Count: 1, Size: tc.size}}, Batch: 1, Precision: tc.asked, NoWidening: tc.noWidening})
		if tc.size > 8 != (p.MACs() > 1<<28) {
			t.Fatalf("%d pixels are %d multiply-accumulates", tc.size, p.MACs())
		}
		if p.Precision != tc.want {
			t.Errorf("%v asked for %d pixels, no widening %v: %v, want %v", tc.asked, tc.size, tc.noWidening, p.Precision, tc.want)
		}
	}
}

func TestCompileSaysWhatItCannotDo(t *testing.T) {
	m := model(t, tiny)
	for want, c := range map[string]engine.Config{
		"no crop groups":     {Batch: 1},
		"0 crops":            {Batch: 1, Groups: []engine.Group{{Size: 8}}},
		"crops of 0 pixels":  {Batch: 1, Groups: []engine.Group{{Count: 1}}},
		"batch of 0 images":  {Groups: []engine.Group{{Count: 1, Size: 8}}},
		"precision u8":       {Batch: 1, Groups: []engine.Group{{Count: 1, Size: 8}}, Precision: op.Uint8},
		"crops of -3 pixels": {Batch: 1, Groups: []engine.Group{{Count: 1, Size: -3}}},
	} {
		if _, err := engine.Compile(m, c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: error %v, want one with %q", c, err, want)
		}
	}
}

// Neighbours of equal size are one pass, others are not.
func TestCropGroupsAreMerged(t *testing.T) {
	p := compile(t, model(t, tiny), engine.Config{Batch: 3, Groups: []engine.Group{{2, 8}, {1, 8}, {1, 6}, {2, 8}}})
	if g := p.Groups(); len(g) != 3 || g[0] != (engine.Group{3, 8}) || g[1] != (engine.Group{1, 6}) || g[2] != (engine.Group{2, 8}) {
		t.Errorf("groups %v", g)
	}
	if p.Views() != 6 || p.Scores.Shape[0] != 18 || p.Inputs[0].Shape[0] != 9 {
		t.Errorf("%d views, scores %v, first input %v", p.Views(), p.Scores, p.Inputs[0])
	}
}

// The hand-written backward pass is the slope of the forward pass: for a
// weighted sum of the scores, gradients times a small step of all weights are
// the difference of the sums, for every kind of block and stem.
func TestBackwardIsTheSlopeOfForward(t *testing.T) {
	bottleneck := tiny
	bottleneck.Block, bottleneck.Stem, bottleneck.Hidden = nn.Bottleneck, nn.ImageNetStem, 0
	archs := map[string]nn.Arch{"basic, small stem, hidden layer": tiny, "bottleneck, imagenet stem, linear head": bottleneck, "classifier": tiny.Classifier(4)}
	for name, arch := range archs {
		m := model(t, arch)
		p := compile(t, m, engine.Config{Batch: 4, Groups: []engine.Group{{2, 12}, {1, 9}}, Train: true})
		rng := rand.New(rand.NewPCG(1, 2))
		b := m.Backend
		for _, in := range p.Inputs {
			b.Write(in, normal(rng, in.Elems()))
		}
		weight := normal(rng, p.Scores.Elems())
		w0, buffers := make([]float32, m.Net.NumParams), make([]float32, m.Net.NumBuffers)
		m.Get(w0, buffers)
		sum := func(w []float32) float64 {
			m.Set(w, buffers)
			p.Forward()
			s := make([]float32, p.Scores.Elems())
			b.Read(s, p.Scores)
			var total float64
			for i, v := range s {
				total += float64(v) * float64(weight[i])
			}
			return total
		}
		sum(w0)
		b.Zero(m.Grads)
		b.Write(p.ScoreGrads, weight)
		p.Backward()
		grad := make([]float32, m.Net.NumParams)
		b.Read(grad, m.Grads)
		if err := b.Sync(); err != nil {
			t.Fatal(err)
		}
		for _, param := range m.Net.Params {
			up, down := append([]float32(nil), w0...), append([]float32(nil), w0...)
			var want, size float64
			for i := param.Offset; i < param.Offset+param.Len; i++ {
				d := float32(2e-5 * float64(2*rng.IntN(2)-1))
				up[i] += d
				down[i] -= d
				term := float64(grad[i]) * float64(up[i]-down[i])
				want += term
				size += term * term
			}
			got := sum(up) - sum(down)
			// A bias before a batch norm has no slope: what is left is rounding.
			if math.Abs(got-want) > 0.03*math.Sqrt(size)+3e-6 {
				t.Errorf("%s: %s: difference %.6g, gradient says %.6g (size %.2g)", name, param.Name, got, want, math.Sqrt(size))
			}
		}
	}
}

func normal(rng *rand.Rand, n int) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(rng.NormFloat64())
	}
	return x
}

// The last feature map, averaged, is the features, whether the plan folds or not.
func TestMapIsWhatIsPooled(t *testing.T) {
	for _, d := range []op.DType{op.Float32, op.Float64} {
		m := model(t, tiny.Classifier(3))
		p := compile(t, m, engine.Config{Batch: 2, Groups: []engine.Group{{1, 12}}, Map: true, Precision: d, NoWidening: true})
		m.Backend.Write(p.Inputs[0], normal(rand.New(rand.NewPCG(5, 6)), p.Inputs[0].Elems()))
		p.SetWeights()
		p.Forward()
		x, features := make([]float32, p.Map.Elems()), make([]float32, p.Features.Elems())
		m.Backend.Read(x, p.Map)
		m.Backend.Read(features, p.Features)
		if err := m.Backend.Sync(); err != nil {
			t.Fatal(err)
		}
		if p.Embeddings.Present() || p.Scores.Cols() != 3 {
			t.Errorf("a classifier with embeddings %v, scores %v", p.Embeddings, p.Scores)
		}
		c := p.Features.Cols()
		if s := p.Map.Shape; s[0] != 2 || s[1] != 6 || s[2] != 6 || s[3] != c {
			t.Fatalf("map %v of %d channels", s, c)
		}
		for i, want := range features {
			var sum float64
			for place := range 36 {
				sum += float64(x[(i/c*36+place)*c+i%c])
			}
			if math.Abs(sum/36-float64(want)) > 1e-5*(1+math.Abs(float64(want))) {
				t.Fatalf("%v: feature %d is %v, the map's mean %v", d, i, want, sum/36)
			}
		}
	}
	if _, err := engine.Compile(model(t, tiny), engine.Config{Batch: 2, Groups: []engine.Group{{1, 12}, {1, 8}}, Map: true}); err == nil {
		t.Error("maps of two sizes in one tensor")
	}
}

// An evaluation plan folds batch norm into convolutions in float32 and keeps
// them apart in float64; both are the same network, whatever the blocks.
func TestEvaluationAgreesAcrossPrecisions(t *testing.T) {
	bottleneck := tiny
	bottleneck.Block, bottleneck.Stem = nn.Bottleneck, nn.ImageNetStem
	for _, arch := range []nn.Arch{tiny, bottleneck} {
		m := model(t, arch)
		rng := rand.New(rand.NewPCG(3, 4))
		w, buffers := make([]float32, m.Net.NumParams), make([]float32, m.Net.NumBuffers)
		m.Get(w, buffers)
		for _, p := range m.Net.Params {
			if p.Role == nn.NormWeight || p.Role == nn.NormBias {
				copy(w[p.Offset:], normal(rng, p.Len))
			}
		}
		for i := range buffers {
			buffers[i] = float32(0.5 + rng.Float64())
		}
		m.Set(w, buffers)
		pixels := normal(rng, 3*14*14*2)
		features := map[op.DType][]float32{}
		for _, d := range []op.DType{op.Float32, op.Float64} {
			p := compile(t, m, engine.Config{Batch: 3, Groups: []engine.Group{{Count: 1, Size: 14}}, Precision: d, NoWidening: true})
			m.Backend.Write(p.Inputs[0], pixels)
			p.SetWeights()
			p.Forward()
			x := make([]float32, p.Features.Elems())
			m.Backend.Read(x, p.Features)
			features[d] = x
		}
		if err := m.Backend.Sync(); err != nil {
			t.Fatal(err)
		}
		for i, want := range features[op.Float64] {
			if got := features[op.Float32][i]; math.Abs(float64(got-want)) > 1e-4*(1+math.Abs(float64(want))) {
				t.Fatalf("%v: feature %d is %v in float32, %v in float64", arch, i, got, want)
			}
		}
	}
}
