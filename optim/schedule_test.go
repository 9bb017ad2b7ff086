package optim

import (
	"math"
	"testing"

	"pgregory.net/rapid"
)

// The points of a warm-up of 3 steps and a cosine over 4 (facts of the original:
// linspace with both ends, then t/T from 0 to (T-1)/T).
func TestSchedulePoints(t *testing.T) {
	s := Schedule{Base: 1, Final: 0.2, Start: 0.1, Warmup: 3, Total: 7}
	half := math.Sqrt(0.5)
	for step, want := range []float64{0.1, 0.55, 1, 1, 0.2 + 0.4*(1+half), 0.6, 0.2 + 0.4*(1-half), 0.2, 0.2} {
		if got := s.LR(step); math.Abs(got-want) > 1e-12 {
			t.Errorf("step %d: %v, want %v", step, got, want)
		}
	}
}

func TestScheduleEdges(t *testing.T) {
	for name, c := range map[string]struct {
		s    Schedule
		step int
		want float64
	}{
		"no warm-up begins at base":             {Schedule{Base: 0.6, Total: 10}, 0, 0.6},
		"a warm-up of one step is its start":    {Schedule{Base: 0.6, Start: 0.3, Warmup: 1, Total: 10}, 0, 0.3},
		"the last warm-up step is base exactly": {Schedule{Base: 4.8, Start: 0.3, Warmup: 7, Total: 10}, 6, 4.8},
		"all warm-up":                           {Schedule{Base: 0.6, Warmup: 5, Total: 5}, 4, 0.6},
		"after an all warm-up run":              {Schedule{Base: 0.6, Final: 0.1, Warmup: 5, Total: 5}, 5, 0.1},
		"constant":                              {Constant(0.3), 0, 0.3},
		"constant for ever":                     {Constant(0.3), 1 << 40, 0.3},
	} {
		if got := c.s.LR(c.step); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

func TestScheduleRisesThenFalls(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := Schedule{Base: 1, Final: rapid.Float64Range(0, 1).Draw(t, "final"), Start: rapid.Float64Range(0, 1).Draw(t, "start"),
			Warmup: rapid.IntRange(0, 50).Draw(t, "warmup")}
		s.Total = s.Warmup + rapid.IntRange(0, 100).Draw(t, "rest")
		if err := s.Check(); err != nil {
			t.Fatal(err)
		}
		for step := range s.Total + 5 {
			a, b := s.LR(step), s.LR(step+1)
			if lo := min(s.Start, s.Final); a < lo-1e-12 || a > 1+1e-12 {
				t.Fatalf("step %d: %v is outside %v to 1", step, a, lo)
			}
			if step+1 < s.Warmup && b < a || step >= s.Warmup && b > a {
				t.Fatalf("steps %d and %d: %v, %v", step, step+1, a, b)
			}
		}
	})
}

func TestScheduleCheck(t *testing.T) {
	for _, s := range []Schedule{
		{Base: -1, Total: 1}, {Base: math.NaN(), Total: 1}, {Base: 1, Final: math.Inf(1), Total: 1},
		{Base: 1, Warmup: 3, Total: 2}, {Base: 1, Warmup: -1, Total: 2}, {Base: 1, Total: -1},
	} {
		if s.Check() == nil {
			t.Errorf("%+v is accepted", s)
		}
	}
	if err := Constant(0.1).Check(); err != nil {
		t.Error(err)
	}
}
