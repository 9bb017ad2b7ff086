package loader

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"swav/augment"
	"swav/dataset"
	"swav/imgcodec"
)

// fake is a source of small images whose pixels follow from their names.
type fake struct {
	names  []string
	broken map[string]bool
	c      int
	loads  atomic.Int64
}

func newFake(n int, broken ...int) *fake {
	f := &fake{c: 3, broken: map[string]bool{}}
	for i := range n {
		f.names = append(f.names, fmt.Sprintf("image-%03d", i))
	}
	for _, i := range broken {
		f.broken[f.names[i]] = true
	}
	return f
}

func (f *fake) Name() string      { return "fake" }
func (f *fake) Len() int          { return len(f.names) }
func (f *fake) Channels() int     { return f.c }
func (f *fake) Classes() []string { return nil }
func (f *fake) Label(int) int     { return -1 }
func (f *fake) ID(i int) string   { return f.names[i] }
func (f *fake) Load(i int, dst *imgcodec.Image) error {
	f.loads.Add(1)
	if f.broken[f.names[i]] {
		return fmt.Errorf("%s: broken on purpose", f.names[i])
	}
	key := dataset.Key(f.names[i])
	dst.Reset(20+int(key%13), 17+int(key>>8%9), f.c)
	for p := range dst.Pix {
		dst.Pix[p] = byte(key>>(p%57)) + byte(p*7)
	}
	return nil
}

func config() Config {
	r := augment.Original()
	r.Groups = []augment.Group{{Size: 8, Count: 2, MinScale: 0.3, MaxScale: 1}, {Size: 5, Count: 3, MinScale: 0.1, MaxScale: 0.4}}
	return Config{Recipe: r, Batch: 4, Seed: 11, Workers: 2, MaxSkip: 0.01}
}

// copied is a batch's content.
type copied struct {
	epoch, step int
	index       []int
	groups      [][]float32
}

