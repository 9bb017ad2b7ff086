package swav

import (
	"math"
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"
)

func near(t *testing.T, name string, got, want, tolerance float64) {
	t.Helper()
	if !(math.Abs(got-want) <= tolerance) {
		t.Errorf("%s is %v, want %v", name, got, want)
	}
}

// Two samples, four prototypes: one code is sharp, one is halved.
func TestMeasureByHand(t *testing.T) {
	codes := []float32{1, 0, 0, 0 /**/, 0, 0.5, 0.5, 0}
	scores := []float32{0.1, 0.9, 0, 0 /**/, 0, 0.8, 0.2, 0.3} // both prefer prototype 1
	embeddings := []float32{1, 0, 0 /**/, 0, 1, 0}
	h := Measure(math.Log(2), codes, scores, embeddings, 2, 4, 3)
	near(t, "loss ratio", h.LossRatio, 0.5, 1e-12)
	near(t, "perplexity", h.Perplexity, math.Exp(0.5*math.Log(2)+2*0.25*math.Log(4)), 1e-12)
	near(t, "marginal error", h.MarginalError, 0.25+0+0+0.25, 1e-12)
	near(t, "code entropy", h.CodeEntropy, 0.5*math.Log(2), 1e-12)
	near(t, "used prototypes", float64(h.UsedPrototypes), 1, 0)
	near(t, "effective rank", h.EffectiveRank, 1, 1e-6) // two points are a line
	near(t, "std", h.EmbeddingStd, math.Sqrt((0.25+0.25)/3), 1e-7)
}

// The extremes of each sign.
func TestMeasureExtremes(t *testing.T) {
	const n, k, dim = 64, 16, 8
	uniform, sharp := make([]float32, n*k), make([]float32, n*k)
	for i := range n {
		sharp[i*k+i%k] = 1
		for j := range k {
			uniform[i*k+j] = 1.0 / k
		}
	}
	alike, axes := make([]float32, n*dim), make([]float32, n*dim)
	for i := range n {
		axes[i*dim+i%dim] = 1
		if i/dim%2 == 1 {
			axes[i*dim+i%dim] = -1
		}
		for j := range dim {
			alike[i*dim+j] = 0.35355339 + 1e-8*float32(i%3)
		}
	}
	healthy := Measure(1, sharp, sharp, axes, n, k, dim)
	near(t, "perplexity of balanced codes", healthy.Perplexity, k, 1e-6)
	near(t, "marginal error of balanced codes", healthy.MarginalError, 0, 1e-9)
	near(t, "entropy of sharp codes", healthy.CodeEntropy, 0, 0)
	near(t, "used prototypes", float64(healthy.UsedPrototypes), k, 0)
	near(t, "effective rank of axes", healthy.EffectiveRank, dim, 1e-6)
	near(t, "spread of axes", healthy.Spread(), 1, 1e-6)

	collapsed := Measure(math.Log(k), uniform, make([]float32, n*k), alike, n, k, dim)
	near(t, "loss ratio of chance", collapsed.LossRatio, 1, 1e-12)
	near(t, "entropy of uniform codes", collapsed.CodeEntropy, math.Log(k), 1e-6)
	near(t, "used prototypes", float64(collapsed.UsedPrototypes), 1, 0)
	near(t, "effective rank of one point", collapsed.EffectiveRank, 0, 0) // rounding is no dimension
	near(t, "spread of one point", collapsed.Spread(), 0, 0)
}

// Covariance and Gram matrix give the same; a rotation changes nothing.
func TestEffectiveRankOfSubspaces(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n, dim := rapid.IntRange(2, 24).Draw(t, "n"), rapid.IntRange(1, 24).Draw(t, "dim")
		of := rapid.IntRange(1, min(n-1, dim)).Draw(t, "subspace")
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		basis, x := make([]float64, of*dim), make([]float32, n*dim)
		for i := range basis {
			basis[i] = rng.NormFloat64()
		}
		for i := range n {
			for s := range of {
				c := rng.NormFloat64()
				for j := range dim {
					x[i*dim+j] += float32(c * basis[s*dim+j])
				}
			}
		}
		rank, std := spectrum(x, n, dim)
		if rank < 1-1e-6 || rank > float64(of)+1e-3 || !(std > 0) {
			t.Fatalf("effective rank %v, std %v of %d points in %d of %d dimensions", rank, std, n, of, dim)
		}
		swapped := make([]float32, n*dim)
		for i := range n {
			for j := range dim {
				swapped[i*dim+j] = x[i*dim+(j+1)%dim]
			}
		}
		if again, _ := spectrum(swapped, n, dim); math.Abs(again-rank) > 1e-6 {
			t.Fatalf("effective rank %v, with other axes %v", rank, again)
		}
	})
}

func TestMeasureOfOddInput(t *testing.T) {
	for _, bad := range []float32{float32(math.NaN()), float32(math.Inf(1)), math.MaxFloat32} {
		h := Measure(math.NaN(), []float32{1, 0, 0, 1}, []float32{bad, 0, 0, bad}, []float32{bad, 1, 0, 1}, 2, 2, 2)
		if math.IsNaN(h.EffectiveRank) || math.IsInf(h.EffectiveRank, 0) || math.IsNaN(h.EmbeddingStd) || h.EmbeddingStd < 0 {
			t.Errorf("embeddings with %v: %+v", bad, h)
		}
	}
	if h := Measure(1, nil, nil, nil, 0, 4, 3); h.Perplexity != 0 || h.Samples != 0 {
		t.Errorf("no samples: %+v", h)
	}
	if h := Measure(0, []float32{1}, []float32{1}, []float32{1}, 1, 1, 1); h.LossRatio != 0 || h.Perplexity != 1 || h.EffectiveRank != 0 {
		t.Errorf("one prototype, one sample: %+v", h)
	}
}
