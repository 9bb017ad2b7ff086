package loader

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"swav/augment"
	"swav/dataset"
)

// StreamPosition is a place in a stream that is shuffled block by block: a block
// of records is read, shuffled, and used up while the next one is read. So the
// order hangs on seed, block and place alone, and a run goes on exactly where it
// stopped once the block at hand is read again.
type StreamPosition struct {
	Block  dataset.Mark // where the block begins
	Number int          // of blocks before it
	Size   int          // images of the block; 0: it is still to be read
	Done   int          // images of it that are used
}

// feed is the stream side of a Loader.
type feed struct {
	stream dataset.Stream
	buffer int // images of a block, a multiple of the global batch

	mu     sync.Mutex
	recent []*dataset.Record // the block last begun
	some   chan struct{}     // closed once there is one, or the stream has ended
}

// maxBlockBytes bounds what a block holds before it counts as full.
const maxBlockBytes = 256 << 20

// NewStream makes batches of a stream's images. Buffer is how many of them are
// shuffled together; it is rounded up to whole steps. It is started by
// StartStream, once.
func NewStream(s dataset.Stream, buffer int, c Config) (*Loader, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	if c.Temporal > 0 {
		return nil, fmt.Errorf("%s: views from several moments (data.temporal) take a source whose clips are known, not a stream", s.Name())
	}
	global := c.global()
	return &Loader{c: c, norm: augment.NewNormalizer(c.Recipe.Mean, c.Recipe.Std),
		feed:  &feed{stream: s, buffer: (max(buffer, 1) + global - 1) / global * global, some: make(chan struct{})},
		skips: newStreamSkips(s.Name(), c.MaxSkip, c.OnSkip)}, nil
}

// StartStream begins to make batches from a place in the stream on; nil is where
// the stream stands.
func (l *Loader) StartStream(p *StreamPosition) {
	var at StreamPosition
	if p != nil {
		at = *p
	}
	l.start(func(ctx context.Context) { l.follow(ctx, at) })
}

// Recent is the images of the block last begun. It waits for the first one and
// is empty where the stream has none.
func (l *Loader) Recent(ctx context.Context) (dataset.Source, error) {
	select {
	case <-l.feed.some:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	l.feed.mu.Lock()
	defer l.feed.mu.Unlock()
	return dataset.Records(l.feed.stream.Name(), l.feed.recent, l.feed.stream.Channels()), nil
}

func (f *feed) begin(records []*dataset.Record) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(records) > 0 {
		f.recent = records
	}
	select {
	case <-f.some:
	default:
		close(f.some)
	}
}

// block is some records of a stream.
type block struct {
	at      StreamPosition
	records []*dataset.Record
	next    dataset.Mark
	err     error // what ended the stream after them
}

// follow hands out the images of a stream, a block at a time.
func (l *Loader) follow(ctx context.Context, at StreamPosition) {
	defer close(l.jobs)
	blocks := make(chan block)
	l.done.Go(func() { l.read(ctx, at, blocks) })
	for {
		var b block
		select {
		case b = <-blocks:
		case <-ctx.Done():
			return
		}
		l.feed.begin(b.records)
		if !l.use(ctx, b) {
			return
		}
		if b.err != nil {
			l.end(ctx, b.err)
			return
		}
	}
}

// read reads blocks ahead. The last one carries an error.
func (l *Loader) read(ctx context.Context, at StreamPosition, to chan<- block) {
	s := l.feed.stream
	if at.Block != (dataset.Mark{}) {
		if err := s.Seek(ctx, at.Block); err != nil {
			select {
			case to <- block{err: err}:
			case <-ctx.Done():
			}
			return
		}
	}
	for {
		at.Block = s.Mark()
		b := block{at: at}
		want, bytes := at.Size, 0
		for b.err == nil && (want > 0 && len(b.records) < want || want == 0 && !l.full(len(b.records), bytes)) {
			var r *dataset.Record
			if r, b.err = s.Next(ctx); b.err == nil {
				b.records = append(b.records, r)
				bytes += len(r.Data)
			}
		}
		if want > len(b.records) && errors.Is(b.err, io.EOF) {
			b.err = fmt.Errorf("%s: the run has seen images that are not there any more: restore the data, or start a new run", s.Name())
		}
		b.records = b.records[:len(b.records)/l.c.global()*l.c.global()]
		b.at.Size, b.next = len(b.records), s.Mark()
		select {
		case to <- b:
		case <-ctx.Done():
			return
		}
		if b.err != nil {
			return
		}
		at = StreamPosition{Number: at.Number + 1}
	}
}

// full tells whether a block is large enough. Blocks are whole steps.
func (l *Loader) full(images, bytes int) bool {
	return images >= l.feed.buffer || bytes >= maxBlockBytes && images > 0 && images%l.c.global() == 0
}

// use hands out a block's images; it returns false when ctx has ended.
func (l *Loader) use(ctx context.Context, from block) bool {
	order := make([]uint32, len(from.records))
	for i := range order {
		order[i] = uint32(i)
	}
	shuffle(order, 0, augment.Key{Seed: l.c.Seed, Epoch: from.at.Number}, blockImages)
	batch := l.c.Batch * l.c.Ranks
	for at := from.at.Done; at < len(order); at += batch {
		var b *Batch
		select {
		case b = <-l.free:
		case <-ctx.Done():
			return false
		}
		b.Epoch, b.Step, b.err, b.once, b.Indices = from.at.Number, at/l.c.global(), nil, new(sync.Once), nil
		b.records = b.records[:0]
		for _, i := range order[at+l.c.Rank*l.c.Batch:][:l.c.Batch] {
			b.records = append(b.records, from.records[i])
		}
		after := from.at
		if after.Done = at + batch; after.Done == len(order) {
			after = StreamPosition{Block: from.next, Number: from.at.Number + 1}
		}
		b.After = &after
		if !l.hand(ctx, b) {
			return false
		}
	}
	return true
}

// end has Next return an error once it has given the batches before.
func (l *Loader) end(ctx context.Context, err error) {
	select {
	case b := <-l.free:
		b.err = err
		b.whole <- struct{}{}
		select {
		case l.ready <- b:
		case <-ctx.Done():
		}
	case <-ctx.Done():
	}
}

// loadRecord is load for streams: an unreadable image is replaced by another of
// the same batch.
func (l *Loader) loadRecord(b *Batch, i int, m *maker) error {
	n := i
	key := augment.Key{Seed: l.c.Seed, Epoch: b.Epoch, Sample: dataset.Key(b.records[i].ID)}
	m.begin(key)
	for try := 0; ; try++ {
		err := l.skips.record(b.records[n], &m.img, l.norm, try > 0)
		if err == nil {
			return nil
		}
		if err := l.skips.tooMany(try >= maxStandIns); err != nil {
			return err
		}
		n = pick(key.Words(augment.PurposeReplace, try), len(b.records))
	}
}
