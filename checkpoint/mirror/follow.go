package mirror

import (
	"context"
	"sync"
)

// Follower copies a run's checkpoints beside the training, one at a time; one that comes
// while another is copied waits, and only the newest does.
type Follower struct {
	m    *Mirror
	run  string
	warn func(error)
	news chan struct{}
	stop context.CancelFunc
	done sync.WaitGroup
}

// Follow begins to copy. warn is told of what fails, from another goroutine; the training
// goes on, and the next checkpoint is tried again.
func (m *Mirror) Follow(run string, warn func(error)) *Follower {
	ctx, stop := context.WithCancel(context.Background())
	f := &Follower{m: m, run: run, warn: warn, news: make(chan struct{}, 1), stop: stop}
	f.done.Go(func() {
		for range f.news {
			if err := m.Push(ctx, run); err != nil && ctx.Err() == nil {
				warn(err)
			}
		}
	})
	return f
}

// Written tells that there is a new checkpoint.
func (f *Follower) Written() {
	select {
	case f.news <- struct{}{}:
	default: // one is waiting already, and will take the newest
	}
}

// Close copies what is left and returns when it is there, or when ctx ends.
func (f *Follower) Close(ctx context.Context) error {
	close(f.news)
	cut := context.AfterFunc(ctx, f.stop)
	f.done.Wait()
	cut()
	defer f.stop()
	return f.m.Push(ctx, f.run) // what came last may have failed
}
