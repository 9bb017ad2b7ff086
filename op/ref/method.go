package ref

import (
	"swav"
	"swav/dist"
	"swav/internal/hostmem"
	"swav/op"
	"swav/optim"
)

// Sinkhorn is swav.Sinkhorn.
func (b *Backend) Sinkhorn(codes, scores op.Tensor, p op.SinkhornParams, c dist.Comm) {
	op.CheckSinkhorn(codes, scores, p)
	b.Fail(swav.Sinkhorn(hostmem.Float32(codes), hostmem.Float32(scores), scores.Rows(), scores.Cols(),
		swav.SinkhornOptions{Epsilon: p.Epsilon, Iterations: p.Iterations, Tolerance: p.Tolerance, Hard: p.Hard}, c))
}

// SwapLoss is swav.Loss.
func (b *Backend) SwapLoss(loss, dscores, scores op.Tensor, codes []op.Tensor, p op.LossParams) {
	op.CheckSwapLoss(loss, dscores, scores, codes, p)
	views := make([][]float32, len(codes))
	for i, c := range codes {
		views[i] = hostmem.Float32(c)
	}
	hostmem.Float64(loss)[0] = swav.Loss(hostmem.Float32(scores), views, p.Views, p.Batch, scores.Cols(),
		p.Assign, p.Temperature, hostmem.Float32(dscores))
}

// ClusterLoss is swav.ClusterLoss.
func (b *Backend) ClusterLoss(loss, dscores, scores, labels op.Tensor, p op.ClusterLossParams) {
	op.CheckClusterLoss(loss, dscores, scores, labels, p)
	x := hostmem.Float32(labels)
	heads := make([][]int32, len(p.Heads))
	for h, n := range p.Heads {
		for _, l := range x[h*p.Batch:][:p.Batch] {
			if !(l < float32(n)) {
				b.Fail(op.LabelError(l, h, n))
				return
			}
			heads[h] = append(heads[h], int32(max(l, -1)))
		}
	}
	hostmem.Float64(loss)[0] = swav.ClusterLoss(hostmem.Float32(scores), heads, p.Views, p.Batch, p.Heads, p.Temperature, hostmem.Float32(dscores))
}

// LARC is optim.LARC, segment by segment.
func (b *Backend) LARC(w, m, g op.Tensor, segments []op.Segment, p op.LARCParams) {
	op.CheckOptimizer(w, m, m, g, segments)
	wv, mv, gv := hostmem.Float32(w), hostmem.Float32(m), hostmem.Float32(g)
	for _, s := range segments {
		from, to := s.Offset, s.Offset+s.Len
		optim.LARC{LR: p.LR, Momentum: p.Momentum, WeightDecay: s.WeightDecay, Trust: p.Trust, Eps: p.Eps,
			Clip: p.Clip, Adapt: s.Adapt}.Step(wv[from:to], mv[from:to], gv[from:to])
	}
}

// AdamW is optim.AdamW, segment by segment.
func (b *Backend) AdamW(w, m, v, g op.Tensor, segments []op.Segment, p op.AdamWParams) {
	op.CheckOptimizer(w, m, v, g, segments)
	wv, mv, vv, gv := hostmem.Float32(w), hostmem.Float32(m), hostmem.Float32(v), hostmem.Float32(g)
	for _, s := range segments {
		from, to := s.Offset, s.Offset+s.Len
		optim.AdamW{LR: p.LR, Beta1: p.Beta1, Beta2: p.Beta2, Eps: p.Eps, WeightDecay: s.WeightDecay}.
			Step(wv[from:to], mv[from:to], vv[from:to], gv[from:to], p.Step)
	}
}
