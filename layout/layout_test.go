package layout

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// clusters draws n rows of d numbers around as many random centres, and which
// centre each belongs to.
func clusters(seed uint64, n, d, centres int, noise float64) (x []float32, of []int) {
	rng := rand.New(rand.NewPCG(seed, 1))
	c := make([]float64, centres*d)
	for i := range c {
		c[i] = rng.NormFloat64()
	}
	for i := range n {
		of = append(of, i%centres)
		for j := range d {
			x = append(x, float32(c[i%centres*d+j]+noise*rng.NormFloat64()))
		}
	}
	return x, of
}

// nearestIn finds the k nearest rows of each row the plain way.
func nearestIn(x []float64, n, d, k int) [][]int {
	out := make([][]int, n)
	for i := range n {
		order := make([]int, 0, n-1)
		dist := make([]float64, n)
		for j := range n {
			for c := range d {
				dist[j] += (x[i*d+c] - x[j*d+c]) * (x[i*d+c] - x[j*d+c])
			}
			if j != i {
				order = append(order, j)
			}
		}
		slices.SortStableFunc(order, func(a, b int) int {
			switch {
			case dist[a] < dist[b]:
				return -1
			case dist[a] > dist[b]:
				return 1
			}
			return 0
		})
		out[i] = order[:k]
	}
	return out
}

// kept is the share of the k nearest rows that are still among the k nearest in the
// plane.
func kept(x []float32, coords []float64, n, d, k int) float64 {
	before, after := nearestIn(widen(x), n, d, k), nearestIn(coords, n, 2, k)
	hits := 0
	for i := range n {
		for _, j := range after[i] {
			if slices.Contains(before[i], j) {
				hits++
			}
		}
	}
	return float64(hits) / float64(n*k)
}

// agreeing is the share of rows whose nearest in the plane are of their own cluster.
func agreeing(coords []float64, of []int, k int) float64 {
	hits := 0
	for i, near := range nearestIn(coords, len(of), 2, k) {
		for _, j := range near {
			if of[j] == of[i] {
				hits++
			}
		}
	}
	return float64(hits) / float64(k*len(of))
}

func TestUMAPKeepsNeighboursThatPCALoses(t *testing.T) {
	const n, d, groups, k = 400, 30, 25, 15
	x, of := clusters(7, n, d, groups, 0.25)
	plane, _, err := PCA(x, n, d, 2, nil)
	if err != nil {
		t.Fatal(err)
	}
	coords, err := UMAP(context.Background(), x, n, d, Options{Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	if a, b := kept(x, coords, n, d, k), kept(x, plane, n, d, k); a < 0.9 || a < 1.3*b {
		t.Errorf("UMAP keeps %.2f of the neighbours, PCA %.2f", a, b)
	}
	if a, b := agreeing(coords, of, k), agreeing(plane, of, k); a < 0.98 || a <= b {
		t.Errorf("%.3f of the neighbours are of the same group, with PCA %.3f", a, b)
	}
}

func TestUMAPIsDeterministic(t *testing.T) {
	x, _ := clusters(3, 150, 8, 5, 0.4)
	run := func(seed uint64) []float64 {
		coords, err := UMAP(context.Background(), x, 150, 8, Options{Seed: seed})
		if err != nil {
			t.Fatal(err)
		}
		return coords
	}
	first := run(1)
	if !slices.Equal(first, run(1)) {
		t.Error("the same seed gave other places")
	}
	if slices.Equal(first, run(2)) {
		t.Error("another seed gave the same places")
	}
}

func TestUMAPOfAnyRows(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n, d := rapid.IntRange(0, 40).Draw(t, "n"), rapid.IntRange(1, 6).Draw(t, "d")
		// Few values, so that rows often coincide.
		x := rapid.SliceOfN(rapid.SampledFrom([]float32{0, 1, -1, 1e6, 1e-6}), n*d, n*d).Draw(t, "x")
		coords, err := UMAP(context.Background(), x, n, d, Options{Epochs: 20})
		if err != nil || len(coords) != 2*n {
			t.Fatalf("%d coordinates, %v", len(coords), err)
		}
		var mean [2]float64
		for i, v := range coords {
			if math.IsNaN(v) || math.Abs(v) > 1e4 {
				t.Fatalf("coordinate %d is %v", i, v)
			}
			mean[i%2] += v / float64(n)
		}
		if n > 2 && math.Hypot(mean[0], mean[1]) > 1e-6 {
			t.Fatalf("centre at %v", mean)
		}
	})
}

