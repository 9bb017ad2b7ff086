package loader

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"swav/dataset"
	"swav/imgcodec"
)

// inParts is a source in parts of which few can be near.
type inParts struct {
	*fake
	first  []int
	window int

	mu      sync.Mutex
	brought []int // parts, in order
}

func newInParts(parts, each, window int, broken ...int) *inParts {
	s := &inParts{fake: newFake(parts*each, broken...), window: window}
	for i := range parts + 1 {
		s.first = append(s.first, i*each)
	}
	return s
}

func (s *inParts) Shards() ([]int, int) { return s.first, s.window }
func (s *inParts) Prefetch(i int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.brought = append(s.brought, i/s.first[1])
}

// Every image comes once an epoch, few parts at a time, in an order that
// changes.
func TestOrderInParts(t *testing.T) {
	const parts, each, window = 10, 30, 3
	p := &partition{newInParts(parts, each, window).first, window}
	a, b := epochOrder(1, 0, parts*each, p), epochOrder(1, 1, parts*each, p)
	if slices.Equal(a.perm, b.perm) {
		t.Error("two epochs have the same order")
	}
	for _, o := range []order{a, b} {
		sorted := slices.Sorted(slices.Values(o.perm))
		for i, n := range sorted {
			if int(n) != i {
				t.Fatalf("image %d is missing or comes twice", i)
			}
		}
		for _, s := range o.spans {
			seen := map[int]bool{}
			changes := 0
			for i := s.from; i < s.to; i++ {
				seen[int(o.perm[i])/each] = true
				if i > s.from && o.perm[i]/each != o.perm[i-1]/each {
					changes++
				}
			}
			if len(seen) > window || len(seen) > 1 && changes < (s.to-s.from)/3 {
				t.Errorf("images %d to %d are of %d parts, with %d changes between them", s.from, s.to, len(seen), changes)
			}
		}
	}
	first := []int{int(a.perm[0]) / each, int(b.perm[0]) / each}
	for epoch := 2; epoch < 12; epoch++ {
		first = append(first, int(epochOrder(1, epoch, parts*each, p).perm[0])/each)
	}
	if slices.Sort(first); len(slices.Compact(first)) < 4 {
		t.Error("the parts come in the same order")
	}
}

// A run goes on exactly where it was with other numbers of workers and ranks.
func TestResumeInPartsOnOtherRanks(t *testing.T) {
	src := newInParts(6, 20, 2, 7, 50)
	c := config()
	c.Batch, c.MaxSkip = 12, 0.2
	all := take(t, src, c, Position{}, 20) // two epochs of 10 steps
	for _, at := range []int{3, 13} {
		c := c
		c.Batch, c.Ranks, c.Workers = 4, 3, 5
		for c.Rank = range c.Ranks {
			for i, got := range take(t, src, c, Position{0, at}, 4) {
				want := all[at+i]
				if got.epoch != want.epoch || got.step != want.step || !slices.Equal(got.index, want.index[4*c.Rank:4*c.Rank+4]) {
					t.Errorf("from step %d, rank %d: %v, want a third of %v", at, c.Rank, got.index, want.index)
				}
			}
		}
	}
}

// Parts are brought near before they are needed, each a few times at most.
func TestPartsAreBroughtNear(t *testing.T) {
	src := newInParts(8, 24, 2)
	c := config()
	c.Workers = 1
	batches := take(t, src, c, Position{}, 48)
	seen := map[int]bool{}
	for _, b := range batches {
		for _, n := range b.index {
			seen[n/24] = true
		}
	}
	for part := range seen {
		n := 0
		for _, p := range src.brought {
			if p == part {
				n++
			}
		}
		if n < 1 || n > 3 {
			t.Errorf("part %d was brought near %d times", part, n)
		}
	}
}

// gone is a source that cannot be reached.
type gone struct{ *fake }

func (gone) Load(int, *imgcodec.Image) error {
	return fmt.Errorf("get https://host/a.tar: at byte 7: reset: %w", dataset.ErrUnavailable)
}

// A source that fails as a whole ends the run and is not taken for bad images.
func TestUnreachableSourceEndsTheRun(t *testing.T) {
	c := config()
	c.OnSkip = func(id string, err error) { t.Errorf("%s was skipped: %v", id, err) }
	src := gone{newFake(20)}
	l, err := New(src, c)
	if err != nil {
		t.Fatal(err)
	}
	l.Start(Position{})
	defer l.Close()
	if _, err := l.Next(context.Background()); !errors.Is(err, dataset.ErrUnavailable) {
		t.Errorf("%v, want that the source is unavailable", err)
	}
	e, err := NewEval(src, EvalConfig{Index: []int{0, 1}, Size: 8, Batch: 2, Mean: []float32{0}, Std: []float32{1}})
	if err == nil {
		defer e.Close()
		_, err = e.Next(context.Background())
	}
	if !errors.Is(err, dataset.ErrUnavailable) {
		t.Errorf("evaluation: %v, want that the source is unavailable", err)
	}
}
