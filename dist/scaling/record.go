// Package scaling says how long a training step takes on many ranks, from what was
// measured on few: Recorder notes the messages of a step, Network how long one of them
// takes between ranks, Timeline.On adds them up. docs/scaling.md tells the model and how
// well it does.
//
// It knows sizes and times, nothing of what is summed.
package scaling

import (
	"fmt"
	"sort"
	"sync"
	"time"

	"swav/dist"
)

// Call is a message of a step: a collective operation that all ranks take part in.
type Call struct {
	Name  string // "all-reduce" and so on
	Bytes int    // of one rank's part
	// At is when the rank came to it, and Needed when it had to have the result, by a clock
	// that stands still while the rank waits for others. Blocking calls have both equal.
	At, Needed time.Duration
}

// Blocks tells whether the rank waits for the call at once.
func (c Call) Blocks() bool { return c.Needed == c.At }

// Timeline is a step of one rank: its own work, and its messages in the order in which
// their results are needed.
type Timeline struct {
	Compute time.Duration
	Calls   []Call
}

// Bytes is the sum over all messages.
func (t Timeline) Bytes() (n int) {
	for _, c := range t.Calls {
		n += c.Bytes
	}
	return n
}

// Kinds are the messages of equal name and size counted, the largest sum first.
func (t Timeline) Kinds() []Kind {
	at := map[Kind]int{}
	for _, c := range t.Calls {
		at[Kind{Name: c.Name, Bytes: c.Bytes, Beside: !c.Blocks()}]++
	}
	var kinds []Kind
	for k, n := range at {
		k.Count = n
		kinds = append(kinds, k)
	}
	sort.Slice(kinds, func(i, j int) bool {
		a, b := kinds[i], kinds[j]
		if a.Bytes*a.Count != b.Bytes*b.Count {
			return a.Bytes*a.Count > b.Bytes*b.Count
		}
		return fmt.Sprint(a) < fmt.Sprint(b)
	})
	return kinds
}

// Kind is messages that are alike.
type Kind struct {
	Name   string
	Bytes  int  // of each
	Beside bool // the rank goes on with its work meanwhile
	Count  int
}

// Recorder is a dist.Comm that notes the calls between Begin and End. Like any Comm it
// belongs to one goroutine at a time.
type Recorder struct {
	dist.Comm
	mu     sync.Mutex
	on     bool
	start  time.Time
	waited time.Duration
	calls  []Call
}

// Record notes what is asked of c.
func Record(c dist.Comm) *Recorder { return &Recorder{Comm: c} }

// Begin forgets what was noted and starts the clock.
func (r *Recorder) Begin() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.on, r.start, r.waited, r.calls = true, time.Now(), 0, nil
}

// End stops the clock. Its Compute is the time that was not spent in calls.
func (r *Recorder) End() Timeline {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.on = false
	t := Timeline{Compute: time.Since(r.start) - r.waited, Calls: r.calls}
	sort.SliceStable(t.Calls, func(i, j int) bool { return t.Calls[i].Needed < t.Calls[j].Needed })
	return t
}

// call notes f, during which the rank waits.
func (r *Recorder) call(name string, bytes int, f func() error) error {
	begun := time.Now()
	err := f()
	r.note(Call{Name: name, Bytes: bytes}, begun, begun)
	return err
}

// note adds a call that the rank came to at begun, and waited for from waiting until now.
func (r *Recorder) note(c Call, begun, waiting time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.on {
		return
	}
	c.Needed = waiting.Sub(r.start) - r.waited
	c.At = c.Needed
	if begun != waiting {
		c.At = min(c.At-1, begun.Sub(r.start))
	}
	r.waited += time.Since(waiting)
	r.calls = append(r.calls, c)
}

func (r *Recorder) AllReduce32(x []float32, op dist.Op) error {
	return r.call("all-reduce", 4*len(x), func() error { return r.Comm.AllReduce32(x, op) })
}

func (r *Recorder) AllReduce64(x []float64, op dist.Op) error {
	return r.call("all-reduce", 8*len(x), func() error { return r.Comm.AllReduce64(x, op) })
}

func (r *Recorder) AllGather(dst, src []float32) error {
	return r.call("all-gather", 4*len(src), func() error { return r.Comm.AllGather(dst, src) })
}

func (r *Recorder) Broadcast(x []float32, root int) error {
	return r.call("broadcast", 4*len(x), func() error { return r.Comm.Broadcast(x, root) })
}

// StartAllReduce32 notes the reduction when it has been waited for.
func (r *Recorder) StartAllReduce32(x []float32, op dist.Op) dist.Handle {
	begun := time.Now()
	r.mu.Lock()
	already := r.waited
	r.mu.Unlock()
	return &handle{Handle: r.Comm.StartAllReduce32(x, op), r: r, bytes: 4 * len(x), begun: begun.Add(-already)}
}

type handle struct {
	dist.Handle
	r     *Recorder
	bytes int
	begun time.Time // by the clock that stands still, from the same zero
}

func (h *handle) Wait() error {
	waiting := time.Now()
	err := h.Handle.Wait()
	h.r.note(Call{Name: "all-reduce", Bytes: h.bytes}, h.begun, waiting)
	return err
}
