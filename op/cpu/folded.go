//go:build cgo

package cpu

import (
	"math"

	"swav/internal/hostmem"
	"swav/op"
)

// foldedWeights are a convolution's weights with a batch norm folded in: OIHW,
// scaled, and what each output channel is shifted by.
type foldedWeights struct {
	weights, bias *hostmem.Memory
}

func newFoldedWeights(p op.ConvParams) (f foldedWeights, err error) {
	if f.bias, err = hostmem.Alloc(4 * int64(p.Out)); err == nil {
		f.weights, err = hostmem.Alloc(4 * int64(p.Out*p.In*p.Kernel*p.Kernel))
	}
	if err != nil {
		f.free()
	}
	return f, err
}

func (f *foldedWeights) free() {
	for _, m := range []*hostmem.Memory{f.weights, f.bias} {
		if m != nil {
			m.Free()
		}
	}
	*f = foldedWeights{}
}

func (f *foldedWeights) shifts(p op.ConvParams) []float32 {
	return hostmem.Part[float32](f.bias, 0, p.Out)
}

// set computes and returns the scaled weights; it computes the shifts too.
func (f *foldedWeights) set(p op.ConvParams, w, gamma, beta, mean, variance op.Tensor, eps float64) []float32 {
	out := hostmem.Part[float32](f.weights, 0, w.Elems())
	fold(out, f.shifts(p), hostmem.Float32(w), hostmem.Float32(gamma), hostmem.Float32(beta), hostmem.Float32(mean), hostmem.Float32(variance), eps)
	return out
}

// fold computes scaled weights and shifts.
func fold(out, bias, w, gamma, beta, mean, variance []float32, eps float64) {
	each := len(w) / len(gamma)
	for o := range gamma {
		scale := float64(gamma[o]) / math.Sqrt(float64(variance[o])+eps)
		bias[o] = float32(float64(beta[o]) - float64(mean[o])*scale)
		for i := o * each; i < (o+1)*each; i++ {
			out[i] = float32(float64(w[i]) * scale)
		}
	}
}
