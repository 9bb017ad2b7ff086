package op

import (
	"fmt"
	"slices"
)

// The checks below stand at the head of a backend's operators: wrong shapes,
// types and sizes are mistakes of the caller and panic before any work. They
// allocate nothing where all is well.

func mistake(who, format string, args ...any) {
	panic("op: " + who + ": " + fmt.Sprintf(format, args...))
}

// Validate checks a convolution's parameters.
func (p ConvParams) Validate() error {
	switch {
	case p.Batch < 1 || p.Height < 1 || p.Width < 1 || p.In < 1 || p.Out < 1:
		return fmt.Errorf("convolution of input [%d %d %d %d] to %d channels: want sizes of at least 1", p.Batch, p.Height, p.Width, p.In, p.Out)
	case p.Kernel < 1 || p.Stride < 1 || p.Pad < 0 || p.Pad >= p.Kernel:
		return fmt.Errorf("convolution with kernel %d, stride %d, padding %d", p.Kernel, p.Stride, p.Pad)
	case p.Height+2*p.Pad < p.Kernel || p.Width+2*p.Pad < p.Kernel:
		return fmt.Errorf("convolution with kernel %d does not fit into %dx%d pixels with padding %d", p.Kernel, p.Height, p.Width, p.Pad)
	case p.Folded && !p.Inference, (p.Residual || p.ReLU) && !p.Folded:
		return fmt.Errorf("convolution folded %v, residual %v, ReLU %v, inference %v: the first takes the last, the others take the first", p.Folded, p.Residual, p.ReLU, p.Inference)
	case !activation(p.DType):
		return fmt.Errorf("convolution in %v: want fp32, bf16 or fp64", p.DType)
	}
	return nil
}

// CheckHost checks a transfer of n elements to or from the host.
func CheckHost(who string, t Tensor, n int) {
	if !t.Present() || t.Elems() != n {
		mistake(who, "%d elements for tensor %v", n, t)
	}
}

// CheckFloat32 checks a float32 operand.
func CheckFloat32(who string, x Tensor) {
	if !x.Present() || x.DType != Float32 {
		mistake(who, "x is %v, want fp32", x)
	}
}

func activation(d DType) bool { return d == Float32 || d == BFloat16 || d == Float64 }

// statistics tells whether moments may be those [2, C] of activations of type d.
func statistics(moments Tensor, d DType, c int) bool { return is(moments, d.Statistics(), 2*c) }

// is tells whether t is present and of type d with n elements.
func is(t Tensor, d DType, n int) bool { return t.Present() && t.DType == d && t.Elems() == n }

// matrix tells whether t is present with rows and columns.
func matrix(t Tensor) bool { return t.Present() && len(t.Shape) > 0 }

// like tells whether a is an activation of b's type and shape.
func like(a, b Tensor) bool {
	return matrix(a) && matrix(b) && a.DType == b.DType && activation(a.DType) && slices.Equal(a.Shape, b.Shape)
}

func shaped(t Tensor, n, h, w, c int) bool {
	return t.Present() && len(t.Shape) == 4 && t.Shape[0] == n && t.Shape[1] == h && t.Shape[2] == w && t.Shape[3] == c
}

// CheckCopy checks Copy.
func CheckCopy(dst, src Tensor) {
	if !dst.Present() || !src.Present() || !slices.Equal(dst.Shape, src.Shape) || !activation(dst.DType) || !activation(src.DType) {
		mistake("copy", "dst %v, src %v", dst, src)
	}
}

// CheckAdd checks Add.
func CheckAdd(dst, a, b Tensor) {
	if !like(a, b) || !like(dst, a) {
		mistake("add", "dst %v, a %v, b %v", dst, a, b)
	}
}

// CheckSumSquares checks SumSquares.
func CheckSumSquares(dst, x Tensor) {
	if !is(dst, Float64, 1) || !x.Present() || x.DType != Float32 {
		mistake("sum of squares", "dst %v, x %v", dst, x)
	}
}

// CheckConvWeights checks a convolution's weights or their gradient.
func CheckConvWeights(p ConvParams, w Tensor) {
	if w.DType != Float32 || !shaped(w, p.Out, p.In, p.Kernel, p.Kernel) {
		mistake("convolution", "weights %v, want fp32 [%d %d %d %d]", w, p.Out, p.In, p.Kernel, p.Kernel)
	}
}

// CheckConv checks a convolution's input x and output y, or their gradients.
func CheckConv(p ConvParams, who string, x, y Tensor) {
	if x.DType != p.DType || !shaped(x, p.Batch, p.Height, p.Width, p.In) {
		mistake("convolution "+who, "input %v, want %v [%d %d %d %d]", x, p.DType, p.Batch, p.Height, p.Width, p.In)
	}
	if y.DType != p.DType || !shaped(y, p.Batch, p.OutHeight(), p.OutWidth(), p.Out) {
		mistake("convolution "+who, "output %v, want %v [%d %d %d %d]", y, p.DType, p.Batch, p.OutHeight(), p.OutWidth(), p.Out)
	}
}

