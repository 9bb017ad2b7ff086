//go:build cgo

package cpu

// #include "call.h"
import "C"

import (
	"fmt"
	"math"
	"slices"
	"unsafe"

	"swav"
	"swav/dist"
	"swav/internal/hostmem"
	"swav/op"
)

// maxSpread bounds (largest - smallest score)/epsilon for Sinkhorn on plain
// exponentials in float32, whose smallest normal number is exp(-87): beyond it,
// small epsilons, package swav's iteration on logarithms takes over.
const maxSpread = 60

// Sinkhorn computes swav.Sinkhorn: exp(scores/epsilon) once, shifted by the
// largest score of all ranks, then one pass of products over it an iteration.
func (b *Backend) Sinkhorn(codes, scores op.Tensor, p op.SinkhornParams, c dist.Comm) {
	op.CheckSinkhorn(codes, scores, p)
	r, k := scores.Rows(), scores.Cols()
	C.k_range(b.k, f32(scores), C.int64_t(r*k), &b.ends[0], &b.ends[1])
	spread := b.pair[:]
	spread[0], spread[1] = float64(b.ends[1]), -float64(b.ends[0])
	if math.IsNaN(spread[0]) {
		spread[1] = math.Inf(1) // ranks must agree on the way they take
		spread[0] = math.Inf(1)
	}
	if err := c.AllReduce64(spread, dist.Max); err != nil {
		b.Fail(err)
		return
	}
	if p.Tolerance > 0 || !((spread[0]+spread[1])/p.Epsilon < maxSpread) {
		b.Fail(swav.Sinkhorn(hostmem.Float32(codes), hostmem.Float32(scores), r, k,
			swav.SinkhornOptions{Epsilon: p.Epsilon, Iterations: p.Iterations, Tolerance: p.Tolerance, Hard: p.Hard}, c))
		return
	}
	nt := int(b.threads)
	m := b.temp(int64(k)*int64(nt+1)*8 + int64(r*k+k)*4)
	if m == nil {
		return
	}
	sums := hostmem.Part[float64](m, 0, k*(nt+1)) // of the columns, then each thread's
	e := hostmem.Part[float32](m, int64(k)*int64(nt+1)*8, r*k+k)
	u := e[r*k:] // of the prototypes; those of the samples are made from it in passing
	sum, parts := (*C.double)(&sums[0]), (*C.double)(&sums[k])
	ep, up := slice32(e), slice32(u)
	rows, ks := C.int64_t(r), C.int64_t(k)
	C.k_exp_scores(b.k, ep, sum, parts, f32(scores), rows, ks, C.float(spread[0]), C.float(1/p.Epsilon), b.threads)
	for it := range p.Iterations {
		if it > 0 {
			C.k_weigh(b.k, sum, parts, ep, up, rows, ks, b.threads)
		}
		if err := c.AllReduce64(sums[:k], dist.Sum); err != nil {
			b.Fail(err)
			return
		}
		for j := range u {
			u[j] = float32(1 / sums[j])
		}
	}
	C.k_codes(b.k, f32(codes), ep, up, rows, ks, flag(p.Hard), b.threads)
}

// SwapLoss computes swav.Loss, a row of scores at a time.
func (b *Backend) SwapLoss(loss, dscores, scores op.Tensor, codes []op.Tensor, p op.LossParams) {
	op.CheckSwapLoss(loss, dscores, scores, codes, p)
	r, n := scores.Rows(), len(codes)
	m := b.temp(int64(r)*8 + int64(n)*16)
	if m == nil {
		return
	}
	rowLoss := hostmem.Part[float64](m, 0, r)
	base := unsafe.Pointer(&rowLoss[0])
	pointers := unsafe.Slice((**C.float)(unsafe.Add(base, r*8)), n)
	assign := unsafe.Slice((*C.int32_t)(unsafe.Add(base, r*8+n*8)), n)
	for i, c := range codes {
		pointers[i], assign[i] = f32(c), C.int32_t(p.Assign[i])
	}
	C.k_swap_loss(b.k, (*C.double)(&rowLoss[0]), f32(dscores), f32(scores), &pointers[0], &assign[0], C.int(n),
		C.int64_t(p.Views), C.int64_t(p.Batch), cols(scores), C.float(1/p.Temperature), b.threads)
	var sum float64
	for _, l := range rowLoss {
		sum += l
	}
	hostmem.Float64(loss)[0] = sum
}

