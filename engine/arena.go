package engine

import (
	"sort"

	"swav/op"
)

// ref numbers a buffer of a plan under construction; absent stands for an
// operand that is not there.
type ref int

const absent ref = -1

// buffer is a tensor whose place in the arena is decided once all its uses are
// known.
type buffer struct {
	shape       []int
	dtype       op.DType
	first, last int // steps of its first and last use
	offset      int64
}

func (b *buffer) bytes() int64 {
	t := op.Tensor{Shape: b.shape, DType: b.dtype}
	return (t.Bytes() + alignment - 1) / alignment * alignment
}

// alignment of buffers in the arena: a cache line, and what AVX-512 loads want.
const alignment = 64

// place gives every buffer an offset so that no two that live at the same time
// overlap, and returns the arena's size. Large buffers go first, each to the
// lowest gap among those already placed (best known simple heuristic for
// static plans: "greedy by size", Pisarchyk and Lee, 2020).
func place(buffers []buffer) int64 {
	order := make([]int, len(buffers))
	for i := range order {
		order[i] = i
	}
	sort.SliceStable(order, func(a, b int) bool { return buffers[order[a]].bytes() > buffers[order[b]].bytes() })
	var placed []int // by offset
	var size int64
	for _, i := range order {
		b := &buffers[i]
		var at int64
		for _, j := range placed {
			o := &buffers[j]
			if b.first > o.last || o.first > b.last {
				continue
			}
			if at+b.bytes() <= o.offset {
				break
			}
			at = max(at, o.offset+o.bytes())
		}
		b.offset = at
		size = max(size, at+b.bytes())
		k := sort.Search(len(placed), func(k int) bool { return buffers[placed[k]].offset > at })
		placed = append(placed, 0)
		copy(placed[k+1:], placed[k:])
		placed[k] = i
	}
	return size
}
