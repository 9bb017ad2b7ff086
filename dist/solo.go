package dist

import (
	"errors"
	"fmt"
	"sync/atomic"
)

// Solo is the group of one rank.
func Solo() Comm { return &solo{} }

type solo struct {
	err    atomic.Pointer[error]
	parent *solo // nil: not a part of another
}

func (*solo) Rank() int                               { return 0 }
func (*solo) Size() int                               { return 1 }
func (s *solo) AllReduce32([]float32, Op) error       { return s.alive() }
func (s *solo) AllReduce64([]float64, Op) error       { return s.alive() }
func (s *solo) Barrier() error                        { return s.alive() }
func (s *solo) StartAllReduce32([]float32, Op) Handle { return done{s.alive()} }

func (s *solo) AllGather(dst, src []float32) error {
	if len(dst) != len(src) {
		return fmt.Errorf("all-gather of %d elements from 1 rank into %d", len(src), len(dst))
	}
	copy(dst, src)
	return s.alive()
}

func (s *solo) AllToAll(dst, src []float32) error {
	if len(dst) != len(src) {
		return fmt.Errorf("all-to-all of %d elements into %d", len(src), len(dst))
	}
	copy(dst, src)
	return s.alive()
}

func (s *solo) Broadcast(_ []float32, root int) error {
	if root != 0 {
		return fmt.Errorf("broadcast from rank %d of 1", root)
	}
	return s.alive()
}

func (s *solo) Split(color int) (Comm, error) {
	if err := checkColor(color); err != nil {
		return nil, err
	}
	return &solo{parent: s}, s.alive()
}

func checkColor(color int) error {
	if color < 0 {
		return fmt.Errorf("split by the color %d: colors are not negative", color)
	}
	return nil
}

func (s *solo) Abort(err error) {
	s.end(fmt.Errorf("rank 0 stopped: %w", err))
	if s.parent != nil {
		s.parent.Abort(err)
	}
}

func (s *solo) Close() error {
	s.end(errors.New("rank 0 has left the group"))
	return nil
}

// end keeps the first reason; Abort comes from any goroutine.
func (s *solo) end(err error) { s.err.CompareAndSwap(nil, &err) }

func (s *solo) alive() error {
	if err := s.err.Load(); err != nil {
		return *err
	}
	if s.parent != nil {
		return s.parent.alive()
	}
	return nil
}

// done is a reduction that has already happened.
type done struct{ err error }

func (d done) Wait() error { return d.err }
