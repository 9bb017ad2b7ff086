package eval

import (
	"context"
	"math"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"

	"swav/op/cpu"
)

// plain hides a scanner's filter.
type plain struct{ Scanner }

// counted counts the products of a filter.
type counted struct {
	cpu.Scanner
	products *atomic.Int64
}

func (c counted) AboveBF16(queries []uint32, m int, refs []uint32, n, pairs int, bounds []float32, index []uint32, sims []float32, counts []int32) {
	c.products.Add(int64(m * n))
	c.Scanner.AboveBF16(queries, m, refs, n, pairs, bounds, index, sims, counts)
}

func neighbours(t interface{ Fatal(...any) }, ref, query Set, k int, leaveOut bool, s Scanner) [][]Neighbour {
	near := make([][]Neighbour, query.Len())
	err := search(context.Background(), ref, query, k, leaveOut, Options{Scanner: s}, func(q int, found []Neighbour) { near[q] = slices.Clone(found) })
	if err != nil {
		t.Fatal(err)
	}
	return near
}

// features of several kinds that a filter may stumble over.
var filterKinds = map[string]func(rng *rand.Rand, x []float32, dim int){
	"random": func(rng *rand.Rand, x []float32, dim int) {
		for i := range x {
			x[i] = float32(rng.NormFloat64())
		}
	},
	"clusters": func(rng *rand.Rand, x []float32, dim int) {
		for i := range x {
			x[i] = float32(math.Sin(float64(i/dim%5*31+i%dim*7)) + 0.05*rng.NormFloat64())
		}
	},
	"all nearly alike": func(rng *rand.Rand, x []float32, dim int) {
		for i := range x {
			x[i] = float32(1 + 0.02*rng.NormFloat64())
		}
	},
	"copies and multiples": func(rng *rand.Rand, x []float32, dim int) {
		for i := 0; i < len(x); i += dim {
			for j := range dim {
				x[i+j] = float32(math.Cos(float64(rng.IntN(2)+3*j))) * float32(int(1)<<rng.IntN(3))
			}
			if from := rng.IntN(i/dim + 1); rng.IntN(4) > 0 {
				copy(x[i:i+dim], x[from*dim:])
			}
		}
	},
	"all the same": func(rng *rand.Rand, x []float32, dim int) {
		for i := range x {
			x[i] = float32(1 + i%dim)
		}
	},
	"with zero rows": func(rng *rand.Rand, x []float32, dim int) {
		for i := range x {
			if i/dim%3 > 0 {
				x[i] = float32(rng.NormFloat64())
			}
		}
	},
	"of all sizes": func(rng *rand.Rand, x []float32, dim int) {
		for i := range x {
			x[i] = float32(rng.NormFloat64() * math.Exp(2*rng.NormFloat64()-20))
		}
	},
}

// With the filter, and after it was given up, a search finds what it finds without.
func TestFilterChangesNothing(t *testing.T) {
	if !(cpu.Scanner{}).HasBF16() {
		t.Skip("no products of bfloat16 here")
	}
	for name, fill := range filterKinds {
		t.Run(name, func(t *testing.T) {
			for round := range uint64(8) {
				// Seeded: among some features float32, and so either search, cannot tell
				// the last of the best from more than are spare.
				rng := rand.New(rand.NewPCG(round, 1))
				dim, refs, k := 1+rng.IntN(70), []int{1, 100, 1025, 1300, 1301, 2600, 5500, 5501}[round], []int{1, 20, 200, 9999}[rng.IntN(4)]
				ref, query := Set{Dim: dim, Features: make([]float32, dim*refs)}, Set{Dim: dim, Features: make([]float32, dim*(1+rng.IntN(30)))}
				fill(rng, ref.Features, dim)
				fill(rng, query.Features, dim)
				leaveOut := refs > 1 && rng.IntN(2) > 0
				if leaveOut {
					query.Features = ref.Features[:min(len(query.Features), len(ref.Features))]
				}
				want := neighbours(t, ref, query, k, leaveOut, plain{cpu.Scanner{}})
				got := neighbours(t, ref, query, k, leaveOut, cpu.Scanner{})
				for q := range want {
					for j := range want[q] {
						if len(got[q]) != len(want[q]) || got[q][j] != want[q][j] {
							t.Fatalf("%d references of %d, query %d, place %d of %d: %v, want %v", refs, dim, q, j, len(want[q]), got[q][j], want[q][j])
						}
					}
				}
			}
		})
	}
}

// Scattered features are filtered to the end; among features that are all alike the
// filter is given up after a trial.
func TestFilterIsGivenUp(t *testing.T) {
	if !(cpu.Scanner{}).HasBF16() {
		t.Skip("no products of bfloat16 here")
	}
	const dim, refs, queries = 64, 6000, 50
	for kind, want := range map[string]int64{"random": refs - filterAfter, "all nearly alike": filterTrial} {
		rng := rand.New(rand.NewPCG(1, 2))
		ref, query := Set{Dim: dim, Features: make([]float32, refs*dim)}, Set{Dim: dim, Features: make([]float32, queries*dim)}
		filterKinds[kind](rng, ref.Features, dim)
		filterKinds[kind](rng, query.Features, dim)
		var n atomic.Int64
		neighbours(t, ref, query, 5, false, counted{products: &n})
		if n.Load() != want*queries {
			t.Errorf("%s: %d products in bfloat16, want %d", kind, n.Load(), want*queries)
		}
	}
}

// No product in bfloat16 is off by more than the margin.
func TestFilterMargin(t *testing.T) {
	if !(cpu.Scanner{}).HasBF16() {
		t.Skip("no products of bfloat16 here")
	}
	for name, fill := range filterKinds {
		for _, dim := range []int{1, 2, 7, 64, 513, 2048} {
			const n = 64
			rng := rand.New(rand.NewPCG(3, uint64(dim)))
			set := Set{Dim: dim, Features: make([]float32, n*dim)}
			fill(rng, set.Features, dim)
			sc := cpu.Scanner{}
			tq, tr := sc.Tile()
			pairs := (dim + 1) / 2
			s := &scan{ref: set, query: set, to: n, scanner: sc, filter: &filter{pairs: pairs, qNorm: make([]float64, n), qError: make([]float64, n), rError: make([]float64, n)}}
			q, r := make([]uint32, blocks(n, tq)*tq*pairs), make([]uint32, blocks(n, tr)*tr*pairs)
			s.packBF16(q, s.filter.qError, s.filter.qNorm, set, 0, n, tq)
			s.packBF16(r, s.filter.rError, s.filter.qNorm, set, 0, n, tr)
			s.filter.most = slices.Max(s.filter.rError)
			bounds, counts := make([]float32, n), make([]int32, n)
			for i := range bounds {
				bounds[i] = float32(math.Inf(-1))
			}
			index, sims := make([]uint32, n*n), make([]float32, n*n)
			sc.AboveBF16(q, n, r, n, pairs, bounds, index, sims, counts)
			for i := range n {
				for j := range n {
					exact := cosine(dot(set.Row(i), set.Row(j)), s.filter.qNorm[i], s.filter.qNorm[j])
					if off := math.Abs(exact - float64(sims[i*n+j])); off > s.filter.margin(i) {
						t.Fatalf("%s, %d features: off by %v, margin %v", name, dim, off, s.filter.margin(i))
					}
				}
			}
		}
	}
}
