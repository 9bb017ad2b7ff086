package optim

import (
	"fmt"
	"math"
)

// Schedule is the learning rate over a run: linear warm-up from Start to Base,
// then half a cosine down to Final (the original's schedule, per step).
type Schedule struct {
	Base, Final, Start float64
	Warmup             int // steps
	Total              int // steps, warm-up included
}

// LR is the learning rate of a step, counted from 0. Warm-up includes both
// ends: step 0 has Start and step Warmup-1 has Base. The cosine starts at Base
// again and would reach Final at step Total; later steps stay at Final.
func (s Schedule) LR(step int) float64 {
	if step < s.Warmup {
		if s.Warmup == 1 {
			return s.Start
		}
		return s.Start + (s.Base-s.Start)*float64(step)/float64(s.Warmup-1)
	}
	t, n := float64(step-s.Warmup), float64(s.Total-s.Warmup)
	if t >= n {
		return s.Final
	}
	return s.Final + 0.5*(s.Base-s.Final)*(1+math.Cos(math.Pi*t/n))
}

// Constant is the schedule that stays at lr.
func Constant(lr float64) Schedule { return Schedule{Base: lr, Final: lr, Start: lr} }

// Check tells what is wrong with the schedule: rates that are negative or not
// finite, a warm-up longer than the run.
func (s Schedule) Check() error {
	for _, lr := range []float64{s.Base, s.Final, s.Start} {
		if !(lr >= 0) || math.IsInf(lr, 1) {
			return fmt.Errorf("schedule: learning rate %v: want 0 or more", lr)
		}
	}
	if s.Warmup < 0 || s.Total < 0 || s.Warmup > s.Total {
		return fmt.Errorf("schedule: warm-up of %d steps in a run of %d: shorten the warm-up or lengthen the run", s.Warmup, s.Total)
	}
	return nil
}
