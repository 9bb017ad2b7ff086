package swav

import (
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"swav/dist"
)

// unitRows are rows around a few directions.
func unitRows(rng *rand.Rand, rows, dim, directions int) []float32 {
	x := make([]float32, rows*dim)
	for i := range rows {
		for j := range dim {
			x[i*dim+j] = float32(0.3 * rng.NormFloat64())
		}
		x[i*dim+i%directions%dim] += 1
	}
	NormalizeRows(x, rows, dim)
	return x
}

// plainKMeans is the definition, in float64, one row and one centroid at a time.
func plainKMeans(x []float32, start []int, dim, iterations int) (labels []int32, centroids []float64) {
	rows, k := len(x)/dim, len(start)
	for _, r := range start {
		for _, v := range x[r*dim:][:dim] {
			centroids = append(centroids, float64(v))
		}
	}
	labels = make([]int32, rows)
	for it := 0; ; it++ {
		for i := range labels {
			best, most := 0, math.Inf(-1)
			for j := range k {
				var s float64
				for d := range dim {
					s += float64(x[i*dim+d]) * centroids[j*dim+d]
				}
				if s > most {
					best, most = j, s
				}
			}
			labels[i] = int32(best)
		}
		if it == iterations {
			return labels, centroids
		}
		for j := range k {
			mean := make([]float64, dim)
			members := 0
			for i, l := range labels {
				if int(l) == j {
					members++
					for d := range mean {
						mean[d] += float64(x[i*dim+d])
					}
				}
			}
			if members == 0 {
				continue
			}
			var norm float64
			for _, v := range mean {
				norm += v * v
			}
			for d, v := range mean {
				centroids[j*dim+d] = v / math.Sqrt(norm)
			}
		}
	}
}

// rowsOf copies rows of x.
func rowsOf(x []float32, rows []int, dim int) []float32 {
	var out []float32
	for _, r := range rows {
		out = append(out, x[r*dim:][:dim]...)
	}
	return out
}

func TestKMeansIsThePlainMethod(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, c := range []struct{ rows, k, dim, iterations int }{
		{1, 1, 3, 10}, {7, 7, 4, 10}, {40, 5, 6, 0}, {40, 5, 6, 1}, {200, 12, 8, 10}, {KMeansBlock + 77, 9, 5, 10},
	} {
		x := unitRows(rng, c.rows, c.dim, 4)
		start := rng.Perm(c.rows)[:c.k]
		want, wantCentroids := plainKMeans(x, start, c.dim, c.iterations)
		labels, centroids := make([]int32, c.rows), rowsOf(x, start, c.dim)
		if err := KMeans(labels, centroids, x, c.rows, c.k, c.dim, KMeansOptions{Iterations: c.iterations}, dist.Solo()); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(labels, want) {
			t.Errorf("%+v: labels differ", c)
		}
		for i, v := range wantCentroids {
			if math.Abs(float64(centroids[i])-v) > 1e-6 {
				t.Fatalf("%+v: centroid %d, coordinate %d is %v, want %v", c, i/c.dim, i%c.dim, centroids[i], v)
			}
		}
	}
}

