//go:build cgo

package cpu

// #include "wide.h"
import "C"

import (
	"fmt"
	"unsafe"

	"swav/internal/hostmem"
	"swav/op"
)

// This file is the Go side of wide.h: operators on float64 activations. The
// methods of Backend hand over to these where they see the type.

func wide(t op.Tensor) bool { return t.DType == op.Float64 }

// wideConv is a convolution of float64 activations by our own kernels.
type wideConv struct {
	b       *Backend
	p       op.ConvParams
	g       C.swav_geometry
	weights packing
	norm    *hostmem.Memory // of a folded batch norm: moments [2, Out], float64, then gamma and beta, float32
}

func newWideConv(b *Backend, p op.ConvParams) (op.Conv, error) {
	c := &wideConv{b: b, p: p, g: geometry(p)}
	var err error
	var back int64
	if !p.Inference && !p.NoBackwardData {
		back = 8 * int64(C.swav_wide_packed(&c.g, 1))
	}
	c.weights, err = newPacking(8*int64(C.swav_wide_packed(&c.g, 0)), back)
	if err == nil && p.Folded {
		c.norm, err = hostmem.Alloc(8 * 4 * int64(p.Out))
	}
	if err != nil {
		c.Close()
		return nil, fmt.Errorf("cpu: weights of a convolution of %d to %d channels: %w", p.In, p.Out, err)
	}
	return c, nil
}

// Close frees the convolution.
func (c *wideConv) Close() {
	c.weights.free()
	if c.norm != nil {
		c.norm.Free()
		c.norm = nil
	}
}

// ShareWeights takes the packed weights of from, whose layout is the same for
// all images.
func (c *wideConv) ShareWeights(from op.Conv) { c.weights.borrow(from.(*wideConv).weights) }

// SetWeights packs the weights for the forward pass and for the gradient of
// the input.
func (c *wideConv) SetWeights(w op.Tensor) {
	op.CheckConvWeights(c.p, w)
	C.swav_wide_pack(whole(c.weights.forward), f32(w), &c.g, 0)
	if c.weights.back != nil {
		C.swav_wide_pack(whole(c.weights.back), f32(w), &c.g, 1)
	}
}

// whole is the address of memory's first float64 number.
func whole(m *hostmem.Memory) *C.double {
	return (*C.double)(&hostmem.Part[float64](m, 0, 1)[0])
}

func (c *wideConv) scratch() *C.double {
	m := c.b.temp(8 * int64(C.swav_wide_scratch(&c.g)))
	if m == nil {
		return nil
	}
	return whole(m)
}

// SetFolded packs the weights and keeps the batch norm, which float64 has no
// reason to fold: it follows the convolution, exact to the last digit.
func (c *wideConv) SetFolded(w, gamma, beta, mean, variance op.Tensor, eps float64) {
	op.CheckFolded(c.p, w, gamma, beta, mean, variance)
	C.swav_wide_pack(whole(c.weights.forward), f32(w), &c.g, 0)
	moments, g, b := c.folded()
	c.b.BatchNormRunning(moments, mean, variance, eps)
	copy(hostmem.Float32(g), hostmem.Float32(gamma))
	copy(hostmem.Float32(b), hostmem.Float32(beta))
}

// folded are the parts of norm; an evaluation plan may allocate.
func (c *wideConv) folded() (moments, gamma, beta op.Tensor) {
	n := c.p.Out
	return op.Tensor{Mem: c.norm, Shape: []int{2, n}, DType: op.Float64},
		op.Tensor{Mem: c.norm, Offset: int64(16 * n), Shape: []int{n}}, op.Tensor{Mem: c.norm, Offset: int64(20 * n), Shape: []int{n}}
}

// ForwardFolded computes y from x. The convolution's result stands behind its
// scratch memory, as y may hold the residual.
func (c *wideConv) ForwardFolded(y, x, residual op.Tensor) {
	op.CheckForwardFolded(c.p, y, x, residual)
	size := 8 * int64(C.swav_wide_scratch(&c.g))
	m := c.b.temp(size + y.Bytes())
	if m == nil {
		return
	}
	z := op.Tensor{Mem: m, Offset: size, Shape: y.Shape, DType: op.Float64}
	C.swav_wide_forward(f64(z), f64(x), whole(c.weights.forward), whole(m), &c.g, c.b.threads)
	moments, gamma, beta := c.folded()
	c.b.wideNormApply(y, z, moments, gamma, beta, residual, c.p.ReLU)
}

