package optim

import (
	"math"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func close32(got float32, want float64) bool {
	return math.Abs(float64(got)-want) <= 1e-6*max(1, math.Abs(want))
}

// Worked by hand: |w| = 5, |g| = 10, decay 0.1: the divisor is 10 + 0.5 + 0.5,
// the factor 0.022 * 5 / 11 = 0.01.
func TestLARCByHand(t *testing.T) {
	o := LARC{LR: 0.5, Momentum: 0.9, WeightDecay: 0.1, Trust: 0.022, Eps: 0.5, Adapt: true}
	w, m, g := []float32{3, 4}, []float32{1, -1}, []float32{6, 8}
	o.Step(w, m, g)
	wantM := []float64{0.9 + 0.01*6.3, -0.9 + 0.01*8.4}
	wantW := []float64{3 - 0.5*wantM[0], 4 - 0.5*wantM[1]}
	for i := range w {
		if !close32(m[i], wantM[i]) || !close32(w[i], wantW[i]) {
			t.Errorf("w %v, m %v, want %v, %v", w, m, wantW, wantM)
		}
	}
	if !slices.Equal(g, []float32{6, 8}) {
		t.Errorf("the gradient has changed to %v", g)
	}
}

// Where a norm is zero, the gradient enters the momentum as it is: batch norm's
// biases begin at zero.
func TestLARCZeroNorm(t *testing.T) {
	o := LARC{LR: 0.5, Momentum: 0.9, WeightDecay: 0.1, Trust: 0.001, Eps: 1e-8, Adapt: true, Clip: true}
	for name, c := range map[string]struct{ w, g []float32 }{
		"weights":  {[]float32{0, 0}, []float32{1, -2}},
		"gradient": {[]float32{1, -2}, []float32{0, 0}},
	} {
		w, m := slices.Clone(c.w), []float32{2, 4}
		o.Step(w, m, c.g)
		for i := range w {
			wantM := 0.9*float64(2+2*i) + float64(c.g[i])
			if !close32(m[i], wantM) || !close32(w[i], float64(c.w[i])-0.5*wantM) {
				t.Errorf("zero %s: w %v, m %v", name, w, m)
			}
		}
	}
}

// With Clip, the tensor's own rate counts where it is below the schedule's, and
// the schedule's elsewhere.
func TestLARCClip(t *testing.T) {
	for _, c := range []struct {
		lr, step float64 // |w| = |g| = 1 and trust 0.01: the own rate is 0.01
	}{{1, 0.01}, {0.02, 0.01}, {0.01, 0.01}, {0.001, 0.001}, {0, 0}} {
		w, m := []float32{1}, []float32{0}
		LARC{LR: c.lr, Trust: 0.01, Clip: true, Adapt: true}.Step(w, m, []float32{1})
		if !close32(w[0], 1-c.step) || math.IsNaN(float64(m[0])) || math.IsInf(float64(m[0]), 0) {
			t.Errorf("lr %v: w moves by %v, want %v; m %v", c.lr, 1-w[0], c.step, m)
		}
	}
}

func TestLARCWithoutAdaptIsSGD(t *testing.T) {
	o := LARC{LR: 0.1, Momentum: 0.5, WeightDecay: 0.01, Trust: 0.001, Clip: true}
	w, m := []float32{2, 0}, []float32{0, 0}
	p, buf := []float64{2, 0}, []float64{0, 0}
	for step := range 5 {
		g := []float32{float32(step) - 1.5, 3}
		o.Step(w, m, g)
		for i := range p {
			buf[i] = 0.5*buf[i] + float64(g[i]) + 0.01*p[i]
			p[i] -= 0.1 * buf[i]
			if !close32(w[i], p[i]) || !close32(m[i], buf[i]) {
				t.Fatalf("step %d: w %v, m %v, want %v, %v", step, w, m, p, buf)
			}
		}
	}
}

// The adapted step does not depend on the gradient's scale (Eps and decay
// aside): that is what layer-wise adaptation is for.
func TestLARCIgnoresTheGradientsScale(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 8).Draw(t, "n")
		value := rapid.Float32Range(0.1, 2)
		w := rapid.SliceOfN(value, n, n).Draw(t, "w")
		g := rapid.SliceOfN(value, n, n).Draw(t, "g")
		scale := rapid.SampledFrom([]float32{1e-6, 1e-2, 128, 1e6}).Draw(t, "scale")
		o := LARC{LR: 1, Trust: 0.1, Adapt: true}
		w1, w2, scaled := slices.Clone(w), slices.Clone(w), slices.Clone(g)
		for i := range scaled {
			scaled[i] *= scale
		}
		o.Step(w1, make([]float32, n), g)
		o.Step(w2, make([]float32, n), scaled)
		for i := range w {
			if !close32(w1[i], float64(w2[i])) {
				t.Fatalf("%v, with the scaled gradient %v", w1, w2)
			}
		}
	})
}

