package swav

import (
	"fmt"
	"math"
	"math/big"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"swav/dist"
)

var paper = SinkhornOptions{Epsilon: 0.05, Iterations: 3}

// randomScores are cosines, so within [-1, 1].
func randomScores(seed uint64, rows, k int) []float32 {
	rng := rand.New(rand.NewPCG(seed, 1))
	s := make([]float32, rows*k)
	for i := range s {
		s[i] = 2*rng.Float32() - 1
	}
	return s
}

func sinkhorn(t testing.TB, scores []float32, rows, k int, o SinkhornOptions) []float32 {
	t.Helper()
	codes := make([]float32, rows*k)
	if err := Sinkhorn(codes, scores, rows, k, o, dist.Solo()); err != nil {
		t.Fatal(err)
	}
	return codes
}

// naiveSinkhorn is the definition to the letter: exponentials, then divisions.
func naiveSinkhorn(scores []float32, rows, k int, o SinkhornOptions) []float64 {
	q := make([]float64, rows*k)
	var total float64
	for i, s := range scores {
		q[i] = math.Exp(float64(s) / o.Epsilon)
		total += q[i]
	}
	for i := range q {
		q[i] /= total
	}
	for range o.Iterations {
		for j := range k {
			var sum float64
			for i := range rows {
				sum += q[i*k+j]
			}
			for i := range rows {
				q[i*k+j] /= sum * float64(k)
			}
		}
		for i := range rows {
			var sum float64
			for j := range k {
				sum += q[i*k+j]
			}
			for j := range k {
				q[i*k+j] /= sum * float64(rows)
			}
		}
	}
	for i := range q {
		q[i] *= float64(rows)
	}
	return q
}

func worst(got []float32, want []float64) float64 {
	var w float64
	for i := range got {
		w = max(w, math.Abs(float64(got[i])-want[i]))
	}
	return w
}

func TestSinkhornIsItsDefinition(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rows, k := rapid.IntRange(1, 20).Draw(t, "rows"), rapid.IntRange(1, 12).Draw(t, "k")
		o := SinkhornOptions{
			Epsilon:    rapid.Float64Range(0.02, 2).Draw(t, "epsilon"),
			Iterations: rapid.IntRange(1, 6).Draw(t, "iterations"),
		}
		scores := randomScores(rapid.Uint64().Draw(t, "seed"), rows, k)
		codes := make([]float32, rows*k)
		if err := Sinkhorn(codes, scores, rows, k, o, dist.Solo()); err != nil {
			t.Fatal(err)
		}
		if w := worst(codes, naiveSinkhorn(scores, rows, k, o)); w > 1e-6 {
			t.Fatalf("off by %g", w)
		}
	})
}

// bigSinkhorn is the definition in arithmetic whose exponents do not end:
// exp(1000) next to exp(-1000) keeps its weight. The exponential is exp(s/epsilon)
// = exp(s/(epsilon 256))^256, whose base float64 knows to 1e-16.
func bigSinkhorn(scores []float32, rows, k int, o SinkhornOptions) []float64 {
	const prec = 200
	number := func(x float64) *big.Float { return new(big.Float).SetPrec(prec).SetFloat64(x) }
	q := make([]*big.Float, rows*k)
	for i, s := range scores {
		q[i] = number(math.Exp(float64(s) / o.Epsilon / 256))
		for range 8 {
			q[i].Mul(q[i], q[i])
		}
	}
	divide := func(at func(int) int, n int) {
		sum := number(0)
		for i := range n {
			sum.Add(sum, q[at(i)])
		}
		for i := range n {
			q[at(i)].Quo(q[at(i)], sum)
		}
	}
	for range o.Iterations {
		for j := range k {
			divide(func(i int) int { return i*k + j }, rows)
		}
		for i := range rows {
			divide(func(j int) int { return i*k + j }, k)
		}
	}
	out := make([]float64, rows*k)
	for i := range q {
		out[i], _ = q[i].Float64()
	}
	return out
}

