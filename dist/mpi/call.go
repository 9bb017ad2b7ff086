//go:build linux && cgo

package mpi

// #include "shim.h"
import "C"

import (
	"fmt"
	"runtime"
	"time"
	"unsafe"

	"swav/dist"
)

// most is how many elements go in one call: MPI counts in int, and some libraries have
// bytes in an int too.
const most = 1 << 28

// kinds of element that are summed.
type number interface{ float32 | float64 }

func typeOf[T number]() C.enum_shim_type {
	if unsafe.Sizeof(T(0)) == 4 {
		return C.SHIM_FLOAT
	}
	return C.SHIM_DOUBLE
}

func opOf(o dist.Op) C.enum_shim_op {
	if o == dist.Max {
		return C.SHIM_MAX
	}
	return C.SHIM_SUM
}

// operation is one with memory of Go, which stays where it is until unpin.
type operation struct {
	c   C.struct_shim_operation
	pin runtime.Pinner
}

// at is the address of x, as a number: x may be part of an object that holds Go's own
// pointers, which no pointer given to C may lead to.
func at[T any](o *operation, x []T) C.uintptr_t {
	if len(x) == 0 {
		return 0
	}
	o.pin.Pin(&x[0])
	return C.uintptr_t(uintptr(unsafe.Pointer(&x[0])))
}

// run does an operation and waits for it.
func (c *comm) run(o *operation) error {
	defer o.pin.Unpin()
	if err := c.s.failed(); err != nil {
		return err
	}
	var message [C.SHIM_ERROR]C.char
	switch C.shim_run(&o.c, &c.s.stop, &message[0]) {
	case 0:
		return nil
	case 1: // stopped
		return c.s.failed()
	}
	return c.broken(C.GoString(&message[0]))
}

// broken is an error of the library: most often of a connection that ended. After it
// nothing can be said of the group's state, so it fails as a whole. Package watch may
// know the reason in a moment.
func (c *comm) broken(message string) error {
	for wait := time.Now().Add(2 * time.Second); time.Now().Before(wait) && c.s.failed() == nil; {
		time.Sleep(10 * time.Millisecond)
	}
	c.s.fail(fmt.Errorf("mpi: %s", message))
	return c.s.failed()
}

func reduce[T number](c *comm, x []T, op dist.Op) error {
	for {
		part := x[:min(len(x), most)]
		o := &operation{c: C.struct_shim_operation{call: C.SHIM_ALLREDUCE, comm: c.id, count: C.int(len(part)), _type: typeOf[T](), op: opOf(op)}}
		o.c.to = at(o, part)
		if err := c.run(o); err != nil {
			return err
		}
		if x = x[len(part):]; len(x) == 0 {
			return nil
		}
	}
}

func (c *comm) AllReduce32(x []float32, op dist.Op) error { return reduce(c, x, op) }
func (c *comm) AllReduce64(x []float64, op dist.Op) error { return reduce(c, x, op) }

func (c *comm) AllGather(dst, src []float32) error {
	if len(dst) != len(src)*c.Size() {
		return fmt.Errorf("all-gather of %d elements from %d ranks into %d", len(src), c.Size(), len(dst))
	}
	if len(dst) > most*4 {
		return fmt.Errorf("all-gather of %d elements: at most %d", len(dst), most*4)
	}
	o := &operation{c: C.struct_shim_operation{call: C.SHIM_ALLGATHER, comm: c.id, count: C.int(len(src)), _type: C.SHIM_FLOAT}}
	o.c.from, o.c.to = at(o, src), at(o, dst)
	return c.run(o)
}

func (c *comm) AllToAll(dst, src []float32) error {
	if len(dst) != len(src) || len(src)%c.Size() != 0 {
		return fmt.Errorf("all-to-all of %d elements among %d ranks into %d", len(src), c.Size(), len(dst))
	}
	if len(src) > most*4 {
		return fmt.Errorf("all-to-all of %d elements: at most %d", len(src), most*4)
	}
	o := &operation{c: C.struct_shim_operation{call: C.SHIM_ALLTOALL, comm: c.id, count: C.int(len(src) / c.Size()), _type: C.SHIM_FLOAT}}
	o.c.from, o.c.to = at(o, src), at(o, dst)
	return c.run(o)
}

