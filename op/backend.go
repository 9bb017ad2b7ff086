package op

import "swav/dist"

// Backend is one device as seen by one rank. Its methods are called by one
// goroutine, locked to its thread; they are not safe for concurrent use.
type Backend interface {
	Device
	Elementwise
	Convolutions
	BatchNorm
	Pooling
	Dense
	Method
	Optimizers
}

// Device is memory and order.
type Device interface {
	// Name is how users choose the backend: "ref", "cpu", "cuda".
	Name() string
	// Describe is one line for people: library versions, instruction set,
	// threads.
	Describe() string
	// Supports tells whether activations may have this type.
	Supports(DType) bool
	// Alloc returns zeroed memory, aligned for every operator. An error names
	// the size and what is available.
	Alloc(bytes int64) (Memory, error)
	// Free gives memory back; tensors in it must not be used any more.
	Free(Memory)
	// Write copies src into dst and converts it to dst's type. src may be
	// reused when Write returns.
	Write(dst Tensor, src []float32)
	// Read waits for all earlier operators, then copies and converts src.
	Read(dst []float32, src Tensor)
	// ReadFloat64 is Read for float64 tensors.
	ReadFloat64(dst []float64, src Tensor)
	// Sync waits for all operators so far and returns the first failure since
	// the last Sync.
	Sync() error
	// AllReduce replaces the elements of x (float32 or float64) by their sums
	// over all ranks. With one rank it does nothing.
	AllReduce(x Tensor, c dist.Comm)
	// StartAllReduce begins an AllReduce of x (float32) after the operators so far. Others
	// may run beside it, but none that uses x, until the handle's Wait returns, which tells
	// of a failure.
	StartAllReduce(x Tensor, c dist.Comm) dist.Handle
	// Close frees everything that the backend still holds.
	Close() error
}

// Peak is what a device does at most, measured: operations (a
// multiply-accumulate is two) and bytes per second. A rate is 0 where the device
// has no instruction for it.
type Peak struct {
	FP32, BF16 float64 // register-only multiply-accumulates
	Bandwidth  float64 // reads and writes of buffers far larger than the caches
}

// Peaker is implemented by devices that can measure their peak.
type Peaker interface {
	Peak() Peak
}

// Elementwise are the operators without shape.
type Elementwise interface {
	// Zero sets every byte to zero.
	Zero(dst Tensor)
	// Copy copies src to dst; same shape, any activation type on either side
	// (a cast where they differ). The memory must not overlap.
	Copy(dst, src Tensor)
	// Add computes dst = a + b, all of one activation type; dst may be a or b.
	Add(dst, a, b Tensor)
	// Scale multiplies x (float32) by s in place.
	Scale(x Tensor, s float64)
	// SumSquares writes the sum of squares of x (float32) to dst (float64, one
	// element).
	SumSquares(dst, x Tensor)
}

// ConvParams describes a square two-dimensional convolution without bias.
type ConvParams struct {
	Batch, Height, Width, In int   // input [Batch, Height, Width, In]
	Out                      int   // output channels
	Kernel, Stride, Pad      int   // square window, zero padding on all sides
	DType                    DType // of input and output; weights are float32
	Inference                bool  // only Forward will be called
	NoBackwardData           bool  // BackwardData will not be called (first layer)
	Direct                   bool  // sums of plain products: no fast algorithm that rounds transformed operands (Winograd)
	// Folded, with Inference, has SetFolded and ForwardFolded in the place of
	// SetWeights and Forward: a batch norm in evaluation mode is part of the
	// convolution, with a residual and a ReLU where they are set.
	Folded, Residual, ReLU bool
}

// OutHeight and OutWidth are the output's spatial size.
func (p ConvParams) OutHeight() int { return (p.Height+2*p.Pad-p.Kernel)/p.Stride + 1 }

// OutWidth is the output's width.
func (p ConvParams) OutWidth() int { return (p.Width+2*p.Pad-p.Kernel)/p.Stride + 1 }

// MACs is the number of multiply-accumulates of one forward pass.
func (p ConvParams) MACs() int64 {
	return int64(p.Batch) * int64(p.OutHeight()) * int64(p.OutWidth()) * int64(p.Out) * int64(p.In) * int64(p.Kernel) * int64(p.Kernel)
}

