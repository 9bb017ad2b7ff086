package eval

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"runtime"
	"slices"
)

// Neighbour is a reference that is similar to a query.
type Neighbour struct {
	Index      int
	Similarity float64 // cosine
}

// Scanner is the inner loop of the search, which a backend may lend (cpu.Scanner). It
// is called by several goroutines at once.
type Scanner interface {
	// Tile is how many queries, and how many references, lie together: m rows of k
	// features are [m/tile][k][tile], whole tiles. With 0, 0 there is no such loop, and
	// a Gemm does its work.
	Tile() (queries, refs int)
	// Above finds, for each of m queries, those of n references whose product with it
	// is above its bound: their numbers in rising order at index[i*n:], the products at
	// sims[i*n:], how many at counts[i].
	Above(queries []float32, m int, refs []float32, n, k int, bounds []float32, index []uint32, sims []float32, counts []int32)
	// Dots computes the products of a query with some of rows as dot does, to the bit.
	Dots(dst []float64, query, rows []float32, index []uint32)
}

// Blocks of the search: normalised references are shared by all queries, so the set
// of references is read once from front to back, wherever it lies. For 2,048
// features a block of references takes 33 MB, one of queries 1 MB.
const (
	queryBlock = 120 // whole tiles of any scanner
	refBlock   = 4096
	// sliceOfRefs is how many references at most are compared with a block of queries
	// before what was found is looked at, sliceBytes how many bytes of them: they stay
	// in a processor's cache.
	sliceOfRefs = 1024
	sliceBytes  = 1 << 19
)

// spare is how many more candidates than wanted are kept until they are settled in
// float64: more than float32 puts out of order near the last place.
const spare = 16

// poolBytes bounds the memory for candidates; larger sets of queries are worked off
// in parts.
const poolBytes = 1 << 29

// search finds the k references most similar to each query and passes them on, most
// similar first, equal ones in order of their index. Found is called by several
// goroutines, for each query once, and must not keep near.
//
// Candidates are found by products in float32 and settled in float64, so the result
// is that of a computation in float64 throughout.
func search(ctx context.Context, ref, query Set, k int, leaveOut bool, o Options, found func(query int, near []Neighbour)) error {
	n, refs := query.Len(), ref.Len()
	k = min(k, refs)
	if leaveOut {
		k = min(k, refs-1)
	}
	keep := min(k+spare, refs)
	part := max(queryBlock, poolBytes/(16*keep)/queryBlock*queryBlock)
	bar := newProgress(o.Progress, blocks(n, part)*refs)
	norms := make([]float64, refs)
	for from := 0; from < n; from += part {
		s := &scan{ref: ref, query: query, norms: norms, from: from, to: min(from+part, n), keep: keep, leaveOut: leaveOut, gemm: o.Gemm.orDefault(), scanner: o.Scanner}
		if err := s.run(ctx, bar); err != nil {
			return fmt.Errorf("search: %w", err)
		}
		if err := s.settle(ctx, k, found); err != nil {
			return fmt.Errorf("search: %w", err)
		}
	}
	return nil
}

// scan is the search for the candidates of the queries from up to, not including, to.
type scan struct {
	ref, query Set
	norms      []float64 // of the references, squared
	from, to   int
	keep       int
	leaveOut   bool
	gemm       Gemm
	scanner    Scanner
	filter     *filter   // nil: none
	width      int       // of a packed row
	q, r       []float32 // packed queries, and a block of references
	pools      []pool
}

// tile is how many queries and references are packed together: 1, 1 without a scanner.
func (s *scan) tile() (queries, refs int) {
	if s.scanner != nil {
		if queries, refs = s.scanner.Tile(); queries > 0 && queryBlock%queries == 0 {
			return queries, refs
		}
		s.scanner = nil
	}
	return 1, 1
}

// hits is what a worker's scan of a slice finds.
type hits struct {
	bounds, sims []float32
	index        []uint32
	counts       []int32
	products     []float64
}

