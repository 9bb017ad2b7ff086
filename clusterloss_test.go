package swav

import (
	"math"
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"
)

type clusterCase struct {
	scores       []float32
	labels       [][]int32
	views, batch int
	heads        []int
	temperature  float64
}

func drawClusterLoss(t *rapid.T) clusterCase {
	c := clusterCase{
		views: rapid.IntRange(1, 4).Draw(t, "views"), batch: rapid.IntRange(1, 5).Draw(t, "batch"),
		heads:       rapid.SliceOfN(rapid.IntRange(1, 5), 1, 3).Draw(t, "heads"),
		temperature: rapid.SampledFrom([]float64{0.1, 0.5, 1}).Draw(t, "temperature"),
	}
	for _, k := range c.heads {
		labels := make([]int32, c.batch)
		for b := range labels {
			labels[b] = int32(rapid.IntRange(-1, k-1).Draw(t, "label"))
		}
		c.labels = append(c.labels, labels)
	}
	c.scores = randomScores(rapid.Uint64().Draw(t, "seed"), c.views*c.batch, c.k())
	return c
}

func (c clusterCase) k() int {
	k := 0
	for _, n := range c.heads {
		k += n
	}
	return k
}

// naive is the definition to the letter.
func (c clusterCase) naive(scores []float64) float64 {
	var loss float64
	from := 0
	for h, k := range c.heads {
		var sum, rows float64
		for v := range c.views {
			for b, l := range c.labels[h] {
				if l < 0 {
					continue
				}
				row := scores[(v*c.batch+b)*c.k()+from:][:k]
				var norm float64
				for _, s := range row {
					norm += math.Exp(s / c.temperature)
				}
				sum -= math.Log(math.Exp(row[l]/c.temperature) / norm)
				rows++
			}
		}
		if rows > 0 {
			loss += sum / rows
		}
		from += k
	}
	return loss / float64(len(c.heads))
}

func (c clusterCase) loss() (float64, []float32) {
	d := make([]float32, len(c.scores))
	for i := range d {
		d[i] = float32(math.NaN()) // ClusterLoss overwrites
	}
	return ClusterLoss(c.scores, c.labels, c.views, c.batch, c.heads, c.temperature, d), d
}

func TestClusterLossAndItsGradientAreTheirDefinition(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := drawClusterLoss(t)
		loss, grad := c.loss()
		x := make([]float64, len(c.scores))
		for i, s := range c.scores {
			x[i] = float64(s)
		}
		if want := c.naive(x); math.Abs(loss-want) > 1e-9*max(1, want) {
			t.Fatalf("loss %v, want %v", loss, want)
		}
		const h = 1e-5
		for i := range x {
			at := x[i]
			x[i] = at + h
			up := c.naive(x)
			x[i] = at - h
			down := c.naive(x)
			x[i] = at
			if want := (up - down) / (2 * h); math.Abs(float64(grad[i])-want) > 1e-5*max(1, math.Abs(want)) {
				t.Fatalf("gradient %d is %v, finite differences %v", i, grad[i], want)
			}
		}
	})
}

// With one view left out and one head, it is SwAV's loss of one-hot codes.
func TestClusterLossOfOneHotCodesIsSwAVs(t *testing.T) {
	const batch, k = 4, 5
	scores := randomScores(7, 2*batch, k)
	labels, codes := make([]int32, batch), make([]float32, batch*k)
	rng := rand.New(rand.NewPCG(1, 1))
	for b := range labels {
		labels[b] = int32(rng.IntN(k))
		codes[b*k+int(labels[b])] = 1
	}
	want := Loss(scores, [][]float32{codes}, 2, batch, k, []int{0}, 0.1, make([]float32, len(scores)))
	got := ClusterLoss(scores[batch*k:], [][]int32{labels}, 1, batch, []int{k}, 0.1, make([]float32, batch*k))
	if math.Abs(got-want) > 1e-12 {
		t.Errorf("loss %v, SwAV's %v", got, want)
	}
}

func TestClusterLossWithoutLabelsIsNothing(t *testing.T) {
	c := clusterCase{scores: randomScores(1, 6, 5), labels: [][]int32{{-1, -1}, {-1, -1}}, views: 3, batch: 2, heads: []int{2, 3}, temperature: 0.1}
	loss, grad := c.loss()
	if loss != 0 {
		t.Errorf("loss %v", loss)
	}
	for i, g := range grad {
		if g != 0 {
			t.Fatalf("gradient %d is %v", i, g)
		}
	}
}

func TestClusterLossOfAlikeScoresIsLogK(t *testing.T) {
	c := clusterCase{scores: make([]float32, 3*2*40), labels: [][]int32{{1, 9}, {29, 0}}, views: 3, batch: 2, heads: []int{10, 30}, temperature: 0.1}
	if loss, _ := c.loss(); math.Abs(loss-(math.Log(10)+math.Log(30))/2) > 1e-9 {
		t.Errorf("loss %v, want the mean of ln 10 and ln 30", loss)
	}
}