// At small epsilon the exponentials of one sample may lie e^2000 below
// another's; the relative weight of samples still counts in the first division
// of the prototypes, so nothing may be shifted away or flushed to zero.
func TestSinkhornAtSmallEpsilonIsItsDefinition(t *testing.T) {
	const rows, k = 24, 7
	for _, epsilon := range []float64{0.05, 0.01, 1e-3} {
		for _, iterations := range []int{1, 3} {
			scores := randomScores(3, rows, k)
			for j := range k {
				scores[j] = -1 + float32(j)*1e-4 // best score e^2000 below the others'
				scores[k+j] = 1 - float32(j)*1e-4
			}
			o := SinkhornOptions{Epsilon: epsilon, Iterations: iterations}
			codes := sinkhorn(t, scores, rows, k, o)
			if w := worst(codes, bigSinkhorn(scores, rows, k, o)); w > 1e-6 {
				t.Errorf("epsilon %v, %d iterations: off by %g", epsilon, iterations, w)
			}
		}
	}
}

func TestSinkhornSamplesSumToOne(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rows, k := rapid.IntRange(0, 30).Draw(t, "rows"), rapid.IntRange(1, 30).Draw(t, "k")
		scale := rapid.SampledFrom([]float32{0, 1e-3, 1, 100, 1e30}).Draw(t, "scale")
		o := SinkhornOptions{
			Epsilon:    math.Pow(10, rapid.Float64Range(-3, 1).Draw(t, "log epsilon")),
			Iterations: rapid.IntRange(1, 5).Draw(t, "iterations"),
			Hard:       rapid.Bool().Draw(t, "hard"),
		}
		scores := randomScores(rapid.Uint64().Draw(t, "seed"), rows, k)
		for i := range scores {
			scores[i] *= scale
		}
		before := slices.Clone(scores)
		codes := make([]float32, rows*k)
		if err := Sinkhorn(codes, scores, rows, k, o, dist.Solo()); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(before, scores) {
			t.Fatal("the scores have changed")
		}
		for i := range rows {
			var sum float64
			for _, q := range codes[i*k:][:k] {
				if !(q >= 0 && q <= 1+1e-6) || o.Hard && q != 0 && q != 1 {
					t.Fatalf("code %v", codes[i*k:][:k])
				}
				sum += float64(q)
			}
			if math.Abs(sum-1) > 1e-5 {
				t.Fatalf("sample %d sums to %v", i, sum)
			}
		}
	})
}

func imbalance(codes []float32, rows, k int) float64 {
	mean := make([]float64, k)
	for i, q := range codes {
		mean[i%k] += float64(q) / float64(rows)
	}
	var off float64
	for _, m := range mean {
		off += math.Abs(m - 1/float64(k))
	}
	return off
}

func TestSinkhornBalancesPrototypes(t *testing.T) {
	const rows, k = 64, 10
	scores := randomScores(5, rows, k)
	for i := range rows {
		scores[i*k] += 0.5 // everyone's favourite
	}
	last := math.Inf(1)
	for _, iterations := range []int{1, 3, 30, 3000} {
		off := imbalance(sinkhorn(t, scores, rows, k, SinkhornOptions{Epsilon: 0.05, Iterations: iterations}), rows, k)
		if off >= last {
			t.Errorf("%d iterations: marginal error %g, fewer had %g", iterations, off, last)
		}
		last = off
	}
	if last > 1e-4 {
		t.Errorf("marginal error %g after 3000 iterations", last)
	}
}

