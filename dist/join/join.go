// Package join brings the ranks that a launcher has started together: MPI moves the
// numbers, package watch tells who is lost, and the ranks of one host share out its
// processors.
package join

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"os"
	"slices"
	"strings"
	"time"

	"swav/dist"
	"swav/dist/watch"
	"swav/internal/numa"
)

// engine is what moves the numbers: an mpi.World.
type engine interface {
	dist.Comm
	Library() string
	BroadcastText(text string, root int) (string, error)
	OnAbort(func(error))
	Fail(error)
}

// Group is this process's end of a group of processes. Its Close leaves in order, and
// comes after the last call of every rank.
type Group struct {
	dist.Comm
	engine engine
	watch  *watch.Watch // nil: a group of one
	share  share
	first  bool            // of its host, rank 0 apart
	served <-chan struct{} // closed when the ranks do not need this process any more; nil: they do not anyway
}

// share is this rank's part of the processors that it may use.
type share struct{ index, of int }

// Options are for tests; the zero value is what users get.
type Options struct {
	Interval, Patience time.Duration // of package watch
}

// group makes a Group of an engine whose ranks have met.
func group(ctx context.Context, e engine, o Options) (*Group, error) {
	g := &Group{Comm: e, engine: e, share: share{0, 1}}
	if e.Size() == 1 {
		return g, nil
	}
	cfg := watch.Config{Rank: e.Rank(), Size: e.Size(), Interval: o.Interval, Patience: o.Patience}
	var address string
	if e.Rank() == 0 {
		var err error
		if cfg.Hub, err = watch.Listen(0); err != nil {
			return nil, err
		}
		address = cfg.Hub.Address()
	}
	var err error
	if cfg.Address, err = e.BroadcastText(address, 0); err != nil {
		return nil, err
	}
	if g.watch, err = watch.Start(ctx, cfg); err != nil {
		return nil, err
	}
	e.OnAbort(func(err error) { g.watch.Abort(cause(err)) })
	go func() {
		<-g.watch.Failed()
		if err := g.watch.Err(); err != nil {
			e.Fail(err)
		}
	}()
	host, err := os.Hostname()
	if err != nil {
		return nil, fmt.Errorf("the host's name: %w", err)
	}
	if g.share, g.first, err = neighbours(e, host); err != nil {
		return nil, err
	}
	return g, nil
}

// cause takes off what an engine puts before an error: package watch names the rank.
func cause(err error) error {
	if inner := errors.Unwrap(err); inner != nil && strings.HasPrefix(err.Error(), "rank ") {
		return inner
	}
	return err
}

// neighbours finds the ranks that may use the same processors of the same host, and
// whether this is the first of its host, rank 0 apart.
func neighbours(c dist.Comm, host string) (s share, first bool, err error) {
	own := append(digest(host), digest(host, numa.Usable())...)
	all := make([]float32, len(own)*c.Size())
	if err := c.AllGather(all, own); err != nil {
		return s, false, err
	}
	first = c.Rank() > 0
	for r := range c.Size() {
		theirs := all[len(own)*r:][:len(own)]
		if slices.Equal(theirs, own) {
			if s.of++; r < c.Rank() {
				s.index++
			}
		}
		if r > 0 && r < c.Rank() && slices.Equal(theirs[:len(own)/2], own[:len(own)/2]) {
			first = false
		}
	}
	return s, first, nil
}

// digest is four whole numbers below 2^16, which every engine keeps.
func digest(of ...any) []float32 {
	h := fnv.New64a()
	fmt.Fprintln(h, of...)
	sum := h.Sum64()
	return []float32{float32(sum & 0xffff), float32(sum >> 16 & 0xffff), float32(sum >> 32 & 0xffff), float32(sum >> 48)}
}

// Describe names what moves the numbers, for people.
func (g *Group) Describe() string { return g.engine.Library() }

// Why is the reason for which the group failed, nil if it has not: of type *watch.Lost.
func (g *Group) Why() error {
	if g.watch == nil {
		return nil
	}
	return g.watch.Err()
}

// Speaks tells whether this rank is one that tells people what has happened: rank 0, or,
// where rank 0 is lost, the first of the others on each host, as rank 0's host may be lost
// with all its ranks. (Who is still there may be seen differently by ranks that end one
// after another.)
func (g *Group) Speaks() bool {
	var lost *watch.Lost
	if errors.As(g.Why(), &lost) && lost.Rank == 0 && !lost.Aborted {
		return g.first
	}
	return g.Rank() == 0
}

// Arrived says that this rank has the data of a step, a number that grows.
func (g *Group) Arrived(step int) {
	if g.watch != nil {
		g.watch.Report(step)
	}
}

// Late names the ranks for whose data of a step the others have waited at least after.
// Rank 0 asks.
func (g *Group) Late(after time.Duration) []string {
	if g.watch == nil {
		return nil
	}
	var late []string
	for _, l := range g.watch.Late(after) {
		late = append(late, fmt.Sprintf("rank %d (host %s, process %d)", l.Rank, l.Host, l.PID))
	}
	return late
}

// Place puts the calling thread, and those that it starts, on this rank's share of the
// processors and returns how many these are.
func (g *Group) Place(int) (threads int, err error) {
	return numa.Settle(g.share.index, g.share.of)
}

// lastServed is how long rank 0 waits for others that have not ended yet.
const lastServed = 10 * time.Second

// Close leaves the group. After a failure it only lets go of what is this process's own.
func (g *Group) Close() error {
	if g.watch == nil {
		return g.engine.Close()
	}
	failed := g.watch.Err() != nil
	g.watch.Leave()
	err := g.engine.Close()
	if g.served != nil && !failed {
		select { // the others end MPI by this process's server
		case <-g.served:
		case <-time.After(lastServed):
		}
	}
	return errors.Join(err, g.watch.Close())
}