// Conv is a convolution compiled for fixed shapes. It may keep the weights in
// a layout of its own.
type Conv interface {
	// SetWeights takes new weights w, float32 [Out, In, Kernel, Kernel]. It must
	// be called before the first Forward and after every change of w; w itself
	// is not read by the other methods.
	SetWeights(w Tensor)
	// ShareWeights makes from, a convolution of the same backend and layer for
	// images of another number or size, serve both: from then on its SetWeights
	// takes the weights for both, which they keep once where they want the same
	// layout. It comes before any SetWeights; once from is closed, the other may
	// only be closed too.
	ShareWeights(from Conv)
	// Forward computes y [Batch, OutHeight, OutWidth, Out] from
	// x [Batch, Height, Width, In].
	Forward(y, x Tensor)
	// SetFolded takes new weights w and the batch norm behind them, float32 [Out]
	// each: outputs are scaled by gamma / sqrt(variance + eps) and shifted to
	// match.
	SetFolded(w, gamma, beta, mean, variance Tensor, eps float64)
	// ForwardFolded computes y from x as BatchNormApply does from Forward:
	// normalised, plus residual (shaped like y, and y may be it) where the
	// convolution has one, then max(0, ·) where it has a ReLU.
	ForwardFolded(y, x, residual Tensor)
	// BackwardData overwrites dx, shaped like x, with the gradient from dy,
	// shaped like y.
	BackwardData(dx, dy Tensor)
	// BackwardWeights adds the gradient to dw, float32 [Out, In, Kernel, Kernel].
	BackwardWeights(dw, x, dy Tensor)
	// Close frees what the convolution holds.
	Close()
}

// Convolutions compiles convolutions.
type Convolutions interface {
	// NewConv compiles a convolution. An error says which parameters the
	// backend cannot do.
	NewConv(ConvParams) (Conv, error)
}

// BatchNorm are the halves of batch normalisation (Ioffe and Szegedy, 2015),
// split where ranks meet (SyncBN): Sums | AllReduce | Moments, Apply, and
// BackwardSums | AllReduce | Backward. x, y, dy, dx are activations with C as
// last dimension and R rows in this rank; count is the rows of all ranks.
// Normalisation uses the biased variance, the running variance the unbiased
// one, as in PyTorch. Moments are float32, or float64 for float64 activations
// (DType.Statistics).
type BatchNorm interface {
	// BatchNormSums overwrites sums, float64 [2, C], with this rank's sums of x
	// and of x².
	BatchNormSums(sums, x Tensor)
	// BatchNormMoments turns the sums over all ranks into moments
	// [2, C]: mean and 1/sqrt(variance + eps). It also moves the running
	// statistics, float32 [C] each, by momentum toward them.
	BatchNormMoments(moments, runningMean, runningVar, sums Tensor, count int, eps, momentum float64)
	// BatchNormRunning fills moments from running statistics: evaluation mode.
	BatchNormRunning(moments, runningMean, runningVar Tensor, eps float64)
	// BatchNormApply computes y = gamma (x - mean) invstd + beta, plus residual
	// where present, then max(0, ·) where relu. gamma and beta are float32 [C].
	// y may be x or residual.
	BatchNormApply(y, x, moments, gamma, beta, residual Tensor, relu bool)
	// BatchNormBackwardSums overwrites sums, float64 [2, C], with this rank's
	// sums of g and of g xhat, where xhat = (x - mean) invstd and g = dy + dy2,
	// zero where relu and y <= 0. dy2 may be absent, y where relu is false. It
	// adds the same two sums to dbeta and dgamma, float32 [C].
	BatchNormBackwardSums(sums, dgamma, dbeta, dy, dy2, y, x, moments Tensor, relu bool)
	// BatchNormBackward computes
	// dx = gamma invstd (g - sum(g)/count - xhat sum(g xhat)/count) with the
	// sums over all ranks, and, where present, dresidual = g. dx and dresidual
	// may each be dy or dy2, not each other.
	BatchNormBackward(dx, dresidual, dy, dy2, y, x, moments, gamma, sums Tensor, count int, relu bool)
}

// PoolParams is a square pooling window.
type PoolParams struct {
	Kernel, Stride, Pad int
}

// Out is the pooled size of a side of length n.
func (p PoolParams) Out(n int) int { return (n+2*p.Pad-p.Kernel)/p.Stride + 1 }

// Pooling operators.
type Pooling interface {
	// MaxPool computes y, NHWC, from x, NHWC; padding never wins. Where present,
	// index, uint8 and shaped like y, keeps the winner's place in its window
	// (row*Kernel + column; the first of equals) for MaxPoolBackward.
	MaxPool(y, index, x Tensor, p PoolParams)
	// MaxPoolBackward overwrites dx with the gradient.
	MaxPoolBackward(dx, dy, index Tensor, p PoolParams)
	// AvgPool computes y, float32 [N, C], the mean over all places of x
	// [N, H, W, C].
	AvgPool(y, x Tensor)
	// AvgPoolBackward overwrites dx [N, H, W, C] from dy, float32 [N, C].
	AvgPoolBackward(dx, dy Tensor)
}