// CheckFolded checks the batch norm that is folded into a convolution.
func CheckFolded(p ConvParams, w, gamma, beta, mean, variance Tensor) {
	CheckConvWeights(p, w)
	if !p.Folded || !is(gamma, Float32, p.Out) || !is(beta, Float32, p.Out) || !is(mean, Float32, p.Out) || !is(variance, Float32, p.Out) {
		mistake("convolution", "folded %v, gamma %v, beta %v, mean %v, variance %v, want fp32 [%d]", p.Folded, gamma, beta, mean, variance, p.Out)
	}
}

// CheckForwardFolded checks the operands of a folded convolution.
func CheckForwardFolded(p ConvParams, y, x, residual Tensor) {
	CheckConv(p, "forward", x, y)
	if !p.Folded || p.Residual != residual.Present() || p.Residual && !like(residual, y) {
		mistake("convolution forward", "folded %v, with residual %v: residual %v, output %v", p.Folded, p.Residual, residual, y)
	}
}

// CheckForward checks the operands of an ordinary convolution.
func CheckForward(p ConvParams, y, x Tensor) {
	CheckConv(p, "forward", x, y)
	if p.Folded {
		mistake("convolution forward", "compiled with a batch norm: want ForwardFolded")
	}
}

// CheckSums checks the float64 sums [2, C] of activations x.
func CheckSums(sums, x Tensor) {
	if !matrix(x) || !activation(x.DType) || !is(sums, Float64, 2*x.Cols()) {
		mistake("batch norm sums", "sums %v, x %v", sums, x)
	}
}

// CheckMoments checks moments [2, C] and running statistics [C].
func CheckMoments(moments, runningMean, runningVar Tensor) {
	c := runningMean.Elems()
	if !statistics(moments, moments.DType, c) || !is(runningMean, Float32, c) || !is(runningVar, Float32, c) {
		mistake("batch norm moments", "moments %v, running mean %v and variance %v", moments, runningMean, runningVar)
	}
}

// CheckTotals checks the sums [2, C] over count rows of all ranks that moments
// are made of.
func CheckTotals(sums, moments Tensor, count int) {
	if !is(moments, moments.DType.Statistics(), sums.Elems()) || !is(sums, Float64, moments.Elems()) || count < 1 {
		mistake("batch norm moments", "sums %v of %d rows, moments %v", sums, count, moments)
	}
}

// CheckNormApply checks BatchNormApply.
func CheckNormApply(y, x, moments, gamma, beta, residual Tensor) {
	if !like(y, x) || residual.Present() && !like(residual, x) ||
		!statistics(moments, x.DType, x.Cols()) || !is(gamma, Float32, x.Cols()) || !is(beta, Float32, x.Cols()) {
		mistake("batch norm", "y %v, x %v, residual %v, moments %v, gamma %v, beta %v", y, x, residual, moments, gamma, beta)
	}
}

// CheckNormBackward checks the operands that both halves of the backward pass
// share.
func CheckNormBackward(x, dy, dy2, y, moments, sums Tensor, relu bool) {
	if !like(dy, x) || dy2.Present() && !like(dy2, x) || relu && !like(y, x) ||
		!statistics(moments, x.DType, x.Cols()) || !is(sums, Float64, 2*x.Cols()) {
		mistake("batch norm backward", "x %v, dy %v, dy2 %v, y %v, moments %v, sums %v", x, dy, dy2, y, moments, sums)
	}
}

// CheckNormParamGrads checks where BatchNormBackwardSums adds its sums.
func CheckNormParamGrads(dgamma, dbeta, x Tensor) {
	if !matrix(x) || !activation(x.DType) || !is(dgamma, Float32, x.Cols()) || !is(dbeta, Float32, x.Cols()) {
		mistake("batch norm backward sums", "dgamma %v, dbeta %v, x %v", dgamma, dbeta, x)
	}
}

// CheckNormInputGrads checks what BatchNormBackward adds to the shared operands.
func CheckNormInputGrads(dx, dresidual, x, gamma Tensor, count int) {
	if !like(dx, x) || dresidual.Present() && !like(dresidual, x) || !is(gamma, Float32, x.Cols()) || count < 1 {
		mistake("batch norm backward", "dx %v, dresidual %v, x %v, gamma %v, %d rows", dx, dresidual, x, gamma, count)
	}
}

// CheckMaxPool checks MaxPool.
func CheckMaxPool(y, index, x Tensor, p PoolParams) {
	if p.Kernel < 1 || p.Kernel > 16 || p.Stride < 1 || p.Pad < 0 || p.Pad >= p.Kernel ||
		len(x.Shape) != 4 || y.DType != x.DType || !activation(x.DType) || !x.Present() ||
		x.Shape[1]+2*p.Pad < p.Kernel || x.Shape[2]+2*p.Pad < p.Kernel ||
		!shaped(y, x.Shape[0], p.Out(x.Shape[1]), p.Out(x.Shape[2]), x.Shape[3]) ||
		index.Present() && (index.DType != Uint8 || !slices.Equal(index.Shape, y.Shape)) {
		mistake("max pooling", "y %v, index %v, x %v, %+v", y, index, x, p)
	}
}

