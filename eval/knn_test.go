package eval

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"runtime"
	"slices"
	"sort"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"swav/op/cpu"
)

// naive is the definition: all similarities in float64, sorted.
func naive(ref, query Set, k int, temperature float64, uniform, leaveOut bool) (predicted []int, top5 []bool) {
	for q := range query.Len() {
		type pair struct {
			sim float64
			i   int
		}
		var all []pair
		for r := range ref.Len() {
			if leaveOut && r == q {
				continue
			}
			all = append(all, pair{naiveCosine(query.Row(q), ref.Row(r)), r})
		}
		slices.SortStableFunc(all, func(a, b pair) int { return cmp.Compare(b.sim, a.sim) })
		votes := map[int]float64{}
		var order []int
		for _, p := range all[:min(k, len(all))] {
			w := math.Exp(p.sim / temperature)
			if uniform {
				w = 1
			}
			l := ref.Labels[p.i]
			if votes[l] == 0 {
				order = append(order, l)
			}
			votes[l] += w
		}
		sort.Slice(order, func(a, b int) bool {
			va, vb := votes[order[a]], votes[order[b]]
			return va > vb || va == vb && order[a] < order[b]
		})
		predicted = append(predicted, order[0])
		top5 = append(top5, slices.Contains(order[:min(5, len(order))], query.Labels[q]))
	}
	return predicted, top5
}

func naiveCosine(a, b []float32) float64 {
	var ab, aa, bb float64
	for i := range a {
		ab += float64(a[i]) * float64(b[i])
		aa += float64(a[i]) * float64(a[i])
		bb += float64(b[i]) * float64(b[i])
	}
	if aa == 0 || bb == 0 {
		return 0
	}
	return ab / math.Sqrt(aa*bb)
}

func random(rng *rand.Rand, n, dim, classes int) Set {
	s := Set{Dim: dim, Features: make([]float32, n*dim), Labels: make([]int, n)}
	for i := range s.Labels {
		s.Labels[i] = rng.IntN(classes)
		for j := range dim {
			// A little of the class, so that votes are neither all alike nor all clear.
			s.Features[i*dim+j] = float32(rng.NormFloat64())
		}
		s.Features[i*dim+s.Labels[i]%dim] += 1.5
	}
	return s
}