// Forward computes y from x.
func (c *wideConv) Forward(y, x op.Tensor) {
	op.CheckForward(c.p, y, x)
	if s := c.scratch(); s != nil {
		C.swav_wide_forward(f64(y), f64(x), whole(c.weights.forward), s, &c.g, c.b.threads)
	}
}

// BackwardData computes dx from dy.
func (c *wideConv) BackwardData(dx, dy op.Tensor) {
	op.CheckConv(c.p, "backward data", dx, dy)
	if c.weights.back == nil {
		panic("cpu: backward data of a convolution compiled without it")
	}
	if s := c.scratch(); s != nil {
		C.swav_wide_backward_data(f64(dx), f64(dy), whole(c.weights.back), s, &c.g, c.b.threads)
	}
}

// BackwardWeights adds the gradient to dw.
func (c *wideConv) BackwardWeights(dw, x, dy op.Tensor) {
	op.CheckConv(c.p, "backward weights", x, dy)
	op.CheckConvWeights(c.p, dw)
	if c.p.Inference {
		panic("cpu: backward weights of a convolution compiled for inference")
	}
	if s := c.scratch(); s != nil {
		C.swav_wide_backward_weights(f32(dw), f64(x), f64(dy), s, &c.g, c.b.threads)
	}
}

// wideCopy converts between float64 and the other activation types.
func (b *Backend) wideCopy(dst, src op.Tensor) {
	n := C.int64_t(dst.Elems())
	switch {
	case dst.DType == op.Float32:
		C.swav_wide_to_float(f32(dst), f64(src), n, b.threads)
	case src.DType == op.Float32:
		C.swav_wide_from_float(f64(dst), f32(src), n, b.threads)
	default: // bfloat16, by way of float32
		m := b.temp(4 * int64(n))
		if m == nil {
			return
		}
		between := op.Tensor{Mem: m, Shape: dst.Shape}
		b.Copy(between, src)
		b.Copy(dst, between)
	}
}

func (b *Backend) wideNormApply(y, x, moments, gamma, beta, residual op.Tensor, relu bool) {
	C.swav_wide_norm_apply(f64(y), f64(x), f64(residual), f64(moments), f32(gamma), f32(beta), rows(x), cols(x), flag(relu), b.threads)
}

func (b *Backend) wideNormBackwardSums(sums, dgamma, dbeta, dy, dy2, y, x, moments op.Tensor, relu bool) {
	C.swav_wide_norm_backward_sums(f64(sums), f64(dy), f64(dy2), f64(gate(y, relu)), f64(x), f64(moments), rows(x), cols(x), b.threads)
	s, dg, db := hostmem.Float64(sums), hostmem.Float32(dgamma), hostmem.Float32(dbeta)
	for i := range dg {
		db[i] += float32(s[i])
		dg[i] += float32(s[len(dg)+i])
	}
}

func (b *Backend) wideNormBackward(dx, dresidual, dy, dy2, y, x, moments, gamma, sums op.Tensor, count int, relu bool) {
	C.swav_wide_norm_backward(f64(dx), f64(dresidual), f64(dy), f64(dy2), f64(gate(y, relu)), f64(x), f64(moments), f32(gamma), f64(sums),
		C.double(count), rows(x), cols(x), b.threads)
}

func (b *Backend) wideMaxPool(y, index, x op.Tensor, p op.PoolParams) {
	s := shapeOf(x, y)
	C.swav_wide_max_pool(f64(y), bytes(index), f64(x), s[0], s[1], s[2], s[3], s[4], s[5], C.int(p.Kernel), C.int(p.Stride), C.int(p.Pad), b.threads)
}

func (b *Backend) wideMaxPoolBackward(dx, dy, index op.Tensor, p op.PoolParams) {
	s := shapeOf(dx, dy)
	C.swav_wide_max_pool_backward(f64(dx), f64(dy), bytes(index), s[0], s[1], s[2], s[3], s[4], s[5], C.int(p.Kernel), C.int(p.Stride), C.int(p.Pad), b.threads)
}

func bytes(t op.Tensor) *C.uint8_t { return (*C.uint8_t)(unsafe.Pointer(hostmem.Ptr(t))) }