func (c *comm) Broadcast(x []float32, root int) error {
	if root < 0 || root >= c.Size() {
		return fmt.Errorf("broadcast from rank %d of %d", root, c.Size())
	}
	for {
		part := x[:min(len(x), most)]
		o := &operation{c: C.struct_shim_operation{call: C.SHIM_BROADCAST, comm: c.id, count: C.int(len(part)), _type: C.SHIM_FLOAT, root: C.int(root)}}
		o.c.to = at(o, part)
		if err := c.run(o); err != nil {
			return err
		}
		if x = x[len(part):]; len(x) == 0 {
			return nil
		}
	}
}

// BroadcastText replaces a text of at most 4 KB by rank root's.
func (c *comm) BroadcastText(text string, root int) (string, error) {
	var b [4096]byte
	if len(text) >= len(b) {
		return "", fmt.Errorf("broadcast of a text of %d bytes: at most %d", len(text), len(b)-1)
	}
	copy(b[:], text)
	o := &operation{c: C.struct_shim_operation{call: C.SHIM_BROADCAST, comm: c.id, count: C.int(len(b)), _type: C.SHIM_BYTE, root: C.int(root)}}
	o.c.to = at(o, b[:])
	if err := c.run(o); err != nil {
		return "", err
	}
	n := 0
	for n < len(b) && b[n] != 0 {
		n++
	}
	return string(b[:n]), nil
}

func (c *comm) Barrier() error {
	return c.run(&operation{c: C.struct_shim_operation{call: C.SHIM_BARRIER, comm: c.id}})
}

// reduction is one that is under way.
type reduction struct {
	operation
	request C.int
	done    chan struct{}
	err     error
}

func (r *reduction) Wait() error {
	<-r.done
	return r.err
}

// lookEvery is how long the goroutine that looks after reductions sleeps: messages of
// megabytes go on meanwhile only as far as the library's own buffers reach.
const lookEvery = 50 * time.Microsecond

// StartAllReduce32 begins a reduction. While any is under way a goroutine looks after
// all of them, as MPI moves messages only when it is called.
func (c *comm) StartAllReduce32(x []float32, op dist.Op) dist.Handle {
	r := &reduction{done: make(chan struct{})}
	finish := func(err error) dist.Handle {
		r.err = err
		close(r.done)
		return r
	}
	if err := c.s.failed(); err != nil {
		return finish(err)
	}
	if len(x) > most {
		return finish(c.AllReduce32(x, op))
	}
	r.c = C.struct_shim_operation{call: C.SHIM_ALLREDUCE, comm: c.beside, count: C.int(len(x)), _type: C.SHIM_FLOAT, op: opOf(op)}
	r.c.to = at(&r.operation, x)
	var message [C.SHIM_ERROR]C.char
	if C.shim_start(&r.c, &r.request, &message[0]) != 0 {
		r.pin.Unpin()
		return finish(c.broken(C.GoString(&message[0])))
	}
	s := c.s
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pending = append(s.pending, r)
	if !s.looking {
		s.looking = true
		go c.look()
	}
	return r
}

// look tests pending reductions until there are none.
func (c *comm) look() {
	s := c.s
	for {
		s.mu.Lock()
		kept := s.pending[:0]
		for _, r := range s.pending {
			if !c.settle(r) {
				kept = append(kept, r)
			}
		}
		clear(s.pending[len(kept):])
		s.pending = kept
		if len(kept) == 0 {
			s.looking = false
			s.mu.Unlock()
			return
		}
		s.mu.Unlock()
		time.Sleep(lookEvery)
	}
}

// settle tells whether a reduction is over, well or not.
func (c *comm) settle(r *reduction) bool {
	var message [C.SHIM_ERROR]C.char
	var done C.int
	err := c.s.failed()
	if err == nil {
		if C.shim_test(r.request, &done, &message[0]) != 0 {
			err = c.broken(C.GoString(&message[0]))
		} else if done == 0 {
			return false
		}
	}
	// What a failed group leaves behind may still be written to: it stays pinned.
	if r.err = err; err == nil {
		r.pin.Unpin()
	}
	close(r.done)
	return true
}
