package loader

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
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
	busy    int   // not 0: only one of so many is brought
	asked   int
}

func newInParts(parts, each, window int, broken ...int) *inParts {
	s := &inParts{fake: newFake(parts*each, broken...), window: window}
	for i := range parts + 1 {
		s.first = append(s.first, i*each)
	}
	return s
}

func (s *inParts) Shards() ([]int, int) { return s.first, s.window }
func (s *inParts) Prefetch(i int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.asked++; s.busy > 0 && s.asked%s.busy != 0 {
		return false
	}
	s.brought = append(s.brought, i/s.first[1])
	return true
}

// step is the images of a step, rank by rank.
func step(o *order, at, ranks, batch int) []int {
	all := make([]int, ranks*batch)
	for r := range ranks {
		o.take(at*ranks*batch, r, ranks, all[r*batch:(r+1)*batch], nil)
	}
	return all
}

// An epoch has every image once, however images, parts, lanes and batches divide.
func TestOrderHasEveryImageOnce(t *testing.T) {
	draw := rand.New(rand.NewPCG(3, 4))
	for range 300 {
		p := &partition{first: []int{0}}
		for range 1 + draw.IntN(20) {
			p.first = append(p.first, p.first[len(p.first)-1]+draw.IntN(40))
		}
		n := p.first[len(p.first)-1]
		if n == 0 {
			continue
		}
		p.lanes = 1 + draw.IntN(min(n, 30))
		batch, ranks := 1+draw.IntN(n), 1
		if batch%2 == 0 {
			batch, ranks = batch/2, 2
		}
		o := epochOrder(draw.Uint64(), draw.IntN(5), p)
		var seen []int
		for at := range n / (batch * ranks) {
			seen = append(seen, step(o, at, ranks, batch)...)
		}
		if rest := n - len(seen); rest > 0 {
			last := make([]int, rest)
			o.take(len(seen), 0, 1, last, nil)
			seen = append(seen, last...)
		}
		slices.Sort(seen)
		for i, image := range seen {
			if image != i {
				t.Fatalf("parts %v, %d lanes, %d ranks of %d: image %d is missing or comes twice", p.first, p.lanes, ranks, batch, i)
			}
		}
	}
}

// Lanes mix the images of as many parts, in an order that changes with the epoch.
func TestOrderMixesParts(t *testing.T) {
	const parts, each, lanes = 40, 30, 8
	p := &partition{newInParts(parts, each, 9).first, lanes}
	starts := map[int]bool{}
	for epoch := range 10 {
		o := epochOrder(1, epoch, p)
		for at := range parts * each / 16 {
			seen := map[int]int{}
			for _, image := range step(o, at, 1, 16) {
				seen[image/each]++
			}
			if len(seen) < lanes || len(seen) > 2*lanes {
				t.Errorf("epoch %d, step %d has images of %d parts, want %d or a few more", epoch, at, len(seen), lanes)
			}
		}
		starts[int(o.perm[0])/each] = true
	}
	if len(starts) < 4 {
		t.Error("the parts come in the same order")
	}
}

// The images of a step do not depend on the number of ranks, and each rank reads its
// share of the parts.
func TestRanksShareParts(t *testing.T) {
	const parts, each, lanes, batch = 96, 20, 16, 32
	p := &partition{newInParts(parts, each, 17).first, lanes}
	o := epochOrder(5, 2, p)
	for _, ranks := range []int{2, 4, 16} {
		read := make([]map[int]bool, ranks)
		for r := range read {
			read[r] = map[int]bool{}
		}
		for at := range parts * each / batch {
			got := step(o, at, ranks, batch/ranks)
			for i, image := range got {
				read[i/(batch/ranks)][image/each] = true
			}
			want := step(o, at, 1, batch)
			if !slices.Equal(got, want) {
				t.Fatalf("step %d: %d ranks have %v, one has %v", at, ranks, got, want)
			}
		}
		for r, own := range read {
			if share := parts / ranks; len(own) > share+1 {
				t.Errorf("rank %d of %d reads %d parts of %d, want %d and perhaps one more", r, ranks, len(own), parts, share)
			}
		}
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

// Each rank has its parts brought near before they are needed, those of the next epoch
// too, and asks again where it is refused.
func TestPartsAreBroughtNear(t *testing.T) {
	const parts, each = 16, 24
	for _, busy := range []int{0, 3} {
		src := newInParts(parts, each, 6)
		src.busy = busy
		c := config()
		c.Workers, c.Batch, c.Ranks, c.Lanes = 1, 4, 2, 8
		batches := take(t, src, c, Position{}, 90) // of 48 an epoch
		visits := map[int]int{}
		open := map[int]int{} // by lane: images are as many from each in every batch
		for _, b := range batches {
			for lane, n := range b.index {
				if part := n / each; open[lane] != part+1 {
					open[lane] = part + 1
					visits[part]++
				}
			}
		}
		asked := map[int]int{}
		for _, part := range src.brought {
			asked[part]++
		}
		for part, n := range visits {
			if asked[part] < n && busy == 0 || asked[part] < 1 || asked[part] > n+2 {
				t.Errorf("part %d is visited %d times and was brought near %d times", part, n, asked[part])
			}
		}
	}
}

// The next part of a lane is asked for while a good share of the one before is still to
// come, and not of all lanes in the same step.
func TestPartsComeAhead(t *testing.T) {
	const parts, each, lanes, batch = 40, 40, 8, 8
	p := &partition{newInParts(parts, each, 20).first, lanes}
	at := 0
	asked, visited := map[int]int{}, map[int]int{}
	w := newWalk(3, 0, p, func(image int) bool {
		if _, before := asked[image/each]; !before {
			asked[image/each] = at
		}
		return true
	})
	one := make([]int, batch)
	for ; at < parts*each/batch; at++ {
		w.take(at*batch, 0, 1, one)
		for _, image := range one {
			if _, seen := visited[image/each]; !seen {
				visited[image/each] = at
			}
		}
		if at == parts*each/batch*4/5 {
			break // the next epoch's come then
		}
	}
	together := map[int]int{}
	for part, when := range visited {
		if when == 0 {
			continue
		}
		if ahead := when - asked[part]; ahead < each/4 || ahead > each {
			t.Errorf("part %d is visited in step %d and was asked for %d steps before", part, when, ahead)
		}
		together[asked[part]]++
	}
	for step, n := range together {
		if n > 2 && step > 0 {
			t.Errorf("%d parts were asked for in step %d", n, step)
		}
	}
}

// Lanes that no cache can hold are refused.
func TestTooManyLanes(t *testing.T) {
	src := newInParts(40, 10, 8)
	c := config()
	c.Batch, c.Lanes = 2, 32
	for ranks, fits := range map[int]bool{1: false, 3: false, 4: true} {
		c.Ranks = ranks
		_, err := New(src, c)
		if (err == nil) != fits {
			t.Errorf("32 lanes, a cache of 8 parts a rank, %d ranks: %v", ranks, err)
		}
		if err != nil && !strings.Contains(err.Error(), "data.lanes") {
			t.Errorf("%v does not say which key", err)
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
