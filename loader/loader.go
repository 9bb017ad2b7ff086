// Package loader turns a dataset into batches of views beside the compute:
// order, workers, skipping of unreadable images.
//
// What a batch holds depends on seed, epoch and position alone, not on the
// number of workers. An image's views depend on seed, epoch and the image's
// name, so neither ranks nor other files change them. Workers are goroutines on
// threads of lower priority: on a machine where training computes on the same
// cores they take what it leaves. Nothing is allocated per image in the steady
// state.
//
// Pixels belong to augment, files to dataset and imgcodec.
package loader

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"

	"swav/augment"
	"swav/dataset"
)

// Config is how batches are made.
type Config struct {
	Recipe     augment.Recipe
	Batch      int // images of one Next, of this rank
	Accumulate int // Next calls of one step; 0 means 1
	Seed       uint64
	Workers    int // 0 means 1
	Rank       int
	Ranks      int // 0 means 1

	// Lanes is how many parts of a source in parts (dataset.Sharded) are visited by
	// turns, shared out to the ranks; 0 means as many as fit. Sources whose parts all
	// fit are shuffled as a whole then.
	Lanes int

	// Temporal, if not 0, has the views of the first group come from frames of
	// one clip (see dataset.Clips), at most so many frames from the sample.
	Temporal int64

	// MaxSkip is the share of unreadable images above which Next returns an
	// error; see TooManyError for the rule.
	MaxSkip float64
	// OnSkip, if set, is told of each unreadable image once. Calls come from
	// workers, one at a time.
	OnSkip func(id string, err error)
}

// Position is a place in the sampler's order: steps done within an epoch. It
// is the same for every rank.
type Position struct{ Epoch, Step int }

// Batch is the views of some images.
type Batch struct {
	Epoch, Step int
	// Groups has, for each crop group of the recipe, [count][batch][size][size]
	// [channels] float32, normalised.
	Groups [][]float32
	// Indices are the images' numbers in the source; a stream's have none.
	Indices []int
	// After is where a stream stands once this batch is used; nil for sources.
	After *StreamPosition

	l       *Loader
	records []*dataset.Record // of a stream
	pending atomic.Int32      // images that are not ready
	whole   chan struct{}     // gets a token when pending falls to 0
	err     error             // written once, before the last pending image is done
	once    *sync.Once
}

// Release gives the batch's memory back; the batch must not be used after.
func (b *Batch) Release() { b.l.free <- b }

// Prefetch is how many batches exist: one that is used, and those made ahead.
const Prefetch = 3

// Loader makes batches. Start, Next and Close belong to one goroutine.
type Loader struct {
	src   dataset.Source // nil for a stream
	feed  *feed          // of a stream
	c     Config
	norm  *augment.Normalizer
	keys  []uint64       // dataset.Key of each image
	clips *dataset.Clips // with Config.Temporal
	parts *partition
	steps int // of an epoch
	skips *skips

	free  chan *Batch
	ready chan *Batch
	jobs  chan job
	stop  context.CancelFunc
	done  sync.WaitGroup

	head *Batch // taken from ready by a Next that did not wait for its end
	err  error  // ends the loader
}

// job is some images of a batch, from to to-1.
type job struct {
	b        *Batch
	from, to int
}

// New checks that the source fills a batch.
func New(src dataset.Source, c Config) (*Loader, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	global := c.global()
	if src.Len() < global {
		return nil, fmt.Errorf("%s has %d images, fewer than a batch of %d: use more images or a smaller train.batch_size", src.Name(), src.Len(), global)
	}
	parts, err := partitionOf(src, &c)
	if err != nil {
		return nil, err
	}
	l := &Loader{src: src, c: c, steps: src.Len() / global, parts: parts,
		norm:  augment.NewNormalizer(c.Recipe.Mean, c.Recipe.Std),
		keys:  make([]uint64, src.Len()),
		skips: newSkips(src, c.MaxSkip, c.OnSkip)}
	for i := range l.keys {
		l.keys[i] = dataset.Key(src.ID(i))
	}
	if c.Temporal > 0 {
		l.clips = dataset.FindClips(src)
	}
	return l, nil
}

// check fills in defaults.
func (c *Config) check() error {
	c.Accumulate, c.Ranks, c.Workers = max(c.Accumulate, 1), max(c.Ranks, 1), max(c.Workers, 1)
	if err := c.Recipe.Validate(); err != nil {
		return err
	}
	if c.Batch < 1 || c.Rank < 0 || c.Rank >= c.Ranks {
		return fmt.Errorf("loader: batch of %d images on rank %d of %d", c.Batch, c.Rank, c.Ranks)
	}
	return nil
}

// global is the images of a step, all ranks together.
func (c *Config) global() int { return c.Batch * c.Accumulate * c.Ranks }

// StepsPerEpoch is the number of whole global batches in an epoch.
func (l *Loader) StepsPerEpoch() int { return l.steps }

// Start begins to make batches from a position on. It may be called again
// after Close.
func (l *Loader) Start(p Position) { l.start(func(ctx context.Context) { l.order(ctx, p) }) }

// start has order hand out images.
func (l *Loader) start(order func(ctx context.Context)) {
	if l.stop != nil {
		panic("loader: Start before Close")
	}
	ctx, stop := context.WithCancel(context.Background())
	l.stop, l.head, l.err = stop, nil, nil
	l.free, l.ready = make(chan *Batch, Prefetch), make(chan *Batch, Prefetch)
	l.jobs = make(chan job, 4*l.c.Workers)
	for range Prefetch {
		l.free <- l.newBatch()
	}
	for range l.c.Workers {
		l.done.Go(func() { l.work(ctx) })
	}
	l.done.Go(func() { order(ctx) })
}

