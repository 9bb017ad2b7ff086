//go:build cgo

package cpu

// #include "conv.h"
// #include "wgrad.h"
import "C"

import (
	"fmt"
	"strings"
	"unsafe"

	"swav/op"
)

// conv is a convolution compiled by oneDNN. Where the library has no fast code
// for bfloat16 of these shapes, it computes in float32 between casts.
type conv struct {
	b           *Backend
	p           op.ConvParams
	g           C.swav_geometry
	c           *C.swav_conv
	impl        string // the library's names, forward|data|weights
	cast        bool   // computes in float32 although activations are bfloat16
	followers   followers
	folded      foldedWeights
	ownGradient bool // of the weights; oneDNN's otherwise
}

// NewConv compiles a convolution.
func (b *Backend) NewConv(p op.ConvParams) (op.Conv, error) {
	if err := p.Validate(); err != nil {
		return nil, fmt.Errorf("cpu: %w", err)
	}
	if p.DType == op.Float64 {
		return newWideConv(b, p)
	}
	if k := b.winograd(p); k != nil {
		return newWinogradConv(b, p, k)
	}
	c := &conv{b: b, p: p, g: geometry(p)}
	if b.ownGradient(p) {
		c.ownGradient = true
	}
	err := c.compile(p.DType == op.BFloat16)
	if p.DType == op.BFloat16 && (err != nil || slow(c.impl)) {
		c.Close()
		c.cast = true
		err = c.compile(false)
	}
	if err != nil {
		c.Close()
		return nil, fmt.Errorf("cpu: convolution %dx%d, stride %d, %d to %d channels, input [%d %d %d]: %w",
			p.Kernel, p.Kernel, p.Stride, p.In, p.Out, p.Batch, p.Height, p.Width, err)
	}
	if p.Folded {
		if c.folded, err = newFoldedWeights(p); err != nil {
			c.Close()
			return nil, fmt.Errorf("cpu: weights of a convolution of %d to %d channels: %w", p.In, p.Out, err)
		}
	}
	return c, nil
}

// ownGradient tells whether our kernel computes the gradient of the weights:
// where the processor has the instructions and where it measured faster than
// oneDNN's (bench/notes.md): products (1x1), strided windows, and images of a few
// pixels. With AMX, oneDNN's has several times the products of bfloat16. The choice
// depends on shapes and the processor only, so that a resumed run computes the same bits.
func (b *Backend) ownGradient(p op.ConvParams) bool {
	faster := p.Kernel == 1 || p.Stride > 1 || p.OutHeight()*p.OutWidth() < 16
	return faster && !(b.tiles && p.DType == op.BFloat16) && !p.Inference && p.In >= 16 && p.Out >= 16 && b.vectors512(p.DType)
}

// vectors512 tells whether kernels of 512 bits are wanted for a type, and the
// processor has them: its table of kernels could be chosen.
func (b *Backend) vectors512(d op.DType) bool { return b.wide512 && (b.dot || d != op.BFloat16) }

func geometry(p op.ConvParams) C.swav_geometry {
	return C.swav_geometry{
		batch: C.int64_t(p.Batch), height: C.int64_t(p.Height), width: C.int64_t(p.Width), in: C.int64_t(p.In), out: C.int64_t(p.Out),
		out_height: C.int64_t(p.OutHeight()), out_width: C.int64_t(p.OutWidth()),
		kernel: C.int64_t(p.Kernel), stride: C.int64_t(p.Stride), pad: C.int64_t(p.Pad),
	}
}

func flag(b bool) C.int {
	if b {
		return 1
	}
	return 0
}

// slow tells that one of the implementations is the library's plain loops.
func slow(impl string) bool {
	for name := range strings.SplitSeq(impl, "|") {
		if strings.Contains(name, "ref") {
			return true
		}
	}
	return false
}

func (c *conv) compile(bf16 bool) error {
	p := c.p
	params := C.swav_conv_params{
		g: c.g, bf16: flag(bf16), inference: flag(p.Inference), no_data: flag(p.NoBackwardData), no_weights: flag(c.ownGradient),
		bias: flag(p.Folded), residual: flag(p.Residual), relu: flag(p.ReLU),
	}
	var impl [256]C.char
	status := C.swav_conv_create(&c.c, c.b.dnn, &params, &impl[0], C.size_t(len(impl)))
	c.impl = C.GoString(&impl[0])
	if status != 0 {
		return dnnError(status)
	}
	return nil
}

// Close frees the convolution.
func (c *conv) Close() {
	C.swav_conv_destroy(c.c)
	c.c = nil
	c.folded.free()
}

func (c *conv) check(what string, status C.int) {
	if status != 0 {
		c.b.Fail(fmt.Errorf("cpu: convolution %s of %+v: %w", what, c.p, dnnError(status)))
	}
}

// SetWeights packs the weights for the forward pass and for the gradient of
// the input.
func (c *conv) SetWeights(w op.Tensor) {
	op.CheckConvWeights(c.p, w)
	c.check("weights", C.swav_conv_weights(c.c, f32(w)))
	c.followers.setWeights(w)
}

