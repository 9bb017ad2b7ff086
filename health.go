package swav

import (
	"math"

	"gonum.org/v1/gonum/mat"
)

// Health are the signs of a step that need no labels. They are measured on the
// samples at hand, one rank's batch or more; what a batch can show at most is
// said with each.
type Health struct {
	Prototypes int // K
	Dim        int // of the embeddings
	Samples    int

	Loss float64
	// LossRatio is Loss / ln K: 1 is chance, also the value of a network that
	// has collapsed. Healthy runs leave it within an epoch or two.
	LossRatio float64
	// Perplexity is the exponential of the entropy of the mean code, the number
	// of prototypes that the codes share out among: 1 to K. With sharp codes it
	// is at most about Samples.
	Perplexity float64
	// MarginalError is the sum over the prototypes of |mean code - 1/K|, 0 to 2:
	// how far Sinkhorn is from its constraint. Sharp codes of fewer than K
	// samples cannot reach 0.
	MarginalError float64
	// CodeEntropy is the mean over the samples of their code's entropy, 0 to
	// ln K: 0 for hard codes, ln K for codes that say nothing.
	CodeEntropy float64
	// UsedPrototypes is the number of prototypes that have the largest score of
	// some sample, 1 to min(K, Samples): Sinkhorn has no hand in it.
	UsedPrototypes int
	// EffectiveRank is the exponential of the entropy of the normalised
	// eigenvalues of the embeddings' covariance (Roy and Vetterli 2007), up to
	// min(Dim, Samples-1); 0 where all embeddings are alike.
	EffectiveRank float64
	// EmbeddingStd is the root of the mean variance of a coordinate: 1/sqrt(Dim)
	// for embeddings all around the sphere, 0 where all are alike.
	EmbeddingStd float64
}

// Spread is EmbeddingStd as a share of what unit vectors all around the sphere
// have: 0 to 1.
func (h Health) Spread() float64 { return h.EmbeddingStd * math.Sqrt(float64(h.Dim)) }

// Measure takes the signs of a step with this loss: codes and scores [samples,
// k] of the same samples, and their embeddings [samples, dim]. Embeddings that
// are not finite have effective rank and standard deviation 0.
func Measure(loss float64, codes, scores, embeddings []float32, samples, k, dim int) Health {
	checkMatrix("Measure", "codes", codes, samples, k)
	checkMatrix("Measure", "scores", scores, samples, k)
	checkMatrix("Measure", "embeddings", embeddings, samples, dim)
	h := Health{Prototypes: k, Dim: dim, Samples: samples, Loss: loss}
	if k > 1 {
		h.LossRatio = loss / math.Log(float64(k))
	}
	if samples == 0 {
		return h
	}
	mean := make([]float64, k)
	used := make([]bool, k)
	for i := range samples {
		best := 0
		for j, s := range scores[i*k:][:k] {
			if s > scores[i*k+best] {
				best = j
			}
		}
		if !used[best] {
			used[best] = true
			h.UsedPrototypes++
		}
		for j, q := range codes[i*k:][:k] {
			p := float64(q)
			mean[j] += p / float64(samples)
			h.CodeEntropy += plogp(p) / float64(samples)
		}
	}
	var entropy float64
	for _, p := range mean {
		entropy += plogp(p)
		h.MarginalError += math.Abs(p - 1/float64(k))
	}
	h.Perplexity = math.Exp(entropy)
	h.EffectiveRank, h.EmbeddingStd = spectrum(embeddings, samples, dim)
	return h
}

// plogp is a term of the entropy, -p ln p.
func plogp(p float64) float64 {
	if p <= 0 {
		return 0
	}
	return -p * math.Log(p)
}

// alike is the share of the embeddings' mean square below which their variance
// is rounding: float32 knows a coordinate to 6e-8 of its size.
const alike = 1e-12

// spectrum is the effective rank and the standard deviation of x [n, dim].
func spectrum(x []float32, n, dim int) (rank, std float64) {
	mean := make([]float64, dim)
	var square float64
	for i, v := range x {
		mean[i%dim] += float64(v) / float64(n)
		square += float64(v) * float64(v) / float64(n)
	}
	centred := mat.NewDense(n, dim, nil)
	var variance float64
	for i, v := range x {
		d := float64(v) - mean[i%dim]
		centred.Set(i/dim, i%dim, d)
		variance += d * d / float64(n)
	}
	// NaN fails the comparison too.
	if !(variance > alike*square) || math.IsInf(square, 1) {
		return 0, 0
	}
	std = math.Sqrt(variance / float64(dim))
	// The smaller of covariance and Gram matrix: both have the same eigenvalues
	// but for zeros.
	var m mat.SymDense
	if n < dim {
		m.SymOuterK(1/float64(n), centred)
	} else {
		m.SymOuterK(1/float64(n), centred.T())
	}
	var eigen mat.EigenSym
	if !eigen.Factorize(&m, false) {
		return 0, std
	}
	var entropy float64
	for _, e := range eigen.Values(nil) {
		entropy += plogp(e / variance)
	}
	return math.Exp(entropy), std
}
