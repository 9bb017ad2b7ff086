//go:build cgo

package cpu

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// A scan finds what products one by one find, for every instruction set and for sizes
// that do not fill the tiles.
func TestScanner(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, isa := range []string{"avx512bf16", "avx512", "avx2", "base"} {
		k := kernelsFor(isa)
		if k == nil {
			t.Logf("no %s here", isa)
			continue
		}
		s := Scanner{k}
		for _, c := range []struct{ m, n, dim int }{{1, 1, 1}, {3, 50, 7}, {12, 32, 16}, {13, 33, 17}, {30, 100, 64}, {25, 24, 129}} {
			t.Run(fmt.Sprintf("%s/%dx%dx%d", isa, c.m, c.n, c.dim), func(t *testing.T) {
				// Small whole numbers: every order of summation gives the same.
				q, r := integers(rng, c.m*c.dim), integers(rng, c.n*c.dim)
				tq, tr := s.Tile()
				bounds := make([]float32, c.m)
				for i := range bounds {
					bounds[i] = float32(rng.IntN(5) - 2)
				}
				bounds[0] = float32(math.Inf(-1))
				index, sims, counts := make([]uint32, c.m*c.n), make([]float32, c.m*c.n), make([]int32, c.m)
				s.Above(tiled(q, c.m, c.dim, tq), c.m, tiled(r, c.n, c.dim, tr), c.n, c.dim, bounds, index, sims, counts)
				for i := range c.m {
					var want []uint32
					var products []float32
					for j := range c.n {
						var sum float32
						for l := range c.dim {
							sum += q[i*c.dim+l] * r[j*c.dim+l]
						}
						if sum > bounds[i] {
							want, products = append(want, uint32(j)), append(products, sum)
						}
					}
					n := int(counts[i])
					if n != len(want) || !slices.Equal(index[i*c.n:][:n], want) || !slices.Equal(sims[i*c.n:][:n], products) {
						t.Fatalf("query %d: %d above %v, want %d", i, n, bounds[i], len(want))
					}
					chosen := []uint32{uint32(c.n - 1), 0, uint32(c.n / 2), 0, uint32(c.n / 3)}
					dots := make([]float64, len(chosen))
					s.Dots(dots, q[i*c.dim:][:c.dim], r, chosen)
					for j, at := range chosen {
						var sum float64
						for l := range c.dim {
							sum += float64(q[i*c.dim+l]) * float64(r[int(at)*c.dim+l])
						}
						if dots[j] != sum {
							t.Fatalf("product of query %d and row %d: %v, want %v", i, at, dots[j], sum)
						}
					}
				}
			})
		}
	}
}

// The scan in bfloat16 finds what the one in float32 does, where the features and all
// sums are whole numbers that both hold.
func TestScannerBF16(t *testing.T) {
	for _, isa := range []string{"avx512", "avx2", "base"} {
		if k := kernelsFor(isa); k != nil && (Scanner{k}).HasBF16() {
			t.Errorf("%s has products of bfloat16", isa)
		}
	}
	k := kernelsFor("avx512bf16")
	if k == nil {
		t.Skip("no avx512bf16 here")
	}
	s, rng := Scanner{k}, rand.New(rand.NewPCG(3, 4))
	tq, tr := s.Tile()
	for _, c := range []struct{ m, n, pairs int }{{1, 1, 1}, {3, 50, 7}, {12, 32, 16}, {13, 33, 17}, {25, 24, 129}} {
		q, r := integers(rng, c.m*2*c.pairs), integers(rng, c.n*2*c.pairs)
		bounds := make([]float32, c.m)
		for i := range bounds {
			bounds[i] = float32(rng.IntN(5) - 2)
		}
		var index [2][]uint32
		var sims [2][]float32
		var counts [2][]int32
		for i := range 2 {
			index[i], sims[i], counts[i] = make([]uint32, c.m*c.n), make([]float32, c.m*c.n), make([]int32, c.m)
		}
		s.Above(tiled(q, c.m, 2*c.pairs, tq), c.m, tiled(r, c.n, 2*c.pairs, tr), c.n, 2*c.pairs, bounds, index[0], sims[0], counts[0])
		s.AboveBF16(tiled(pairsOf(q), c.m, c.pairs, tq), c.m, tiled(pairsOf(r), c.n, c.pairs, tr), c.n, c.pairs, bounds, index[1], sims[1], counts[1])
		if !slices.Equal(index[0], index[1]) || !slices.Equal(sims[0], sims[1]) || !slices.Equal(counts[0], counts[1]) {
			t.Errorf("%+v: %v, want %v", c, counts[1], counts[0])
		}
	}
}

// pairsOf is whole numbers as pairs of bfloat16.
func pairsOf(x []float32) []uint32 {
	out := make([]uint32, len(x)/2)
	for i := range out {
		out[i] = math.Float32bits(x[2*i])>>16 | math.Float32bits(x[2*i+1])
	}
	return out
}

func integers(rng *rand.Rand, n int) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(rng.IntN(7) - 3)
	}
	return x
}

// tiled lays rows out as a scan takes them.
func tiled[T any](x []T, n, dim, tile int) []T {
	out := make([]T, (n+tile-1)/tile*tile*dim)
	for i := range n {
		for j := range dim {
			out[i/tile*tile*dim+j*tile+i%tile] = x[i*dim+j]
		}
	}
	return out
}
