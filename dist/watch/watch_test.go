package watch

import (
	"context"
	"errors"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestStaysQuiet(t *testing.T) {
	inMemory(t, func(t *testing.T) {
		p := newParty(t).start(4)
		p.fine(0, 1, 2, 3)
		var wg sync.WaitGroup
		for _, w := range p.watch {
			wg.Go(w.Leave)
		}
		wg.Wait()
		p.fine(0, 1, 2, 3)
	})
}

func TestLeavesInAnyOrder(t *testing.T) {
	for _, order := range [][]int{{0, 1, 2}, {2, 1, 0}, {1, 0, 2}} {
		inMemory(t, func(t *testing.T) {
			p := newParty(t).start(3)
			for _, r := range order {
				p.watch[r].Leave()
				p.watch[r].Close()
				p.fine(0, 1, 2)
			}
		})
	}
}

// A rank that has left is no part of a failure that comes later.
func TestLeftThenLost(t *testing.T) {
	inMemory(t, func(t *testing.T) {
		p := newParty(t).start(4)
		p.watch[1].Leave()
		p.watch[1].Close()
		p.watch[0].Leave() // goes on for the others
		p.wireOf(3).Conn.Close()
		if l := p.lost(2, time.Second); l.Rank != 3 {
			t.Errorf("rank 2: %v", l)
		}
		if err := p.watch[1].Err(); err != nil {
			t.Errorf("the rank that left: %v", err)
		}
	})
}

func TestConnectionEnds(t *testing.T) {
	inMemory(t, func(t *testing.T) {
		p := newParty(t).start(4)
		p.wireOf(2).Conn.Close()
		for _, r := range []int{0, 1, 3} {
			l := p.lost(r, 100*time.Millisecond)
			if l.Rank != 2 || l.Host != "node2" || l.PID != os.Getpid() || !strings.HasSuffix(l.Error(), "has ended without a word") ||
				!strings.HasPrefix(l.Error(), "rank 2 (host node2, process ") {
				t.Errorf("rank %d: %v", r, l)
			}
		}
	})
}

// Close alone is the end of a process that had more to do.
func TestClosesWithoutLeaving(t *testing.T) {
	inMemory(t, func(t *testing.T) {
		p := newParty(t).start(3)
		p.watch[1].Close()
		if l := p.lost(2, time.Second); l.Rank != 1 {
			t.Errorf("rank 2: %v", l)
		}
	})
}

func TestRankZeroEnds(t *testing.T) {
	inMemory(t, func(t *testing.T) {
		p := newParty(t).start(4)
		p.watch[1].Leave()
		p.watch[1].Close()
		time.Sleep(5 * time.Second)
		p.watch[0].Close()
		for _, r := range []int{2, 3} {
			if l := p.lost(r, 100*time.Millisecond); l.Rank != 0 || l.Host != "node0" {
				t.Errorf("rank %d: %v", r, l)
			}
		}
	})
}

func TestSilence(t *testing.T) {
	inMemory(t, func(t *testing.T) {
		p := newParty(t).start(3)
		p.fine(0, 1, 2)
		from := time.Now()
		p.wireOf(1).cut.Store(true)
		for _, r := range []int{0, 2} {
			l := p.lost(r, time.Minute)
			if l.Rank != 1 || !strings.Contains(l.Error(), "silent for 1") || !strings.Contains(l.Error(), "network is down") {
				t.Errorf("rank %d: %v", r, l)
			}
		}
		// The rank that was cut off notices too, from its side.
		if l := p.lost(1, time.Minute); l.Rank != 0 {
			t.Errorf("rank 1: %v", l)
		}
		if took := time.Since(from); took < 14*time.Second || took > 17*time.Second {
			t.Errorf("noticed after %s", took)
		}
	})
}

// When rank 0's network is gone, each of the others finds it lost.
func TestRankZeroSilent(t *testing.T) {
	inMemory(t, func(t *testing.T) {
		p := newParty(t).start(3)
		p.wireOf(1).cut.Store(true)
		p.wireOf(2).cut.Store(true)
		for _, r := range []int{1, 2} {
			if l := p.lost(r, 20*time.Second); l.Rank != 0 || !strings.Contains(l.Error(), "silent") {
				t.Errorf("rank %d: %v", r, l)
			}
		}
	})
}

func TestAbort(t *testing.T) {
	for _, rank := range []int{0, 1, 2} {
		inMemory(t, func(t *testing.T) {
			p := newParty(t).start(3)
			cause := errors.New("write step-400: no space left\non device")
			p.watch[rank].Abort(cause)
			want := "rank " + string(rune('0'+rank)) + " (host node" + string(rune('0'+rank)) + "): write step-400: no space left on device"
			for r := range 3 {
				if l := p.lost(r, time.Second); l.Error() != want || l.Rank != rank || errors.Is(l, cause) != (r == rank && rank == 0) {
					t.Errorf("rank %d: %v", r, l)
				}
			}
		})
	}
}

// However many fail at once, all ranks name the same one.
func TestAbortsAtOnce(t *testing.T) {
	inMemory(t, func(t *testing.T) {
		p := newParty(t).start(5)
		var wg sync.WaitGroup
		for _, r := range []int{1, 2, 4} {
			wg.Go(func() { p.watch[r].Abort(errors.New("disk full")) })
		}
		wg.Wait()
		first := p.lost(0, time.Second)
		for r := 1; r < 5; r++ {
			if l := p.lost(r, time.Second); l.Error() != first.Error() {
				t.Errorf("rank %d: %v, rank 0: %v", r, l, first)
			}
		}
	})
}

// A reason reaches the others when the process ends right after it.
func TestAbortsAndEnds(t *testing.T) {
	inMemory(t, func(t *testing.T) {
		p := newParty(t).start(3)
		p.watch[0].Abort(errors.New("disk full"))
		p.watch[0].Close()
		for r := range 3 {
			if l := p.lost(r, time.Second); l.Rank != 0 || l.Reason != "disk full" {
				t.Errorf("rank %d: %v", r, l)
			}
		}
	})
}

// A rank is late once another has had a step's data for so long, however long the steps
// take.
func TestLateData(t *testing.T) {
	inMemory(t, func(t *testing.T) {
		p := newParty(t).start(3)
		for step := 1; step <= 10; step++ {
			for r, w := range p.watch {
				if r != 2 || step < 10 {
					w.Report(step)
				}
			}
			if late := p.watch[0].Late(10 * time.Second); len(late) != 0 {
				t.Errorf("step %d: late at once: %+v", step, late)
			}
			if step < 10 {
				time.Sleep(time.Minute)
			}
		}
		time.Sleep(20 * time.Second)
		if late := p.watch[0].Late(10 * time.Second); len(late) != 1 || late[0].Rank != 2 || late[0].Host != "node2" || late[0].Waited != 20*time.Second {
			t.Errorf("late: %+v", late)
		}
		if late := p.watch[0].Late(time.Minute); len(late) != 0 {
			t.Errorf("late for a minute: %+v", late)
		}
		p.watch[2].Report(10)
		time.Sleep(2 * time.Second)
		if late := p.watch[0].Late(time.Second); len(late) != 0 {
			t.Errorf("late after its data came: %+v", late)
		}
	})
}

func TestLateRank(t *testing.T) {
	inMemory(t, func(t *testing.T) {
		p := newParty(t)
		p.expect(3)
		var wg sync.WaitGroup
		for r, after := range []time.Duration{30 * time.Second, 0, 50 * time.Second} {
			wg.Go(func() {
				time.Sleep(after)
				w, err := Start(t.Context(), p.config(r, 3))
				if err != nil {
					t.Errorf("rank %d: %v", r, err)
					return
				}
				p.watch[r] = w
			})
		}
		wg.Wait()
		if !t.Failed() {
			p.fine(0, 1, 2)
		}
	})
}

func TestMissingRanks(t *testing.T) {
	inMemory(t, func(t *testing.T) {
		p := newParty(t)
		var wg sync.WaitGroup
		for _, r := range []int{0, 2} {
			wg.Go(func() {
				_, err := Start(t.Context(), p.config(r, 5))
				if err == nil || !strings.Contains(err.Error(), "ranks 1, 3 and 4 of 5 did not reach rank 0 (host node0) within 1m0s") {
					t.Errorf("rank %d: %v", r, err)
				}
			})
		}
		wg.Wait()
	})
}

func TestRankZeroNeverComes(t *testing.T) {
	inMemory(t, func(t *testing.T) {
		p := newParty(t)
		p.net.Close()
		_, err := Start(t.Context(), p.config(1, 2))
		if err == nil || !strings.Contains(err.Error(), "rank 1 (host node1) cannot reach rank 0 at 10.0.0.1:1 within 1m0s: connection refused") {
			t.Error(err)
		}
	})
}

// A rank that ends before all have come ends the joining.
func TestEndsWhileJoining(t *testing.T) {
	inMemory(t, func(t *testing.T) {
		p := newParty(t)
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, err := Start(t.Context(), p.config(0, 3)); err == nil || !strings.HasPrefix(err.Error(), "rank 1 (host node1): context canceled") {
				t.Error(err)
			}
		})
		wg.Go(func() {
			if _, err := Start(ctx, p.config(1, 3)); !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		})
		synctest.Wait()
		cancel()
		wg.Wait()
	})
}

