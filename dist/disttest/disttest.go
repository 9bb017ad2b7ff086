// Package disttest is the suite that every implementation of dist.Comm passes.
//
// Check is one rank's part and needs no testing package, so that engines whose
// ranks are processes can run it in each of them. Run is the whole for engines
// that can open a group within one process, errors included.
package disttest

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"
	"testing"

	"swav/dist"
)

// Check runs the collectives once through, at odd lengths, on this rank of c;
// all ranks call it. The error tells what was expected and found.
func Check(c dist.Comm) error {
	for _, n := range []int{0, 1, 3, 1000} {
		for _, check := range []func(dist.Comm, int) error{
			allReduce32, allReduce64, started, allGather, allToAll, broadcast, sameBits, halves,
		} {
			if err := check(c, n); err != nil {
				return fmt.Errorf("rank %d of %d, %d elements: %w", c.Rank(), c.Size(), n, err)
			}
		}
	}
	if err := splits(c); err != nil {
		return fmt.Errorf("rank %d of %d: %w", c.Rank(), c.Size(), err)
	}
	return c.Barrier()
}

// splits works in parts of the group: of every other rank, and of each alone.
func splits(c dist.Comm) error {
	part, err := c.Split(c.Rank() % 2)
	if err != nil {
		return fmt.Errorf("split: %w", err)
	}
	if want := (c.Size() + 1 - c.Rank()%2) / 2; part.Size() != want || part.Rank() != c.Rank()/2 {
		return fmt.Errorf("rank %d of %d in a part of %d", part.Rank(), part.Size(), want)
	}
	// The even ranks do more than the odd ones.
	for range 3 - c.Rank()%2 {
		all := make([]float32, part.Size())
		if err := part.AllGather(all, []float32{float32(c.Rank())}); err != nil {
			return err
		}
		for i, r := range all {
			if want := float32(2*i + c.Rank()%2); r != want {
				return fmt.Errorf("rank %v is number %d of its part, want %v", r, i, want)
			}
		}
		x := []float32{1, float32(c.Rank())}
		h := part.StartAllReduce32(x[:1], dist.Sum)
		if err := errors.Join(part.AllReduce32(x[1:], dist.Max), h.Wait()); err != nil {
			return err
		}
		if last := float32(c.Rank()%2 + 2*(part.Size()-1)); x[0] != float32(part.Size()) || x[1] != last {
			return fmt.Errorf("a part of %d with rank %v at its end sums to %v", part.Size(), last, x)
		}
	}
	alone, err := part.Split(c.Rank())
	if err != nil {
		return fmt.Errorf("split of a part: %w", err)
	}
	if alone.Rank() != 0 || alone.Size() != 1 {
		return fmt.Errorf("a part of one is rank %d of %d", alone.Rank(), alone.Size())
	}
	if err := errors.Join(alone.Barrier(), alone.Close(), part.Close()); err != nil {
		return fmt.Errorf("after a split: %w", err)
	}
	if _, err := c.Split(-1); err == nil {
		return errors.New("a split by the color -1 is accepted")
	}
	return nil
}

// value is rank's element i: small integers, so that sums are exact in any
// order.
func value(rank, i int) int { return (rank+1)*(i%7-3) + rank }

func expect(op dist.Op, size, i int) int {
	v := value(0, i)
	for r := 1; r < size; r++ {
		if op == dist.Sum {
			v += value(r, i)
		} else {
			v = max(v, value(r, i))
		}
	}
	return v
}

// guarded returns a slice of n elements within a larger one, and a function
// that tells whether the elements around it are as they were.
func guarded[T float32 | float64](n int) (x []T, intact func() error) {
	const guard, width = 12345, 4
	all := make([]T, n+2*width)
	for i := range all {
		all[i] = guard
	}
	return all[width : width+n : width+n], func() error {
		for i := range width {
			if all[i] != guard || all[width+n+i] != guard {
				return errors.New("wrote outside the slice")
			}
		}
		return nil
	}
}