// take reads n batches from a position on.
func take(t *testing.T, src dataset.Source, c Config, p Position, n int) []copied {
	t.Helper()
	l, err := New(src, c)
	if err != nil {
		t.Fatal(err)
	}
	l.Start(p)
	defer l.Close()
	var out []copied
	for range n {
		b, err := l.Next(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		o := copied{epoch: b.Epoch, step: b.Step, index: slices.Clone(b.Indices)}
		for _, g := range b.Groups {
			o.groups = append(o.groups, slices.Clone(g))
		}
		// What the trainer does to a batch after Release is nobody's concern.
		for _, g := range b.Groups {
			clear(g)
		}
		b.Release()
		out = append(out, o)
	}
	return out
}

func same(a, b copied) bool {
	return a.epoch == b.epoch && a.step == b.step && slices.Equal(a.index, b.index) &&
		slices.EqualFunc(a.groups, b.groups, slices.Equal[[]float32])
}

func TestWorkersDoNotChangeBatches(t *testing.T) {
	src := newFake(50, 3, 17)
	c := config()
	c.MaxSkip = 0.1
	c.Workers = 1
	want := take(t, src, c, Position{}, 30)
	for _, workers := range []int{2, 3, 7} {
		c.Workers = workers
		for i, got := range take(t, src, c, Position{}, 30) {
			if !same(got, want[i]) {
				t.Fatalf("%d workers: batch %d differs", workers, i)
			}
		}
	}
	c.Seed++
	if same(take(t, src, c, Position{}, 1)[0], want[0]) {
		t.Error("another seed gives the same batch")
	}
}

// A run that starts inside an epoch sees what an uninterrupted one sees.
func TestResumeIsExact(t *testing.T) {
	src := newFake(43, 5)
	c := config()
	c.MaxSkip, c.Accumulate = 0.1, 2 // 5 steps an epoch
	all := take(t, src, c, Position{}, 24)
	for _, p := range []Position{{0, 1}, {0, 4}, {1, 0}, {1, 3}, {0, 7}} {
		at := (p.Epoch*5 + p.Step) * 2
		for i, got := range take(t, src, c, p, 24-at) {
			if !same(got, all[at+i]) {
				t.Fatalf("from %+v: batch %d differs", p, i)
			}
		}
	}
}

// Ranks share out the batch that one rank would see, and an epoch has each
// image at most once.
func TestRanksShareTheGlobalBatch(t *testing.T) {
	src := newFake(50)
	c := config()
	c.Batch = 12
	whole := take(t, src, c, Position{}, 8) // two epochs of four steps
	c.Batch, c.Ranks = 4, 3
	var parts [3][]copied
	for r := range parts {
		c.Rank = r
		parts[r] = take(t, src, c, Position{}, 8)
	}
	for i, w := range whole {
		for g, group := range c.Recipe.Groups {
			view := group.Size * group.Size * 3
			for crop := range group.Count {
				var joined []float32
				for r := range parts {
					joined = append(joined, parts[r][i].groups[g][crop*4*view:][:4*view]...)
				}
				if !slices.Equal(joined, w.groups[g][crop*12*view:][:12*view]) {
					t.Fatalf("step %d group %d crop %d differs", i, g, crop)
				}
			}
		}
	}
	for epoch := range 2 {
		seen := map[int]bool{}
		for _, w := range whole[epoch*4 : epoch*4+4] {
			if w.epoch != epoch {
				t.Errorf("epoch %d, want %d", w.epoch, epoch)
			}
			for _, n := range w.index {
				if seen[n] {
					t.Errorf("epoch %d: image %d twice", epoch, n)
				}
				seen[n] = true
			}
		}
		if len(seen) != 48 {
			t.Errorf("epoch %d: %d images, want 48 of 50", epoch, len(seen))
		}
	}
	if slices.Equal(whole[0].index, whole[4].index) {
		t.Error("epochs have the same order")
	}
}

// An image's views do not depend on its place among the files.
func TestViewsBelongToTheImage(t *testing.T) {
	src := newFake(40)
	views := func(src *fake) map[string][]float32 {
		m := map[string][]float32{}
		for _, b := range take(t, src, config(), Position{}, 10) {
			for i, n := range b.index {
				var v []float32
				for g, group := range config().Recipe.Groups {
					one := group.Size * group.Size * 3
					for crop := range group.Count {
						v = append(v, b.groups[g][(crop*4+i)*one:][:one]...)
					}
				}
				m[src.ID(n)] = v
			}
		}
		return m
	}
	want := views(src)
	other := newFake(40)
	slices.Reverse(other.names)
	for id, v := range views(other) {
		if !slices.Equal(v, want[id]) {
			t.Errorf("%s has other views", id)
		}
	}
}

func TestPermutation(t *testing.T) {
	for _, n := range []int{1, 2, 3, 1000} {
		p := epochOrder(1, 0, &partition{[]int{0, n}, 1}).perm
		slices.Sort(p)
		for i, v := range p {
			if int(v) != i {
				t.Fatalf("of %d: %v", n, p)
			}
		}
	}
	// Of three, each of six orders comes about as often as any other.
	counts := map[string]int{}
	for epoch := range 6000 {
		counts[fmt.Sprint(epochOrder(9, epoch, &partition{[]int{0, 3}, 1}).perm)]++
	}
	for order, n := range counts {
		if len(counts) != 6 || n < 880 || n > 1120 {
			t.Errorf("order %s: %d of 6000 (%d orders)", order, n, len(counts))
		}
	}
}

// Unreadable images are told of once and replaced; the replacement has views
// of its own.
func TestUnreadableImagesAreReplaced(t *testing.T) {
	src := newFake(60, 2, 30, 31)
	c := config()
	c.MaxSkip = 0.1
	var mu sync.Mutex
	told := map[string]int{}
	c.OnSkip = func(id string, err error) {
		if !mu.TryLock() {
			t.Error("OnSkip from two workers at a time")
			return
		}
		defer mu.Unlock()
		if !strings.Contains(err.Error(), "broken on purpose") {
			t.Errorf("told of %v", err)
		}
		told[id]++
	}
	for _, b := range take(t, src, c, Position{}, 45) {
		views := map[string]bool{}
		for i, n := range b.index {
			if src.broken[src.ID(n)] {
				t.Errorf("unreadable image %d in a batch", n)
			}
			views[fmt.Sprint(b.groups[0][i*8*8*3:][:8*8*3])] = true
		}
		if len(views) != len(b.index) {
			t.Errorf("epoch %d step %d: equal views", b.epoch, b.step)
		}
	}
	if len(told) != 3 || told["image-002"] != 1 || told["image-030"] != 1 || told["image-031"] != 1 {
		t.Errorf("told of %v", told)
	}
}

func TestTooManyUnreadable(t *testing.T) {
	numbers := func(n int) []int {
		var s []int
		for i := range n {
			s = append(s, i)
		}
		return s
	}
	for _, tc := range []struct {
		name   string
		src    *fake
		share  float64
		steps  int
		failed bool
	}{
		{"a few are always allowed", newFake(20, 1, 2, 3), 0, 20, false},
		{"four of 20", newFake(20, 1, 2, 3, 4), 0.01, 20, true},
		{"four of 20, all allowed", newFake(20, 1, 2, 3, 4), 1, 20, false},
		{"five of 1000", newFake(1000, 1, 2, 3, 4, 5), 0.01, 500, false},
		{"twenty of 1000", newFake(1000, numbers(20)...), 0.01, 500, true},
		{"one in five of 1000 is seen early", newFake(1000, numbers(200)...), 0.01, 20, true},
		{"all of 20", newFake(20, numbers(20)...), 1, 1, true},
		{"all of 5000", newFake(5000, numbers(5000)...), 1, 1, true},
		{"two of two", newFake(2, 0, 1), 1, 1, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := config()
			c.Batch = 2
			c.MaxSkip = tc.share
			l, err := New(tc.src, c)
			if err != nil {
				t.Fatal(err)
			}
			l.Start(Position{})
			defer l.Close()
			for range tc.steps {
				var b *Batch
				if b, err = l.Next(context.Background()); err != nil {
					break
				}
				b.Release()
			}
			var many *TooManyError
			if errors.As(err, &many) != tc.failed || !tc.failed && err != nil {
				t.Fatalf("error %v, wanted one: %v", err, tc.failed)
			}
			if !tc.failed {
				return
			}
			if !strings.Contains(err.Error(), "broken on purpose") || !strings.Contains(err.Error(), "max_skip") {
				t.Errorf("%v: names no examples or no remedy", err)
			}
			if _, again := l.Next(context.Background()); again != err {
				t.Errorf("a later Next gives %v", again)
			}
		})
	}
}

