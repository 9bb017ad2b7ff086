package loader

import (
	"fmt"
	"math/bits"
	"sort"

	"swav/augment"
	"swav/dataset"
)

// order is how an epoch visits the images. The images of a source in parts are dealt out
// to lanes: the parts are shuffled, the images of each, and what is then one long row is
// cut into as many lanes of equal length, give or take one image. Lanes are visited by
// turns, an image of each. So a batch has images of many parts, while each lane has one
// part open at a time.
//
// The ranks of a step take its images lane by lane, so a rank stays with its share of the
// lanes and reads no more than their parts. Which images a step has does not depend on
// the number of ranks.
type order struct {
	perm  []uint32 // lane by lane
	lanes []lane
}

// lane is a stretch of perm.
type lane struct {
	from  int
	parts []stretch
}

// stretch is the images of one part in a lane, by their numbers in the lane.
type stretch struct{ from, to, image int } // image: one of the part

// Blocks of random numbers of augment.PurposeOrder.
const (
	blockImages = iota
	blockParts
)

// partition is the parts of a source and the lanes that visit them.
type partition struct {
	first []int // image of each part, and their number
	lanes int
}

// mostLanes bounds the lanes that are chosen where Config has no number. It is a power
// of two, as batches and numbers of ranks are.
const mostLanes = 64

// partitionOf has one part for sources of which any image can be had at any time.
func partitionOf(src dataset.Source, c *Config) (*partition, error) {
	whole := &partition{[]int{0, src.Len()}, 1}
	s, ok := src.(dataset.Sharded)
	if !ok {
		return whole, nil
	}
	first, window := s.Shards()
	parts := len(first) - 1
	switch lanes := min(c.Lanes, src.Len()); {
	case window == 0 && lanes == 0:
		return whole, nil
	case lanes > 0:
		if own := min(parts, (lanes+c.Ranks-1)/c.Ranks); window > 0 && own > window {
			return nil, fmt.Errorf("%s: with data.lanes = %d each of %d rank(s) visits %d shards by turns, but data.cache_gb has room for %d: more room, more ranks, or fewer lanes",
				src.Name(), lanes, c.Ranks, own, window)
		}
		return &partition{first, lanes}, nil
	case window >= min(parts, mostLanes):
		return &partition{first, min(mostLanes, src.Len())}, nil
	}
	return &partition{first, 1 << (bits.Len(uint(window)) - 1)}, nil
}

// around is the images of the part that image n belongs to.
func (p *partition) around(n int) (from, to int) {
	i := sort.SearchInts(p.first, n+1)
	return p.first[i-1], p.first[i]
}

// epochOrder is the order of an epoch.
func epochOrder(seed uint64, epoch int, p *partition) *order {
	parts := make([]uint32, len(p.first)-1)
	for i := range parts {
		parts[i] = uint32(i)
	}
	key := augment.Key{Seed: seed, Epoch: epoch}
	shuffle(parts, 0, key, blockParts)
	n := p.first[len(parts)]
	o := &order{make([]uint32, 0, n), make([]lane, p.lanes)}
	for l := range o.lanes {
		o.lanes[l].from = l * n / p.lanes
	}
	l := 0
	for _, part := range parts {
		at := len(o.perm)
		for i := p.first[part]; i < p.first[part+1]; i++ {
			o.perm = append(o.perm, uint32(i))
		}
		shuffle(o.perm[at:], at, key, blockImages)
		for end := len(o.perm); at < end; {
			to := min(end, (l+1)*n/p.lanes)
			own := &o.lanes[l]
			own.parts = append(own.parts, stretch{at - own.from, to - own.from, p.first[part]})
			if at = to; at == (l+1)*n/p.lanes {
				l++
			}
		}
	}
	return o
}

// before is how many images of a lane come before place at of the order: the lanes take
// turns, and then those that have an image more.
func (o *order) before(l, at int) int {
	each := len(o.perm) / len(o.lanes)
	if rest := at - each*len(o.lanes); rest > 0 {
		longer := o.lanes[l].from - l*each // lanes before this one that have an image more
		if o.length(l) > each && longer < rest {
			return each + 1
		}
		return each
	}
	return max(0, at-l+len(o.lanes)-1) / len(o.lanes)
}

