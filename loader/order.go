package loader

import (
	"sort"

	"swav/augment"
	"swav/dataset"
)

// order is how an epoch visits the images.
type order struct {
	perm  []uint32
	spans []span // of sources in parts; nil where every image is as near as another
}

// span is a stretch of perm that visits some parts by turns.
type span struct {
	from, to int
	parts    []int // a first image of each
}

// Blocks of random numbers of augment.PurposeOrder.
const (
	blockImages = iota
	blockParts
)

// partition is the parts of a source that should be visited some at a time.
type partition struct {
	first  []int // image of each part, and their number
	window int
}

// partitionOf is nil for sources of which any image can be had at any time.
func partitionOf(src dataset.Source) *partition {
	s, ok := src.(dataset.Sharded)
	if !ok {
		return nil
	}
	first, window := s.Shards()
	if window >= len(first)-1 {
		return nil
	}
	return &partition{first, window}
}

// around is the images of the part that image n belongs to.
func (p *partition) around(n int) (from, to int) {
	i := sort.SearchInts(p.first, n+1)
	return p.first[i-1], p.first[i]
}

// order of an epoch over n images: all shuffled, or, of a source in parts, the
// parts, and then the images of each few parts.
func epochOrder(seed uint64, epoch, n int, p *partition) order {
	o := order{perm: make([]uint32, n)}
	key := augment.Key{Seed: seed, Epoch: epoch}
	if p == nil {
		for i := range o.perm {
			o.perm[i] = uint32(i)
		}
		shuffle(o.perm, 0, key, blockImages)
		return o
	}
	parts := make([]uint32, len(p.first)-1)
	for i := range parts {
		parts[i] = uint32(i)
	}
	shuffle(parts, 0, key, blockParts)
	at := 0
	for len(parts) > 0 {
		s := span{from: at}
		for _, part := range parts[:min(p.window, len(parts))] {
			for i := p.first[part]; i < p.first[part+1]; i++ {
				o.perm[at] = uint32(i)
				at++
			}
			if at > s.from {
				s.parts = append(s.parts, p.first[part])
			}
		}
		parts = parts[min(p.window, len(parts)):]
		s.to = at
		shuffle(o.perm[s.from:s.to], s.from, key, blockImages)
		o.spans = append(o.spans, s)
	}
	return o
}

// shuffle is Fisher's and Yates's, with numbers from the counter-based generator
// that depend on the place: at is that of x[0].
func shuffle(x []uint32, at int, key augment.Key, block int) {
	for i := len(x) - 1; i > 0; i-- {
		key.Sample = uint64(at + i)
		j := pick(key.Words(augment.PurposeOrder, block), i+1)
		x[i], x[j] = x[j], x[i]
	}
}

// near calls prefetch for the parts that the images from to to-1 of the order
// should have brought near: those of the span that begins or is begun at the
// start, and those of the next span bit by bit while one is visited.
func (o *order) near(from, to int, start bool, prefetch func(image int)) {
	for i, s := range o.spans {
		if s.to <= from || s.from >= to {
			continue
		}
		if start {
			for _, image := range s.parts {
				prefetch(image)
			}
		}
		if i+1 == len(o.spans) {
			continue
		}
		next := o.spans[i+1].parts
		for k, image := range next {
			if at := s.from + k*(s.to-s.from)/len(next); at >= from && at < to {
				prefetch(image)
			}
		}
	}
}