// Sizes on both sides of the blocks, features that do not fill whole vectors.
func TestKNNAgainstDefinition(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, c := range []struct{ refs, queries, dim, classes, k int }{
		{1, 1, 1, 1, 20}, {5, 3, 3, 2, 20}, {300, 257, 17, 7, 20}, {1024, 256, 16, 10, 5}, {1100, 30, 33, 10, 1}, {2100, 40, 8, 30, 200},
	} {
		for _, uniform := range []bool{false, true} {
			t.Run(fmt.Sprintf("%dx%d of %d, k %d, uniform %v", c.refs, c.queries, c.dim, c.k, uniform), func(t *testing.T) {
				ref, query := random(rng, c.refs, c.dim, c.classes), random(rng, c.queries, c.dim, c.classes)
				got, err := KNN(context.Background(), ref, query, Options{K: c.k, Classes: c.classes, Uniform: uniform})
				if err != nil {
					t.Fatal(err)
				}
				want, top5 := naive(ref, query, c.k, 0.07, uniform, false)
				check(t, got, query, want, top5)
				ref = Set{ref.Dim, ref.Features[:min(c.refs, 300)*ref.Dim], ref.Labels[:min(c.refs, 300)]}
				got, err = LeaveOneOut(context.Background(), ref, Options{K: c.k, Classes: c.classes, Uniform: uniform})
				if c.refs == 1 {
					if err == nil {
						t.Error("left one out of one")
					}
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				want, top5 = naive(ref, ref, c.k, 0.07, uniform, true)
				check(t, got, ref, want, top5)
			})
		}
	}
}

func check(t *testing.T, got Result, query Set, want []int, top5 []bool) {
	t.Helper()
	hits, hits5 := 0, 0
	perClass := make([]ClassResult, len(got.PerClass))
	for i, p := range want {
		perClass[query.Labels[i]].Queries++
		if p != got.Predicted[i] {
			t.Errorf("query %d: class %d, want %d", i, got.Predicted[i], p)
		}
		if p == query.Labels[i] {
			perClass[p].Correct++
			hits++
		}
		if top5[i] {
			hits5++
		}
	}
	n := float64(len(want))
	if got.Top1 != float64(hits)/n || got.Top5 != float64(hits5)/n || got.Queries != len(want) {
		t.Errorf("top-1 %v, top-5 %v of %d; want %v, %v", got.Top1, got.Top5, got.Queries, float64(hits)/n, float64(hits5)/n)
	}
	if !slices.Equal(got.PerClass, perClass) {
		t.Errorf("per class %v, want %v", got.PerClass, perClass)
	}
}

func TestKNNByHand(t *testing.T) {
	ref := Set{Dim: 2, Features: []float32{
		1, 0,
		0, 2, // cosine, so length does not count
		0, 3,
		-1, 0,
	}, Labels: []int{0, 1, 1, 2}}
	for _, c := range []struct {
		name  string
		query []float32
		o     Options
		want  int
	}{
		{"nearest wins at a low temperature", []float32{3, 2.9}, Options{K: 3, Temperature: 0.001}, 0},
		{"two outvote one", []float32{3, 2.9}, Options{K: 3, Uniform: true}, 1},
		{"and at a high temperature", []float32{3, 2.9}, Options{K: 3, Temperature: 100}, 1},
		{"one neighbour", []float32{3, 2.9}, Options{K: 1}, 0},
		{"more neighbours than references", []float32{-1, 0.1}, Options{K: 99}, 2},
		{"equal similarity: the first reference", []float32{1, 1}, Options{K: 1}, 0},
		{"equal votes: the lower class", []float32{0, -1}, Options{K: 4, Uniform: true, Temperature: 1}, 1},
		{"a zero query is like nothing", []float32{0, 0}, Options{K: 1}, 0},
		{"large values", []float32{1e38, -1e38}, Options{K: 1}, 0},
		{"small values", []float32{-1e-38, 0}, Options{K: 1}, 2},
	} {
		r, err := KNN(context.Background(), ref, Set{2, c.query, []int{0}}, c.o)
		if err != nil || r.Predicted[0] != c.want {
			t.Errorf("%s: class %v, %v; want %d", c.name, r.Predicted, err, c.want)
		}
	}
}

// A data set whose copies lie in it: each finds its copy, not itself.
func TestLeaveOneOutSkipsItself(t *testing.T) {
	set := Set{Dim: 2, Features: []float32{1, 0, 0, 1}, Labels: []int{0, 1}}
	r, err := LeaveOneOut(context.Background(), set, Options{K: 1})
	if err != nil || r.Top1 != 0 {
		t.Errorf("%+v, %v: a row must not find itself", r, err)
	}
	set = Set{Dim: 2, Features: []float32{1, 0, 1, 0, 0, 1, 0, 1}, Labels: []int{0, 0, 1, 1}}
	if r, err = LeaveOneOut(context.Background(), set, Options{K: 1}); err != nil || r.Top1 != 1 {
		t.Errorf("%+v, %v", r, err)
	}
}

// Many equal similarities, any number of processors: the same result.
func TestKNNIsDeterministic(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		dim, classes := rapid.IntRange(1, 5).Draw(t, "dim"), 4
		draw := func(label string, n int) Set {
			s := Set{Dim: dim, Labels: rapid.SliceOfN(rapid.IntRange(0, classes-1), n, n).Draw(t, label)}
			for _, v := range rapid.SliceOfN(rapid.IntRange(-1, 1), n*dim, n*dim).Draw(t, label) {
				s.Features = append(s.Features, float32(v))
			}
			return s
		}
		ref, query := draw("ref", rapid.IntRange(1, 60).Draw(t, "refs")), draw("query", rapid.IntRange(1, 30).Draw(t, "queries"))
		o := Options{K: rapid.IntRange(1, 25).Draw(t, "k"), Classes: classes}
		first, err := KNN(context.Background(), ref, query, o)
		if err != nil {
			t.Fatal(err)
		}
		old := runtime.GOMAXPROCS(4)
		second, err := KNN(context.Background(), ref, query, o)
		runtime.GOMAXPROCS(old)
		if err != nil || !reflect.DeepEqual(first, second) {
			t.Fatalf("%+v, then %+v, %v", first, second, err)
		}
		if first.Top5 < first.Top1 {
			t.Fatalf("top-5 %v below top-1 %v", first.Top5, first.Top1)
		}
	})
}

func TestKNNLeavesInputsAlone(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	ref, query := random(rng, 50, 5, 3), random(rng, 20, 5, 3)
	before := fmt.Sprint(ref, query)
	if _, err := KNN(context.Background(), ref, query, Options{}); err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(ref, query) != before {
		t.Error("the sets changed")
	}
}

// A lent product is used, and one that fails ends the search.
func TestKNNOwnProduct(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	ref, query := random(rng, 1100, 5, 3), random(rng, 300, 5, 3)
	want, err := KNN(context.Background(), ref, query, Options{})
	if err != nil {
		t.Fatal(err)
	}
	gonum := Gemm(nil).orDefault()
	got, err := KNN(context.Background(), ref, query, Options{Gemm: func(ta, tb bool, m, n, k int, a []float32, lda int, b []float32, ldb int, beta float32, c []float32, ldc int) error {
		if ta || !tb || len(c) < m*n {
			t.Errorf("product %v %v of %d x %d into %d", ta, tb, m, n, len(c))
		}
		return gonum(ta, tb, m, n, k, a, lda, b, ldb, beta, c, ldc)
	}})
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("another result, %v", err)
	}
	torn := errors.New("torn")
	_, err = KNN(context.Background(), ref, query, Options{Gemm: func(bool, bool, int, int, int, []float32, int, []float32, int, float32, []float32, int) error {
		return torn
	}})
	if !errors.Is(err, torn) {
		t.Errorf("error %v", err)
	}
}