// Ranks that share the rows come to the clusters of one rank that has them all.
func TestKMeansOverRanks(t *testing.T) {
	const rows, k, dim = 90, 6, 5
	rng := rand.New(rand.NewPCG(3, 4))
	x := unitRows(rng, rows, dim, 5)
	start := rng.Perm(rows)[:k]
	want, centroids := make([]int32, rows), rowsOf(x, start, dim)
	if err := KMeans(want, centroids, x, rows, k, dim, KMeansOptions{Iterations: 10}, dist.Solo()); err != nil {
		t.Fatal(err)
	}
	for _, cuts := range [][]int{{0, 45, 90}, {0, 10, 10, 90}} { // the second with a rank that has no rows
		comms := dist.Local(len(cuts) - 1)
		labels := make([]int32, rows)
		all := make([][]float32, len(comms))
		var wg sync.WaitGroup
		for r, c := range comms {
			wg.Go(func() {
				from, to := cuts[r], cuts[r+1]
				all[r] = rowsOf(x, start, dim)
				if err := KMeans(labels[from:to], all[r], x[from*dim:to*dim], to-from, k, dim, KMeansOptions{Iterations: 10}, c); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if !slices.Equal(labels, want) {
			t.Errorf("%d ranks: labels differ", len(comms))
		}
		for r := range all {
			if !slices.Equal(all[r], all[0]) {
				t.Errorf("rank %d has other centroids than rank 0", r)
			}
			for i, v := range all[r] {
				if math.Abs(float64(v-centroids[i])) > 1e-6 {
					t.Fatalf("rank %d: coordinate %d is %v, want %v", r, i, v, centroids[i])
				}
			}
		}
	}
}

// A centroid without rows stays where it is, and so does one whose rows cancel.
func TestKMeansEmptyClusterKeepsItsCentroid(t *testing.T) {
	x := []float32{1, 0, 1, 0, 0, 1, 0, -1}
	centroids := []float32{1, 0, 1, 0, -1, 0}
	labels := make([]int32, 4)
	if err := KMeans(labels, centroids, x, 4, 3, 2, KMeansOptions{Iterations: 1}, dist.Solo()); err != nil {
		t.Fatal(err)
	}
	// All four rows are nearest to centroid 0, the first of two equal ones; rows 2
	// and 3 cancel.
	if want := []float32{1, 0, 1, 0, -1, 0}; !slices.Equal(centroids, want) {
		t.Errorf("centroids %v, want %v", centroids, want)
	}
	cancel := []float32{0.6, 0.8, -0.6, -0.8}
	one := []float32{0.6, 0.8}
	if err := KMeans(labels[:2], one, cancel, 2, 1, 2, KMeansOptions{Iterations: 3}, dist.Solo()); err != nil || one[0] != 0.6 || one[1] != 0.8 {
		t.Errorf("centroid of rows that cancel: %v, %v", one, err)
	}
}

// From step to step the rows come closer to their centroids, which stay on the
// sphere.
func TestKMeansNeverLosesGround(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rows, dim := rapid.IntRange(1, 60).Draw(t, "rows"), rapid.IntRange(1, 6).Draw(t, "dim")
		k := rapid.IntRange(1, rows).Draw(t, "k")
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		x := unitRows(rng, rows, dim, 3)
		start := rowsOf(x, rng.Perm(rows)[:k], dim)
		before := math.Inf(-1)
		for it := range 6 {
			labels, centroids := make([]int32, rows), slices.Clone(start)
			if err := KMeans(labels, centroids, x, rows, k, dim, KMeansOptions{Iterations: it}, dist.Solo()); err != nil {
				t.Fatal(err)
			}
			var sum float64
			for i, l := range labels {
				for d := range dim {
					sum += float64(x[i*dim+d]) * float64(centroids[int(l)*dim+d])
				}
			}
			if sum < before-1e-5 {
				t.Fatalf("%d iterations: the sum of cosines falls from %v to %v", it, before, sum)
			}
			before = sum
			for j := range k {
				var square float64
				for _, v := range centroids[j*dim:][:dim] {
					square += float64(v) * float64(v)
				}
				if math.Abs(square-1) > 1e-5 {
					t.Fatalf("centroid %d has length %v", j, math.Sqrt(square))
				}
			}
		}
	})
}

func TestKMeansSaysWhatFailed(t *testing.T) {
	nan := []float32{1, 0, float32(math.NaN()), 0}
	err := KMeans(make([]int32, 2), []float32{1, 0}, nan, 2, 1, 2, KMeansOptions{Iterations: 1}, dist.Solo())
	if !errors.Is(err, ErrNotFinite) {
		t.Errorf("NaN: %v", err)
	}
	lost := errors.New("device lost")
	err = KMeans(make([]int32, 2), []float32{1, 0}, make([]float32, 4), 2, 1, 2,
		KMeansOptions{Product: func([]float32, []float32, []float32, int, int, int) error { return lost }}, dist.Solo())
	if !errors.Is(err, lost) {
		t.Errorf("product: %v", err)
	}
}

func TestDescribeClusters(t *testing.T) {
	ln := math.Log
	for name, c := range map[string]struct {
		labels, before []int32
		k              int
		want           Clustering
	}{
		"no images": {nil, nil, 3, Clustering{Clusters: 3, Empty: 3, Perplexity: 1}},
		"sizes": {[]int32{0, 0, 2, -1, 2, 0}, nil, 4,
			Clustering{Clusters: 4, Images: 5, Empty: 2, Largest: 3, Smallest: 2, Perplexity: math.Exp(ln(5) - (3*ln(3)+2*ln(2))/5)}},
		"the same but for the numbers": {[]int32{0, 0, 1, 1}, []int32{5, 5, 2, 2}, 2,
			Clustering{Clusters: 2, Images: 4, Largest: 2, Smallest: 2, Perplexity: 2, Compared: 4, NMI: 1}},
		"nothing in common": {[]int32{0, 0, 1, 1}, []int32{0, 1, 0, 1}, 2,
			Clustering{Clusters: 2, Images: 4, Largest: 2, Smallest: 2, Perplexity: 2, Compared: 4, NMI: 0, Moved: 0.5}},
		"one image moved": {[]int32{0, 0, 0, 1, 1, 1}, []int32{0, 0, 1, 1, 1, -1}, 2,
			Clustering{Clusters: 2, Images: 6, Largest: 3, Smallest: 3, Perplexity: 2, Compared: 5, Moved: 0.2,
				NMI: func() float64 {
					h := ln(5) - (3*ln(3)+2*ln(2))/5 // of both
					joint := ln(5) - (2*ln(2)+2*ln(2))/5
					return 2 * (2*h - joint) / (2 * h)
				}()}},
		"one cluster, twice": {[]int32{0, 0}, []int32{0, 0}, 1,
			Clustering{Clusters: 1, Images: 2, Largest: 2, Smallest: 2, Perplexity: 1, Compared: 2, NMI: 1}},
		"none before": {[]int32{0, 1}, []int32{-1, -1}, 2,
			Clustering{Clusters: 2, Images: 2, Largest: 1, Smallest: 1, Perplexity: 2}},
	} {
		got := DescribeClusters(c.labels, c.before, c.k)
		for _, d := range []float64{got.Perplexity - c.want.Perplexity, got.NMI - c.want.NMI, got.Moved - c.want.Moved} {
			if math.Abs(d) > 1e-12 {
				t.Errorf("%s: %+v, want %+v", name, got, c.want)
			}
		}
		got.Perplexity, got.NMI, got.Moved = c.want.Perplexity, c.want.NMI, c.want.Moved
		if got != c.want {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
}
