package serve

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// errStopped says that the server goes down.
var errStopped = errors.New("the server is shutting down")

// result is what the network says of an image. The slices are the caller's.
type result struct {
	Features, Embedding, Scores []float32
}

// job is a view that waits for the network.
type job struct {
	ctx  context.Context
	view []float32
	done chan struct{} // closed once res or err is set
	res  result
	err  error
}

// batcher gathers the views that wait into batches. Jobs pass an unbuffered
// channel, so one that was taken is answered, and one that was not is still its
// sender's: none can be lost.
type batcher struct {
	net     Network
	metrics *metrics
	turn    *sync.Mutex // held while the network computes
	classes bool        // the network is a classifier: it has scores alone
	jobs    chan *job
	quit    chan struct{}
	once    sync.Once
	views   []float32
}

func newBatcher(net Network, m *metrics, turn *sync.Mutex) *batcher {
	return &batcher{net: net, metrics: m, turn: turn, jobs: make(chan *job), quit: make(chan struct{}),
		views: make([]float32, net.Batch()*net.Pixels())}
}

func (b *batcher) stop() { b.once.Do(func() { close(b.quit) }) }

// do has the network look at a view and waits for the answer. The view may be
// used again afterwards.
func (b *batcher) do(ctx context.Context, view []float32) (result, error) {
	j := &job{ctx: ctx, view: view, done: make(chan struct{})}
	select {
	case b.jobs <- j:
		<-j.done
		return j.res, j.err
	case <-ctx.Done():
		return result{}, ctx.Err()
	case <-b.quit:
		return result{}, errStopped
	}
}

// run computes batches until stop.
func (b *batcher) run() {
	batch := make([]*job, 0, b.net.Batch())
	for {
		batch = batch[:0]
		select {
		case j := <-b.jobs:
			batch = b.gather(append(batch, j))
		case <-b.quit:
			return
		}
		b.compute(batch)
	}
}

// gather adds those that wait already, as far as there is room. Requests that
// come while a batch is computed meet in the next one.
func (b *batcher) gather(batch []*job) []*job {
	for len(batch) < cap(batch) {
		select {
		case j := <-b.jobs:
			batch = append(batch, j)
		default:
			return batch
		}
	}
	return batch
}

// compute answers every job of a batch.
func (b *batcher) compute(batch []*job) {
	defer func() {
		for _, j := range batch {
			close(j.done)
		}
	}()
	one := b.net.Pixels()
	var live []*job
	for _, j := range batch {
		if j.err = j.ctx.Err(); j.err != nil {
			continue // its client has gone, or waited too long
		}
		copy(b.views[len(live)*one:], j.view)
		live = append(live, j)
	}
	if len(live) == 0 {
		return
	}
	b.turn.Lock()
	began := time.Now()
	features, embeddings, scores, err := b.safely(len(live))
	took := time.Since(began)
	b.turn.Unlock()
	b.metrics.batchImages.Observe(float64(len(live)))
	b.metrics.computeSeconds.Observe(took.Seconds())
	for i, j := range live {
		if j.err = err; err != nil {
			continue
		}
		j.res = result{row(features, i, len(live)), row(embeddings, i, len(live)), row(scores, i, len(live))}
		j.err = j.res.finite()
	}
}

// safely turns a panic of the network into an error: the next batch may go well.
func (b *batcher) safely(n int) (features, embeddings, scores []float32, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("network: %v", r)
		}
	}()
	views := b.views[:n*b.net.Pixels()]
	if b.classes {
		err = b.net.Run(views, n, nil, nil, &scores)
	} else {
		err = b.net.Run(views, n, &features, &embeddings, &scores)
	}
	return features, embeddings, scores, err
}

func row(x []float32, i, n int) []float32 {
	d := len(x) / n
	return x[i*d : (i+1)*d : (i+1)*d]
}

// finite refuses numbers that JSON cannot write and nobody can use.
func (r result) finite() error {
	for _, part := range [][]float32{r.Features, r.Embedding, r.Scores} {
		for _, v := range part {
			if v-v != 0 {
				return errors.New("the network gives numbers that are not finite: it has diverged")
			}
		}
	}
	return nil
}