func TestSinkhornStopsAtTolerance(t *testing.T) {
	const rows, k = 64, 10
	scores := randomScores(5, rows, k)
	many := SinkhornOptions{Epsilon: 0.05, Iterations: 1000, Tolerance: 0.01}
	codes := sinkhorn(t, scores, rows, k, many)
	if off := imbalance(codes, rows, k); off >= many.Tolerance {
		t.Errorf("stopped at a marginal error of %g", off)
	}
	// It stops at the first iteration that is good enough.
	for n := 1; ; n++ {
		fixed := sinkhorn(t, scores, rows, k, SinkhornOptions{Epsilon: 0.05, Iterations: n})
		if imbalance(fixed, rows, k) < many.Tolerance {
			if !slices.Equal(fixed, codes) {
				t.Errorf("not the codes of iteration %d", n)
			}
			break
		}
	}
	few := many
	few.Iterations = 2
	if !slices.Equal(sinkhorn(t, scores, rows, k, few), sinkhorn(t, scores, rows, k, SinkhornOptions{Epsilon: 0.05, Iterations: 2})) {
		t.Error("more than the iterations allowed")
	}
}

// onRanks splits the rows over n ranks and puts their codes together again.
func onRanks(t *testing.T, n int, scores []float32, rows, k int, o SinkhornOptions) []float32 {
	t.Helper()
	codes := make([]float32, rows*k)
	var wg sync.WaitGroup
	for r, c := range dist.Local(n) {
		from, to := r*rows/n, (r+1)*rows/n
		wg.Go(func() {
			if err := Sinkhorn(codes[from*k:to*k], scores[from*k:to*k], to-from, k, o, c); err != nil {
				t.Errorf("rank %d: %v", r, err)
				c.Abort(err)
			}
		})
	}
	wg.Wait()
	return codes
}

func TestSinkhornIsOverAllRanks(t *testing.T) {
	const rows, k = 12, 9
	scores := randomScores(7, rows, k)
	for _, o := range []SinkhornOptions{
		paper,
		{Epsilon: 1e-3, Iterations: 3},
		{Epsilon: 0.05, Iterations: 500, Tolerance: 1e-3},
		{Epsilon: 0.05, Iterations: 3, Hard: true},
	} {
		want := sinkhorn(t, scores, rows, k, o)
		for _, n := range []int{2, 3, 5, 13} { // of 13 ranks, one has no rows
			got := onRanks(t, n, scores, rows, k, o)
			for i := range want {
				if math.Abs(float64(got[i]-want[i])) > 1e-6 {
					t.Fatalf("%+v on %d ranks: code %d is %v, on one rank %v", o, n, i, got[i], want[i])
				}
			}
		}
	}
}

func TestSinkhornOfAlikeSamplesIsUniform(t *testing.T) {
	const rows, k = 6, 5
	for _, o := range []SinkhornOptions{paper, {Epsilon: 1e-3, Iterations: 3}, {Epsilon: 0.03, Iterations: 1, Tolerance: 0.1}} {
		scores := make([]float32, rows*k) // all zero: embeddings that are zero
		for _, fill := range []func(i int) float32{
			func(int) float32 { return 0 },
			func(int) float32 { return 0.9 },
			func(i int) float32 { return float32(i%k) / k }, // collapsed to one embedding
		} {
			for i := range scores {
				scores[i] = fill(i)
			}
			for i, q := range sinkhorn(t, scores, rows, k, o) {
				if math.Abs(float64(q)-1.0/k) > 1e-6 {
					t.Fatalf("%+v: code %d is %v", o, i, q)
				}
			}
		}
	}
}

// A prototype that no sample likes still gets its share; a sample that likes
// none is assigned all the same.
func TestSinkhornOfUnlikedPrototypesAndSamples(t *testing.T) {
	const rows, k = 8, 4
	scores := randomScores(9, rows, k)
	for i := range rows {
		scores[i*k+2] = -1e6
	}
	for j := range k {
		scores[3*k+j] = -1e6
	}
	codes := sinkhorn(t, scores, rows, k, SinkhornOptions{Epsilon: 1e-3, Iterations: 50})
	var share float64
	for i := range rows {
		share += float64(codes[i*k+2])
	}
	if share < 0.5*rows/k {
		t.Errorf("the unliked prototype has %v of %d samples", share, rows)
	}
}

