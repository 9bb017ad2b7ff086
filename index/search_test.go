package index

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// bruteForce is Nearest without blocks and products.
func bruteForce(x *Index, query []float32, k int) []Hit {
	var hits []Hit
	for i := range x.Len() {
		var ab, bb float64
		for j, v := range x.Features[i*x.Dim : (i+1)*x.Dim] {
			ab += float64(v) * float64(query[j])
			bb += float64(query[j]) * float64(query[j])
		}
		if bb > 0 {
			ab /= math.Sqrt(bb)
		}
		hits = append(hits, Hit{i, float32(ab)})
	}
	slices.SortStableFunc(hits, func(a, b Hit) int {
		switch {
		case a.Similarity > b.Similarity:
			return -1
		case a.Similarity < b.Similarity:
			return 1
		}
		return 0
	})
	return hits[:min(k, len(hits))]
}

func randomIndex(seed uint64, n, d int) *Index {
	rng := rand.New(rand.NewPCG(seed, 1))
	x := &Index{Source: named{make([]int, n)}, Dim: d, Prototypes: 1, Features: make([]float32, n*d)}
	for i := range x.Features {
		x.Features[i] = float32(rng.NormFloat64())
	}
	for i := range n {
		x.Image, x.Prototype, x.Score = append(x.Image, i), append(x.Prototype, 0), append(x.Score, 0)
		Normalize(x.Features[i*d : (i+1)*d])
	}
	return x
}

func TestNearestIsBruteForce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n, d, q := rapid.IntRange(1, 60).Draw(t, "n"), rapid.IntRange(1, 9).Draw(t, "d"), rapid.IntRange(1, 4).Draw(t, "queries")
		k := rapid.IntRange(1, 70).Draw(t, "k")
		x := randomIndex(rapid.Uint64().Draw(t, "seed"), n, d)
		queries := rapid.SliceOfN(rapid.Float32Range(-100, 100), q*d, q*d).Draw(t, "query")
		all, err := x.Nearest(context.Background(), queries, k)
		if err != nil || len(all) != q {
			t.Fatalf("%d answers, %v", len(all), err)
		}
		for i, hits := range all {
			want := bruteForce(x, queries[i*d:(i+1)*d], k)
			if len(hits) != len(want) {
				t.Fatalf("%d hits, want %d", len(hits), len(want))
			}
			for r := range hits {
				// Rows as good as equal may change places.
				if math.Abs(float64(hits[r].Similarity-want[r].Similarity)) > 1e-5 {
					t.Fatalf("query %d, place %d: %v, want %v", i, r, hits[r], want[r])
				}
			}
		}
	})
}

// More rows than are compared at a time: none is lost at the seams.
func TestNearestAcrossBlocks(t *testing.T) {
	x := randomIndex(1, 2*searchRows+5, 8)
	for _, row := range []int{0, searchRows - 1, searchRows, 2*searchRows + 4} {
		hits, err := x.Nearest(context.Background(), x.Features[row*8:(row+1)*8], 3)
		if err != nil || hits[0][0].Row != row || math.Abs(float64(hits[0][0].Similarity)-1) > 1e-6 {
			t.Errorf("row %d finds %v, %v", row, hits, err)
		}
		for i, want := range bruteForce(x, x.Features[row*8:(row+1)*8], 3) {
			if hits[0][i].Row != want.Row {
				t.Errorf("row %d, place %d: %v, want %v", row, i, hits[0][i], want)
			}
		}
	}
}

func TestEqualRowsComeInOrder(t *testing.T) {
	x := randomIndex(1, 40, 4)
	for i := range 40 {
		copy(x.Features[i*4:(i+1)*4], []float32{0.5, 0.5, 0.5, 0.5})
	}
	hits, err := x.Nearest(context.Background(), []float32{1, 1, 1, 1}, 30)
	if err != nil {
		t.Fatal(err)
	}
	for i, h := range hits[0] {
		if h.Row != i {
			t.Fatalf("place %d is row %d", i, h.Row)
		}
	}
}

func TestNearestRefuses(t *testing.T) {
	x := randomIndex(1, 5, 3)
	nan := float32(math.NaN())
	for name, c := range map[string]struct {
		query []float32
		k     int
	}{
		"none wanted": {[]float32{1, 2, 3}, 0}, "too short": {[]float32{1, 2}, 1}, "not finite": {[]float32{1, nan, 3}, 1},
	} {
		if _, err := x.Nearest(context.Background(), c.query, c.k); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if hits, err := x.Nearest(context.Background(), []float32{0, 0, 0}, 2); err != nil || hits[0][0].Similarity != 0 {
		t.Errorf("a row of zeros: %v, %v, want similarity 0", hits, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := x.Nearest(ctx, []float32{1, 2, 3}, 1); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}
