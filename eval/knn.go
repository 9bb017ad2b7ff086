package eval

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"gonum.org/v1/gonum/blas"
	"gonum.org/v1/gonum/blas/blas32"
)

// Options of the nearest-neighbour classifier. The zero value is the protocol of
// Wu et al. 2018 (arXiv 1805.01978, section 3.4) with 20 neighbours.
type Options struct {
	K           int     // neighbours; 0 means 20
	Temperature float64 // of the votes; 0 means 0.07
	Uniform     bool    // every neighbour has one vote
	Classes     int     // 0 means as many as the labels show

	// Product, if not nil, computes dst [m, n] = a [m, k] bᵀ, b [n, k], from
	// several goroutines at once. It lets the caller lend a fast backend; it has
	// to give the same bits for the same rows each time.
	Product func(dst, a, b []float32, m, n, k int)
}

// ClassResult counts the queries of a class.
type ClassResult struct {
	Queries, Correct int
}

// Result of a classification.
type Result struct {
	Queries    int
	Top1, Top5 float64 // shares of the queries; Top5 counts classes with a vote only
	PerClass   []ClassResult
	Predicted  []int // the class of each query
}

// Blocks of the product: a query block and a reference block of 512 features take
// 2.5 MB, their similarities 1 MB.
const (
	queryBlock = 256
	refBlock   = 1024
)

// KNN classifies every query by its K most similar references (cosine), each of
// which votes for its label with weight exp(similarity/Temperature). It is exact.
// Equal similarities are ordered by reference, equal votes by class, so the
// result does not depend on the number of processors. Memory beyond the sets is
// a few MB per processor.
func KNN(ctx context.Context, ref, query Set, o Options) (Result, error) {
	if o.Classes == 0 {
		o.Classes = classesOf(ref.Labels, query.Labels)
	}
	if err := ref.check("reference", o.Classes); err != nil {
		return Result{}, fmt.Errorf("knn: %w", err)
	}
	if err := query.check("query", o.Classes); err != nil {
		return Result{}, fmt.Errorf("knn: %w", err)
	}
	if ref.Dim != query.Dim {
		return Result{}, fmt.Errorf("knn: references of %d features, queries of %d", ref.Dim, query.Dim)
	}
	return classify(ctx, ref, query, o, false)
}

// LeaveOneOut is KNN for data without a test split: every row is classified by all
// the others.
func LeaveOneOut(ctx context.Context, set Set, o Options) (Result, error) {
	if o.Classes == 0 {
		o.Classes = classesOf(set.Labels)
	}
	if err := set.check("reference", o.Classes); err != nil {
		return Result{}, fmt.Errorf("knn: %w", err)
	}
	if set.Len() < 2 {
		return Result{}, fmt.Errorf("knn: leaving one out of %d rows", set.Len())
	}
	return classify(ctx, set, set, o, true)
}

func classify(ctx context.Context, ref, query Set, o Options, leaveOut bool) (Result, error) {
	if o.K < 0 || o.Temperature < 0 || math.IsNaN(o.Temperature) {
		return Result{}, fmt.Errorf("knn: %d neighbours, temperature %v", o.K, o.Temperature)
	}
	o.K = min(cmp.Or(o.K, 20), ref.Len())
	o.Temperature = cmp.Or(o.Temperature, 0.07)
	if o.Product == nil {
		o.Product = product
	}
	n := query.Len()
	r := Result{Queries: n, PerClass: make([]ClassResult, o.Classes), Predicted: make([]int, n)}
	inTop5 := make([]bool, n)
	var next atomic.Int64
	var wg sync.WaitGroup
	blocks := (n + queryBlock - 1) / queryBlock
	for range min(blocks, runtime.GOMAXPROCS(0)) {
		wg.Go(func() {
			s := newSearch(ref, query, o, leaveOut)
			for {
				from := int(next.Add(1)-1) * queryBlock
				if from >= n || ctx.Err() != nil {
					return
				}
				to := min(from+queryBlock, n)
				s.block(from, to)
				for i := from; i < to; i++ {
					r.Predicted[i], inTop5[i] = s.vote(i-from, query.Labels[i])
				}
			}
		})
	}
	wg.Wait()
	if err := ctx.Err(); err != nil {
		return Result{}, fmt.Errorf("knn: %w", err)
	}
	top1, top5 := 0, 0
	for i, label := range query.Labels {
		r.PerClass[label].Queries++
		if r.Predicted[i] == label {
			r.PerClass[label].Correct++
			top1++
		}
		if inTop5[i] {
			top5++
		}
	}
	r.Top1, r.Top5 = float64(top1)/float64(n), float64(top5)/float64(n)
	return r, nil
}

