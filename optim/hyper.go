package optim

import (
	"fmt"
	"math"
)

// Kind is an update rule.
type Kind string

// The update rules: SGD with momentum, the same with layer-wise adaptive rates
// (the original's), AdamW.
const (
	KindSGD   Kind = "sgd"
	KindLARC  Kind = "larc"
	KindAdamW Kind = "adamw"
)

// Optimizer are the hyperparameters of the update over a run, but for the
// learning rate, which Schedule gives for each step.
type Optimizer struct {
	Kind            Kind
	Momentum        float64 // sgd, larc
	Trust, LARCEps  float64 // larc
	Clip            bool    // larc: see LARC
	Beta1, Beta2    float64 // adamw
	AdamEps         float64 // adamw
	WeightDecay     float64
	ExcludeNormBias bool // no weight decay and no adaptation for batch norms and biases
}

// Default is the original's setting of SGD and LARC, where weight decay and
// adaptation apply to every tensor, and the usual one of AdamW, where they leave
// out batch norms and biases.
func Default(kind Kind) Optimizer {
	if kind == KindAdamW {
		return Optimizer{Kind: kind, Beta1: 0.9, Beta2: 0.999, AdamEps: 1e-8, WeightDecay: 0.05, ExcludeNormBias: true}
	}
	return Optimizer{Kind: kind, Momentum: 0.9, Trust: 0.001, LARCEps: 1e-8, WeightDecay: 1e-6}
}

// Group tells how a tensor is updated: its weight decay, and whether its step
// adapts to its norm. normOrBias is true for a batch norm's weight and bias and
// for every other bias.
func (o Optimizer) Group(normOrBias bool) (weightDecay float64, adapt bool) {
	if normOrBias && o.ExcludeNormBias {
		return 0, false
	}
	return o.WeightDecay, o.Kind == KindLARC
}

// Check names the first hyperparameter of the kind that is out of range.
func (o Optimizer) Check() error {
	type limit struct {
		name   string
		value  float64
		min    float64
		below  float64
		strict bool // min itself is out of range
	}
	inf := math.Inf(1)
	limits := []limit{{"weight decay", o.WeightDecay, 0, inf, false}}
	switch o.Kind {
	case KindSGD, KindLARC:
		limits = append(limits, limit{"momentum", o.Momentum, 0, 1, false})
		if o.Kind == KindLARC {
			limits = append(limits, limit{"trust", o.Trust, 0, inf, true}, limit{"LARC epsilon", o.LARCEps, 0, inf, false})
		}
	case KindAdamW:
		limits = append(limits, limit{"beta1", o.Beta1, 0, 1, false}, limit{"beta2", o.Beta2, 0, 1, false},
			limit{"Adam epsilon", o.AdamEps, 0, inf, true})
	default:
		return fmt.Errorf("optimizer: kind %q: want sgd, larc or adamw", o.Kind)
	}
	for _, l := range limits {
		if !(l.value >= l.min) || !(l.value < l.below) || l.strict && l.value == l.min {
			return fmt.Errorf("optimizer %s: %s %v is out of range", o.Kind, l.name, l.value)
		}
	}
	return nil
}