// ClusterLoss computes swav.ClusterLoss, head by head and a row of scores at a
// time.
func (b *Backend) ClusterLoss(loss, dscores, scores, labels op.Tensor, p op.ClusterLossParams) {
	op.CheckClusterLoss(loss, dscores, scores, labels, p)
	r, x := scores.Rows(), hostmem.Float32(labels)
	m := b.temp(int64(r) * 8)
	if m == nil {
		return
	}
	rowLoss := hostmem.Part[float64](m, 0, r)
	var sum float64
	from := 0
	for h, k := range p.Heads {
		labelled := 0
		for _, l := range x[h*p.Batch:][:p.Batch] {
			if !(l < float32(k)) {
				b.Fail(op.LabelError(l, h, k))
				return
			}
			if l >= 0 {
				labelled++
			}
		}
		// Rows without a label are not weighed; a head without any has no other.
		weight := 1 / (float64(p.Views) * float64(max(1, labelled)) * float64(len(p.Heads)))
		C.k_cluster_loss(b.k, (*C.double)(&rowLoss[0]), slice32(hostmem.Float32(dscores)[from:]), slice32(hostmem.Float32(scores)[from:]),
			slice32(x[h*p.Batch:]), C.int64_t(r), C.int64_t(p.Batch), cols(scores), C.int64_t(k), C.float(weight), C.float(1/p.Temperature), b.threads)
		for _, l := range rowLoss {
			sum += l
		}
		from += k
	}
	hostmem.Float64(loss)[0] = sum
}

// blockLen is how many elements of one tensor an optimizer pass takes at once.
const blockLen = 1 << 14

// blocks are the segments of a parameter buffer cut into pieces of like size.
type blocks struct {
	of       []op.Segment // what they were made from
	segment  []int        // each block's segment
	offsets  []C.int64_t
	lens     []C.int64_t
	factors  []C.float
	decays   []C.float
	partials []C.double // two a block
}

// sameParts tells that two lists of segments cut the buffer alike.
func sameParts(a, b op.Segment) bool { return a.Offset == b.Offset && a.Len == b.Len }

// blocksOf keeps the cuts of the last few lists of segments: training knows one
// or two, with and without frozen prototypes.
func (b *Backend) blocksOf(segments []op.Segment) *blocks {
	for _, k := range b.blocks {
		if slices.EqualFunc(k.of, segments, sameParts) {
			return k
		}
	}
	k := &blocks{of: slices.Clone(segments)}
	for i, s := range segments {
		for at := 0; at < s.Len; at += blockLen {
			k.segment = append(k.segment, i)
			k.offsets = append(k.offsets, C.int64_t(s.Offset+at))
			k.lens = append(k.lens, C.int64_t(min(blockLen, s.Len-at)))
		}
	}
	k.factors = make([]C.float, len(k.segment))
	k.decays = make([]C.float, len(k.segment))
	k.partials = make([]C.double, 2*len(k.segment))
	b.blocks = append(b.blocks, k)
	if len(b.blocks) > 4 {
		b.blocks = slices.Delete(b.blocks, 0, 1)
	}
	return k
}

// LARC computes optim.LARC: norms of all segments in one pass, the update in
// another.
func (b *Backend) LARC(w, m, g op.Tensor, segments []op.Segment, p op.LARCParams) {
	op.CheckOptimizer(w, m, m, g, segments)
	k := b.blocksOf(segments)
	if len(k.segment) == 0 {
		return
	}
	n := C.int64_t(len(k.segment))
	C.k_block_norms(b.k, &k.partials[0], f32(w), f32(g), &k.offsets[0], &k.lens[0], n, b.threads)
	for i := 0; i < len(k.segment); {
		s := segments[k.segment[i]]
		end := i
		var ww, gg float64
		for end < len(k.segment) && k.segment[end] == k.segment[i] {
			ww += float64(k.partials[2*end])
			gg += float64(k.partials[2*end+1])
			end++
		}
		factor, decay := 1.0, s.WeightDecay
		if s.Adapt {
			wn, gn := math.Sqrt(ww), math.Sqrt(gg)
			if wn == 0 || gn == 0 {
				decay = 0
			} else {
				factor = p.Trust * wn / (gn + decay*wn + p.Eps)
				if p.Clip {
					factor = min(factor/p.LR, 1)
				}
			}
		}
		for ; i < end; i++ {
			k.factors[i], k.decays[i] = C.float(factor), C.float(decay)
		}
	}
	C.k_sgd(b.k, f32(w), f32(m), f32(g), &k.offsets[0], &k.lens[0], &k.factors[0], &k.decays[0], n, C.float(p.LR), C.float(p.Momentum), b.threads)
}

// AdamW computes optim.AdamW in one pass.
func (b *Backend) AdamW(w, m, v, g op.Tensor, segments []op.Segment, p op.AdamWParams) {
	op.CheckOptimizer(w, m, v, g, segments)
	if p.Step < 1 {
		panic(fmt.Sprintf("cpu: AdamW step %d: counts from 1", p.Step))
	}
	k := b.blocksOf(segments)
	if len(k.segment) == 0 {
		return
	}
	for i, s := range k.segment {
		k.decays[i] = C.float(segments[s].WeightDecay)
	}
	c1 := 1 / (1 - math.Pow(p.Beta1, float64(p.Step)))
	c2 := 1 / (1 - math.Pow(p.Beta2, float64(p.Step)))
	C.k_adamw(b.k, f32(w), f32(m), f32(v), f32(g), &k.offsets[0], &k.lens[0], &k.decays[0], C.int64_t(len(k.segment)),
		C.float(p.LR), C.float(p.Beta1), C.float(p.Beta2), C.float(1-p.Beta1), C.float(1-p.Beta2), C.float(p.Eps), C.float(c1), C.float(c2), b.threads)
}