// A backend's inner loop gives the same result to the bit, left-out rows included.
func TestKNNByScanner(t *testing.T) {
	rng := rand.New(rand.NewPCG(9, 10))
	for _, c := range []struct{ refs, queries, dim int }{{1, 1, 1}, {300, 257, 17}, {5000, 130, 40}, {4099, 121, 600}} {
		ref, query := random(rng, c.refs, c.dim, 5), random(rng, c.queries, c.dim, 5)
		for _, k := range []int{1, 20, 200} {
			want, err := KNN(context.Background(), ref, query, Options{K: k})
			if err != nil {
				t.Fatal(err)
			}
			got, err := KNN(context.Background(), ref, query, Options{K: k, Scanner: cpu.Scanner{}})
			if err != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("%+v, k %d: top-1 %v, want %v; %v", c, k, got.Top1, want.Top1, err)
			}
		}
		if c.refs == 1 {
			continue
		}
		want, err1 := LeaveOneOut(context.Background(), query, Options{})
		got, err2 := LeaveOneOut(context.Background(), query, Options{Scanner: cpu.Scanner{}})
		if err1 != nil || err2 != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%+v: leaving one out %v, want %v; %v, %v", c, got.Top1, want.Top1, err1, err2)
		}
	}
}

// All rules in one pass give what each gives alone.
func TestVotes(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 8))
	ref, query := random(rng, 700, 9, 5), random(rng, 290, 9, 5)
	var rules []Rule
	for _, k := range []int{1, 20, 200, 9999} {
		rules = append(rules, Rule{K: k, Temperature: 0.07}, Rule{K: k, Uniform: true})
	}
	all, err := Votes(context.Background(), ref, query, rules, Options{})
	if err != nil {
		t.Fatal(err)
	}
	for i, r := range rules {
		one, err := KNN(context.Background(), ref, query, Options{K: r.K, Uniform: r.Uniform})
		if err != nil || !reflect.DeepEqual(one, all[i]) {
			t.Errorf("%+v: %v alone, %v among others, %v", r, one.Top1, all[i].Top1, err)
		}
	}
}

// The candidates' order in one number, and the selection by it.
func TestCandidates(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		sims := rapid.SliceOfN(rapid.Float32Range(-1, 1), 1, 80).Draw(t, "sims")
		var all []candidate
		for i, s := range sims {
			c := newCandidate(s, i)
			if c.similarity() != s || c.index() != i {
				t.Fatalf("%v of %d became %v of %d", s, i, c.similarity(), c.index())
			}
			all = append(all, c)
		}
		order := make([]int, len(sims))
		for i := range order {
			order[i] = i
		}
		slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(sims[b], sims[a]) })
		n := rapid.IntRange(1, len(all)).Draw(t, "n")
		selectBest(all, n)
		got := slices.Clone(all[:n])
		slices.Sort(got)
		slices.Reverse(got)
		for i, c := range got {
			if c.index() != order[i] && sims[c.index()] != sims[order[i]] {
				t.Fatalf("place %d: %d, want %d", i, c.index(), order[i])
			}
		}
	})
}

func TestKNNErrors(t *testing.T) {
	good := Set{Dim: 1, Features: []float32{1, 2}, Labels: []int{0, 1}}
	for _, c := range []struct {
		ref, query Set
		o          Options
		want       string
	}{
		{Set{}, good, Options{}, "reference set is empty"},
		{good, Set{Dim: 3}, Options{}, "query set is empty"},
		{good, Set{Dim: 2, Features: []float32{1, 2}, Labels: []int{0}}, Options{}, "references of 1 features, queries of 2"},
		{good, Set{Dim: 2, Features: []float32{1, 2, 3}, Labels: []int{0}}, Options{}, "no whole rows"},
		{good, Set{Dim: 1, Features: []float32{1, 2}, Labels: []int{0}}, Options{}, "1 labels for 2 rows"},
		{good, good, Options{Classes: 1}, "label 1 of row 1, want 0 to 0"},
		{good, Set{Dim: 1, Features: []float32{1}, Labels: []int{-1}}, Options{}, "label -1 of row 0"},
		{good, Set{Dim: 1, Features: []float32{float32(math.NaN())}, Labels: []int{0}}, Options{}, "row 0 holds NaN"},
		{good, Set{Dim: 1, Features: []float32{0, float32(math.Inf(-1))}, Labels: []int{0, 0}}, Options{}, "row 1 holds -Inf"},
		{good, good, Options{K: -1}, "-1 neighbours"},
		{good, good, Options{Temperature: math.NaN()}, "temperature NaN"},
	} {
		if _, err := KNN(context.Background(), c.ref, c.query, c.o); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: error %v, want %q", c, err, c.want)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := KNN(ctx, good, good, Options{}); err == nil {
		t.Error("cancelled, but no error")
	}
}

func TestMajority(t *testing.T) {
	got, err := Majority([]int{2, 1, 1, 2, 0}, []int{1, 1, 2, 0})
	if err != nil || got != 0.5 {
		t.Errorf("%v, %v; want 0.5: class 1 is the lower of the two most frequent", got, err)
	}
	if _, err := Majority(nil, []int{1}); err == nil {
		t.Error("no error for an empty set")
	}
}