func TestRankZeroCancelsJoining(t *testing.T) {
	inMemory(t, func(t *testing.T) {
		p := newParty(t)
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, err := Start(ctx, p.config(0, 3)); !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		})
		wg.Go(func() {
			if _, err := Start(t.Context(), p.config(1, 3)); err == nil || !strings.HasPrefix(err.Error(), "rank 0 (host node0): context canceled") {
				t.Error(err)
			}
		})
		synctest.Wait()
		cancel()
		wg.Wait()
	})
}

func TestWrongRanks(t *testing.T) {
	for name, c := range map[string]struct {
		rank, size int
		want       string
	}{
		"taken":     {1, 3, "there is a rank 1 (host node1, process "},
		"two zeros": {0, 3, "there is a rank 0 (host node0, process "},
		"two sizes": {2, 4, "it counts 4 ranks, rank 0 counts 3"},
	} {
		t.Run(name, func(t *testing.T) {
			inMemory(t, func(t *testing.T) {
				p := newParty(t)
				p.expect(3)
				var wg sync.WaitGroup
				begin := func(r int) {
					wg.Go(func() {
						var err error
						if p.watch[r], err = Start(t.Context(), p.config(r, 3)); err != nil {
							t.Errorf("rank %d: %v", r, err)
						}
					})
				}
				begin(0)
				begin(1)
				synctest.Wait()
				cfg := p.config(c.rank, c.size)
				w := newWatch(cfg)
				if err := w.join(t.Context()); err == nil || !strings.Contains(err.Error(), c.want) {
					t.Error(err)
				}
				begin(2) // the right one still gets in
				wg.Wait()
				w.Close()
			})
		})
	}
}

func TestBadConfig(t *testing.T) {
	good := newHub(newMemory(), []string{"10.0.0.1"}).Address()
	for name, cfg := range map[string]Config{
		"no ranks":      {},
		"rank too high": {Rank: 2, Size: 2},
		"no hub":        {Rank: 0, Size: 2},
		"no address":    {Rank: 1, Size: 2},
		"no token":      {Rank: 1, Size: 2, Address: "10.0.0.1:1"},
		"short token":   {Rank: 1, Size: 2, Address: good[:len(good)-2]},
		"no port":       {Rank: 1, Size: 2, Address: strings.Replace(good, ":1", "", 1)},
		"too many":      {Rank: 1, Size: 2, Address: strings.Repeat("10.0.0.1:1,", 16) + good},
	} {
		if _, err := Start(t.Context(), cfg); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestAlone(t *testing.T) {
	w, err := Start(t.Context(), Config{Size: 1})
	if err != nil {
		t.Fatal(err)
	}
	cause := errors.New("disk full")
	w.Abort(cause)
	if !errors.Is(w.Err(), cause) {
		t.Error(w.Err())
	}
	w.Close()
}
