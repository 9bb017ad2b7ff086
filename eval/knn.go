package eval

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"sync"
)

// Options of the evaluations. The zero value is the protocol of Wu et al. 2018
// (arXiv 1805.01978, section 3.4) with 20 neighbours.
type Options struct {
	K           int     // neighbours; 0 means 20
	Temperature float64 // of the votes; 0 means 0.07
	Uniform     bool    // every neighbour has one vote
	Classes     int     // 0 means as many as the labels show
	Gemm        Gemm    // nil: gonum's
	Scanner     Scanner // of the search for neighbours; nil: a Gemm does its work

	// Progress, if not nil, is told how much is done. It is called by one goroutine
	// at a time.
	Progress func(done, total int)
}

// Rule is a way to count the neighbours' votes.
type Rule struct {
	K           int
	Temperature float64 // weight of a vote: exp(similarity/Temperature)
	Uniform     bool    // every neighbour has one vote; Temperature does not count
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

// KNN classifies every query by its K most similar references (cosine), each of
// which votes for its label with weight exp(similarity/Temperature). It is exact:
// neighbours are settled in float64. Equal similarities are ordered by reference,
// equal votes by class, so the result does not depend on the number of processors.
// Memory beyond the sets is the queries once more, 33 MB for references of 2,048
// features, and at most half a GB of candidates.
func KNN(ctx context.Context, ref, query Set, o Options) (Result, error) {
	r, err := Votes(ctx, ref, query, []Rule{o.rule()}, o)
	if err != nil {
		return Result{}, err
	}
	return r[0], nil
}

func (o Options) rule() Rule {
	return Rule{K: cmp.Or(o.K, 20), Temperature: cmp.Or(o.Temperature, 0.07), Uniform: o.Uniform}
}

// Votes is KNN by several rules at once: the neighbours are looked for once. Of the
// options it takes Classes, Gemm, Scanner and Progress.
func Votes(ctx context.Context, ref, query Set, rules []Rule, o Options) ([]Result, error) {
	if o.Classes == 0 {
		o.Classes = classesOf(ref.Labels, query.Labels)
	}
	if err := checkSets(ref, query, o.Classes); err != nil {
		return nil, fmt.Errorf("knn: %w", err)
	}
	return classify(ctx, ref, query, rules, o, false)
}

// checkSets checks what is compared.
func checkSets(ref, query Set, classes int) error {
	if err := ref.check("reference", classes); err != nil {
		return err
	}
	if err := query.check("query", classes); err != nil {
		return err
	}
	if ref.Dim != query.Dim {
		return fmt.Errorf("references of %d features, queries of %d", ref.Dim, query.Dim)
	}
	return nil
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
	r, err := classify(ctx, set, set, []Rule{o.rule()}, o, true)
	if err != nil {
		return Result{}, err
	}
	return r[0], nil
}

func classify(ctx context.Context, ref, query Set, rules []Rule, o Options, leaveOut bool) ([]Result, error) {
	most := 0
	for _, r := range rules {
		if r.K < 1 || !(r.Temperature > 0) && !r.Uniform {
			return nil, fmt.Errorf("knn: %d neighbours, temperature %v: want 1 or more, above 0", r.K, r.Temperature)
		}
		most = max(most, r.K)
	}
	n := query.Len()
	results := make([]Result, len(rules))
	inTop5 := make([][]bool, len(rules))
	for i := range results {
		results[i] = Result{Queries: n, PerClass: make([]ClassResult, o.Classes), Predicted: make([]int, n)}
		inTop5[i] = make([]bool, n)
	}
	ballots := sync.Pool{New: func() any { return &ballot{votes: make([]float64, o.Classes)} }}
	err := search(ctx, ref, query, most, leaveOut, o, func(q int, near []Neighbour) {
		b := ballots.Get().(*ballot)
		for i, r := range rules {
			results[i].Predicted[q], inTop5[i][q] = b.count(near[:min(r.K, len(near))], r, ref.Labels, query.Labels[q])
		}
		ballots.Put(b)
	})
	if err != nil {
		return nil, fmt.Errorf("knn: %w", err)
	}
	for i := range results {
		results[i].tally(query.Labels, inTop5[i])
	}
	return results, nil
}

// tally counts what was predicted.
func (r *Result) tally(labels []int, inTop5 []bool) {
	top1, top5 := 0, 0
	for i, label := range labels {
		r.PerClass[label].Queries++
		if r.Predicted[i] == label {
			r.PerClass[label].Correct++
			top1++
		}
		if inTop5[i] {
			top5++
		}
	}
	r.Top1, r.Top5 = float64(top1)/float64(len(labels)), float64(top5)/float64(len(labels))
}

// ballot is one goroutine's state.
type ballot struct {
	votes []float64 // of each class
	order []int     // classes with votes
}

// count returns the class that the neighbours choose and whether label is among their
// first five.
func (b *ballot) count(near []Neighbour, r Rule, labels []int, label int) (class int, inTop5 bool) {
	b.order = b.order[:0]
	for _, n := range near {
		weight := 1.0
		if !r.Uniform {
			// Against the nearest: the same ratios, and finite at any temperature.
			weight = math.Exp((n.Similarity - near[0].Similarity) / r.Temperature)
		}
		c := labels[n.Index]
		if !slices.Contains(b.order, c) {
			b.order = append(b.order, c)
		}
		b.votes[c] += weight
	}
	slices.SortFunc(b.order, func(x, y int) int {
		return cmp.Or(cmp.Compare(b.votes[y], b.votes[x]), cmp.Compare(x, y))
	})
	for _, c := range b.order {
		b.votes[c] = 0
	}
	return b.order[0], slices.Contains(b.order[:min(5, len(b.order))], label)
}
