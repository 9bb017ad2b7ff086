package dist

import (
	"fmt"
	"slices"
	"sync"
)

// Local returns the ends of a group of n ranks within this process, each for a
// goroutine of its own. It panics if n < 1.
func Local(n int) []Comm {
	if n < 1 {
		panic(fmt.Sprintf("dist: group of %d ranks", n))
	}
	if n == 1 {
		return []Comm{Solo()}
	}
	g := newGroup(&family{}, n)
	comms := make([]Comm, n)
	for r := range comms {
		comms[r] = &local{g: g, rank: r, world: r}
	}
	return comms
}

// family is a group and all that were split off it: an abort ends all.
type family struct {
	mu     sync.Mutex
	groups []*group
	err    error
}

// abort keeps the first reason.
func (f *family) abort(err error) {
	f.mu.Lock()
	if f.err == nil {
		f.err = err
	}
	err = f.err
	groups := slices.Clone(f.groups)
	f.mu.Unlock() // a group that is being split holds its own lock and wants this one
	for _, g := range groups {
		g.abort(err)
	}
}

func newGroup(f *family, n int) *group {
	g := &group{family: f, n: n, slots: make([]any, n), gone: make([]bool, n)}
	g.cond = sync.NewCond(&g.mu)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.groups = append(f.groups, g)
	g.err = f.err
	return g
}

// group is the meeting point: ranks leave a slice in their slot, the last to
// arrive combines them in rank order, and all copy the result out.
type group struct {
	family  *family
	mu      sync.Mutex
	cond    *sync.Cond
	n       int
	slots   []any
	call    string // what the ranks that have arrived are doing
	gone    []bool
	arrived int
	round   uint64
	err     error
}

type local struct {
	g     *group
	rank  int
	world int // rank in the group that all others were split off
}

func (l *local) Rank() int { return l.rank }
func (l *local) Size() int { return l.g.n }

// meet waits until every rank has left its slice in its slot; the last to
// arrive runs combine over all of them while the others wait. Ranks that meet
// for different calls all get an error: they would wait forever otherwise.
func (l *local) meet(call string, x any, combine func(slots []any) error) error {
	g := l.g
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.err != nil {
		return g.err
	}
	for r, left := range g.gone {
		if left {
			g.err = fmt.Errorf("rank %d has left the group", r)
			g.cond.Broadcast()
			return g.err
		}
	}
	if g.arrived == 0 {
		g.call = call
	} else if call != g.call {
		g.err = fmt.Errorf("rank %d calls %s while others call %s", l.rank, call, g.call)
		g.cond.Broadcast()
		return g.err
	}
	g.slots[l.rank] = x
	g.arrived++
	round := g.round
	if g.arrived < g.n {
		for g.round == round && g.err == nil {
			g.cond.Wait()
		}
		if g.round == round {
			return g.err
		}
		return nil
	}
	err := combine(g.slots)
	for i := range g.slots {
		g.slots[i] = nil
	}
	g.arrived = 0
	if err != nil {
		g.err = err
	} else {
		g.round++
	}
	g.cond.Broadcast()
	return err
}

type number interface{ float32 | float64 }

// combine reduces all ranks' slices into each of them, adding in rank order so
// that the result does not depend on who came first.
func combine[T number](slots []any, op Op) error {
	first := slots[0].([]T)
	for r, s := range slots {
		if x := s.([]T); len(x) != len(first) {
			return fmt.Errorf("all-reduce of %d elements on rank 0 and %d on rank %d", len(first), len(x), r)
		}
	}
	all := make([][]T, len(slots))
	for r, s := range slots {
		all[r] = s.([]T)
	}
	// All ranks wait, so that there is a processor for a part of the work of each.
	part := max(leastPart, (len(first)+len(slots)-1)/len(slots))
	var wg sync.WaitGroup
	for from := part; from < len(first); from += part {
		wg.Go(func() { combinePart(all, from, min(from+part, len(first)), op) })
	}
	combinePart(all, 0, min(part, len(first)), op)
	wg.Wait()
	return nil
}

// leastPart is how many elements are worth a goroutine.
const leastPart = 1 << 14

