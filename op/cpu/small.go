//go:build cgo

package cpu

// #include "small.h"
import "C"

import (
	"unsafe"

	"swav/internal/hostmem"
	"swav/op"
)

// smallMACs is the size below which a float32 forward convolution is summed in
// float64 by our own kernel. So small a layer costs a few milliseconds either
// way, and a small batch is where rounding shows: a pre-activation that rounds
// to the other side of zero opens a ReLU, and with few samples the gradients
// then differ from the exact ones in the third digit (docs/numerics.md).
// Summing exactly removes two thirds of the forward rounding error.
const smallMACs = 64 << 20

// small is a convolution whose forward pass is our own; gradients are the
// embedded one's.
type small struct {
	*conv
	params C.swav_small_params
	packed *hostmem.Memory
}

func newSmall(c *conv) (op.Conv, error) {
	p := c.p
	s := &small{conv: c, params: C.swav_small_params{
		batch: C.int64_t(p.Batch), height: C.int64_t(p.Height), width: C.int64_t(p.Width), in: C.int64_t(p.In), out: C.int64_t(p.Out),
		out_height: C.int64_t(p.OutHeight()), out_width: C.int64_t(p.OutWidth()),
		kernel: C.int64_t(p.Kernel), stride: C.int64_t(p.Stride), pad: C.int64_t(p.Pad)}}
	var err error
	s.packed, err = hostmem.Alloc(4 * int64(C.swav_small_packed(&s.params)))
	return s, err
}

// Close frees the convolution.
func (s *small) Close() {
	s.packed.Free()
	s.conv.Close()
}

func (s *small) weights() *C.float {
	return (*C.float)(unsafe.Pointer(hostmem.Ptr(op.Tensor{Mem: s.packed, Shape: []int{int(s.packed.Len() / 4)}})))
}

// SetWeights packs the weights for all passes.
func (s *small) SetWeights(w op.Tensor) {
	s.conv.SetWeights(w)
	C.swav_small_pack(s.weights(), f32(w), &s.params)
}

// Forward computes y from x.
func (s *small) Forward(y, x op.Tensor) {
	op.CheckConv(s.p, "forward", x, y)
	C.swav_small_forward(f32(y), f32(x), s.weights(), &s.params, s.b.threads)
}