// Dense are the operators of the head, all float32.
type Dense interface {
	// Linear computes y [R, O] = x [R, I] wᵀ + b, with w [O, I] and b [O] or
	// absent. Prototype scores are a Linear without b.
	Linear(y, x, w, b Tensor)
	// LinearBackwardData overwrites dx [R, I] = dy [R, O] w.
	LinearBackwardData(dx, dy, w Tensor)
	// LinearBackwardWeights adds dyᵀ x to dw [O, I] and, where present, the
	// column sums of dy to db [O].
	LinearBackwardWeights(dw, db, x, dy Tensor)
	// L2Normalize computes y = x / max(|x|, 1e-12) for each row, and keeps the
	// divisor in norms [R].
	L2Normalize(y, norms, x Tensor)
	// L2NormalizeBackward overwrites dx = (dy - y (y·dy)) / norms.
	L2NormalizeBackward(dx, dy, y, norms Tensor)
	// NormalizeRows divides each row of w by its L2 norm in place; a zero row
	// stays zero.
	NormalizeRows(w Tensor)
}

// SinkhornParams are the parameters of the assignment (SwAV section 3.1,
// equations 3 to 5, and appendix A).
type SinkhornParams struct {
	Epsilon    float64 // > 0; entropy of the assignment, 0.05 in the paper
	Iterations int     // >= 1; 3 in the paper
	Tolerance  float64 // > 0: stop early at this marginal error; 0: never
	Hard       bool    // one-hot at the largest code
}

// LossParams are the parameters of the swapped prediction (SwAV equation 2,
// generalised to many crops in section 3.2).
type LossParams struct {
	Views       int     // crops of one image
	Batch       int     // images of this rank
	Assign      []int   // the crops whose codes the others predict
	Temperature float64 // > 0; 0.1 in the paper
}

// ClusterLossParams are the parameters of DeepCluster-v2's prediction.
type ClusterLossParams struct {
	Views       int     // crops of one image
	Batch       int     // images of this rank
	Heads       []int   // prototypes of each head, side by side in the scores' columns
	Temperature float64 // > 0; 0.1 in the original
}

// Method are the methods' operators; package swav is their definition. All
// float32.
type Method interface {
	// Sinkhorn overwrites codes [R, K] with the codes of scores [R, K], this
	// rank's rows of the assignment problem over all ranks.
	Sinkhorn(codes, scores Tensor, p SinkhornParams, c dist.Comm)
	// SwapLoss overwrites loss (float64, one element) with this rank's loss and
	// dscores [Views*Batch, K] with its gradient. scores are crop-major;
	// codes[i] [Batch, K] belongs to crop p.Assign[i] and is a constant.
	SwapLoss(loss, dscores, scores Tensor, codes []Tensor, p LossParams)
	// ClusterLoss overwrites loss (float64, one element) with this rank's loss
	// and dscores [Views*Batch, K] with its gradient. scores are crop-major, K is
	// the sum of p.Heads. labels [len(p.Heads), Batch] are whole numbers, each
	// image's cluster within the head, negative where it has none; one that the
	// head does not have is a failure.
	ClusterLoss(loss, dscores, scores, labels Tensor, p ClusterLossParams)
}

// Segment is one tensor of the flat parameter buffer as the optimizer sees it.
type Segment struct {
	Offset, Len int     // elements
	WeightDecay float64 // of this tensor
	Adapt       bool    // LARC only: scale this tensor's step by its trust ratio
}

// LARCParams are the hyperparameters of SGD with momentum and, where a segment
// adapts, layer-wise adaptive rate control (You et al. 2017, as in NVIDIA apex):
// unless |p| or |g| is zero, g becomes
// (g + decay p) trust |p| / (|g| + decay |p| + eps), with Clip at most LR in the
// factor's place; then m = momentum m + g, p -= LR m. A segment that does not
// adapt takes g + decay p.
type LARCParams struct {
	LR, Momentum, Trust, Eps float64
	Clip                     bool
}

// AdamWParams are the hyperparameters of AdamW (Loshchilov and Hutter, 2019).
// Step counts from 1.
type AdamWParams struct {
	LR, Beta1, Beta2, Eps float64
	Step                  int
}

// Optimizers update the flat parameter buffer in place. All tensors are
// float32 and shaped alike; only elements within the segments change, so a
// frozen tensor is one whose segment is left out.
type Optimizers interface {
	// LARC updates weights w and momentum m from gradients g.
	LARC(w, m, g Tensor, segments []Segment, p LARCParams)
	// AdamW updates weights w and the moments m and v from gradients g.
	AdamW(w, m, v, g Tensor, segments []Segment, p AdamWParams)
}
