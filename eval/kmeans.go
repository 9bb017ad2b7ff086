package eval

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
)

// KMeansOptions are the settings of k-means.
type KMeansOptions struct {
	K          int
	Iterations int // at most; 0: 100
	Seed       uint64
}

// kmeansBlock is how many rows are compared with the centres at once.
const kmeansBlock = 1024

// KMeans puts rows, brought to unit length, into k clusters by Lloyd's method from
// k-means++ seeds (Arthur and Vassilvitskii 2007). It ends when no row moves. The
// result does not depend on the number of processors.
func KMeans(ctx context.Context, set Set, k KMeansOptions, o Options) (assign []int, err error) {
	n := set.Len()
	if k.K < 1 || k.K > n {
		return nil, fmt.Errorf("k-means: %d clusters of %d images", k.K, n)
	}
	if k.Iterations == 0 {
		k.Iterations = 100
	}
	m := &kmeans{ctx: ctx, set: set, k: k.K, gemm: o.Gemm.orDefault(), inv: make([]float32, n), assign: slices.Repeat([]int{-1}, n), gap: make([]float64, n),
		buffers: make([][]float32, runtime.GOMAXPROCS(0))}
	for i := range n {
		m.inv[i] = inverseNorm(set.Row(i))
	}
	m.seed(rand.New(rand.NewPCG(k.Seed, 0x3ea5)))
	bar := newProgress(o.Progress, k.Iterations)
	for range k.Iterations {
		moved, err := m.assignAll()
		if err != nil {
			return nil, fmt.Errorf("k-means: %w", err)
		}
		if moved == 0 {
			break
		}
		m.update()
		bar.add(1)
	}
	return m.assign, nil
}

type kmeans struct {
	ctx     context.Context
	set     Set
	k       int
	gemm    Gemm
	inv     []float32 // inverse norms of the rows
	centres []float32 // [k, dim]
	assign  []int
	gap     []float64 // squared distance of each row to its centre
	buffers [][]float32
}

// centre sets a centre to a row of unit length.
func (m *kmeans) centre(c, row int) {
	for j, x := range m.set.Row(row) {
		m.centres[c*m.set.Dim+j] = x * m.inv[row]
	}
}

// seed draws rows as centres, far ones with greater probability.
func (m *kmeans) seed(rng *rand.Rand) {
	n, dim := m.set.Len(), m.set.Dim
	m.centres = make([]float32, m.k*dim)
	for i := range m.gap {
		m.gap[i] = math.Inf(1)
	}
	next := rng.IntN(n)
	for c := range m.k {
		m.centre(c, next)
		centre := m.centres[c*dim:][:dim]
		square := dot(centre, centre)
		_ = parallel(blocks(n, kmeansBlock), func(_, b int) error {
			for i := b * kmeansBlock; i < min((b+1)*kmeansBlock, n); i++ {
				m.gap[i] = min(m.gap[i], m.distance(i, dot(m.set.Row(i), centre), square))
			}
			return nil
		})
		var total float64
		for _, g := range m.gap {
			total += g
		}
		at := rng.Float64() * total
		next = n - 1
		for i, g := range m.gap {
			if at -= g; at < 0 {
				next = i
				break
			}
		}
	}
}

// distance of row i to a centre, squared, of their product and the centre's square.
func (m *kmeans) distance(i int, product, square float64) float64 {
	one := 1.0
	if m.inv[i] == 0 {
		one = 0
	}
	return max(0, one-2*product*float64(m.inv[i])+square)
}

// assignAll moves each row to its nearest centre, of equal ones to the first, and
// counts those that moved.
func (m *kmeans) assignAll() (moved int, err error) {
	n, dim := m.set.Len(), m.set.Dim
	squares := make([]float64, m.k)
	for c := range squares {
		squares[c] = dot(m.centres[c*dim:][:dim], m.centres[c*dim:][:dim])
	}
	counts := make([]int, blocks(n, kmeansBlock))
	err = parallel(len(counts), func(worker, b int) error {
		if err := m.ctx.Err(); err != nil {
			return err
		}
		if m.buffers[worker] == nil {
			m.buffers[worker] = make([]float32, kmeansBlock*m.k)
		}
		from := b * kmeansBlock
		rows := min(kmeansBlock, n-from)
		products := m.buffers[worker]
		if err := m.gemm(false, true, rows, m.k, dim, m.set.Features[from*dim:], dim, m.centres, dim, 0, products, m.k); err != nil {
			return err
		}
		for i := range rows {
			best, least := 0, math.Inf(1)
			for c, p := range products[i*m.k:][:m.k] {
				if d := m.distance(from+i, float64(p), squares[c]); d < least {
					best, least = c, d
				}
			}
			if m.assign[from+i] != best {
				counts[b]++
			}
			m.assign[from+i], m.gap[from+i] = best, least
		}
		return nil
	})
	for _, c := range counts {
		moved += c
	}
	return moved, err
}

// update moves each centre to the mean of its rows. A centre without rows goes to the
// row that is farthest from its own.
func (m *kmeans) update() {
	dim := m.set.Dim
	sums, counts := make([]float64, m.k*dim), make([]int, m.k)
	for i, c := range m.assign {
		counts[c]++
		sum := sums[c*dim:][:dim]
		for j, x := range m.set.Row(i) {
			sum[j] += float64(x) * float64(m.inv[i])
		}
	}
	for c, n := range counts {
		if n == 0 {
			far := 0
			for i, g := range m.gap {
				if g > m.gap[far] {
					far = i
				}
			}
			m.centre(c, far)
			m.gap[far] = 0
			continue
		}
		for j := range dim {
			m.centres[c*dim+j] = float32(sums[c*dim+j] / float64(n))
		}
	}
}
