package eval

import (
	"context"
	"fmt"
	"math"
	"runtime"
	"slices"
)

// Retrieval ranks all references by their similarity to each query (cosine) and says
// how near the front those of the query's class are. Where references are equally
// similar, those of other classes are taken to come first, so that features that are
// all alike do not look good. Queries of a class without references are left out.
func Retrieval(ctx context.Context, ref, query Set, o Options) (*RetrievalReport, error) {
	if o.Classes == 0 {
		o.Classes = classesOf(ref.Labels, query.Labels)
	}
	if err := checkSets(ref, query, o.Classes); err != nil {
		return nil, fmt.Errorf("retrieval: %w", err)
	}
	n, refs, dim := query.Len(), ref.Len(), ref.Dim
	inv := make([]float32, refs)
	for i := range inv {
		inv[i] = inverseNorm(ref.Row(i))
	}
	// Similarities of a block take at most 64 MB, or a row's.
	rows := max(1, min(64, 1<<24/refs))
	bar := newProgress(o.Progress, blocks(n, rows))
	gemm := o.Gemm.orDefault()
	workers := make([]ranking, runtime.GOMAXPROCS(0))
	ranks := make([]ranked, n)
	err := parallel(blocks(n, rows), func(worker, b int) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		w := &workers[worker]
		if w.sims == nil {
			w.sims = make([]float32, rows*refs)
		}
		from := b * rows
		m := min(rows, n-from)
		if err := gemm(false, true, m, refs, dim, query.Features[from*dim:], dim, ref.Features, dim, 0, w.sims, refs); err != nil {
			return err
		}
		for i := range m {
			sims := w.sims[i*refs:][:refs]
			scale := inverseNorm(query.Row(from + i))
			for j := range sims {
				sims[j] *= inv[j] * scale
			}
			ranks[from+i] = w.rank(sims, ref.Labels, query.Labels[from+i])
		}
		bar.add(1)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("retrieval: %w", err)
	}
	return summarizeRanks(ranks)
}

// inverseNorm is one over a row's length, 0 for a row of zeros.
func inverseNorm(row []float32) float32 {
	if s := dot(row, row); s > 0 {
		return float32(1 / math.Sqrt(s))
	}
	return 0
}

// ranked is where a query finds the references of its class.
type ranked struct {
	first     int     // place of the first one, from 1; 0: there are none
	precision float64 // average precision
}

// ranking is one goroutine's buffers.
type ranking struct {
	sims         []float32
	keys, sorted []uint32
}

func (w *ranking) rank(sims []float32, labels []int, label int) ranked {
	// A key is the distance 1 - cosine in steps of 2^-30, then whether the reference is
	// of the class: rising keys are the order of the ranking.
	w.keys = w.keys[:0]
	for j, s := range sims {
		key := uint32(min(max(1-float64(s), 0), 2)*(1<<30-1)) << 1
		if labels[j] == label {
			key |= 1
		}
		w.keys = append(w.keys, key)
	}
	w.sort()
	var r ranked
	own := 0
	for j, key := range w.keys {
		if key&1 == 0 {
			continue
		}
		if own++; own == 1 {
			r.first = j + 1
		}
		r.precision += float64(own) / float64(j+1)
	}
	r.precision /= max(1, float64(own))
	return r
}

// sort brings the keys into rising order, by radix: several times as fast as by
// comparison.
func (w *ranking) sort() {
	const bits, passes = 11, 3
	var counts [passes][1 << bits]int
	for _, k := range w.keys {
		for p := range counts {
			counts[p][k>>(bits*p)&(1<<bits-1)]++
		}
	}
	w.sorted = slices.Grow(w.sorted[:0], len(w.keys))[:len(w.keys)]
	for p := range counts {
		at := 0
		for d, n := range counts[p] {
			counts[p][d] = at
			at += n
		}
		for _, k := range w.keys {
			d := k >> (bits * p) & (1<<bits - 1)
			w.sorted[counts[p][d]] = k
			counts[p][d]++
		}
		w.keys, w.sorted = w.sorted, w.keys
	}
}

func summarizeRanks(ranks []ranked) (*RetrievalReport, error) {
	r := &RetrievalReport{Recall: map[string]float64{}}
	counted := 0
	at := []int{1, 5, 10}
	hits := make([]int, len(at))
	for _, q := range ranks {
		if q.first == 0 {
			r.WithoutReferences++
			continue
		}
		counted++
		r.MAP += percent(q.precision)
		for i, k := range at {
			if q.first <= k {
				hits[i]++
			}
		}
	}
	if counted == 0 {
		return nil, fmt.Errorf("retrieval: no query has a reference of its class")
	}
	r.MAP /= float64(counted)
	for i, k := range at {
		r.Recall[fmt.Sprint(k)] = percent(float64(hits[i]) / float64(counted))
	}
	return r, nil
}