func reduced[T float32 | float64](c dist.Comm, n int, op dist.Op, reduce func(x []T, op dist.Op) error) error {
	x, intact := guarded[T](n)
	for i := range x {
		x[i] = T(value(c.Rank(), i))
	}
	if err := reduce(x, op); err != nil {
		return err
	}
	for i := range x {
		if want := T(expect(op, c.Size(), i)); x[i] != want {
			return fmt.Errorf("%s of element %d is %v, want %v", op, i, x[i], want)
		}
	}
	return intact()
}

func allReduce32(c dist.Comm, n int) error {
	return errors.Join(reduced(c, n, dist.Sum, c.AllReduce32), reduced(c, n, dist.Max, c.AllReduce32))
}

func allReduce64(c dist.Comm, n int) error {
	if err := errors.Join(reduced(c, n, dist.Sum, c.AllReduce64), reduced(c, n, dist.Max, c.AllReduce64)); err != nil {
		return err
	}
	// Float64 all the way, and infinities pass.
	x := []float64{1 + 0x1p-50, math.Inf(-1), math.Inf(-1)}
	if c.Rank() == 0 {
		x[2] = math.Inf(1)
	}
	if err := c.AllReduce64(x, dist.Max); err != nil {
		return err
	}
	if x[0] != 1+0x1p-50 || !math.IsInf(x[1], -1) || !math.IsInf(x[2], 1) {
		return fmt.Errorf("max of 1+2^-50, -Inf and once +Inf is %v", x)
	}
	return nil
}

// started has two reductions under way at once.
func started(c dist.Comm, n int) error {
	var xs [2][]float32
	var handles [2]dist.Handle
	for k := range xs {
		xs[k] = make([]float32, n)
		for i := range xs[k] {
			xs[k][i] = float32(value(c.Rank(), i+k))
		}
		handles[k] = c.StartAllReduce32(xs[k], dist.Sum)
	}
	for k, h := range handles {
		if err := h.Wait(); err != nil {
			return err
		}
		for i, v := range xs[k] {
			if want := float32(expect(dist.Sum, c.Size(), i+k)); v != want {
				return fmt.Errorf("started sum %d of element %d is %v, want %v", k, i, v, want)
			}
		}
	}
	return nil
}

func allGather(c dist.Comm, n int) error {
	src, _ := guarded[float32](n)
	dst, intact := guarded[float32](n * c.Size())
	for i := range src {
		src[i] = float32(value(c.Rank(), i))
	}
	if err := c.AllGather(dst, src); err != nil {
		return err
	}
	for r := range c.Size() {
		for i := range n {
			if got, want := dst[r*n+i], float32(value(r, i)); got != want {
				return fmt.Errorf("gathered element %d of rank %d is %v, want %v", i, r, got, want)
			}
		}
	}
	for i := range src {
		if src[i] != float32(value(c.Rank(), i)) {
			return errors.New("all-gather changed its source")
		}
	}
	return intact()
}

func allToAll(c dist.Comm, n int) error {
	src, _ := guarded[float32](n * c.Size())
	dst, intact := guarded[float32](n * c.Size())
	for to := range c.Size() {
		for i := range n {
			src[to*n+i] = float32(value(c.Rank(), i+7*to))
		}
	}
	if n > 0 { // bits that are no number
		src[n*c.Rank()] = math.Float32frombits(0x7fa00001)
	}
	if err := c.AllToAll(dst, src); err != nil {
		return err
	}
	for from := range c.Size() {
		for i := range n {
			got, want := dst[from*n+i], float32(value(from, i+7*c.Rank()))
			if from == c.Rank() && i == 0 {
				want = math.Float32frombits(0x7fa00001)
			}
			if math.Float32bits(got) != math.Float32bits(want) {
				return fmt.Errorf("element %d from rank %d is %v, want %v", i, from, got, want)
			}
		}
	}
	return intact()
}

