package loader

import (
	"context"
	"fmt"
	"sync"

	"swav/augment"
	"swav/dataset"
	"swav/imgcodec"
)

// EvalConfig is how images are shown to a network that is not trained.
type EvalConfig struct {
	Index   []int // images, in the order wanted
	Size    int   // side of the views
	Batch   int
	Mean    []float32
	Std     []float32
	Workers int                        // 0 means 1
	OnSkip  func(id string, err error) // told of unreadable images, one at a time
}

// Eval yields images once, in order and not augmented: as they are where they
// have the wanted size, otherwise resized so that the shorter side is 256/224 of
// it, and cut from the centre. Unreadable images are left out. While a batch is
// used the next one is made. An Eval belongs to one goroutine.
type Eval struct {
	src     dataset.Source
	c       EvalConfig
	norm    *augment.Normalizer
	workers []evalWorker
	skip    sync.Mutex
	err     error // ends the iteration; the source cannot be reached

	at      int // next entry of c.Index
	buf     [2]EvalBatch
	side    int             // of buf, that is made next
	coming  chan *EvalBatch // the batch under way; nil where none is
	stop    chan struct{}
	stopped bool
}

// evalWorker is the memory of one worker.
type evalWorker struct {
	img     imgcodec.Image
	scratch augment.Scratch
}

// EvalBatch is some images; it is valid until the next call.
type EvalBatch struct {
	Indices []int
	Pixels  []float32 // [len(Indices), size, size, channels]

	ok []bool
}

// NewEval checks its parameters; nothing is read yet.
func NewEval(src dataset.Source, c EvalConfig) (*Eval, error) {
	if c.Size < 1 || c.Batch < 1 || len(c.Mean) == 0 || len(c.Mean) != len(c.Std) {
		return nil, fmt.Errorf("evaluation views of %d pixels, %d a batch, %d means, %d deviations", c.Size, c.Batch, len(c.Mean), len(c.Std))
	}
	for _, n := range c.Index {
		if n < 0 || n >= src.Len() {
			return nil, fmt.Errorf("image %d of %s, which has %d", n, src.Name(), src.Len())
		}
	}
	e := &Eval{src: src, c: c, norm: augment.NewNormalizer(c.Mean, c.Std),
		workers: make([]evalWorker, max(1, c.Workers)), stop: make(chan struct{})}
	for i := range e.buf {
		e.buf[i] = EvalBatch{Pixels: make([]float32, c.Batch*e.view()), ok: make([]bool, c.Batch)}
	}
	return e, nil
}

func (e *Eval) view() int { return e.c.Size * e.c.Size * e.norm.Channels() }

// Close ends the iteration and waits for what is under way.
func (e *Eval) Close() {
	if !e.stopped {
		e.stopped = true
		close(e.stop)
	}
	if e.coming != nil {
		<-e.coming
		e.coming = nil
	}
}

// Next returns the next images, nil at the end.
func (e *Eval) Next(ctx context.Context) (*EvalBatch, error) {
	for !e.stopped {
		if e.coming == nil {
			e.begin()
		}
		if e.coming == nil {
			return nil, nil
		}
		select {
		case b := <-e.coming:
			e.coming = nil
			if e.err != nil {
				return nil, e.err
			}
			e.begin()
			if len(b.Indices) > 0 {
				return b, nil
			}
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return nil, nil
}

// begin starts to make the next batch, if there is one.
func (e *Eval) begin() {
	index := e.c.Index[e.at:min(e.at+e.c.Batch, len(e.c.Index))]
	if len(index) == 0 {
		return
	}
	e.at += len(index)
	b := &e.buf[e.side]
	e.side = 1 - e.side
	coming := make(chan *EvalBatch, 1)
	e.coming = coming
	go func() {
		e.fill(b, index)
		coming <- b
	}()
}

// fill makes a batch and closes the gaps that unreadable images leave.
func (e *Eval) fill(b *EvalBatch, index []int) {
	one := e.view()
	all := b.Pixels[:cap(b.Pixels)]
	var wg sync.WaitGroup
	for w := range min(len(e.workers), len(index)) {
		wg.Go(func() {
			for i := w; i < len(index); i += len(e.workers) {
				b.ok[i] = e.one(all[i*one:(i+1)*one], index[i], &e.workers[w])
			}
		})
	}
	wg.Wait()
	b.Indices = b.Indices[:0]
	for i, number := range index {
		if !b.ok[i] {
			continue
		}
		if n := len(b.Indices); n < i {
			copy(all[n*one:(n+1)*one], all[i*one:(i+1)*one])
		}
		b.Indices = append(b.Indices, number)
	}
	b.Pixels = all[:len(b.Indices)*one]
}

func (e *Eval) one(dst []float32, n int, w *evalWorker) bool {
	select {
	case <-e.stop:
		return false
	default:
	}
	if err := read(e.src, n, &w.img, e.norm); err != nil {
		if unreachable(err) {
			e.skip.Lock()
			defer e.skip.Unlock()
			e.err = err
			return false
		}
		if e.c.OnSkip != nil {
			e.skip.Lock()
			defer e.skip.Unlock()
			e.c.OnSkip(e.src.ID(n), err)
		}
		return false
	}
	augment.Center(dst, &w.img, e.c.Size*256/224, e.c.Size, e.norm, &w.scratch)
	return true
}