// CheckMaxPoolBackward checks MaxPoolBackward, which needs the index.
func CheckMaxPoolBackward(dx, dy, index Tensor, p PoolParams) {
	CheckMaxPool(dy, index, dx, p)
	if !index.Present() {
		mistake("max pooling backward", "dx %v, dy %v, index %v", dx, dy, index)
	}
}

// CheckAvgPool checks AvgPool and, with gradients in their places,
// AvgPoolBackward.
func CheckAvgPool(y, x Tensor) {
	if len(x.Shape) != 4 || !x.Present() || !activation(x.DType) || !is(y, Float32, x.Shape[0]*x.Shape[3]) {
		mistake("average pooling", "y %v, x %v", y, x)
	}
}

// CheckLinear checks a product y = x wᵀ + b, or its gradients.
func CheckLinear(y, x, w, b Tensor) {
	if !matrix(y) || !matrix(x) || !matrix(w) || y.DType != Float32 || x.DType != Float32 || w.DType != Float32 ||
		y.Rows() != x.Rows() || w.Rows() != y.Cols() || w.Cols() != x.Cols() ||
		b.Present() && !is(b, Float32, y.Cols()) {
		mistake("linear", "y %v, x %v, w %v, b %v", y, x, w, b)
	}
}

// CheckNormalize checks L2Normalize and L2NormalizeBackward: two matrices like
// y, and a norm for each row.
func CheckNormalize(y, norms, a, b Tensor) {
	if !like(a, y) || !like(b, y) || y.DType != Float32 || !is(norms, Float32, y.Rows()) {
		mistake("normalize", "y %v, norms %v, operands %v and %v", y, norms, a, b)
	}
}

// CheckSinkhorn checks Sinkhorn.
func CheckSinkhorn(codes, scores Tensor, p SinkhornParams) {
	if !like(codes, scores) || codes.DType != Float32 {
		mistake("sinkhorn", "codes %v, scores %v", codes, scores)
	}
	if !(p.Epsilon > 0) || p.Iterations < 1 {
		mistake("sinkhorn", "%+v", p)
	}
}

// CheckSwapLoss checks SwapLoss.
func CheckSwapLoss(loss, dscores, scores Tensor, codes []Tensor, p LossParams) {
	if !is(loss, Float64, 1) || !like(dscores, scores) || scores.DType != Float32 || scores.Rows() != p.Views*p.Batch {
		mistake("swapped prediction", "loss %v, dscores %v, scores %v, %+v", loss, dscores, scores, p)
	}
	if p.Views < 2 || len(p.Assign) == 0 || len(codes) != len(p.Assign) || !(p.Temperature > 0) {
		mistake("swapped prediction", "%d codes, %+v", len(codes), p)
	}
	for i, c := range codes {
		if !matrix(c) || c.DType != Float32 || c.Rows() != p.Batch || c.Cols() != scores.Cols() || p.Assign[i] < 0 || p.Assign[i] >= p.Views {
			mistake("swapped prediction", "codes %v of crop %d, scores %v", c, p.Assign[i], scores)
		}
	}
}

// CheckClusterLoss checks ClusterLoss but for the labels' values.
func CheckClusterLoss(loss, dscores, scores, labels Tensor, p ClusterLossParams) {
	if !is(loss, Float64, 1) || !like(dscores, scores) || scores.DType != Float32 || scores.Rows() != p.Views*p.Batch ||
		!matrix(labels) || labels.DType != Float32 || labels.Rows() != len(p.Heads) || labels.Cols() != p.Batch {
		mistake("prediction of clusters", "loss %v, dscores %v, scores %v, labels %v, %+v", loss, dscores, scores, labels, p)
	}
	k := 0
	for _, n := range p.Heads {
		if n < 1 {
			mistake("prediction of clusters", "scores %v, %+v", scores, p)
		}
		k += n
	}
	if p.Views < 1 || k != scores.Cols() || !(p.Temperature > 0) {
		mistake("prediction of clusters", "scores %v, %+v", scores, p)
	}
}

// LabelError is what ClusterLoss fails with: a label that head h of k clusters
// does not have.
func LabelError(label float32, h, k int) error {
	return fmt.Errorf("op: prediction of clusters: label %v in head %d, whose clusters are 0 to %d", label, h, k-1)
}

// CheckOptimizer checks the flat buffers and segments of an optimizer.
func CheckOptimizer(w, m, v, g Tensor, segments []Segment) {
	n := w.Elems()
	for _, t := range [...]Tensor{w, m, v, g} {
		if !is(t, Float32, n) {
			mistake("optimizer", "weights %v, first moment %v, second moment %v, gradients %v", w, m, v, g)
		}
	}
	for _, s := range segments {
		if s.Offset < 0 || s.Len < 0 || s.Offset > n || s.Len > n-s.Offset {
			mistake("optimizer", "segment %+v of %d elements", s, n)
		}
	}
}
