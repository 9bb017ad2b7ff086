package loader

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"

	"swav/augment"
	"swav/dataset"
	"swav/imgcodec"
)

// fewSkips is the number of unreadable images that is always tolerated while
// others can be read: a share means nothing for a handful.
const fewSkips = 3

// TooManyError says that too many images cannot be read: all of them, or more
// than a few and either more than the allowed share of the whole source, or so
// many among those tried that the share is surely exceeded (by three standard
// deviations).
type TooManyError struct {
	Bad, Seen int // of the distinct images tried so far
	Source    string
	Examples  []string
}

func (e *TooManyError) Error() string {
	s := fmt.Sprintf("%s: %d of %d images tried so far cannot be read", e.Source, e.Bad, e.Seen)
	for _, x := range e.Examples {
		s += "\n  " + x
	}
	return s + "\nremove or repair them, or allow more with --set data.max_skip=0.1"
}

// skips loads images and keeps account of those that cannot be read.
type skips struct {
	src    dataset.Source // nil for a stream
	name   string
	total  int // images there are; for a stream the largest number
	share  float64
	onSkip func(id string, err error)

	mu       sync.Mutex
	tried    []uint64 // bit set of images tried
	seen     int
	broken   map[int]bool
	bad      int // images that cannot be read
	examples []string
}

func newSkips(src dataset.Source, share float64, onSkip func(string, error)) *skips {
	return &skips{src: src, name: src.Name(), total: src.Len(), share: share, onSkip: onSkip,
		tried: make([]uint64, (src.Len()+63)/64), broken: map[int]bool{}}
}

// newStreamSkips keeps account of a stream's records.
func newStreamSkips(name string, share float64, onSkip func(string, error)) *skips {
	return &skips{name: name, total: math.MaxInt, share: share, onSkip: onSkip}
}

var errBroken = errors.New("known to be unreadable")

// load reads image n, unless it is known to be unreadable.
func (s *skips) load(n int, img *imgcodec.Image, norm *augment.Normalizer) error {
	s.mu.Lock()
	known := s.broken[n]
	s.mu.Unlock()
	if known {
		return errBroken
	}
	err := read(s.src, n, img, norm)
	if unreachable(err) {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if word, bit := n/64, uint64(1)<<(n%64); s.tried[word]&bit == 0 {
		s.tried[word] |= bit
		s.seen++
	}
	if err == nil || s.broken[n] {
		return err
	}
	s.broken[n] = true
	s.note(s.src.ID(n), err)
	return err
}

// record loads a record of a stream. Where it stands in for another one it is
// not counted: it has its own turn.
func (s *skips) record(r *dataset.Record, img *imgcodec.Image, norm *augment.Normalizer, standsIn bool) error {
	err := guard(r.ID, norm, img, func() error { return r.Load(img) })
	if standsIn {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen++
	if err != nil {
		s.note(r.ID, err)
	}
	return err
}

// note takes down an unreadable image; the caller holds the lock.
func (s *skips) note(id string, err error) {
	s.bad++
	if len(s.examples) < 3 {
		s.examples = append(s.examples, err.Error())
	}
	if s.onSkip != nil {
		s.onSkip(id, err)
	}
}

// unreachable tells errors of the source, which say nothing of the image.
func unreachable(err error) bool {
	return errors.Is(err, dataset.ErrUnavailable) || errors.Is(err, context.Canceled)
}

// tooMany is the error that ends the run, or nil. gaveUp says that no readable
// image was found where one is needed.
func (s *skips) tooMany(gaveUp bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	bad := float64(s.bad)
	likely := s.share * float64(s.seen)
	if !gaveUp && s.bad < s.total &&
		(s.bad <= fewSkips || bad <= s.share*float64(s.total) && bad <= likely+3*math.Sqrt(likely)+fewSkips) {
		return nil
	}
	return &TooManyError{Bad: s.bad, Seen: s.seen, Source: s.name, Examples: append([]string(nil), s.examples...)}
}

// read reads an image that views can be made of.
func read(src dataset.Source, n int, img *imgcodec.Image, norm *augment.Normalizer) error {
	return guard(src.ID(n), norm, img, func() error { return src.Load(n, img) })
}

// guard checks what load has read. A decoder that panics loses its image, not the
// run.
func guard(id string, norm *augment.Normalizer, img *imgcodec.Image, load func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%s: decoder: %v", id, r)
		}
	}()
	if err := load(); err != nil {
		return err
	}
	if err := norm.CheckImage(img.C); err != nil {
		return fmt.Errorf("%s: %w", id, err)
	}
	return nil
}
