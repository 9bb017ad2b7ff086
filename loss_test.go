package swav

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// naiveLoss is the definition to the letter, in float64.
func naiveLoss(scores []float64, codes [][]float32, views, batch, k int, assign []int, temperature float64) float64 {
	var loss float64
	for i, a := range assign {
		var crops float64
		for v := range views {
			if v == a {
				continue
			}
			var mean float64
			for b := range batch {
				row := scores[(v*batch+b)*k:][:k]
				var sum float64
				for _, s := range row {
					sum += math.Exp(s / temperature)
				}
				for j, s := range row {
					mean -= float64(codes[i][b*k+j]) * math.Log(math.Exp(s/temperature)/sum)
				}
			}
			crops += mean / float64(batch)
		}
		loss += crops / float64(views-1)
	}
	return loss / float64(len(assign))
}

type lossCase struct {
	scores          []float32
	codes           [][]float32
	views, batch, k int
	assign          []int
	temperature     float64
}

func drawLoss(t *rapid.T) lossCase {
	c := lossCase{
		views: rapid.IntRange(2, 5).Draw(t, "views"), batch: rapid.IntRange(1, 4).Draw(t, "batch"),
		k: rapid.IntRange(1, 6).Draw(t, "k"), temperature: rapid.SampledFrom([]float64{0.1, 0.5, 1}).Draw(t, "temperature"),
	}
	seed := rapid.Uint64().Draw(t, "seed")
	c.assign = rand.New(rand.NewPCG(seed, 3)).Perm(c.views)[:rapid.IntRange(1, c.views).Draw(t, "assign")]
	c.scores = randomScores(seed, c.views*c.batch, c.k)
	for i := range c.assign {
		codes := randomScores(seed+uint64(i)+1, c.batch, c.k)
		for b := range c.batch {
			p := make([]float64, c.k)
			softmax(p, codes[b*c.k:][:c.k], 0.3)
			for j := range p {
				codes[b*c.k+j] = float32(p[j])
			}
		}
		c.codes = append(c.codes, codes)
	}
	return c
}

func (c lossCase) loss() (float64, []float32) {
	d := make([]float32, len(c.scores))
	for i := range d {
		d[i] = float32(math.NaN()) // Loss overwrites
	}
	return Loss(c.scores, c.codes, c.views, c.batch, c.k, c.assign, c.temperature, d), d
}

func TestLossAndItsGradientAreTheirDefinition(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := drawLoss(t)
		loss, grad := c.loss()
		x := make([]float64, len(c.scores))
		for i, s := range c.scores {
			x[i] = float64(s)
		}
		if want := naiveLoss(x, c.codes, c.views, c.batch, c.k, c.assign, c.temperature); math.Abs(loss-want) > 1e-9*max(1, want) {
			t.Fatalf("loss %v, want %v", loss, want)
		}
		const h = 1e-5
		for i := range x {
			at := x[i]
			x[i] = at + h
			up := naiveLoss(x, c.codes, c.views, c.batch, c.k, c.assign, c.temperature)
			x[i] = at - h
			down := naiveLoss(x, c.codes, c.views, c.batch, c.k, c.assign, c.temperature)
			x[i] = at
			if want := (up - down) / (2 * h); math.Abs(float64(grad[i])-want) > 1e-5*max(1, math.Abs(want)) {
				t.Fatalf("gradient %d is %v, finite differences %v", i, grad[i], want)
			}
		}
	})
}

// Shifting all scores of a sample changes nothing, so its gradients sum to 0.
func TestLossGradientSumsToZero(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := drawLoss(t)
		_, grad := c.loss()
		for r := range c.views * c.batch {
			var sum float64
			for _, g := range grad[r*c.k:][:c.k] {
				sum += float64(g)
			}
			if math.Abs(sum) > 1e-5 {
				t.Fatalf("row %d sums to %v", r, sum)
			}
		}
	})
}

func TestLossOfAlikeScoresIsLogK(t *testing.T) {
	const views, batch, k = 3, 4, 3000
	for _, score := range []float32{0, -1, 0.7} {
		scores := make([]float32, views*batch*k)
		for i := range scores {
			scores[i] = score
		}
		codes := [][]float32{
			sinkhorn(t, scores[:batch*k], batch, k, paper),
			sinkhorn(t, scores[batch*k:2*batch*k], batch, k, paper),
		}
		loss := Loss(scores, codes, views, batch, k, []int{0, 1}, 0.1, make([]float32, len(scores)))
		if want := math.Log(k); math.Abs(loss-want) > 1e-5 {
			t.Errorf("scores %v: loss %v, want %v", score, loss, want)
		}
	}
}

// A crop does not predict its own code.
func TestLossLeavesOutTheCropItself(t *testing.T) {
	c := lossCase{scores: randomScores(1, 6, 4), views: 3, batch: 2, k: 4, assign: []int{1}, temperature: 0.1,
		codes: [][]float32{{1, 0, 0, 0, 0, 1, 0, 0}}}
	before, grad := c.loss()
	if own := grad[2*4 : 4*4]; slices.ContainsFunc(own, func(g float32) bool { return g != 0 }) {
		t.Errorf("gradient of the crop itself: %v", own)
	}
	for i := 2 * 4; i < 4*4; i++ {
		c.scores[i] = -c.scores[i]
	}
	if after, _ := c.loss(); after != before {
		t.Errorf("its own scores change the loss from %v to %v", before, after)
	}
}

func TestLossOfExtremeScoresIsFinite(t *testing.T) {
	c := lossCase{scores: []float32{1e4, -1e4, 1e4, -1e4}, views: 2, batch: 1, k: 2, assign: []int{0}, temperature: 0.01,
		codes: [][]float32{{0, 1}}}
	loss, grad := c.loss()
	if math.Abs(loss-2e6) > 1 || grad[2] != 100 || grad[3] != -100 {
		t.Errorf("loss %v, gradient %v", loss, grad)
	}
}

func TestNormalizeRows(t *testing.T) {
	w := []float32{3, 4, 0, 0, 1e-30, 0, 1e30, 1e30, -5, 0}
	NormalizeRows(w, 5, 2)
	want := []float64{0.6, 0.8, 0, 0, 1, 0, math.Sqrt(0.5), math.Sqrt(0.5), -1, 0}
	if off := worst(w, want); off > 1e-7 {
		t.Errorf("%v, want %v", w, want)
	}
}
