package eval

import (
	"math"
	"sync/atomic"
)

// Filter is a Scanner that may also multiply in bfloat16, which takes half the time.
type Filter interface {
	Scanner
	// HasBF16 tells whether this processor has AboveBF16.
	HasBF16() bool
	// AboveBF16 is Above for rows of pairs of bfloat16, the first of a pair in the low
	// half, in the same tiles. It may be off by what filter.margin allows.
	AboveBF16(queries []uint32, m int, refs []uint32, n, pairs int, bounds []float32, index []uint32, sims []float32, counts []int32)
}

const (
	// filterAfter is how many references at least are compared in float32 before the
	// filter: so many that most of the others are not among the best.
	filterAfter = 1024
	// filterTrial is how many references the filter is tried on first.
	filterTrial = 256
	// filterShare is the share of products that may pass the filter, besides those that
	// are among the best so far: one costs about twenty times what the filter saves on it.
	filterShare = 1. / 32
)

// filter dismisses references by products in bfloat16. Those that may be above a
// query's bound get their product in float64, so what is found does not depend on how
// coarse the filter is.
type filter struct {
	with           Filter
	pairs          int       // of features in a row
	q, r           []uint32  // packed queries, and a block of references
	qNorm          []float64 // of the queries, squared
	qError, rError []float64 // norms of what rounding took from rows of unit length
	most           float64   // of rError in this block
	on             bool
	passed         atomic.Int64 // products in this block
}

// newFilter is nil where there is none, or nothing for it to do.
func (s *scan) newFilter() *filter {
	with, ok := s.scanner.(Filter)
	if !ok || !with.HasBF16() || s.ref.Dim > filterMost || 2*s.keep+1 > refBlock || s.filterStart() >= s.ref.Len() {
		return nil
	}
	return &filter{with: with, pairs: (s.ref.Dim + 1) / 2, qNorm: make([]float64, s.to-s.from), qError: make([]float64, s.to-s.from), rError: make([]float64, refBlock)}
}

// filterStart is the first reference that is filtered: all pools have a bound then,
// though each may have left one reference out.
func (s *scan) filterStart() int { return min(max(filterAfter, 32*s.keep), refBlock) }

// blockLen is how many references from start are the next block.
func (s *scan) blockLen(start int) int {
	n := refBlock
	if s.filter != nil {
		switch start {
		case 0:
			n = s.filterStart()
		case s.filterStart():
			n = filterTrial
		}
	}
	return min(n, s.ref.Len()-start)
}

// turn switches the filter on or off after the block of references from start to end.
func (s *scan) turn(start, end int) error {
	f := s.filter
	switch {
	case f == nil:
		return nil
	case !f.on:
		f.on = true
		tq, tr := s.tile()
		f.q = make([]uint32, blocks(s.to-s.from, tq)*tq*f.pairs)
		f.r = make([]uint32, blocks(refBlock, tr)*tr*f.pairs)
		s.packBF16(f.q, f.qError, f.qNorm, s.query, s.from, s.to, tq)
		return s.rescore(s.exact)
	case float64(f.passed.Swap(0)) > (filterShare+4*float64(s.keep)/float64(end))*float64(end-start)*float64(s.to-s.from):
		s.filter = nil
		return s.rescore(s.inFloat32)
	}
	return nil
}

// margin is by how much a product of a query and a reference of unit length, q and r,
// may exceed the filter's, which multiplies q' and r', rounded to bfloat16.
//
// With the norms eq of q-q' and er of r-r', which are measured, Cauchy and Schwarz give
//
//	|q·r - q'·r'| <= |(q-q')·r| + |q'·(r-r')| <= eq + (1+eq) er.
//
// A product of two bfloat16 has 16 bits and is exact in float32. Each of the k additions
// rounds at most twice, at worst by 2^-23 each; so the sum is off by no more than
// ((1+2^-23)^2k - 1) Σ|q'||r'|, and Σ|q'||r'| <= (1+eq)(1+er). With k 2^-22 below 1/4
// the first factor is below 1.25 k 2^-22. Numbers below the least normal one, 2^-126,
// count as zero; that takes less than 4k 2^-126. Rounding in here, in float64, is
// below 2^-40.
func (f *filter) margin(query int) float64 {
	eq, er, k := f.qError[query], f.most, float64(2*f.pairs)
	return eq + (1+eq)*er + 1.25*k*0x1p-22*(1+eq)*(1+er) + 4*k*0x1p-126 + 0x1p-40
}

// filterMost is how many features a row may have for margin to hold.
const filterMost = 1 << 20

// bound is what the filter's product of a query must exceed to be looked at.
func (f *filter) bound(query int, least float32) float32 {
	if f.qNorm[query] == 0 {
		return float32(math.Inf(1)) // similar to nothing, so the first references stay
	}
	return math.Nextafter32(float32(float64(least)-f.margin(query)), float32(math.Inf(-1)))
}