// combinePart combines the elements from up to to.
func combinePart[T number](all [][]T, from, to int, op Op) {
	first := all[0][from:to]
	for _, x := range all[1:] {
		x := x[from:to]
		if op == Sum {
			for i, v := range x {
				first[i] += v
			}
		} else {
			for i, v := range x {
				first[i] = max(first[i], v)
			}
		}
	}
	for _, x := range all[1:] {
		copy(x[from:to], first)
	}
}

func (l *local) AllReduce32(x []float32, op Op) error {
	return l.meet("AllReduce32 "+op.String(), x, func(slots []any) error { return combine[float32](slots, op) })
}

func (l *local) AllReduce64(x []float64, op Op) error {
	return l.meet("AllReduce64 "+op.String(), x, func(slots []any) error { return combine[float64](slots, op) })
}

// pair is a rank's two slices in an all-gather.
type pair struct{ dst, src []float32 }

func (l *local) AllGather(dst, src []float32) error {
	return l.meet("AllGather", pair{dst, src}, func(slots []any) error {
		n := len(slots[0].(pair).src)
		for r, s := range slots {
			p := s.(pair)
			if len(p.src) != n || len(p.dst) != n*len(slots) {
				return fmt.Errorf("all-gather of %d elements on rank 0, %d into %d on rank %d", n, len(p.src), len(p.dst), r)
			}
		}
		for _, to := range slots {
			for r, from := range slots {
				copy(to.(pair).dst[r*n:], from.(pair).src)
			}
		}
		return nil
	})
}

func (l *local) AllToAll(dst, src []float32) error {
	return l.meet("AllToAll", pair{dst, src}, func(slots []any) error {
		n := len(slots[0].(pair).src)
		for r, s := range slots {
			if p := s.(pair); len(p.src) != n || len(p.dst) != n || n%len(slots) != 0 {
				return fmt.Errorf("all-to-all of %d elements on rank 0, %d into %d on rank %d, among %d ranks", n, len(p.src), len(p.dst), r, len(slots))
			}
		}
		n /= len(slots)
		for t, to := range slots {
			for f, from := range slots {
				copy(to.(pair).dst[f*n:(f+1)*n], from.(pair).src[t*n:])
			}
		}
		return nil
	})
}

func (l *local) Broadcast(x []float32, root int) error {
	return l.meet(fmt.Sprintf("Broadcast from %d", root), x, func(slots []any) error {
		if root < 0 || root >= len(slots) {
			return fmt.Errorf("broadcast from rank %d of %d", root, len(slots))
		}
		from := slots[root].([]float32)
		for r, s := range slots {
			if len(s.([]float32)) != len(from) {
				return fmt.Errorf("broadcast of %d elements from rank %d, %d on rank %d", len(from), root, len(s.([]float32)), r)
			}
			copy(s.([]float32), from)
		}
		return nil
	})
}

func (l *local) Barrier() error {
	return l.meet("Barrier", nil, func([]any) error { return nil })
}

// StartAllReduce32 reduces at once: within one process there is nothing to
// overlap with.
func (l *local) StartAllReduce32(x []float32, op Op) Handle { return done{l.AllReduce32(x, op)} }

// splitting is a rank's part in a split.
type splitting struct {
	color, world int
	out          **local
}

func (l *local) Split(color int) (Comm, error) {
	if err := checkColor(color); err != nil {
		return nil, err
	}
	var part *local
	err := l.meet("Split", splitting{color, l.world, &part}, func(slots []any) error {
		members := map[int][]splitting{}
		for _, s := range slots {
			c := s.(splitting)
			members[c.color] = append(members[c.color], c)
		}
		for _, m := range members {
			g := newGroup(l.g.family, len(m))
			for r, c := range m {
				*c.out = &local{g: g, rank: r, world: c.world}
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return part, nil
}

func (l *local) Abort(err error) {
	l.g.family.abort(fmt.Errorf("rank %d stopped: %w", l.world, err))
}

func (g *group) abort(err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.err == nil {
		g.err = err
	}
	g.cond.Broadcast()
}

func (l *local) Close() error {
	l.g.mu.Lock()
	defer l.g.mu.Unlock()
	l.g.gone[l.rank] = true
	if l.g.arrived > 0 && l.g.err == nil {
		l.g.err = fmt.Errorf("rank %d has left the group", l.rank)
		l.g.cond.Broadcast()
	}
	return nil
}