func (l *Loader) newBatch() *Batch {
	b := &Batch{l: l, Indices: make([]int, l.c.Batch), whole: make(chan struct{}, 1)}
	for _, g := range l.c.Recipe.Groups {
		b.Groups = append(b.Groups, make([]float32, g.Count*l.c.Batch*l.view(g)))
	}
	return b
}

// view is the elements of one view.
func (l *Loader) view(g augment.Group) int { return g.Size * g.Size * l.norm.Channels() }

// order hands out images in the sampler's order, a batch at a time.
func (l *Loader) order(ctx context.Context, p Position) {
	defer close(l.jobs)
	var prefetch func(image int) bool
	if s, ok := l.src.(dataset.Sharded); ok && len(l.parts.first) > 2 {
		prefetch = s.Prefetch
	}
	w, first := newWalk(l.c.Seed, p.Epoch+p.Step/l.steps, l.parts, prefetch), p.Step%l.steps
	for ; ; first = 0 {
		for part := first * l.c.Accumulate; part < l.steps*l.c.Accumulate; part++ {
			var b *Batch
			select {
			case b = <-l.free:
			case <-ctx.Done():
				return
			}
			b.Epoch, b.Step, b.err, b.once = w.epoch, part/l.c.Accumulate, nil, new(sync.Once)
			w.take(part*l.c.Ranks*l.c.Batch, l.c.Rank, l.c.Ranks, b.Indices)
			if !l.hand(ctx, b) {
				return
			}
		}
		w.turn()
	}
}

// hand gives a batch to the workers and then to Next; it returns false when ctx
// has ended.
func (l *Loader) hand(ctx context.Context, b *Batch) bool {
	// Handing over costs a switch of threads: few images at a time where they
	// are many, but enough pieces for every worker to end at the same time.
	chunk := max(1, l.c.Batch/(4*l.c.Workers))
	b.pending.Store(int32(l.c.Batch))
	for from := 0; from < l.c.Batch; from += chunk {
		select {
		case l.jobs <- job{b, from, min(from+chunk, l.c.Batch)}:
		case <-ctx.Done():
			return false
		}
	}
	select {
	case l.ready <- b:
		return true
	case <-ctx.Done():
		return false
	}
}

// pick maps random words to 0 ... n-1. Of 64 bits modulo at most 2^32 the bias
// is below 2^-32.
func pick(r [4]uint32, n int) int {
	return int((uint64(r[0])<<32 | uint64(r[1])) % uint64(n))
}

// work makes images' views until there are no more jobs.
func (l *Loader) work(ctx context.Context) {
	background()
	makers := make([]*maker, l.moments())
	for i := range makers {
		makers[i] = newMaker(&l.c.Recipe, l.norm)
	}
	for j := range l.jobs {
		if ctx.Err() != nil {
			return
		}
		for i := j.from; i < j.to; i++ {
			if err := l.image(j.b, i, makers); err != nil {
				j.b.once.Do(func() { j.b.err = err })
			}
		}
		if j.b.pending.Add(int32(j.from-j.to)) == 0 {
			j.b.whole <- struct{}{}
		}
	}
}

// maxStandIns bounds the search for a readable image, nearStandIns that in the
// part of the one that it replaces.
const (
	maxStandIns  = 4096
	nearStandIns = 64
)

// image fills the views of image i of a batch. An unreadable image is replaced
// by another that depends on seed, epoch and image only; its views are drawn in
// the name of the image that it replaces, so that they differ from its own.
// Makers has one for the sample and one for each other moment of its clip.
func (l *Loader) image(b *Batch, i int, makers []*maker) error {
	load := l.load
	if l.feed != nil {
		load = l.loadRecord
	}
	if err := load(b, i, makers[0]); err != nil {
		return err
	}
	if l.clips != nil {
		if err := l.others(b.Indices[i], makers); err != nil {
			return err
		}
	}
	v := 0
	for g, group := range l.c.Recipe.Groups {
		size := l.view(group)
		for c := range group.Count {
			m := makers[v%len(makers)]
			m.draw(m.img.W, m.img.H)
			at := (c*l.c.Batch + i) * size
			m.view(b.Groups[g][at:at+size], v)
			v++
		}
	}
	return nil
}

// load reads image i of a batch, or its replacement.
func (l *Loader) load(b *Batch, i int, m *maker) error {
	n := b.Indices[i]
	key := augment.Key{Seed: l.c.Seed, Epoch: b.Epoch, Sample: l.keys[n]}
	m.begin(key)
	for try := 0; ; try++ {
		err := l.skips.load(n, &m.img, l.norm)
		if err == nil {
			b.Indices[i] = n
			return nil
		}
		if unreachable(err) {
			return err
		}
		if err := l.skips.tooMany(try >= maxStandIns); err != nil {
			return err
		}
		from, to := 0, l.src.Len()
		if try < nearStandIns {
			from, to = l.parts.around(n)
		}
		n = from + pick(key.Words(augment.PurposeReplace, try), to-from)
	}
}

// Next waits for the next batch. It returns ctx's error when ctx ends first; a
// later call then goes on. Any other error ends the loader.
func (l *Loader) Next(ctx context.Context) (*Batch, error) {
	if l.err != nil {
		return nil, l.err
	}
	if l.head == nil {
		select {
		case l.head = <-l.ready:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	select {
	case <-l.head.whole:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	b := l.head
	l.head = nil
	if b.err != nil {
		l.err = b.err
		return nil, b.err
	}
	return b, nil
}

// Close stops the workers and waits for them. Batches become invalid.
func (l *Loader) Close() {
	if l.stop != nil {
		l.stop()
		l.done.Wait()
		l.stop = nil
	}
}
