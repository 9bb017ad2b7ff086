package join

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"swav/dist"
	"swav/dist/watch"
)

// inside is an engine of ranks in this process.
type inside struct {
	dist.Comm
	told func(error)
}

func (e *inside) Library() string       { return "this process" }
func (e *inside) OnAbort(f func(error)) { e.told = f }
func (e *inside) Fail(err error)        { e.Comm.Abort(err) }
func (e *inside) Abort(err error)       { e.told(err); e.Comm.Abort(err) }
func (e *inside) BroadcastText(text string, root int) (string, error) {
	b, err := dist.BroadcastBytes(e.Comm, []byte(text), root)
	return string(b), err
}

// groups joins n ranks and has each do something.
func groups(t *testing.T, n int, do func(g *Group)) {
	t.Helper()
	var wg sync.WaitGroup
	for _, c := range dist.Local(n) {
		wg.Go(func() {
			g, err := group(t.Context(), &inside{Comm: c}, Options{Interval: 20 * time.Millisecond, Patience: 2 * time.Second})
			if err != nil {
				t.Error(err)
				return
			}
			do(g)
		})
	}
	wg.Wait()
}

func TestRanksOfAHostShareItsProcessors(t *testing.T) {
	var mu sync.Mutex
	seen := map[int]bool{}
	groups(t, 3, func(g *Group) {
		mu.Lock()
		seen[g.share.index] = true
		mu.Unlock()
		if g.share.of != 3 {
			t.Errorf("rank %d shares with %d", g.Rank(), g.share.of)
		}
		if err := g.Barrier(); err != nil {
			t.Error(err)
		}
		if err := g.Close(); err != nil {
			t.Error(err)
		}
	})
	if len(seen) != 3 {
		t.Errorf("parts %v", seen)
	}
}

// One rank of each host speaks for it if rank 0 is lost, with its host or alone.
func TestNeighbours(t *testing.T) {
	for name, hosts := range map[string][]string{
		"alone":      {"a"},
		"one host":   {"a", "a", "a"},
		"two hosts":  {"a", "a", "b", "b"},
		"by turns":   {"a", "b", "a", "b", "c"},
		"0 is alone": {"a", "b", "b"},
	} {
		var wg sync.WaitGroup
		for _, c := range dist.Local(len(hosts)) {
			wg.Go(func() {
				r := c.Rank()
				s, first, err := neighbours(c, hosts[r])
				if err != nil {
					t.Error(err)
				}
				want, before := share{}, 0
				for i, h := range hosts {
					if h != hosts[r] {
						continue
					}
					want.of++
					if i < r {
						want.index++
					}
					if i > 0 && i < r {
						before++
					}
				}
				if s != want || first != (r > 0 && before == 0) {
					t.Errorf("%s, rank %d: %+v, first %v; want %+v", name, r, s, first, want)
				}
			})
		}
		wg.Wait()
	}
}

// A rank that stops says why to all, and one of them is to pass it on to people.
func TestOneRankSpeaks(t *testing.T) {
	var mu sync.Mutex
	speakers := 0
	groups(t, 3, func(g *Group) {
		if g.Rank() == 1 {
			g.Abort(errors.New("disk full"))
		}
		for g.Why() == nil {
			time.Sleep(time.Millisecond)
		}
		var lost *watch.Lost
		if err := g.Why(); !errors.As(err, &lost) || lost.Rank != 1 || !strings.Contains(err.Error(), "disk full") {
			t.Errorf("rank %d: %v", g.Rank(), err)
		}
		if err := g.Barrier(); err == nil {
			t.Errorf("rank %d: a barrier of a failed group", g.Rank())
		}
		if g.Speaks() {
			mu.Lock()
			speakers++
			mu.Unlock()
		}
		_ = g.Close()
	})
	if speakers != 1 {
		t.Errorf("%d ranks speak", speakers)
	}
}

func TestCause(t *testing.T) {
	full := errors.New("disk full")
	for _, err := range []error{full, wrapped{"rank 3 stopped: disk full", full}} {
		if cause(err) != full {
			t.Errorf("%v comes from %v", err, cause(err))
		}
	}
}

type wrapped struct {
	text  string
	inner error
}

func (w wrapped) Error() string { return w.text }
func (w wrapped) Unwrap() error { return w.inner }
