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

// Blocks of the search: normalised references are shared by all queries, so the set
// of references is read once from front to back, wherever it lies. For 2,048
// features a block of references takes 33 MB, one of queries 2 MB.
const (
	queryBlock = 256
	refBlock   = 4096
	// sliceOfRefs is how many similarities to a query are computed before they are
	// looked at: with queryBlock 1 MB, which stays in a processor's cache.
	sliceOfRefs = 1024
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
	bar := newProgress(o.Progress, blocks(n, part)*blocks(refs, refBlock))
	norms := make([]float64, refs)
	for from := 0; from < n; from += part {
		s := &scan{ref: ref, query: query, norms: norms, from: from, to: min(from+part, n), keep: keep, leaveOut: leaveOut, gemm: o.Gemm.orDefault()}
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
	width      int       // of a packed row
	q, r       []float32 // packed queries, and a block of references
	pools      []pool
}

func (s *scan) run(ctx context.Context, bar *progress) error {
	// Rows of whole 16 floats start at aligned addresses wherever they lie.
	s.width = (s.ref.Dim + 15) &^ 15
	n := s.to - s.from
	s.q, s.pools = make([]float32, n*s.width), make([]pool, n)
	s.pack(s.q, make([]float64, n), s.query, s.from, s.to)
	s.r = make([]float32, min(refBlock, s.ref.Len())*s.width)
	sims := make([][]float32, runtime.GOMAXPROCS(0))
	for start := 0; start < s.ref.Len(); start += refBlock {
		end := min(start+refBlock, s.ref.Len())
		s.pack(s.r, s.norms[start:], s.ref, start, end)
		err := parallel(blocks(n, queryBlock), func(worker, b int) error {
			if err := ctx.Err(); err != nil {
				return err
			}
			if sims[worker] == nil {
				sims[worker] = make([]float32, queryBlock*sliceOfRefs)
			}
			return s.block(sims[worker], b*queryBlock, min((b+1)*queryBlock, n), start, end)
		})
		if err != nil {
			return err
		}
		bar.add(1)
	}
	return nil
}

// block compares queries, counted from s.from, with the references from start to end.
func (s *scan) block(sims []float32, from, to, start, end int) error {
	m := to - from
	for at := start; at < end; at += sliceOfRefs {
		n := min(sliceOfRefs, end-at)
		err := s.gemm(false, true, m, n, s.width, s.q[from*s.width:], s.width, s.r[(at-start)*s.width:], s.width, 0, sims, n)
		if err != nil {
			return err
		}
		for i := range m {
			skip := -1
			if s.leaveOut {
				skip = s.from + from + i
			}
			s.pools[from+i].add(sims[i*n:][:n], at, s.keep, skip)
		}
	}
	return nil
}

// pack writes rows from up to to, divided by their L2 norm, with zeros at the end of
// each row, and the squares of the norms. A zero row stays zero and is similar to
// nothing.
func (s *scan) pack(dst []float32, norms []float64, set Set, from, to int) {
	const rows = 64
	_ = parallel(blocks(to-from, rows), func(_, b int) error {
		for i := from + b*rows; i < min(from+(b+1)*rows, to); i++ {
			row := set.Row(i)
			out := dst[(i-from)*s.width:][:s.width]
			norms[i-from] = dot(row, row)
			inv := 0.0
			if norms[i-from] > 0 {
				inv = 1 / math.Sqrt(norms[i-from])
			}
			for j, x := range row {
				out[j] = float32(float64(x) * inv)
			}
			clear(out[len(row):])
		}
		return nil
	})
}

// settle orders the candidates by similarities in float64 and passes on the first k.
func (s *scan) settle(ctx context.Context, k int, found func(int, []Neighbour)) error {
	near := make([][]Neighbour, runtime.GOMAXPROCS(0))
	wide := make([][]float64, len(near))
	return parallel(len(s.pools), func(worker, i int) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		q := wide[worker][:0]
		for _, x := range s.query.Row(s.from + i) {
			q = append(q, float64(x))
		}
		wide[worker] = q
		norm := dot(s.query.Row(s.from+i), s.query.Row(s.from+i))
		p := &s.pools[i]
		p.cut(s.keep)
		list := near[worker][:0]
		for _, c := range p.best {
			r := c.index()
			list = append(list, Neighbour{r, cosine(dotWide(q, s.ref.Row(r)), norm, s.norms[r])})
		}
		slices.SortFunc(list, func(a, b Neighbour) int {
			return cmp.Or(cmp.Compare(b.Similarity, a.Similarity), cmp.Compare(a.Index, b.Index))
		})
		near[worker] = list
		found(s.from+i, list[:min(k, len(list))])
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

// dot is the product of two rows in float64. Four sums keep the processor busy.
func dot(a, b []float32) float64 {
	b = b[:len(a)]
	var s0, s1, s2, s3 float64
	i := 0
	for ; i+4 <= len(a); i += 4 {
		x, y := (*[4]float32)(a[i:]), (*[4]float32)(b[i:])
		s0 += float64(x[0]) * float64(y[0])
		s1 += float64(x[1]) * float64(y[1])
		s2 += float64(x[2]) * float64(y[2])
		s3 += float64(x[3]) * float64(y[3])
	}
	for ; i < len(a); i++ {
		s0 += float64(a[i]) * float64(b[i])
	}
	return s0 + s1 + (s2 + s3)
}

// dotWide is dot, to the bit, of a row that is float64 already.
func dotWide(a []float64, b []float32) float64 {
	b = b[:len(a)]
	var s0, s1, s2, s3 float64
	i := 0
	for ; i+4 <= len(a); i += 4 {
		x, y := (*[4]float64)(a[i:]), (*[4]float32)(b[i:])
		s0 += x[0] * float64(y[0])
		s1 += x[1] * float64(y[1])
		s2 += x[2] * float64(y[2])
		s3 += x[3] * float64(y[3])
	}
	for ; i < len(a); i++ {
		s0 += a[i] * float64(b[i])
	}
	return s0 + s1 + (s2 + s3)
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

// add looks at the similarities to the references start and on.
func (p *pool) add(sims []float32, start, keep, skip int) {
	if p.best == nil {
		p.best = make([]candidate, 0, 2*keep)
	}
	worst := float32(math.Inf(-1))
	if p.bound {
		worst = p.worst
	}
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
