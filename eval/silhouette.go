package eval

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
)

var errNoSilhouette = errors.New("silhouette")

// Silhouette is the mean silhouette coefficient of the rows (Rousseeuw 1987) by their
// Euclidean distances at unit length, scikit-learn's silhouette_score: from -1 to 1, high
// where clusters are compact and apart. It takes time with the square of the rows.
func Silhouette(ctx context.Context, set Set, assign []int, o Options) (float64, error) {
	n := set.Len()
	if len(assign) != n {
		return 0, fmt.Errorf("silhouette: %d assignments of %d images", len(assign), n)
	}
	if n == 0 || slices.Min(assign) < 0 {
		return 0, fmt.Errorf("silhouette: no images, or one without a cluster")
	}
	k := slices.Max(assign) + 1
	sizes := make([]int, k)
	used := 0
	for _, c := range assign {
		if sizes[c]++; sizes[c] == 1 {
			used++
		}
	}
	if used < 2 || used == n {
		return 0, fmt.Errorf("%w: %d clusters of %d images: want at least 2, not all of one image", errNoSilhouette, used, n)
	}
	s := &scan{ref: set, query: set, width: set.Dim}
	x, norms := make([]float32, n*set.Dim), make([]float64, n)
	s.pack(x, norms, set, 0, n, 1)
	gemm := o.Gemm.orDefault()
	values := make([]float64, n)
	const rows = 64
	bar := newProgress(o.Progress, blocks(n, rows))
	err := parallel(blocks(n, rows), func(_, b int) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		from := b * rows
		m := min(rows, n-from)
		products := make([]float32, m*n)
		if err := gemm(false, true, m, n, set.Dim, x[from*set.Dim:], set.Dim, x, set.Dim, 0, products, n); err != nil {
			return err
		}
		sums := make([]float64, k)
		for i := range m {
			clear(sums)
			for j, p := range products[i*n:][:n] {
				if j != from+i {
					sums[assign[j]] += math.Sqrt(max(0, unit(norms[from+i])+unit(norms[j])-2*float64(p)))
				}
			}
			values[from+i] = silhouette(sums, sizes, assign[from+i])
		}
		bar.add(1)
		return nil
	})
	var sum float64
	for _, v := range values {
		sum += v
	}
	return sum / float64(n), err
}

// unit is the squared norm of a row of that squared norm when it has unit length.
func unit(norm float64) float64 {
	if norm > 0 {
		return 1
	}
	return 0
}

// silhouette of a row with these sums of distances to clusters; 0 for one alone.
func silhouette(sums []float64, sizes []int, own int) float64 {
	if sizes[own] < 2 {
		return 0
	}
	within, other := sums[own]/float64(sizes[own]-1), math.Inf(1)
	for c, s := range sums {
		if c != own && sizes[c] > 0 {
			other = min(other, s/float64(sizes[c]))
		}
	}
	if most := max(within, other); most > 0 {
		return (other - within) / most
	}
	return 0
}
