//go:build cgo

package cpu

// #include "winograd.h"
import "C"

import (
	"fmt"
	"unsafe"

	"swav/internal/hostmem"
	"swav/op"
)

// winogradConv is a 3x3 convolution by Winograd's method (winograd.h), in all
// directions.
type winogradConv struct {
	b             *Backend
	p             op.ConvParams
	k             *C.swav_winograd
	g, back       C.swav_geometry // of forward and of backward data
	weights       packing         // transformed
	followers     followers
	folded        foldedWeights
	forwardSize   int64 // of scratch memory
	backwardSize  int64
	gradientBytes int64
}

// winograd returns the kernels for a convolution, nil where a direct one is
// faster or wanted. The choice hangs on shapes and on the processor only, so that
// a resumed run computes the same bits.
func (b *Backend) winograd(p op.ConvParams) *C.swav_winograd {
	const fewest = 32 // channels; with less, transforms cost more than they save
	if p.Direct || p.Kernel != 3 || p.Stride != 1 || p.Pad != 1 || p.In%16 != 0 || p.Out%16 != 0 || p.In < fewest || p.Out < fewest || !b.vectors512(p.DType) {
		return nil
	}
	tile := 2
	if p.DType == op.Float32 && winogradProducts(p, 4) < winogradProducts(p, 2) {
		tile = 4
	}
	direct := float64(9 * p.OutHeight() * p.OutWidth())
	if direct < 1.2*winogradProducts(p, tile) {
		return nil
	}
	return C.swav_choose_winograd(flag(p.DType == op.BFloat16), C.int(tile))
}

// winogradProducts counts products for one image and one pair of channels.
func winogradProducts(p op.ConvParams, tile int) float64 {
	up := func(n int) int { return (n + tile - 1) / tile }
	return float64(up(p.OutHeight()) * up(p.OutWidth()) * (tile + 2) * (tile + 2))
}

func newWinogradConv(b *Backend, p op.ConvParams, k *C.swav_winograd) (op.Conv, error) {
	c := &winogradConv{b: b, p: p, k: k, g: geometry(p)}
	c.back = C.swav_geometry{
		batch: c.g.batch, height: c.g.out_height, width: c.g.out_width, in: c.g.out, out: c.g.in,
		out_height: c.g.height, out_width: c.g.width, kernel: 3, stride: 1, pad: 2 - c.g.pad,
	}
	var err error
	var back int64
	if !p.Inference && !p.NoBackwardData {
		back = int64(C.winograd_weights_size(k, &c.back))
		c.backwardSize = int64(C.winograd_forward_scratch(k, &c.back, b.threads))
	}
	c.weights, err = newPacking(int64(C.winograd_weights_size(k, &c.g)), back)
	c.forwardSize = int64(C.winograd_forward_scratch(k, &c.g, b.threads))
	c.gradientBytes = int64(C.winograd_gradient_scratch(k, &c.g))
	if err == nil && p.Folded {
		c.folded, err = newFoldedWeights(p)
	}
	if err != nil {
		c.Close()
		return nil, fmt.Errorf("cpu: weights of a convolution of %d to %d channels: %w", p.In, p.Out, err)
	}
	return c, nil
}

// Close frees the convolution.
func (c *winogradConv) Close() {
	c.weights.free()
	c.folded.free()
}

// ShareWeights takes from's transformed weights, or follows it.
func (c *winogradConv) ShareWeights(from op.Conv) {
	if f, ok := from.(*winogradConv); ok && f.k == c.k && (f.weights.back == nil) == (c.weights.back == nil) {
		c.weights.borrow(f.weights)
		return
	}
	follow(c, from)
}

func address(m *hostmem.Memory) unsafe.Pointer { return unsafe.Pointer(whole(m)) }

// SetWeights transforms the weights for the forward pass and for the gradient
// of the input.
func (c *winogradConv) SetWeights(w op.Tensor) {
	op.CheckConvWeights(c.p, w)
	c.transform(f32(w))
	c.followers.setWeights(w)
}

func (c *winogradConv) transform(w *C.float) {
	C.winograd_weights(c.k, address(c.weights.forward), w, &c.g, 0, c.b.threads)
	if c.weights.back != nil {
		C.winograd_weights(c.k, address(c.weights.back), w, &c.back, 1, c.b.threads)
	}
}

// SetFolded scales the weights by the batch norm behind them and transforms them.
func (c *winogradConv) SetFolded(w, gamma, beta, mean, variance op.Tensor, eps float64) {
	op.CheckFolded(c.p, w, gamma, beta, mean, variance)
	c.transform(slice32(c.folded.set(c.p, w, gamma, beta, mean, variance, eps)))
}

func (c *winogradConv) run(y, x op.Tensor, u *hostmem.Memory, after C.swav_winograd_after, g *C.swav_geometry, scratch int64) {
	if m := c.b.temp(scratch); m != nil {
		C.winograd_forward(c.k, ptr(y), ptr(x), address(u), after, address(m), g, c.b.threads)
	}
}

// Forward computes y from x.
func (c *winogradConv) Forward(y, x op.Tensor) {
	op.CheckForward(c.p, y, x)
	c.run(y, x, c.weights.forward, C.swav_winograd_after{}, &c.g, c.forwardSize)
}

// ForwardFolded computes y from x, with everything behind the convolution in
// the same pass. The kernel adds the residual that it finds in y.
func (c *winogradConv) ForwardFolded(y, x, residual op.Tensor) {
	op.CheckForwardFolded(c.p, y, x, residual)
	if residual.Present() && ptr(residual) != ptr(y) {
		c.b.Copy(y, residual)
	}
	after := C.swav_winograd_after{bias: slice32(c.folded.shifts(c.p)), residual: flag(c.p.Residual), relu: flag(c.p.ReLU)}
	c.run(y, x, c.weights.forward, after, &c.g, c.forwardSize)
}

// BackwardData computes dx from dy.
func (c *winogradConv) BackwardData(dx, dy op.Tensor) {
	op.CheckConv(c.p, "backward data", dx, dy)
	if c.weights.back == nil {
		panic("cpu: backward data of a convolution compiled without it")
	}
	c.run(dx, dy, c.weights.back, C.swav_winograd_after{}, &c.back, c.backwardSize)
}

// BackwardWeights adds the gradient to dw.
func (c *winogradConv) BackwardWeights(dw, x, dy op.Tensor) {
	op.CheckConv(c.p, "backward weights", x, dy)
	op.CheckConvWeights(c.p, dw)
	if c.p.Inference {
		panic("cpu: backward weights of a convolution compiled for inference")
	}
	if m := c.b.temp(c.gradientBytes); m != nil {
		C.winograd_gradient(c.k, f32(dw), ptr(x), ptr(dy), address(m), &c.g, c.b.threads)
	}
}
