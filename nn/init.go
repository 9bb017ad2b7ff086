package nn

import (
	"math"
	"math/rand/v2"
)

// Init returns the flat buffers of a fresh network: convolutions
// Kaiming-normal in fan-out (He et al., 2015), batch norm 1 and 0, linear layers
// and prototypes uniform within 1/sqrt(fan-in), PyTorch's default, which the
// original relies on. The same seed gives the same network on every machine.
func (n *Network) Init(seed uint64) (weights, buffers []float32) {
	weights = make([]float32, n.NumParams)
	buffers = make([]float32, n.NumBuffers)
	for i, p := range n.Params {
		w := weights[p.Offset : p.Offset+p.Len]
		rng := rand.New(rand.NewPCG(seed, uint64(i)))
		switch p.Role {
		case ConvWeight:
			std := math.Sqrt(2 / float64(p.FanOut))
			for j := range w {
				w[j] = float32(std * rng.NormFloat64())
			}
		case NormWeight:
			for j := range w {
				w[j] = 1
			}
		case LinearWeight, LinearBias, PrototypeWeight:
			bound := 1 / math.Sqrt(float64(p.FanIn))
			for j := range w {
				w[j] = float32(bound * (2*rng.Float64() - 1))
			}
		}
	}
	for _, p := range n.Buffers {
		if p.Role == RunningVar {
			for j := p.Offset; j < p.Offset+p.Len; j++ {
				buffers[j] = 1
			}
		}
	}
	return weights, buffers
}