// halves sums numbers that bfloat16 holds, by dist.Half, and others to its precision.
func halves(c dist.Comm, n int) error {
	h, err := dist.Half(c)
	if err != nil {
		return err
	}
	x, intact := guarded[float32](n)
	y := make([]float32, n)
	for i := range x {
		x[i] = float32(value(c.Rank(), i))
		y[i] = float32(math.Sin(float64(i*c.Size() + c.Rank())))
	}
	handles := []dist.Handle{h.StartAllReduce32(x, dist.Sum), h.StartAllReduce32(y, dist.Sum)}
	other := []float64{1}
	err = c.AllReduce64(other, dist.Sum) // beside it
	if err := errors.Join(err, handles[0].Wait(), handles[1].Wait()); err != nil {
		return err
	}
	if other[0] != float64(c.Size()) {
		return fmt.Errorf("a sum beside it is %v", other[0])
	}
	for i := range x {
		if want := float32(expect(dist.Sum, c.Size(), i)); x[i] != want {
			return fmt.Errorf("sum of element %d in bfloat16 is %v, want %v", i, x[i], want)
		}
		var want, most float64
		for r := range c.Size() {
			v := math.Sin(float64(i*c.Size() + r))
			want, most = want+v, most+math.Abs(v)
		}
		if d := math.Abs(float64(y[i]) - want); d > most/128 {
			return fmt.Errorf("sum of element %d in bfloat16 is %v, want %v", i, y[i], want)
		}
	}
	all := make([]float32, n*c.Size())
	if err := c.AllGather(all, y); err != nil {
		return err
	}
	for i := range all {
		if math.Float32bits(all[i]) != math.Float32bits(y[i%max(n, 1)]) {
			return fmt.Errorf("element %d of a sum in bfloat16 differs between ranks", i%n)
		}
	}
	return errors.Join(intact(), h.Close())
}

func broadcast(c dist.Comm, n int) error {
	for root := range c.Size() {
		x, intact := guarded[float32](n)
		for i := range x {
			x[i] = float32(value(c.Rank(), i))
		}
		if err := c.Broadcast(x, root); err != nil {
			return err
		}
		for i, v := range x {
			if want := float32(value(root, i)); v != want {
				return fmt.Errorf("element %d from rank %d is %v, want %v", i, root, v, want)
			}
		}
		if err := intact(); err != nil {
			return err
		}
	}
	return nil
}

// sameBits sums numbers whose sum depends on the order, twice: the ranks must
// agree to the bit, and so must both times.
func sameBits(c dist.Comm, n int) error {
	var first []float32
	for range 2 {
		x := make([]float32, n)
		for i := range x {
			x[i] = float32(math.Sin(float64(i*c.Size()+c.Rank())) * math.Pow(10, float64((i+c.Rank())%5)))
		}
		if err := c.AllReduce32(x, dist.Sum); err != nil {
			return err
		}
		all := make([]float32, n*c.Size())
		if err := c.AllGather(all, x); err != nil {
			return err
		}
		for r := range c.Size() {
			for i := range n {
				if math.Float32bits(all[r*n+i]) != math.Float32bits(x[i]) {
					return fmt.Errorf("element %d of a sum is %v here and %v on rank %d", i, x[i], all[r*n+i], r)
				}
			}
		}
		for i := range first {
			if math.Float32bits(first[i]) != math.Float32bits(x[i]) {
				return fmt.Errorf("element %d of a sum is %v once and %v the next time", i, first[i], x[i])
			}
		}
		first = x
	}
	return nil
}

// Run checks groups of several sizes that open returns, each rank in a
// goroutine of its own, and what happens when a rank stops.
func Run(t *testing.T, open func(t *testing.T, n int) []dist.Comm) {
	t.Helper()
	for _, n := range []int{1, 2, 3, 5} {
		t.Run(fmt.Sprintf("ranks=%d", n), func(t *testing.T) {
			t.Run("collectives", func(t *testing.T) {
				for _, err := range each(open(t, n), func(c dist.Comm) error {
					if err := Check(c); err != nil {
						return err
					}
					return c.Close()
				}) {
					if err != nil {
						t.Error(err)
					}
				}
			})
			t.Run("abort", func(t *testing.T) { testAbort(t, open(t, n)) })
			t.Run("abort of a part", func(t *testing.T) { testAbortOfPart(t, open(t, n)) })
			t.Run("close", func(t *testing.T) { testClose(t, open(t, n)) })
		})
	}
}