// ShareWeights takes from's packed weights where the library wants them in the
// same layout, or follows it.
func (c *conv) ShareWeights(from op.Conv) {
	if f, ok := from.(*conv); !ok || C.swav_conv_share(c.c, f.c) == 0 {
		follow(c, from)
	}
}

// followers are convolutions that get their weights when another one does.
type followers []op.Conv

func (f followers) setWeights(w op.Tensor) {
	for _, c := range f {
		c.SetWeights(w)
	}
}

func follow(c, from op.Conv) {
	switch f := from.(type) {
	case *conv:
		f.followers = append(f.followers, c)
	case *winogradConv:
		f.followers = append(f.followers, c)
	default:
		panic(fmt.Sprintf("cpu: a convolution cannot have its weights from a %T", from))
	}
}

// SetFolded scales the weights by the batch norm behind them and packs them.
func (c *conv) SetFolded(w, gamma, beta, mean, variance op.Tensor, eps float64) {
	op.CheckFolded(c.p, w, gamma, beta, mean, variance)
	c.check("weights", C.swav_conv_weights(c.c, slice32(c.folded.set(c.p, w, gamma, beta, mean, variance, eps))))
}

// ForwardFolded computes y from x, with everything behind the convolution in
// the same pass. The library adds the residual that it finds in y.
func (c *conv) ForwardFolded(y, x, residual op.Tensor) {
	op.CheckForwardFolded(c.p, y, x, residual)
	if residual.Present() && ptr(residual) != ptr(y) {
		c.b.Copy(y, residual)
	}
	bias := slice32(c.folded.shifts(c.p))
	if !c.cast {
		c.check("forward", C.swav_conv_forward_bias(c.c, ptr(y), ptr(x), bias))
		return
	}
	wx, wy := c.inFloat32(x, y, true, c.p.Residual)
	c.check("forward", C.swav_conv_forward_bias(c.c, ptr(wy), ptr(wx), bias))
	c.b.Copy(y, wy)
}

// inFloat32 returns float32 places for the given activations in scratch memory,
// with the contents of those that are read.
func (c *conv) inFloat32(x, y op.Tensor, readX, readY bool) (wx, wy op.Tensor) {
	m := c.b.temp(2 * (x.Bytes() + y.Bytes()))
	if m == nil {
		return x, y
	}
	wx = op.Tensor{Mem: m, Shape: x.Shape}
	wy = op.Tensor{Mem: m, Offset: 2 * x.Bytes(), Shape: y.Shape}
	if readX {
		c.b.Copy(wx, x)
	}
	if readY {
		c.b.Copy(wy, y)
	}
	return wx, wy
}

// Forward computes y from x.
func (c *conv) Forward(y, x op.Tensor) {
	op.CheckForward(c.p, y, x)
	if !c.cast {
		c.check("forward", C.swav_conv_forward(c.c, ptr(y), ptr(x)))
		return
	}
	wx, wy := c.inFloat32(x, y, true, false)
	c.check("forward", C.swav_conv_forward(c.c, ptr(wy), ptr(wx)))
	c.b.Copy(y, wy)
}

// BackwardData computes dx from dy.
func (c *conv) BackwardData(dx, dy op.Tensor) {
	op.CheckConv(c.p, "backward data", dx, dy)
	if c.p.Inference || c.p.NoBackwardData {
		panic("cpu: backward data of a convolution compiled without it")
	}
	if !c.cast {
		c.check("backward data", C.swav_conv_backward_data(c.c, ptr(dx), ptr(dy)))
		return
	}
	wx, wy := c.inFloat32(dx, dy, false, true)
	c.check("backward data", C.swav_conv_backward_data(c.c, ptr(wx), ptr(wy)))
	c.b.Copy(dx, wx)
}

// BackwardWeights adds the gradient to dw.
func (c *conv) BackwardWeights(dw, x, dy op.Tensor) {
	op.CheckConv(c.p, "backward weights", x, dy)
	op.CheckConvWeights(c.p, dw)
	if c.p.Inference {
		panic("cpu: backward weights of a convolution compiled for inference")
	}
	if c.ownGradient {
		if m := c.b.temp(int64(C.swav_wgrad_scratch(&c.g, c.b.threads))); m != nil {
			C.swav_wgrad(f32(dw), ptr(x), ptr(dy), address(m), &c.g, bf16(x), c.b.threads)
		}
		return
	}
	if c.cast {
		x, dy = c.inFloat32(x, dy, true, true)
	}
	c.check("backward weights", C.swav_conv_backward_weights(c.c, f32(dw), ptr(x), ptr(dy)))
}

// gemm computes c = a b + beta c; ta and tb transpose, leading dimensions are
// the operands' own columns.
func (b *Backend) gemm(ta, tb bool, m, n, k int, a, bb unsafe.Pointer, lda, ldb int, beta float32, c unsafe.Pointer, ldc int) {
	status := C.swav_gemm(flag(ta), flag(tb), C.int64_t(m), C.int64_t(n), C.int64_t(k), (*C.float)(a), C.int64_t(lda),
		(*C.float)(bb), C.int64_t(ldb), C.float(beta), (*C.float)(c), C.int64_t(ldc))
	if status != 0 {
		b.Fail(fmt.Errorf("cpu: product of %dx%d and %dx%d: %w", m, k, k, n, dnnError(status)))
	}
}