func (o *order) length(l int) int {
	if l+1 < len(o.lanes) {
		return o.lanes[l+1].from - o.lanes[l].from
	}
	return len(o.perm) - o.lanes[l].from
}

// take is the images that a rank has of the places from ... from+ranks·len(out)-1. It
// calls visit, if there is one, for each lane with the images first ... last of it.
func (o *order) take(from, rank, ranks int, out []int, visit func(l, first, last int)) {
	skip, n := rank*len(out), 0
	for l := 0; n < len(out); l++ {
		a, b := o.before(l, from), o.before(l, from+ranks*len(out))
		pass := min(skip, b-a)
		skip -= pass
		a += pass
		b = min(b, a+len(out)-n)
		for _, image := range o.perm[o.lanes[l].from+a : o.lanes[l].from+b] {
			out[n] = int(image)
			n++
		}
		if visit != nil && b > a {
			visit(l, a, b-1)
		}
	}
}

// part is the number of the stretch that image i of a lane belongs to.
func (l *lane) part(i int) int {
	return sort.Search(len(l.parts), func(k int) bool { return l.parts[k].to > i })
}

// walk goes through the epochs' orders and brings parts near before their images are
// read.
type walk struct {
	seed  uint64
	parts *partition
	epoch int
	now   *order
	next  *order // nil until it is needed

	prefetch func(image int) bool // false: ask again; nil: nothing has to be brought
	asked    []int                // of each lane: stretches, of the epoch and then of the next
}

func newWalk(seed uint64, epoch int, p *partition, prefetch func(image int) bool) *walk {
	return &walk{seed: seed, parts: p, epoch: epoch, now: epochOrder(seed, epoch, p), prefetch: prefetch, asked: make([]int, p.lanes)}
}

// following is the next epoch's order.
func (w *walk) following() *order {
	if w.next == nil {
		w.next = epochOrder(w.seed, w.epoch+1, w.parts)
	}
	return w.next
}

// turn goes on to the next epoch.
func (w *walk) turn() {
	for l := range w.asked {
		w.asked[l] = max(0, w.asked[l]-len(w.now.lanes[l].parts))
	}
	w.now, w.next = w.following(), nil
	w.epoch++
}

// take is order.take of the epoch at hand.
func (w *walk) take(from, rank, ranks int, out []int) {
	if w.prefetch == nil {
		w.now.take(from, rank, ranks, out, nil)
	} else {
		w.now.take(from, rank, ranks, out, w.near)
	}
}

// near has the parts of the images first ... last of a lane brought near, and the part
// after them when some of the last one is done: lanes differ in how much, so that they do
// not all ask at the same time.
func (w *walk) near(l, first, last int) {
	lane := &w.now.lanes[l]
	need := lane.part(last)
	if s := lane.parts[need]; 4*(last-s.from+1) >= 3*(l*golden%1024)*(s.to-s.from)/1024 {
		need++
	}
	w.asked[l] = max(w.asked[l], lane.part(first))
	for ; w.asked[l] <= need; w.asked[l]++ {
		parts, k := lane.parts, w.asked[l]
		if k >= len(parts) {
			parts, k = w.following().lanes[l].parts, k-len(parts)
		}
		if !w.prefetch(parts[k].image) {
			return
		}
	}
}

// golden is the golden ratio's share of 1024: multiples of it are spread evenly, however
// many there are.
const golden = 633

// shuffle is Fisher's and Yates's, with numbers from the counter-based generator
// that depend on the place: at is that of x[0].
func shuffle(x []uint32, at int, key augment.Key, block int) {
	for i := len(x) - 1; i > 0; i-- {
		key.Sample = uint64(at + i)
		j := pick(key.Words(augment.PurposeOrder, block), i+1)
		x[i], x[j] = x[j], x[i]
	}
}
