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
	if g.share, err = neighbours(e); err != nil {
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

// neighbours finds the ranks that may use the same processors of the same host.
func neighbours(c dist.Comm) (share, error) {
	host, err := os.Hostname()
	if err != nil {
		return share{}, fmt.Errorf("the host's name: %w", err)
	}
	h := fnv.New64a()
	fmt.Fprintln(h, host, numa.Usable())
	// Four whole numbers below 2^16, which every engine keeps.
	sum := h.Sum64()
	own := []float32{float32(sum & 0xffff), float32(sum >> 16 & 0xffff), float32(sum >> 32 & 0xffff), float32(sum >> 48)}
	all := make([]float32, len(own)*c.Size())
	if err := c.AllGather(all, own); err != nil {
		return share{}, err
	}
	s := share{}
	for r := range c.Size() {
		if [4]float32(all[4*r:]) != [4]float32(own) {
			continue
		}
		if s.of++; r < c.Rank() {
			s.index++
		}
	}
	return s, nil
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

// Speaks tells whether this rank is the one that tells people what has happened: rank 0,
// or rank 1 where rank 0 is lost. (Who is still there may be seen differently by ranks
// that end one after another.)
func (g *Group) Speaks() bool {
	var lost *watch.Lost
	if errors.As(g.Why(), &lost) && lost.Rank == 0 && !lost.Aborted {
		return g.Rank() == 1
	}
	return g.Rank() == 0
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