// A decoder that panics loses one image.
func TestPanicsAreUnreadableImages(t *testing.T) {
	src := &panicking{newFake(20)}
	c := config()
	c.MaxSkip = 0.1
	told := ""
	c.OnSkip = func(id string, err error) { told = err.Error() }
	take(t, src, c, Position{}, 6)
	if !strings.Contains(told, "image-004") || !strings.Contains(told, "on purpose") {
		t.Errorf("told of %q", told)
	}
}

type panicking struct{ *fake }

func (p *panicking) Load(i int, dst *imgcodec.Image) error {
	if i == 4 {
		panic("on purpose")
	}
	return p.fake.Load(i, dst)
}

func TestNewRefuses(t *testing.T) {
	for _, tc := range []struct {
		name, want string
		n          int
		change     func(c *Config)
	}{
		{"fewer images than a batch", "fewer than a batch of 4", 3, func(*Config) {}},
		{"fewer images than all ranks' batches", "train.batch_size", 23, func(c *Config) { c.Ranks, c.Accumulate = 3, 2 }},
		{"no batch", "batch of 0", 10, func(c *Config) { c.Batch = 0 }},
		{"rank outside", "rank 2 of 2", 10, func(c *Config) { c.Ranks, c.Rank = 2, 2 }},
		{"no crops", "crop", 10, func(c *Config) { c.Recipe.Groups = nil }},
	} {
		c := config()
		tc.change(&c)
		if _, err := New(newFake(tc.n), c); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %q in it", tc.name, err, tc.want)
		}
	}
}

// gate is a source that waits.
type gate struct {
	*fake
	open chan struct{}
}

func (g *gate) Load(i int, dst *imgcodec.Image) error {
	<-g.open
	return g.fake.Load(i, dst)
}

// Next gives up when its context ends, and a later one goes on without loss.
func TestNextGivesUpWithItsContext(t *testing.T) {
	src := &gate{newFake(20), make(chan struct{})}
	want := take(t, src.fake, config(), Position{}, 1)[0]
	l, err := New(src, config())
	if err != nil {
		t.Fatal(err)
	}
	l.Start(Position{})
	defer l.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	if _, err := l.Next(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("error %v", err)
	}
	close(src.open)
	b, err := l.Next(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(b.Indices, want.index) {
		t.Errorf("batch of %v, want %v", b.Indices, want.index)
	}
}

// Batches are made ahead, but only so many.
func TestPrefetchIsBounded(t *testing.T) {
	src := newFake(400)
	l, err := New(src, config())
	if err != nil {
		t.Fatal(err)
	}
	l.Start(Position{})
	b, err := l.Next(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	_ = b // never released
	l.Close()
	if n := src.loads.Load(); n > Prefetch*4 {
		t.Errorf("%d images were read for %d batches of 4", n, Prefetch)
	}
	l.Start(Position{Step: 3}) // and again
	defer l.Close()
	if b, err := l.Next(context.Background()); err != nil || b.Step != 3 {
		t.Errorf("after Close and Start: %v, %v", b, err)
	}
}