// each runs f on every rank at once.
func each(comms []dist.Comm, f func(c dist.Comm) error) []error {
	errs := make([]error, len(comms))
	var wg sync.WaitGroup
	for r, c := range comms {
		wg.Go(func() {
			if c.Rank() != r || c.Size() != len(comms) {
				errs[r] = fmt.Errorf("rank %d of %d says it is %d of %d", r, len(comms), c.Rank(), c.Size())
				c.Abort(errs[r])
				return
			}
			errs[r] = f(c)
			if errs[r] != nil {
				c.Abort(errs[r])
			}
		})
	}
	wg.Wait()
	return errs
}

// testAbort: the last rank stops while the others wait for it; all learn who
// it was, and nothing works afterwards.
func testAbort(t *testing.T, comms []dist.Comm) {
	last := len(comms) - 1
	cause := errors.New("out of memory")
	calls := []func(c dist.Comm) error{
		func(c dist.Comm) error { return c.Barrier() },
		func(c dist.Comm) error { return c.AllReduce32(make([]float32, 3), dist.Sum) },
		func(c dist.Comm) error { return c.AllReduce64(make([]float64, 3), dist.Max) },
		func(c dist.Comm) error { return c.AllGather(make([]float32, 3*len(comms)), make([]float32, 3)) },
		func(c dist.Comm) error { return c.Broadcast(make([]float32, 3), 0) },
		func(c dist.Comm) error { return c.StartAllReduce32(make([]float32, 3), dist.Sum).Wait() },
	}
	errs := each(comms, func(c dist.Comm) error {
		if err := c.Barrier(); err != nil {
			return fmt.Errorf("before the abort: %w", err)
		}
		if c.Rank() == last {
			c.Abort(cause)
		}
		for i, call := range calls {
			err := call(c)
			want := fmt.Sprintf("rank %d", last)
			if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), cause.Error()) {
				return fmt.Errorf("call %d after an abort: %v, want it to name %s and %q", i, err, want, cause)
			}
		}
		return nil
	})
	for _, err := range errs {
		if err != nil {
			t.Error(err)
		}
	}
}

// testAbortOfPart: an abort of a part ends the group that it was split off, and the
// other way round.
func testAbortOfPart(t *testing.T, comms []dist.Comm) {
	last := len(comms) - 1
	cause := errors.New("out of memory")
	for _, err := range each(comms, func(c dist.Comm) error {
		part, err := c.Split(c.Rank() % 2)
		if err != nil {
			return err
		}
		if c.Rank() == last {
			part.Abort(cause)
		}
		for _, g := range []dist.Comm{c, part} {
			for err = g.Barrier(); err == nil && g == part; { // the part may be without the last rank
				err = g.Barrier()
			}
			if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("rank %d", last)) || !strings.Contains(err.Error(), cause.Error()) {
				return fmt.Errorf("after an abort of a part: %v", err)
			}
		}
		return nil
	}) {
		if err != nil {
			t.Error(err)
		}
	}
}

// testClose: a rank that has left is named to those that still need it.
func testClose(t *testing.T, comms []dist.Comm) {
	errs := each(comms, func(c dist.Comm) error {
		if err := c.Barrier(); err != nil {
			return err
		}
		if c.Rank() == 0 {
			return c.Close()
		}
		if err := c.Barrier(); err == nil || !strings.Contains(err.Error(), "rank 0") {
			return fmt.Errorf("barrier without rank 0: %v", err)
		}
		return nil
	})
	for _, err := range errs {
		if err != nil {
			t.Error(err)
		}
	}
}