func TestSinkhornHardTakesTheLargestCode(t *testing.T) {
	const rows, k = 30, 6
	scores := randomScores(11, rows, k)
	soft := sinkhorn(t, scores, rows, k, paper)
	o := paper
	o.Hard = true
	hard := sinkhorn(t, scores, rows, k, o)
	for i := range rows {
		row := soft[i*k:][:k]
		if best := slices.Index(row, slices.Max(row)); hard[i*k+best] != 1 {
			t.Errorf("sample %d: soft %v, hard %v", i, row, hard[i*k:][:k])
		}
	}
}

func TestSinkhornInPlace(t *testing.T) {
	const rows, k = 10, 6
	scores := randomScores(13, rows, k)
	want := sinkhorn(t, scores, rows, k, paper)
	if err := Sinkhorn(scores, scores, rows, k, paper, dist.Solo()); err != nil || !slices.Equal(scores, want) {
		t.Errorf("%v, %v, want %v", err, scores, want)
	}
}

// One rank's scores are not finite: no rank may wait for it forever.
func TestSinkhornRefusesScoresThatAreNotFinite(t *testing.T) {
	for _, x := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
		comms := dist.Local(2)
		errs := make([]error, 2)
		var wg sync.WaitGroup
		for r, c := range comms {
			wg.Go(func() {
				scores := randomScores(1, 3, 4)
				if r == 1 {
					scores[2*4+1] = float32(x)
				}
				errs[r] = Sinkhorn(scores, scores, 3, 4, paper, c)
			})
		}
		wg.Wait()
		for r, want := range []string{"another rank", fmt.Sprintf("sample 2 for prototype 1 is %v", x)} {
			if errs[r] == nil || !strings.Contains(errs[r].Error(), want) {
				t.Errorf("rank %d: %v, want it to say %q", r, errs[r], want)
			}
		}
	}
}

// failing is a group whose n-th call fails.
type failing struct {
	dist.Comm
	left int
}

func (f *failing) AllReduce64(x []float64, op dist.Op) error {
	if f.left--; f.left < 0 {
		return fmt.Errorf("rank 1 has left the group")
	}
	return f.Comm.AllReduce64(x, op)
}

func TestSinkhornReportsItsGroup(t *testing.T) {
	scores := randomScores(1, 3, 4)
	o := paper
	o.Tolerance = 1e-9
	for n := range 7 {
		if err := Sinkhorn(scores, scores, 3, 4, o, &failing{dist.Solo(), n}); err == nil {
			t.Errorf("call %d fails unnoticed", n)
		}
	}
}

func TestMatrixOfWrongSizePanics(t *testing.T) {
	for name, f := range map[string]func(){
		"sinkhorn scores": func() { _ = Sinkhorn(make([]float32, 12), make([]float32, 11), 3, 4, paper, dist.Solo()) },
		"sinkhorn codes":  func() { _ = Sinkhorn(make([]float32, 11), make([]float32, 12), 3, 4, paper, dist.Solo()) },
		"epsilon":         func() { _ = Sinkhorn(nil, nil, 0, 4, SinkhornOptions{Iterations: 3}, dist.Solo()) },
		"normalize":       func() { NormalizeRows(make([]float32, 5), 2, 3) },
		"loss": func() {
			Loss(make([]float32, 5), [][]float32{make([]float32, 3)}, 2, 1, 3, []int{0}, 0.1, make([]float32, 6))
		},
		"one view": func() {
			Loss(make([]float32, 3), [][]float32{make([]float32, 3)}, 1, 1, 3, []int{0}, 0.1, make([]float32, 3))
		},
		"assignment crop": func() {
			Loss(make([]float32, 6), [][]float32{make([]float32, 3)}, 2, 1, 3, []int{2}, 0.1, make([]float32, 6))
		},
	} {
		func() {
			defer func() {
				if msg, ok := recover().(string); !ok || !strings.HasPrefix(msg, "swav: ") {
					t.Errorf("%s: recovered %q", name, msg)
				}
			}()
			f()
		}()
	}
}