type neighbour struct {
	sim   float32
	index int
}

// search is one goroutine's state.
type search struct {
	ref, query Set
	o          Options
	leaveOut   bool
	width      int // of a packed row
	q, r, sims []float32
	near       [][]neighbour // of each query of the block, most similar first
	votes      []float64
	order      []int
}

func newSearch(ref, query Set, o Options, leaveOut bool) *search {
	// Rows of whole 16 floats start at aligned addresses wherever they lie; the
	// assembly's order of summation depends on that.
	width := (ref.Dim + 15) &^ 15
	s := &search{ref: ref, query: query, o: o, leaveOut: leaveOut, width: width,
		q: make([]float32, queryBlock*width), r: make([]float32, refBlock*width),
		sims: make([]float32, queryBlock*refBlock), near: make([][]neighbour, queryBlock), votes: make([]float64, o.Classes)}
	for i := range s.near {
		s.near[i] = make([]neighbour, 0, o.K+1)
	}
	return s
}

// block finds the neighbours of queries from up to, not including, to.
func (s *search) block(from, to int) {
	m := to - from
	pack(s.q, s.query, from, to, s.width)
	for i := range m {
		s.near[i] = s.near[i][:0]
	}
	for start := 0; start < s.ref.Len(); start += refBlock {
		end := min(start+refBlock, s.ref.Len())
		n := end - start
		pack(s.r, s.ref, start, end, s.width)
		s.o.Product(s.sims[:m*n], s.q[:m*s.width], s.r[:n*s.width], m, n, s.width)
		for i := range m {
			skip := -1
			if s.leaveOut {
				skip = from + i
			}
			s.near[i] = insert(s.near[i], s.sims[i*n:][:n], start, s.o.K, skip)
		}
	}
}

// insert merges the similarities to references start and on into near, which stays
// sorted and at most k long.
func insert(near []neighbour, sims []float32, start, k, skip int) []neighbour {
	worst := float32(math.Inf(-1))
	if len(near) == k {
		worst = near[k-1].sim
	}
	for j, sim := range sims {
		// References come in rising order, so an equal one never goes ahead.
		if sim <= worst || start+j == skip {
			continue
		}
		at := len(near)
		for at > 0 && near[at-1].sim < sim {
			at--
		}
		near = slices.Insert(near, at, neighbour{sim, start + j})
		if len(near) > k {
			near = near[:k]
		}
		if len(near) == k {
			worst = near[k-1].sim
		}
	}
	return near
}

// vote returns the class that the neighbours of query i of the block choose and
// whether label is among their first five.
func (s *search) vote(i, label int) (class int, inTop5 bool) {
	near := s.near[i]
	s.order = s.order[:0]
	for _, nb := range near {
		weight := 1.0
		if !s.o.Uniform {
			// Against the nearest: the same ratios, and finite at any temperature.
			weight = math.Exp((float64(nb.sim) - float64(near[0].sim)) / s.o.Temperature)
		}
		c := s.ref.Labels[nb.index]
		if !slices.Contains(s.order, c) {
			s.order = append(s.order, c)
		}
		s.votes[c] += weight
	}
	slices.SortFunc(s.order, func(a, b int) int {
		return cmp.Or(cmp.Compare(s.votes[b], s.votes[a]), cmp.Compare(a, b))
	})
	for _, c := range s.order {
		s.votes[c] = 0
	}
	return s.order[0], slices.Contains(s.order[:min(5, len(s.order))], label)
}

// pack writes rows from up to to, divided by their L2 norm, to dst [.., width] with
// zeros at the end of each row. A zero row stays zero and is similar to nothing.
func pack(dst []float32, set Set, from, to, width int) {
	for i := from; i < to; i++ {
		row := set.Features[i*set.Dim:][:set.Dim]
		out := dst[(i-from)*width:][:width]
		var sum float64
		for _, x := range row {
			sum += float64(x) * float64(x)
		}
		inv := 0.0
		if sum > 0 {
			inv = 1 / math.Sqrt(sum)
		}
		for j, x := range row {
			out[j] = float32(float64(x) * inv)
		}
		clear(out[len(row):])
	}
}

func product(dst, a, b []float32, m, n, k int) {
	blas32.Gemm(blas.NoTrans, blas.Trans, 1,
		blas32.General{Rows: m, Cols: k, Stride: k, Data: a},
		blas32.General{Rows: n, Cols: k, Stride: k, Data: b}, 0,
		blas32.General{Rows: m, Cols: n, Stride: n, Data: dst})
}
