package train

import (
	"errors"
	"slices"
	"time"

	"swav/dist"
	"swav/dist/scaling"
	"swav/op"
)

// ScalingResult is what steps cost a rank alone and with the others.
type ScalingResult struct {
	Alone    time.Duration    // a step without a word to others, all ranks at the same time
	Together time.Duration    // a step of all
	Step     scaling.Timeline // its work and messages
	Probes   []scaling.Probe  // all-reduces of several sizes, the smallest first
	Bytes    int64            // of gradients
}

// probeBytes are the sizes of messages that are timed: from one number to a bucket of
// gradients.
var probeBytes = []int{8, 4 << 10, 64 << 10, 1 << 20, 25 << 20}

// probeTime bounds how long one size is timed: networks differ a thousandfold.
const probeTime = time.Second

// BenchScaling times training steps of a rank with and without the others, and messages
// between them. All ranks call it with the same c; b belongs to the rank. Every figure is
// the median of c.Rounds.
func BenchScaling(b op.Backend, c BenchConfig, comm dist.Comm) (*ScalingResult, error) {
	if comm.Size() < 2 {
		return nil, errors.New("one rank has nobody to talk to: start at least two")
	}
	alone, err := newBenched(b, c, nil)
	if err != nil {
		return nil, err
	}
	defer alone.close()
	recorder := scaling.Record(comm)
	together, err := newBenched(b, c, recorder)
	if err != nil {
		return nil, err
	}
	defer together.close()

	r := &ScalingResult{Bytes: together.model.Grads.Bytes()}
	var apart, joint []time.Duration
	var steps []scaling.Timeline
	for i := range c.Warmup + c.Rounds {
		if err := comm.Barrier(); err != nil {
			return nil, err
		}
		start := time.Now()
		if err := alone.whole(i + 1); err != nil {
			return nil, err
		}
		took := time.Since(start)
		if err := comm.Barrier(); err != nil {
			return nil, err
		}
		recorder.Begin()
		start = time.Now()
		if err := together.whole(i + 1); err != nil {
			return nil, err
		}
		if i >= c.Warmup {
			apart, joint, steps = append(apart, took), append(joint, time.Since(start)), append(steps, recorder.End())
		}
	}
	for _, bytes := range probeBytes {
		p, err := probe(comm, bytes, max(3, c.Rounds))
		if err != nil {
			return nil, err
		}
		r.Probes = append(r.Probes, p)
	}
	r.Alone, r.Together = median(apart), median(joint)
	slices.SortFunc(steps, func(a, b scaling.Timeline) int { return int(a.Compute - b.Compute) })
	r.Step = steps[len(steps)/2]
	return r, nil
}

// probe times all-reduces of one size.
func probe(comm dist.Comm, bytes, most int) (scaling.Probe, error) {
	x := make([]float32, bytes/4)
	var times []time.Duration
	for began := time.Now(); len(times) < most; {
		if err := comm.Barrier(); err != nil {
			return scaling.Probe{}, err
		}
		start := time.Now()
		if err := comm.AllReduce32(x, dist.Sum); err != nil {
			return scaling.Probe{}, err
		}
		times = append(times, time.Since(start))
		// All ranks stop together: the slowest one's clock counts.
		late := []float64{time.Since(began).Seconds()}
		if err := comm.AllReduce64(late, dist.Max); err != nil {
			return scaling.Probe{}, err
		}
		if late[0] > probeTime.Seconds() {
			break
		}
	}
	return scaling.Probe{Bytes: bytes, Time: median(times)}, nil
}

func median(x []time.Duration) time.Duration {
	slices.Sort(x)
	return x[len(x)/2]
}
