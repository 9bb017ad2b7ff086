//go:build linux && cgo

package mpi

// #cgo CFLAGS: -O2 -Wall -Wextra
// #cgo LDFLAGS: -ldl -lpthread
// #include <stdlib.h>
// #include "shim.h"
import "C"

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"unsafe"

	"swav/dist"
)

// World is the group of all ranks of a launcher.
type World struct {
	*comm
	library string
}

// opened is whether MPI is or was in use: a process joins its group once.
var opened atomic.Bool

// Open loads a library, any but where the launcher takes a certain one, and joins the
// group that the launcher started; without a launcher that is a group of one. It waits
// for the other ranks. There can be one World in the life of a process.
func Open(want Library) (*World, error) {
	if opened.Swap(true) {
		return nil, errors.New("mpi: this process has joined its group already")
	}
	set()
	var message [C.SHIM_ERROR]C.char
	var openMPI C.int
	var tried []string
	found := false
	for _, name := range candidates(want) {
		path := C.CString(name)
		code := C.shim_open(path, &openMPI, &message[0])
		C.free(unsafe.Pointer(path))
		if found = code == 0; found {
			break
		}
		tried = append(tried, C.GoString(&message[0]))
	}
	if !found {
		return nil, none(want, tried)
	}
	w := &World{comm: &comm{s: &session{}}}
	if C.shim_init(&w.rank, &w.size, &message[0]) != 0 {
		return nil, fmt.Errorf("mpi: %s", C.GoString(&message[0]))
	}
	var version [256]C.char
	if C.shim_version(&version[0], C.size_t(len(version)), &message[0]) == 0 {
		w.library = shortVersion(C.GoString(&version[0]))
	}
	return w, w.twin()
}

// shortVersion is the beginning of what a library says of itself: "Open MPI v4.1.4,
// package: …" or "MPICH Version:	4.0.2" and more lines.
func shortVersion(text string) string {
	text, _, _ = strings.Cut(text, "\n")
	text, _, _ = strings.Cut(text, ",")
	return strings.Join(strings.Fields(strings.Replace(text, "Version:", "", 1)), " ")
}

// Library is the name and version of the library, as it says itself.
func (w *World) Library() string { return w.library }

// OnAbort has f called, once, when this rank aborts, before calls of the group fail
// here: to tell the other ranks, which MPI does not.
func (w *World) OnAbort(f func(error)) { w.s.onAbort = f }

// Fail ends pending and later calls of this rank with err: a peer is lost.
func (w *World) Fail(err error) { w.s.fail(err) }

// Close leaves the group in order, together with all ranks. A group that has failed is
// left as it is: MPI would wait for the lost rank.
func (w *World) Close() error {
	if w.s.failed() != nil {
		return nil
	}
	w.s.fail(fmt.Errorf("rank %d has left the group", w.Rank()))
	var message [C.SHIM_ERROR]C.char
	if C.shim_finalize(&message[0]) != 0 {
		return fmt.Errorf("mpi: %s", C.GoString(&message[0]))
	}
	return nil
}

// session is what the groups of a process share.
type session struct {
	stop    C.int // read by calls that wait
	err     atomic.Pointer[error]
	onAbort func(error)

	mu      sync.Mutex
	pending []*reduction
	looking bool // a goroutine looks after pending
}

func (s *session) failed() error {
	if err := s.err.Load(); err != nil {
		return *err
	}
	return nil
}

// fail keeps the first reason.
func (s *session) fail(err error) bool {
	if !s.err.CompareAndSwap(nil, &err) {
		return false
	}
	atomic.StoreInt32((*int32)(unsafe.Pointer(&s.stop)), 1)
	return true
}

// comm is one group of ranks. Reductions that are under way beside other calls have a
// communicator of their own, so that ranks may come to both in another order.
type comm struct {
	s          *session
	id, beside C.int
	rank, size C.int
}

var _ dist.Comm = (*World)(nil)

// twin makes the communicator beside.
func (c *comm) twin() error {
	var message [C.SHIM_ERROR]C.char
	var rank, size C.int
	if C.shim_split(c.id, 0, c.rank, &c.beside, &rank, &size, &message[0]) != 0 {
		return fmt.Errorf("mpi: %s", C.GoString(&message[0]))
	}
	return nil
}

func (c *comm) Rank() int { return int(c.rank) }
func (c *comm) Size() int { return int(c.size) }

// Split is a collective call: ranks of equal color form a group, in rank order.
func (c *comm) Split(color int) (dist.Comm, error) {
	if err := c.s.failed(); err != nil {
		return nil, err
	}
	if color < 0 {
		return nil, fmt.Errorf("mpi: split by the color %d: colors are not negative", color)
	}
	var message [C.SHIM_ERROR]C.char
	part := &comm{s: c.s}
	if C.shim_split(c.id, C.int(color), c.rank, &part.id, &part.rank, &part.size, &message[0]) != 0 {
		return nil, fmt.Errorf("mpi: %s", C.GoString(&message[0]))
	}
	return part, part.twin()
}

// Close leaves a part of the world; its resources are the world's.
func (c *comm) Close() error { return nil }

// Abort tells all ranks, by the world's OnAbort, that this one cannot go on.
func (c *comm) Abort(err error) {
	err = fmt.Errorf("rank %d stopped: %w", c.rank, err)
	if c.s.failed() == nil && c.s.onAbort != nil {
		c.s.onAbort(err)
	}
	c.s.fail(err)
}
