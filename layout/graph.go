package layout

import (
	"cmp"
	"context"
	"math"
	"runtime"
	"slices"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
	"gonum.org/v1/gonum/blas/blas32"

	"swav/eval"
)

// neighbour is another row and its distance.
type neighbour struct {
	row      int32
	distance float32
}

// Blocks of the search: distances of queryRows to searchRows are looked at while
// they are in the processor's cache.
const (
	queryRows  = 64
	searchRows = 2048
)

// neighbours finds the k nearest other rows of each row, nearest first, equal ones
// in order: near[i*k:][:k].
func neighbours(ctx context.Context, x []float32, n, d, k int, gemm eval.Gemm, progress func(done, of int)) ([]neighbour, error) {
	square := make([]float32, n)
	for i := range n {
		row := x[i*d : (i+1)*d]
		square[i] = blas32.Dot(vector(row), vector(row))
	}
	near := make([]neighbour, n*k)
	blocks := (n + queryRows - 1) / queryRows
	var done atomic.Int64
	var g errgroup.Group
	g.SetLimit(runtime.GOMAXPROCS(0))
	for b := range blocks {
		g.Go(func() error {
			if err := ctx.Err(); err != nil {
				return err
			}
			from, to := b*queryRows, min((b+1)*queryRows, n)
			if err := searchBlock(x, square, n, d, k, from, to, gemm, near[from*k:to*k]); err != nil {
				return err
			}
			if finished := done.Add(1); b == blocks-1 || finished%16 == 0 {
				progress(int(finished), blocks)
			}
			return nil
		})
	}
	return near, g.Wait()
}

func vector(x []float32) blas32.Vector { return blas32.Vector{N: len(x), Inc: 1, Data: x} }

// searchBlock finds the neighbours of the rows from up to to.
func searchBlock(x, square []float32, n, d, k, from, to int, gemm eval.Gemm, near []neighbour) error {
	queries := x[from*d : to*d]
	products := make([]float32, queryRows*searchRows)
	best := make([][]neighbour, to-from)
	for q := range best {
		best[q] = near[q*k : q*k : (q+1)*k]
	}
	for at := 0; at < n; at += searchRows {
		end := min(at+searchRows, n)
		m := end - at
		if err := gemm(false, true, to-from, m, d, queries, d, x[at*d:end*d], d, 0, products, m); err != nil {
			return err
		}
		for q := range best {
			row := products[q*m : (q+1)*m]
			for j, p := range row {
				s := square[at+j] - 2*p // squared distance less the query's own square
				if len(best[q]) == k && s >= best[q][k-1].distance || at+j == from+q {
					continue
				}
				best[q] = insert(best[q], neighbour{int32(at + j), s}, k)
			}
		}
	}
	// What was found by products is measured again: those cancel where rows are
	// nearly equal.
	for q := range best {
		self := x[(from+q)*d : (from+q+1)*d]
		for j := range best[q] {
			r := int(best[q][j].row)
			best[q][j].distance = distance(self, x[r*d:(r+1)*d])
		}
		slices.SortStableFunc(best[q], func(a, b neighbour) int {
			return cmp.Or(cmp.Compare(a.distance, b.distance), cmp.Compare(a.row, b.row))
		})
	}
	return nil
}

// insert keeps the k nearest in order; rows come in ascending order.
func insert(best []neighbour, b neighbour, k int) []neighbour {
	if len(best) < k {
		best = best[:len(best)+1]
	}
	at := len(best) - 1
	for ; at > 0 && best[at-1].distance > b.distance; at-- {
		best[at] = best[at-1]
	}
	best[at] = b
	return best
}

func distance(a, b []float32) float32 {
	var sum float64
	for i, v := range a {
		diff := float64(v) - float64(b[i])
		sum += diff * diff
	}
	return float32(math.Sqrt(sum))
}

// graph is weighted edges between rows, each pair once.
type graph struct {
	rows   int
	a, b   []int32
	weight []float32 // 0 to 1
}

// fuzzy turns neighbours into the weighted graph of UMAP (section 3.1): a
// neighbour's weight is exp(-(d-rho)/sigma), where rho is the distance of the
// nearest and sigma makes the sum of weights log2 k; the two directions of a pair
// join as the probability that either holds.
func fuzzy(near []neighbour, n, k int) *graph {
	type edge struct {
		a, b   int32
		weight float32
	}
	edges := make([]edge, 0, n*k)
	weights := make([]float32, k)
	for i := range n {
		part := near[i*k : (i+1)*k]
		memberships(weights, part)
		for j, nb := range part {
			a, b := int32(i), nb.row
			edges = append(edges, edge{min(a, b), max(a, b), weights[j]})
		}
	}
	slices.SortStableFunc(edges, func(p, q edge) int { return cmp.Or(cmp.Compare(p.a, q.a), cmp.Compare(p.b, q.b)) })
	g := &graph{rows: n}
	for i := 0; i < len(edges); i++ {
		e := edges[i]
		if i+1 < len(edges) && edges[i+1].a == e.a && edges[i+1].b == e.b {
			w := edges[i+1].weight
			e.weight += w - e.weight*w
			i++
		}
		g.a, g.b, g.weight = append(g.a, e.a), append(g.b, e.b), append(g.weight, e.weight)
	}
	return g
}

// memberships fills in the weights of a row's neighbours.
func memberships(weights []float32, near []neighbour) {
	rho, mean := 0.0, 0.0
	for _, b := range near {
		if rho == 0 {
			rho = float64(b.distance)
		}
		mean += float64(b.distance) / float64(len(near))
	}
	sum := func(sigma float64) float64 {
		s := 0.0
		for _, b := range near {
			s += math.Exp(-max(0, float64(b.distance)-rho) / sigma)
		}
		return s
	}
	// At least a thousandth of the mean distance (the original's floor): rows whose
	// neighbours are all equally near have no sigma.
	low := max(1e-3*mean, 1e-12)
	high := low
	want := math.Log2(float64(len(near)))
	for range 60 {
		if sum(high) >= want {
			break
		}
		high *= 2
	}
	for range 50 {
		if middle := (low + high) / 2; sum(middle) < want {
			low = middle
		} else {
			high = middle
		}
	}
	for j, b := range near {
		weights[j] = float32(math.Exp(-max(0, float64(b.distance)-rho) / high))
	}
}