// filtered is block behind the filter; base is the block's first reference.
func (s *scan) filtered(h *hits, from, to, base, start, n int) {
	f, m, dim, passed := s.filter, to-from, s.ref.Dim, 0
	for i := range m {
		h.bounds[i] = f.bound(from+i, s.pools[from+i].least())
	}
	f.with.AboveBF16(f.q[from*f.pairs:], m, f.r[(start-base)*f.pairs:], n, f.pairs, h.bounds, h.index, h.sims, h.counts)
	for i := range m {
		c := int(h.counts[i])
		index, sims := h.index[i*n:][:c], h.sims[i*n:][:c]
		h.products = grown(h.products, c)
		s.scanner.Dots(h.products, s.query.Row(s.from+from+i), s.ref.Features[start*dim:], index)
		for j, r := range index {
			sims[j] = float32(cosine(h.products[j], f.qNorm[from+i], s.norms[start+int(r)]))
		}
		s.pools[from+i].take(index, sims, start, s.keep, s.left(from+i))
		passed += c
	}
	f.passed.Add(int64(passed))
}

// packBF16 is pack for the filter. It also measures what rounding takes from a row.
func (s *scan) packBF16(dst []uint32, errors, norms []float64, set Set, from, to, tile int) {
	pairs := s.filter.pairs
	step := tile * max(1, 64/tile)
	_ = parallel(blocks(to-from, step), func(_, b int) error {
		first, last := b*step, min((b+1)*step, to-from)
		if last%tile > 0 {
			clear(dst[last/tile*tile*pairs : blocks(last, tile)*tile*pairs])
		}
		for i := first; i < last; i++ {
			row := set.Row(from + i)
			norms[i] = dot(row, row)
			inv := 0.0
			if norms[i] > 0 {
				inv = 1 / math.Sqrt(norms[i])
			}
			out, lost := dst[i/tile*tile*pairs+i%tile:], [2]float64{}
			j := 0
			for ; 2*j+1 < len(row); j++ {
				x, y := float64(row[2*j])*inv, float64(row[2*j+1])*inv
				a, b := roundBF16(x), roundBF16(y)
				out[j*tile] = a>>16 | b
				x -= float64(math.Float32frombits(a))
				y -= float64(math.Float32frombits(b))
				lost[0] += x * x
				lost[1] += y * y
			}
			if 2*j < len(row) {
				x := float64(row[2*j]) * inv
				a := roundBF16(x)
				out[j*tile] = a >> 16
				x -= float64(math.Float32frombits(a))
				lost[0] += x * x
			}
			errors[i] = math.Sqrt(lost[0] + lost[1])
		}
		return nil
	})
}

// roundBF16 is the bits, of a float32, of the bfloat16 next to x, even ones where
// two are as near. x is of a row of unit length: no overflow.
func roundBF16(x float64) uint32 {
	b := math.Float32bits(float32(x))
	return (b + 0x7fff + b>>16&1) &^ 0xffff
}

// rescore gives all candidates so far the similarities that those found from now on
// are compared by: equal rows must not differ by how they were computed.
func (s *scan) rescore(similarities func(query int, index []uint32, sims []float32)) error {
	return parallel(len(s.pools), func(_, i int) error {
		p := &s.pools[i]
		p.cut(s.keep)
		index, sims := make([]uint32, len(p.best)), make([]float32, len(p.best))
		for j, c := range p.best {
			index[j] = uint32(c.index())
		}
		similarities(i, index, sims)
		p.worst, p.bound = float32(math.Inf(1)), true
		for j, r := range index {
			p.best[j] = newCandidate(sims[j]+0, int(r))
			p.worst = min(p.worst, sims[j])
		}
		return nil
	})
}

// exact computes similarities as filtered does.
func (s *scan) exact(query int, index []uint32, sims []float32) {
	products := make([]float64, len(index))
	s.scanner.Dots(products, s.query.Row(s.from+query), s.ref.Features, index)
	for j, r := range index {
		sims[j] = float32(cosine(products[j], s.filter.qNorm[query], s.norms[r]))
	}
}

// inFloat32 computes similarities as the scanner does: all in a tile are alike.
func (s *scan) inFloat32(query int, index []uint32, sims []float32) {
	tq, tr := s.tile()
	packed := make([]float32, blocks(len(index), tr)*tr*s.width)
	for i, r := range index {
		s.packRow(packed[i/tr*tr*s.width+i%tr:], s.ref.Row(int(r)), s.norms[r], tr)
	}
	first, m, n := query/tq*tq, query%tq+1, len(index)
	bounds, counts := make([]float32, m), make([]int32, m)
	for i := range bounds {
		bounds[i] = float32(math.Inf(1))
	}
	bounds[m-1] = float32(math.Inf(-1))
	found, all := make([]uint32, m*n), make([]float32, m*n)
	s.scanner.Above(s.q[first*s.width:], m, packed, n, s.width, bounds, found, all, counts)
	copy(sims, all[(m-1)*n:])
}
