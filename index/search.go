package index

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"

	"gonum.org/v1/gonum/blas"
	"gonum.org/v1/gonum/blas/blas32"

	"swav/eval"
	"swav/op/cpu"
)

// Hit is a row that was found.
type Hit struct {
	Row        int
	Similarity float32 // cosine of the features
}

// searchRows is the number of rows that are compared at a time: their
// similarities to a few dozen queries stay below a few MB.
const searchRows = 8192

// Nearest returns for each query, a row of Dim features of any length, the k most
// similar rows of the index, best first; equal ones in order of rows. It is exact.
func (x *Index) Nearest(ctx context.Context, queries []float32, k int) ([][]Hit, error) {
	if k < 1 || len(queries)%x.Dim != 0 {
		return nil, fmt.Errorf("nearest %d of queries of %d numbers, rows have %d", k, len(queries), x.Dim)
	}
	n := len(queries) / x.Dim
	unit := slices.Clone(queries)
	for i := range n {
		if !Normalize(unit[i*x.Dim : (i+1)*x.Dim]) {
			return nil, fmt.Errorf("features of query %d are not finite", i)
		}
	}
	hits := make([][]Hit, n)
	similarity := make([]float32, min(searchRows, x.Len())*n)
	for from := 0; from < x.Len(); from += searchRows {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		rows := min(searchRows, x.Len()-from)
		if err := product(similarity, unit, x.Features[from*x.Dim:(from+rows)*x.Dim], n, rows, x.Dim); err != nil {
			return nil, fmt.Errorf("nearest: %w", err)
		}
		for q := range n {
			for r, s := range similarity[q*rows : (q+1)*rows] {
				hits[q] = insert(hits[q], Hit{from + r, s}, k)
			}
		}
	}
	return hits, nil
}

// product computes dst [m, n] = a [m, d] times the transpose of b [n, d].
func product(dst, a, b []float32, m, n, d int) error {
	if gemm := eval.Gemm(cpu.Gemm); gemm != nil { // nil without cgo
		return gemm(false, true, m, n, d, a, d, b, d, 0, dst, n)
	}
	blas32.Gemm(blas.NoTrans, blas.Trans, 1, blas32.General{Rows: m, Cols: d, Stride: d, Data: a},
		blas32.General{Rows: n, Cols: d, Stride: d, Data: b}, 0, blas32.General{Rows: m, Cols: n, Stride: n, Data: dst[:m*n]})
	return nil
}

// insert keeps the k best hits in order. Rows come in ascending order, so a hit
// goes behind its equals.
func insert(hits []Hit, h Hit, k int) []Hit {
	if len(hits) == k && hits[k-1].Similarity >= h.Similarity {
		return hits
	}
	at, _ := slices.BinarySearchFunc(hits, h.Similarity, func(a Hit, s float32) int {
		if a.Similarity >= s {
			return -1
		}
		return 1
	})
	if len(hits) == k {
		hits = hits[:k-1]
	}
	return slices.Insert(hits, at, h)
}

// Vote is a class with its share of the votes.
type Vote struct {
	Class int
	Share float64
}

// VoteTemperature sharpens votes (Wu et al. 2018, section 3.4).
const VoteTemperature = 0.07

// Votes lets hits vote for their labels, each with exp(similarity / temperature),
// and returns the classes with votes, best first. Hits without labels have none.
func (x *Index) Votes(hits []Hit) []Vote {
	shares := map[int]float64{}
	total := 0.0
	for _, h := range hits {
		if l := x.Label(h.Row); l >= 0 {
			// Against the nearest: the same ratios, and finite.
			w := math.Exp(float64(h.Similarity-hits[0].Similarity) / VoteTemperature)
			shares[l] += w
			total += w
		}
	}
	votes := make([]Vote, 0, len(shares))
	for c, s := range shares {
		votes = append(votes, Vote{c, s / total})
	}
	slices.SortFunc(votes, func(a, b Vote) int {
		return cmp.Or(cmp.Compare(b.Share, a.Share), cmp.Compare(a.Class, b.Class))
	})
	return votes
}
