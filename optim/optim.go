// Package optim holds the update rules, one tensor at a time in plain Go, and
// the learning-rate schedules. The rules are the definition of the optimizer
// operators of package op; buffers and devices are not known here.
package optim

import "math"

// LARC are the hyperparameters of layer-wise adaptive rate control (You et al.
// 2017) in the variant of NVIDIA apex that the original uses.
type LARC struct {
	LR, Momentum, WeightDecay, Trust, Eps float64
	Clip                                  bool // the factor times LR is at most LR
	Adapt                                 bool // false: plain SGD with momentum
}

// Step updates weights w and momentum m of one tensor from its gradient g. With
// Adapt, unless the norm of w or of g is zero, g becomes
//
//	(g + decay w) trust |w| / (|g| + decay |w| + eps)
//
// With Clip, trust |w| / (...) is the tensor's own learning rate and LR its upper
// bound: it is divided by LR and at most 1, so that the step has min(own, LR).
// Where a norm is zero g stays as it is, without weight decay. Without Adapt
// it becomes g + decay w. Then m = momentum m + g and w -= lr m, as in PyTorch's
// SGD without dampening.
func (o LARC) Step(w, m, g []float32) {
	decay, factor := o.WeightDecay, 1.0
	if o.Adapt {
		wn, gn := norm(w), norm(g)
		if wn == 0 || gn == 0 {
			decay = 0
		} else {
			factor = o.Trust * wn / (gn + decay*wn + o.Eps)
			if o.Clip && factor >= o.LR {
				factor = 1
			} else if o.Clip {
				factor /= o.LR
			}
		}
	}
	for i := range w {
		step := (float64(g[i]) + decay*float64(w[i])) * factor
		m[i] = float32(o.Momentum*float64(m[i]) + step)
		w[i] = float32(float64(w[i]) - o.LR*float64(m[i]))
	}
}

// AdamW are the hyperparameters of AdamW (Loshchilov and Hutter, 2019).
type AdamW struct {
	LR, Beta1, Beta2, Eps, WeightDecay float64
}

// Step updates weights w and both moments of one tensor; nth counts its updates
// from 1. Weight decay is decoupled: w shrinks by lr decay, then moves by
// lr m' / (sqrt(v') + eps) with bias-corrected moments, as in PyTorch.
func (o AdamW) Step(w, m, v, g []float32, nth int) {
	c1 := 1 - math.Pow(o.Beta1, float64(nth))
	c2 := 1 - math.Pow(o.Beta2, float64(nth))
	for i := range w {
		gi := float64(g[i])
		mi := o.Beta1*float64(m[i]) + (1-o.Beta1)*gi
		vi := o.Beta2*float64(v[i]) + (1-o.Beta2)*gi*gi
		m[i], v[i] = float32(mi), float32(vi)
		w[i] = float32(float64(w[i])*(1-o.LR*o.WeightDecay) - o.LR*(mi/c1)/(math.Sqrt(vi/c2)+o.Eps))
	}
}

func norm(x []float32) float64 {
	var sum float64
	for _, v := range x {
		sum += float64(v) * float64(v)
	}
	return math.Sqrt(sum)
}