func TestUMAPRefuses(t *testing.T) {
	nan := float32(math.NaN())
	for name, c := range map[string]struct {
		x    []float32
		n, d int
	}{
		"too few numbers": {make([]float32, 5), 2, 3},
		"no columns":      {nil, 2, 0},
		"not finite":      {[]float32{1, 2, nan, 4}, 2, 2},
	} {
		if _, err := UMAP(context.Background(), c.x, c.n, c.d, Options{}); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	x, _ := clusters(1, 50, 4, 2, 1)
	if _, err := UMAP(ctx, x, 50, 4, Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestUMAPTellsOfProgress(t *testing.T) {
	x, _ := clusters(1, 300, 4, 3, 1)
	last, of := 0, 0
	_, err := UMAP(context.Background(), x, 300, 4, Options{Epochs: 30, Progress: func(done, total int) { last, of = done, total }})
	if err != nil || last != of || of == 0 {
		t.Errorf("ended at %d of %d, %v", last, of, err)
	}
}

// Blocks must not change what is found: more rows than a block of queries, and of
// what is searched.
func TestNeighboursAreTheNearest(t *testing.T) {
	for _, n := range []int{2, queryRows, searchRows + 3} {
		const d = 5
		k := min(7, n-1)
		x, _ := clusters(5, n, d, 9, 0.5)
		copy(x[d*(n-1):], x[:d]) // the first row once more
		near, err := neighbours(context.Background(), x, n, d, k, orGonum(nil), func(int, int) {})
		if err != nil {
			t.Fatal(err)
		}
		rows := []int{0, 1, n / 2, n - 1}
		wide := widen(x)
		for _, i := range rows {
			dist := make([]float64, 0, n)
			for j := range n {
				if j == i {
					continue
				}
				sum := 0.0
				for c := range d {
					sum += (wide[i*d+c] - wide[j*d+c]) * (wide[i*d+c] - wide[j*d+c])
				}
				dist = append(dist, math.Sqrt(sum))
			}
			slices.Sort(dist)
			for j, b := range near[i*k : (i+1)*k] {
				if math.Abs(float64(b.distance)-dist[j]) > 1e-5 || int(b.row) == i {
					t.Errorf("%d rows: neighbour %d of row %d is row %d at %v, want distance %v", n, j, i, b.row, b.distance, dist[j])
				}
			}
		}
	}
}

// The sum of a row's weights is log2 k (UMAP, section 3.1), and the nearest has 1.
func TestMemberships(t *testing.T) {
	near := make([]neighbour, 16)
	for i := range near {
		near[i] = neighbour{int32(i), 1 + 0.1*float32(i*i)}
	}
	w := make([]float32, len(near))
	memberships(w, near)
	sum := 0.0
	for i, v := range w {
		sum += float64(v)
		if i > 0 && v > w[i-1] {
			t.Errorf("weight %d is %v, nearer %v", i, v, w[i-1])
		}
	}
	if w[0] != 1 || math.Abs(sum-4) > 1e-4 {
		t.Errorf("first %v, sum %v, want 1 and 4", w[0], sum)
	}
	for i := range near {
		near[i].distance = 0
	}
	memberships(w, near)
	for _, v := range w {
		if v != 1 {
			t.Errorf("weights of equal rows %v, want 1", w)
			break
		}
	}
}

func TestPCAFindsTheAxesOfAnEllipsoid(t *testing.T) {
	const n, d = 2000, 6
	rng := rand.New(rand.NewPCG(1, 1))
	x := make([]float32, 0, n*d)
	want := []float64{9, 4, 1, 0.25, 0.04, 0.01} // variances
	for range n {
		for j := range d {
			x = append(x, float32(5+math.Sqrt(want[j])*rng.NormFloat64()))
		}
	}
	coords, share, err := PCA(x, n, d, 3, nil)
	if err != nil {
		t.Fatal(err)
	}
	total := 0.0
	for _, v := range want {
		total += v
	}
	for j := range 3 {
		if math.Abs(share[j]-want[j]/total) > 0.03 {
			t.Errorf("share %d is %.3f, want %.3f", j, share[j], want[j]/total)
		}
		// The direction is an axis, so coordinates are the centred numbers.
		var worst float64
		for i := range n {
			worst = max(worst, math.Abs(coords[i*3+j]-(float64(x[i*d+j])-5)))
		}
		if worst > 0.6 {
			t.Errorf("direction %d is off its axis by %v", j, worst)
		}
	}
}

func TestPCAOfDegenerateRows(t *testing.T) {
	for name, c := range map[string]struct {
		x    []float32
		n, d int
	}{
		"one row":   {[]float32{1, 2, 3}, 1, 3},
		"all alike": {[]float32{1, 2, 1, 2, 1, 2}, 3, 2},
		"one thing": {[]float32{1, 2, 3, 4}, 4, 1},
		"none":      {nil, 0, 3},
	} {
		coords, share, err := PCA(c.x, c.n, c.d, 2, nil)
		if err != nil || len(coords) != c.n*len(share) {
			t.Errorf("%s: %d coordinates for %d rows, %d shares, %v", name, len(coords), c.n, len(share), err)
		}
		for _, v := range append(coords, share...) {
			if math.IsNaN(v) || math.IsInf(v, 0) {
				t.Errorf("%s: %v", name, v)
			}
		}
	}
}
