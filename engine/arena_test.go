package engine

import (
	"testing"

	"pgregory.net/rapid"

	"swav/op"
)

// Buffers that live at the same time never share memory, every buffer lies in
// the arena, and the arena is no larger than all buffers side by side and no
// smaller than what is alive at the busiest step.
func TestPlaceKeepsLiveBuffersApart(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(0, 40).Draw(t, "buffers")
		buffers := make([]buffer, n)
		var sum int64
		alive := map[int]int64{}
		for i := range buffers {
			first := rapid.IntRange(0, 50).Draw(t, "first")
			last := first + rapid.IntRange(0, 20).Draw(t, "length")
			buffers[i] = buffer{shape: []int{rapid.IntRange(1, 5000).Draw(t, "size")}, dtype: op.Uint8, first: first, last: last}
			sum += buffers[i].bytes()
			for s := first; s <= last; s++ {
				alive[s] += buffers[i].bytes()
			}
		}
		size := place(buffers)
		if size > sum {
			t.Fatalf("arena of %d bytes for buffers of %d", size, sum)
		}
		for step, bytes := range alive {
			if bytes > size {
				t.Fatalf("arena of %d bytes, %d alive at step %d", size, bytes, step)
			}
		}
		for i, a := range buffers {
			if a.offset < 0 || a.offset+a.bytes() > size || a.offset%alignment != 0 {
				t.Fatalf("buffer %d at %d of %d", i, a.offset, size)
			}
			for j, b := range buffers[:i] {
				together := a.first <= b.last && b.first <= a.last
				overlap := a.offset < b.offset+b.bytes() && b.offset < a.offset+a.bytes()
				if together && overlap {
					t.Fatalf("buffers %d and %d live together and overlap", i, j)
				}
			}
		}
	})
}
