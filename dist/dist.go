// Package dist is how ranks meet: sums, maxima and copies over all ranks of a
// run. Comm is the contract; Solo and Local implement it inside one process.
// Other engines (MPI, NCCL) implement the same contract and run the same suite
// (package disttest).
//
// It imports nothing of this project and knows nothing of what is summed.
package dist

// Op is how AllReduce combines elements.
type Op uint8

// The reductions. What Max makes of a NaN is left to the engine: spread one by
// Sum, or as +Inf by Max.
const (
	Sum Op = iota
	Max
)

func (o Op) String() string {
	if o == Sum {
		return "sum"
	}
	return "max"
}

// Handle is a reduction under way.
type Handle interface {
	// Wait returns when the result is in place. It is called exactly once.
	Wait() error
}

// Comm is one rank's end of a group of ranks. Every rank calls the same methods
// in the same order with slices of the same length; a call returns when this
// rank's result is in place. Results are the same to the bit on every rank and
// from run to run. Methods are called by one goroutine at a time; only Abort may
// be called from anywhere.
//
// When a rank aborts, pending and later calls of all ranks return an error that
// names it.
type Comm interface {
	// Rank is this rank's number, from 0 to Size-1.
	Rank() int
	// Size is the number of ranks.
	Size() int
	// AllReduce32 replaces x by its combination over all ranks.
	AllReduce32(x []float32, op Op) error
	// AllReduce64 replaces x by its combination over all ranks.
	AllReduce64(x []float64, op Op) error
	// AllGather fills dst, Size times as long as src, with every rank's src in
	// rank order.
	AllGather(dst, src []float32) error
	// AllToAll sends every rank its part: src and dst are Size equal parts, and part i of
	// dst is what rank i had for this one. Like AllGather and Broadcast it copies all bits,
	// also of what is no number.
	AllToAll(dst, src []float32) error
	// Broadcast replaces x by rank root's.
	Broadcast(x []float32, root int) error
	// Barrier waits for all ranks.
	Barrier() error
	// StartAllReduce32 begins an AllReduce32; x must be left alone until the
	// handle's Wait returns. Reductions complete in the order of their start.
	// An engine with nothing to overlap may reduce at once.
	StartAllReduce32(x []float32, op Op) Handle
	// Split makes groups of the ranks that give the same color, which is not negative, in
	// rank order, and returns this rank's end of its own. Groups work independently of
	// each other; an Abort on any of them, or on c, ends all.
	Split(color int) (Comm, error)
	// Abort tells all ranks that this one cannot go on and why. The first Abort
	// of a group counts.
	Abort(err error)
	// Close leaves the group in order. Calls of other ranks that need this one
	// fail from then on.
	Close() error
}
