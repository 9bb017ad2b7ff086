package optest

import (
	"math"

	"swav/op"
)

// bound is how far an element may be from the reference's: by
//
//	bound * (|want| + scale)
//
// where scale is the root mean square of the tensor, or the size of the terms
// that an element is the sum of if a case says so. The second number applies to
// operands in bfloat16. 0 wants equality.
type bound struct {
	fp32, bf16 float64
	why        string
}

// oneStep is the distance of two neighbouring bfloat16 values: results that
// differ in the last bits of float32 may be rounded apart.
const oneStep = 1.0 / 128

// float64Bound takes the place of a bound where operands and result are float64:
// sums in any order.
const float64Bound = 1e-12

// bounds is the suite's one table of tolerances.
var bounds = map[string]bound{
	"Write":       {0, 0, "a conversion"},
	"Read":        {0, 0, "a conversion"},
	"ReadFloat64": {0, 0, "a copy"},
	"AllReduce":   {0, 0, "sums of two numbers, rounded once"},

	"StartAllReduce": {0, 0, "sums of two numbers, rounded once"},

	"Zero":       {0, 0, "no arithmetic"},
	"Copy":       {0, 0, "one rounding, to nearest even"},
	"Add":        {0, 0, "one addition, one rounding"},
	"Scale":      {2e-7, 0, "the factor may be rounded to float32 before the product is"},
	"SumSquares": {1e-6, 0, "float32 partial sums of bounded length, then float64"},

	"NewConv":              {1e-5, oneStep, "as Conv.Forward"},
	"Conv.SetWeights":      {1e-5, oneStep, "as Conv.Forward"},
	"Conv.Forward":         {1e-5, oneStep, "float32 sums of up to a thousand terms in any order; weights may be rounded to bfloat16 or not"},
	"Conv.SetFolded":       {1e-5, oneStep, "as Conv.Forward"},
	"Conv.ForwardFolded":   {1e-5, oneStep, "as Conv.Forward; weights are scaled before they are rounded"},
	"Conv.BackwardData":    {1e-5, oneStep, "as Conv.Forward"},
	"Conv.BackwardWeights": {1e-5, 0, "float32 sums in any order, from bfloat16 too: products of two bfloat16 are exact"},
	"Conv.Close":           {1e-5, oneStep, "as Conv.Forward"},

	"BatchNormSums":         {1e-5, 0, "float32 squares of values shifted by one row; where that row lies 3 deviations off the mean, their rounding counts tenfold"},
	"BatchNormMoments":      {1e-5, 0, "float64 until the end; starts from BatchNormSums"},
	"BatchNormRunning":      {1e-6, 0, "one inverse square root"},
	"BatchNormApply":        {4e-6, oneStep, "means of a few standard deviations: x scale + shift loses two bits"},
	"BatchNormBackwardSums": {1e-5, 0, "float32 partial sums of bounded length, then float64"},
	"BatchNormBackward":     {1e-5, oneStep, "as BatchNormApply, with three terms"},

	"MaxPool":         {0, 0, "a choice"},
	"MaxPoolBackward": {1e-6, oneStep, "a few gradients in any order"},
	"AvgPool":         {2e-6, 0, "float32 sum over the places, one division"},
	"AvgPoolBackward": {2e-7, oneStep, "a division, or a product with the reciprocal"},

	"Linear":                {1e-5, 0, "float32 sums in any order"},
	"LinearBackwardData":    {1e-5, 0, "float32 sums in any order"},
	"LinearBackwardWeights": {1e-5, 0, "float32 sums in any order"},
	"L2Normalize":           {1e-6, 0, "a float32 sum of squares, a square root, a division"},
	"L2NormalizeBackward":   {1e-5, 0, "a dot product that nearly cancels"},
	"NormalizeRows":         {1e-6, 0, "as L2Normalize"},

	"Sinkhorn":    {1e-4, 0, "scores over epsilon reach 1000, whose float32 exponential is that uncertain"},
	"SwapLoss":    {4e-6, 0, "scores over temperature reach 30 in a float32 exponential"},
	"ClusterLoss": {4e-6, 0, "as SwapLoss"},
	"LARC":        {4e-6, 0, "norms from float32 partial sums"},
	"AdamW":       {4e-6, 0, "a square root and a division in float32"},
}