// In the first step bias correction makes the moments g and g², so that the
// step is lr sign(g) whatever the betas; decay is apart from it.
func TestAdamWFirstStep(t *testing.T) {
	o := AdamW{LR: 0.1, Beta1: 0.9, Beta2: 0.999, WeightDecay: 0.2}
	w := []float32{1, 1, 1}
	o.Step(w, make([]float32, 3), make([]float32, 3), []float32{1e-3, -50, 7}, 1)
	for i, want := range []float64{0.98 - 0.1, 0.98 + 0.1, 0.98 - 0.1} {
		if !close32(w[i], want) {
			t.Errorf("w[%d] = %v, want %v", i, w[i], want)
		}
	}
}

// Worked by hand: g = 1, then 3, with beta 0.5 and 0.75.
func TestAdamWSecondStep(t *testing.T) {
	o := AdamW{LR: 0.1, Beta1: 0.5, Beta2: 0.75, Eps: 1}
	w, m, v := []float32{0}, []float32{0}, []float32{0}
	o.Step(w, m, v, []float32{1}, 1)
	o.Step(w, m, v, []float32{3}, 2)
	const m2 = 0.5*0.5 + 0.5*3     // 1.75, corrected by 1 - 0.25
	const v2 = 0.75*0.25 + 0.25*9. // 2.4375, corrected by 1 - 0.5625
	want := -0.1*1/(1+1) - 0.1*(m2/0.75)/(math.Sqrt(v2/0.4375)+1)
	if !close32(m[0], m2) || !close32(v[0], v2) || !close32(w[0], want) {
		t.Errorf("w %v, m %v, v %v, want %v, %v, %v", w, m, v, want, m2, v2)
	}
}

func TestGroups(t *testing.T) {
	for _, c := range []struct {
		o          Optimizer
		normOrBias bool
		decay      float64
		adapt      bool
	}{
		{Default(KindLARC), false, 1e-6, true},
		{Default(KindLARC), true, 1e-6, true}, // the original leaves nothing out
		{Default(KindSGD), true, 1e-6, false},
		{Default(KindAdamW), false, 0.05, false},
		{Default(KindAdamW), true, 0, false},
		{Optimizer{Kind: KindLARC, WeightDecay: 1, ExcludeNormBias: true}, true, 0, false},
		{Optimizer{Kind: KindLARC, WeightDecay: 1, ExcludeNormBias: true}, false, 1, true},
	} {
		if decay, adapt := c.o.Group(c.normOrBias); decay != c.decay || adapt != c.adapt {
			t.Errorf("%+v, norm or bias %v: decay %v, adapt %v", c.o, c.normOrBias, decay, adapt)
		}
	}
}

func TestOptimizerCheck(t *testing.T) {
	for _, kind := range []Kind{KindSGD, KindLARC, KindAdamW} {
		if err := Default(kind).Check(); err != nil {
			t.Errorf("the default of %s: %v", kind, err)
		}
	}
	for want, change := range map[string]func(*Optimizer){
		"kind":         func(o *Optimizer) { o.Kind = "lamb" },
		"weight decay": func(o *Optimizer) { o.WeightDecay = -1 },
		"momentum":     func(o *Optimizer) { o.Momentum = 1 },
		"trust":        func(o *Optimizer) { o.Trust = 0 },
		"LARC epsilon": func(o *Optimizer) { o.LARCEps = math.NaN() },
		"beta1":        func(o *Optimizer) { *o = Default(KindAdamW); o.Beta1 = -0.1 },
		"beta2":        func(o *Optimizer) { *o = Default(KindAdamW); o.Beta2 = 1.5 },
		"Adam epsilon": func(o *Optimizer) { *o = Default(KindAdamW); o.AdamEps = 0 },
	} {
		o := Default(KindLARC)
		change(&o)
		if err := o.Check(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want it to name %s", o, err, want)
		}
	}
}