func (s *scan) run(ctx context.Context, bar *progress) error {
	tq, tr := s.tile()
	s.width = s.ref.Dim
	if s.scanner == nil {
		s.width = (s.ref.Dim + 15) &^ 15 // rows start at aligned addresses wherever they lie
	}
	n := s.to - s.from
	s.q, s.pools = make([]float32, blocks(n, tq)*tq*s.width), make([]pool, n)
	s.filter = s.newFilter()
	s.pack(s.q, make([]float64, n), s.query, s.from, s.to, tq)
	s.r = make([]float32, blocks(min(refBlock, s.ref.Len()), tr)*tr*s.width)
	slice := min(max(1, sliceBytes/(4*s.width)), sliceOfRefs)
	slice = max(1, slice/tr) * tr
	work := make([]*hits, runtime.GOMAXPROCS(0))
	for start, end := 0, 0; start < s.ref.Len(); start = end {
		end = start + s.blockLen(start)
		if f := s.filter; f != nil && f.on {
			s.packBF16(f.r, f.rError, s.norms[start:], s.ref, start, end, tr)
			f.most = slices.Max(f.rError[:end-start])
		} else {
			s.pack(s.r, s.norms[start:], s.ref, start, end, tr)
		}
		err := parallel(blocks(n, queryBlock), func(worker, b int) error {
			if err := ctx.Err(); err != nil {
				return err
			}
			f := work[worker]
			if f == nil {
				f = &hits{sims: make([]float32, queryBlock*slice)}
				if s.scanner != nil {
					f.bounds, f.index, f.counts = make([]float32, queryBlock), make([]uint32, queryBlock*slice), make([]int32, queryBlock)
				}
				work[worker] = f
			}
			from, to := b*queryBlock, min((b+1)*queryBlock, n)
			for at := start; at < end; at += slice {
				if s.filter != nil && s.filter.on {
					s.filtered(f, from, to, start, at, min(slice, end-at))
				} else if err := s.block(f, from, to, at, min(slice, end-at), s.r[(at-start)*s.width:]); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		if err := s.turn(start, end); err != nil {
			return err
		}
		bar.add(end - start)
	}
	return nil
}

// block compares queries, counted from s.from, with the n packed references that begin
// with number start.
func (s *scan) block(f *hits, from, to, start, n int, refs []float32) error {
	m := to - from
	if s.scanner == nil {
		if err := s.gemm(false, true, m, n, s.width, s.q[from*s.width:], s.width, refs, s.width, 0, f.sims, n); err != nil {
			return err
		}
		for i := range m {
			s.pools[from+i].add(f.sims[i*n:][:n], start, s.keep, s.left(from+i))
		}
		return nil
	}
	for i := range m {
		f.bounds[i] = s.pools[from+i].least()
	}
	s.scanner.Above(s.q[from*s.width:], m, refs, n, s.width, f.bounds, f.index, f.sims, f.counts)
	for i := range m {
		c := int(f.counts[i])
		s.pools[from+i].take(f.index[i*n:][:c], f.sims[i*n:][:c], start, s.keep, s.left(from+i))
	}
	return nil
}

// left is the reference that is left out for a query, -1 for none.
func (s *scan) left(query int) int {
	if s.leaveOut {
		return s.from + query
	}
	return -1
}

// pack writes rows from up to to, divided by their L2 norm, in tiles, and the squares
// of the norms. Zeros fill up rows and tiles. A zero row stays zero and is similar to
// nothing.
func (s *scan) pack(dst []float32, norms []float64, set Set, from, to, tile int) {
	step := tile * max(1, 64/tile)
	_ = parallel(blocks(to-from, step), func(_, b int) error {
		first, last := b*step, min((b+1)*step, to-from)
		if s.width > set.Dim || last%tile > 0 {
			clear(dst[first*s.width : blocks(last, tile)*tile*s.width])
		}
		for i := first; i < last; i++ {
			row := set.Row(from + i)
			norms[i] = dot(row, row)
			s.packRow(dst[i/tile*tile*s.width+i%tile:], row, norms[i], tile)
		}
		return nil
	})
}

func (s *scan) packRow(dst, row []float32, norm float64, tile int) {
	inv := 0.0
	if norm > 0 {
		inv = 1 / math.Sqrt(norm)
	}
	for j, x := range row {
		dst[j*tile] = float32(float64(x) * inv)
	}
}

// grown is a slice of length n in the memory of x where that suffices.
func grown[T any](x []T, n int) []T { return slices.Grow(x[:0], n)[:n] }

// settle orders the candidates by similarities in float64 and passes on the first k.
func (s *scan) settle(ctx context.Context, k int, found func(int, []Neighbour)) error {
	type buffers struct {
		near     []Neighbour
		index    []uint32
		products []float64
	}
	work := make([]buffers, runtime.GOMAXPROCS(0))
	return parallel(len(s.pools), func(worker, i int) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		w, p, q := &work[worker], &s.pools[i], s.query.Row(s.from+i)
		p.cut(s.keep)
		w.index, w.near = w.index[:0], w.near[:0]
		for _, c := range p.best {
			w.index = append(w.index, uint32(c.index()))
		}
		w.products = grown(w.products, len(w.index))
		if s.scanner != nil {
			s.scanner.Dots(w.products, q, s.ref.Features, w.index)
		} else {
			for j, r := range w.index {
				w.products[j] = dot(q, s.ref.Row(int(r)))
			}
		}
		norm := dot(q, q)
		for j, r := range w.index {
			w.near = append(w.near, Neighbour{int(r), cosine(w.products[j], norm, s.norms[r])})
		}
		slices.SortFunc(w.near, func(a, b Neighbour) int {
			return cmp.Or(cmp.Compare(b.Similarity, a.Similarity), cmp.Compare(a.Index, b.Index))
		})
		found(s.from+i, w.near[:min(k, len(w.near))])
		return nil
	})
}

// cosine of a product and two squared norms. It is rounded to 40 binary places,
// so that a row and its multiples are equally similar to everything.
func cosine(product, a, b float64) float64 {
	if a == 0 || b == 0 {
		return 0
	}
	const places = 1 << 40
	return math.RoundToEven(product/(math.Sqrt(a)*math.Sqrt(b))*places) / places
}

// dot is the product of two rows in float64: eight sums, of every eighth product,
// added up in pairs. Products of two float32 are exact in float64, so the result does
// not depend on whether the processor rounds them.
func dot(a, b []float32) float64 {
	b = b[:len(a)]
	var s [8]float64
	i := 0
	for ; i+8 <= len(a); i += 8 {
		x, y := (*[8]float32)(a[i:]), (*[8]float32)(b[i:])
		s[0] += float64(x[0]) * float64(y[0])
		s[1] += float64(x[1]) * float64(y[1])
		s[2] += float64(x[2]) * float64(y[2])
		s[3] += float64(x[3]) * float64(y[3])
		s[4] += float64(x[4]) * float64(y[4])
		s[5] += float64(x[5]) * float64(y[5])
		s[6] += float64(x[6]) * float64(y[6])
		s[7] += float64(x[7]) * float64(y[7])
	}
	for l := 0; i < len(a); i, l = i+1, l+1 {
		s[l] += float64(a[i]) * float64(b[i])
	}
	return ((s[0] + s[1]) + (s[2] + s[3])) + ((s[4] + s[5]) + (s[6] + s[7]))
}

// candidate is a similarity and a reference in one number whose order is the order of
// preference: more similar first, then the lower index.
type candidate uint64

func newCandidate(sim float32, index int) candidate {
	bits := math.Float32bits(sim)
	if bits>>31 != 0 {
		bits = ^bits
	} else {
		bits |= 1 << 31
	}
	return candidate(bits)<<32 | candidate(^uint32(index))
}

func (c candidate) index() int { return int(^uint32(c)) }

func (c candidate) similarity() float32 {
	bits := uint32(c >> 32)
	if bits>>31 != 0 {
		return math.Float32frombits(bits &^ (1 << 31))
	}
	return math.Float32frombits(^bits)
}

// pool is the best candidates of a query so far, in no order: it takes twice as many
// as are kept and then drops the worse half, which costs less than keeping an order.
type pool struct {
	best  []candidate
	worst float32 // similarities up to it are no use, once bound is set
	bound bool
}

// least is the similarity that another candidate must exceed.
func (p *pool) least() float32 {
	if p.bound {
		return p.worst
	}
	return float32(math.Inf(-1))
}

// take looks at similarities to some references, whose numbers count from start.
func (p *pool) take(index []uint32, sims []float32, start, keep, skip int) {
	if p.best == nil {
		p.best = make([]candidate, 0, 2*keep)
	}
	for j, i := range index {
		at := start + int(i)
		if p.bound && sims[j] <= p.worst || at == skip {
			continue
		}
		p.best = append(p.best, newCandidate(sims[j]+0, at)) // -0 becomes 0
		if len(p.best) == 2*keep {
			p.cut(keep)
		}
	}
}

// add looks at the similarities to the references start and on.
func (p *pool) add(sims []float32, start, keep, skip int) {
	if p.best == nil {
		p.best = make([]candidate, 0, 2*keep)
	}
	worst := p.least()
	for j := 0; j < len(sims); {
		// Nearly all are of no use: eight are dismissed at once. References come in
		// rising order, so an equal one never goes ahead.
		for j+8 <= len(sims) {
			x := (*[8]float32)(sims[j:])
			if x[0] > worst || x[1] > worst || x[2] > worst || x[3] > worst || x[4] > worst || x[5] > worst || x[6] > worst || x[7] > worst {
				break
			}
			j += 8
		}
		for end := min(j+8, len(sims)); j < end; j++ {
			if sims[j] <= worst || start+j == skip {
				continue
			}
			p.best = append(p.best, newCandidate(sims[j]+0, start+j)) // -0 becomes 0
			if len(p.best) == 2*keep {
				p.cut(keep)
				worst = p.worst
			}
		}
	}
}

// cut drops all but the keep best.
func (p *pool) cut(keep int) {
	if len(p.best) <= keep {
		return
	}
	selectBest(p.best, keep)
	p.best = p.best[:keep]
	p.worst, p.bound = slices.Min(p.best).similarity(), true
}

// selectBest brings the n largest to the front (Hoare's quickselect).
func selectBest(x []candidate, n int) {
	lo, hi := 0, len(x)-1
	for lo < hi {
		// The median of three as pivot.
		a, b, c := x[lo], x[lo+(hi-lo)/2], x[hi]
		pivot := max(min(a, b), min(max(a, b), c))
		i, j := lo, hi
		for i <= j {
			for x[i] > pivot {
				i++
			}
			for x[j] < pivot {
				j--
			}
			if i <= j {
				x[i], x[j] = x[j], x[i]
				i++
				j--
			}
		}
		switch {
		case n-1 <= j:
			hi = j
		case n-1 >= i:
			lo = i
		default:
			return
		}
	}
}