// fastBound is the bound of convolutions that may be computed by a fast
// algorithm (ConvParams.Direct is not set), for operands of type d: Winograd's
// method with tiles of 4 in float32, whose largest errors are 1e-5 of the result's
// deviation at 256 channels; with tiles of 2 in bfloat16, where transformed operands
// are rounded to 8 bits, so that errors have a deviation of 0.4% and thousands of
// elements reach 5 times that.
func fastBound(d op.DType) float64 {
	switch d {
	case op.BFloat16:
		return 1.0 / 32
	case op.Float32:
		return 2e-5
	}
	return 0
}

func (c *check) bound() bound {
	b, ok := bounds[c.op]
	if !ok {
		c.fatalf("no bound for %s", c.op)
	}
	return b
}

// compare reports the element that is furthest beyond its bound.
func (c *check) compare(what string, got, want []float64, b bound, o *operand) {
	tol, scale := b.fp32, max(o.scale, rms(want))
	if o.dtype == op.BFloat16 {
		tol = b.bf16
	}
	if len(got) != len(want) {
		c.fatalf("%s: %d elements, want %d", what, len(got), len(want))
	}
	bad, worst, worstAt := 0, -1.0, 0
	for i, w := range want {
		if within(got[i], w, tol, scale, o.nan) || o.taint && got[i] != got[i] {
			continue
		}
		bad++
		if d := math.Abs(got[i] - w); !(d <= worst) {
			worst, worstAt = d, i
		}
	}
	if bad > 0 {
		c.errorf("%s: element %d is %v, want %v (bound %.2g x (|want| + %.3g)); %d of %d elements are off; shape %v, %v",
			what, worstAt, got[worstAt], want[worstAt], tol, scale, bad, len(want), o.shape, o.dtype)
	}
}

// within never accepts NaN, unless the case expects it there and finds it.
func within(got, want, tol, scale float64, nan bool) bool {
	if want != want {
		return nan && got != got
	}
	if got == want || math.IsInf(want, 0) {
		return got == want
	}
	return math.Abs(got-want) <= tol*(math.Abs(want)+scale)
}

// rms is the root mean square of the finite elements.
func rms(x []float64) float64 {
	var sum float64
	for _, v := range x {
		if v-v == 0 {
			sum += v * v
		}
	}
	return math.Sqrt(sum / float64(max(1, len(x))))
}

func dot(a, b []float64) float64 {
	var sum float64
	for i := range a {
		sum += a[i] * b[i]
	}
	return sum
}

// slopeBound is how far a central difference may be from the gradient, relative
// to the sum's typical size: the function's third derivative over a step of
// 2^-9, the kinks of ReLU within it, and float32 outputs.
const slopeBound = 2e-3

// slope compares a gradient with central differences of f along random
// directions.
func (c *check) slope(what string, x, gradient []float64, f func(x []float64) float64) {
	const h = 1.0 / 512
	for range 3 {
		up, down := make([]float64, len(x)), make([]float64, len(x))
		var want, size float64
		for i, v := range x {
			d := h * float64(2*c.rng.IntN(2)-1)
			up[i], down[i] = float64(float32(v+d)), float64(float32(v-d))
			term := gradient[i] * (up[i] - down[i])
			want += term
			size += term * term
		}
		got := f(up) - f(down)
		if !(math.Abs(got-want) <= slopeBound*math.Sqrt(size)) {
			c.errorf("gradient of %s: central difference %v, gradient says %v", what, got, want)
		}
	}
}

// adjoint compares <a, b> with <d, e>, two ways to the same number.
func (c *check) adjoint(what string, a, b, d, e []float64) {
	left, right := dot(a, b), dot(d, e)
	var size float64
	for i := range a {
		size += a[i] * b[i] * a[i] * b[i]
	}
	if !(math.Abs(left-right) <= 1e-4*math.Sqrt(size)+1e-12) {
		c.errorf("%s: %v on one side, %v on the other", what, left, right)
	}
}
