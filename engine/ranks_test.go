package engine_test

import (
	"math"
	"math/rand/v2"
	"sync"
	"testing"

	"swav/dist"
	"swav/engine"
	"swav/op"
)

// run computes scores, and gradients of weights for the same gradient of all scores, on
// ranks that are given their images' seeds; group is how many share statistics.
func run(t *testing.T, seeds []uint64, group int) (scores, grads [][]float32) {
	t.Helper()
	scores, grads = make([][]float32, len(seeds)), make([][]float32, len(seeds))
	models := make([]*engine.Model, len(seeds))
	for r := range models {
		models[r] = model(t, tiny)
	}
	var wg sync.WaitGroup
	for r, c := range dist.Local(len(seeds)) {
		wg.Go(func() {
			norm := c
			switch group {
			case len(seeds):
			case 1:
				norm = dist.Solo()
			default:
				var err error
				if norm, err = c.Split(r / group); err != nil {
					t.Error(err)
					return
				}
			}
			m := models[r]
			p, err := engine.Compile(m, engine.Config{Batch: 3, Groups: []engine.Group{{2, 12}}, Precision: op.Float64, Train: true, Comm: c, Norm: norm})
			if err != nil {
				t.Error(err)
				return
			}
			defer p.Close()
			m.Backend.Write(p.Inputs[0], normal(rand.New(rand.NewPCG(seeds[r], 1)), p.Inputs[0].Elems()))
			m.Backend.Zero(m.Grads)
			p.Forward()
			m.Backend.Write(p.ScoreGrads, normal(rand.New(rand.NewPCG(9, 9)), p.ScoreGrads.Elems()))
			p.Backward()
			scores[r], grads[r] = make([]float32, p.Scores.Elems()), make([]float32, m.Grads.Elems())
			m.Backend.Read(scores[r], p.Scores)
			m.Backend.Read(grads[r], m.Grads)
			if err := m.Backend.Sync(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	return scores, grads
}

func far(a, b []float32) float64 {
	d := 0.0
	for i := range a {
		d = max(d, math.Abs(float64(a[i]-b[i])))
	}
	return d
}

// Ranks that share statistics see what they would without the others, forward and
// backward; and what the others see matters where all share.
func TestGroupsShareStatistics(t *testing.T) {
	four, fourGrads := run(t, []uint64{1, 2, 3, 4}, 2)
	for i, pair := range [][]uint64{{1, 2}, {3, 4}} {
		two, twoGrads := run(t, pair, 2)
		for r := range two {
			if d := max(far(two[r], four[2*i+r]), far(twoGrads[r], fourGrads[2*i+r])); d > 1e-6 {
				t.Errorf("group %d, rank %d: %v from what it is without the other group", i, r, d)
			}
		}
	}
	all, _ := run(t, []uint64{1, 2, 3, 4}, 4)
	if d := far(all[0], four[0]); d < 1e-3 {
		t.Errorf("statistics of all ranks and of a group give the same scores (%v)", d)
	}
	alone, aloneGrads := run(t, []uint64{1, 2}, 1)
	for r, seed := range []uint64{1, 2} {
		one, oneGrads := run(t, []uint64{seed}, 1)
		if d := max(far(one[0], alone[r]), far(oneGrads[0], aloneGrads[r])); d > 1e-6 {
			t.Errorf("rank %d without shared statistics: %v", r, d)
		}
	}
}

// What Backward says is final does not change any more, and in the end all is.
func TestGradientsAreFinalAsToldOf(t *testing.T) {
	for _, groups := range [][]engine.Group{{{2, 12}}, {{2, 12}, {1, 8}}} {
		m := model(t, tiny)
		p := compile(t, m, engine.Config{Batch: 3, Groups: groups, Precision: op.Float32, Train: true})
		for i, in := range p.Inputs {
			m.Backend.Write(in, normal(rand.New(rand.NewPCG(uint64(i), 1)), in.Elems()))
		}
		m.Backend.Zero(m.Grads)
		p.Forward()
		m.Backend.Write(p.ScoreGrads, normal(rand.New(rand.NewPCG(9, 9)), p.ScoreGrads.Elems()))
		now, final := make([]float32, m.Grads.Elems()), make([]float32, m.Grads.Elems())
		at, calls := len(final), 0
		p.BackwardWhole(func(from int) {
			if from >= at {
				t.Errorf("%d after %d", from, at)
			}
			m.Backend.Read(now, m.Grads)
			copy(final[from:at], now[from:at])
			at = from
			calls++
		})
		m.Backend.Read(now, m.Grads)
		if err := m.Backend.Sync(); err != nil {
			t.Fatal(err)
		}
		if at != 0 || calls < 5 || far(now, final) != 0 {
			t.Errorf("%d calls down to %d, %v from the end", calls, at, far(now, final))
		}
	}
}
