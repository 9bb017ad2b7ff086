package dist

import (
	"fmt"
	"math"
	"sync"
)

// Half is c with sums of float32 on half the wire: StartAllReduce32 and AllReduce32 (Sum)
// send bfloat16. Every rank's numbers are rounded to bfloat16 once, summed in float32 in
// rank order by the rank that has that share of them, and the sum is rounded once more: an
// error of at most 2^-8 of the sum of magnitudes. All ranks get the same bits, on every
// engine. All else is as on c.
//
// All ranks call it, as it splits off a group of its own, which lets its sums go on beside
// other calls. Close ends it and leaves c alone.
func Half(c Comm) (Comm, error) {
	own, err := c.Split(0)
	if err != nil {
		return nil, err
	}
	h := &half{Comm: c, wire: own}
	h.todo = make(chan *halved, 1024)
	h.done.Go(h.work)
	return h, nil
}

type half struct {
	Comm
	wire Comm
	todo chan *halved
	done sync.WaitGroup
	once sync.Once

	out, in, sums, all []float32 // of work
}

// halved is a sum under way.
type halved struct {
	x     []float32
	ready chan struct{}
	err   error
}

func (h *halved) Wait() error {
	<-h.ready
	return h.err
}

// work does one sum after the other, in the order in which all ranks start them.
func (h *half) work() {
	for s := range h.todo {
		s.err = h.sum(s.x)
		close(s.ready)
	}
}

func (h *half) StartAllReduce32(x []float32, op Op) Handle {
	if op != Sum || h.Size() == 1 {
		return h.Comm.StartAllReduce32(x, op)
	}
	s := &halved{x: x, ready: make(chan struct{})}
	h.todo <- s
	return s
}

func (h *half) AllReduce32(x []float32, op Op) error {
	if op != Sum {
		return h.Comm.AllReduce32(x, op)
	}
	return h.StartAllReduce32(x, op).Wait()
}

// Close ends the goroutine; sums that were started are done first.
func (h *half) Close() error {
	h.once.Do(func() { close(h.todo) })
	h.done.Wait()
	return h.wire.Close()
}

func sized(x []float32, n int) []float32 {
	if cap(x) < n {
		return make([]float32, n)
	}
	return x[:n]
}

// sum: each rank gets its share of all ranks' numbers, two in an element, and sends round
// what they come to.
func (h *half) sum(x []float32) error {
	n := h.Size()
	share := (len(x) + 2*n - 1) / (2 * n) // elements of two numbers
	if share == 0 {
		return nil
	}
	h.out, h.in, h.all, h.sums = sized(h.out, n*share), sized(h.in, n*share), sized(h.all, n*share), sized(h.sums, 2*share)
	pack(h.out, x)
	if err := h.wire.AllToAll(h.in, h.out); err != nil {
		return fmt.Errorf("sum in bfloat16: %w", err)
	}
	clear(h.sums)
	for r := range n {
		for i, v := range h.in[r*share:][:share] {
			bits := math.Float32bits(v)
			h.sums[2*i] += math.Float32frombits(bits << 16)
			h.sums[2*i+1] += math.Float32frombits(bits & 0xffff0000)
		}
	}
	pack(h.out[:share], h.sums)
	if err := h.wire.AllGather(h.all, h.out[:share]); err != nil {
		return fmt.Errorf("sum in bfloat16: %w", err)
	}
	for i := range x {
		bits := math.Float32bits(h.all[i/2])
		if i%2 == 0 {
			bits <<= 16
		}
		x[i] = math.Float32frombits(bits & 0xffff0000)
	}
	return nil
}

// pack rounds x to bfloat16, two numbers to an element of dst; zeros fill it up.
func pack(dst, x []float32) {
	for i := range dst {
		var low, high uint32
		if 2*i < len(x) {
			low = bfloat16(x[2*i])
		}
		if 2*i+1 < len(x) {
			high = bfloat16(x[2*i+1])
		}
		dst[i] = math.Float32frombits(low | high<<16)
	}
}

// bfloat16 rounds to nearest, ties to even; what is not a number stays one.
func bfloat16(x float32) uint32 {
	bits := math.Float32bits(x)
	if x != x {
		return bits>>16 | 0x40
	}
	return (bits + 0x7fff + bits>>16&1) >> 16
}
