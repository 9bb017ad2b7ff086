package scaling

import (
	"cmp"
	"errors"
	"math"
	"math/bits"
	"slices"
	"time"
)

// Network is what lies between two ranks, and what summing costs.
type Network struct {
	Latency   time.Duration // of a small message, one way, with all that software adds
	Bandwidth float64       // bytes per second out of a rank, and as many into it
	// Shared is how many ranks share a link, such as those of one host; 0 is 1.
	Shared int
	// Add is the seconds that a rank takes to add a byte of another's to its own; 0 where
	// that is lost in the rest.
	Add float64
}

// AllReduce is the time of summing a rank's bytes over all ranks, by the fastest of the
// three ways in which libraries do it:
//
//	doubling  log2 N · (L + n/B)               every rank sends all, in rounds
//	halving   2 log2 N · L + 2 (N-1)/N · n/B   halves of halves, then back (Rabenseifner)
//	ring      2 (N-1) · L + 2 (N-1)/N · n/B    parts of n/N go round
//
// where 1/B includes the addition. Halving is never slower than the ring here; that it is
// the one large messages take on many ranks is the model's most hopeful assumption.
func (n Network) AllReduce(bytes, ranks int) time.Duration {
	if ranks < 2 {
		return 0
	}
	rounds := float64(bits.Len(uint(ranks - 1)))
	shared := float64(max(n.Shared, 1))
	latency, wire := n.Latency.Seconds(), float64(bytes)*(shared/n.Bandwidth+n.Add/2)
	part := 2 * float64(ranks-1) / float64(ranks) * wire
	doubling := rounds * (latency + float64(bytes)*(shared/n.Bandwidth+n.Add))
	return seconds(min(doubling, 2*rounds*latency+part))
}

// Time of a call on a number of ranks.
func (n Network) Time(c Call, ranks int) time.Duration {
	if c.Name == "all-gather" {
		rounds := float64(bits.Len(uint(ranks - 1)))
		return seconds(rounds*n.Latency.Seconds() + float64((ranks-1)*c.Bytes)*float64(max(n.Shared, 1))/n.Bandwidth)
	}
	return n.AllReduce(c.Bytes, ranks)
}

func seconds(s float64) time.Duration {
	if s > math.MaxInt64/1e9 {
		return math.MaxInt64
	}
	return time.Duration(s * 1e9)
}

// Step is the time of a step and what it is made of.
type Step struct {
	Compute  time.Duration
	Blocking time.Duration // in calls that the rank waits for at once
	Exposed  time.Duration // waiting for calls that went on beside its work
	Hidden   time.Duration // of those calls beside its work
}

// Total is the step's time.
func (s Step) Total() time.Duration { return s.Compute + s.Blocking + s.Exposed }

// Efficiency is the speed of N such ranks as a share of N times the speed of one rank
// that takes alone for a step.
func (s Step) Efficiency(alone time.Duration) float64 {
	return alone.Seconds() / s.Total().Seconds()
}

// On is the step on a number of ranks that a network connects. Calls beside the work
// queue up for the wire in the order of their start; blocking ones, which are small, pass
// between their packets.
func (t Timeline) On(n Network, ranks int) Step {
	s := Step{Compute: t.Compute}
	// A call that begins before another's result is needed may start after it in Calls, so
	// events are walked through in order of time: ends of blocking calls shift all later.
	type event struct {
		at    time.Duration
		call  int
		needs bool
	}
	var events []event
	for i, c := range t.Calls {
		if !c.Blocks() {
			events = append(events, event{c.At, i, false})
		}
		events = append(events, event{c.Needed, i, true})
	}
	slices.SortStableFunc(events, func(a, b event) int { return cmp.Compare(a.at, b.at) })
	var shift, free time.Duration // waited so far; when the wire is free
	ends := make([]time.Duration, len(t.Calls))
	for _, e := range events {
		c, now := t.Calls[e.call], e.at+shift
		took := n.Time(c, ranks)
		switch {
		case c.Blocks():
			shift += took
			s.Blocking += took
		case !e.needs:
			free = max(free, now) + took
			ends[e.call] = free
		default:
			late := max(0, ends[e.call]-now)
			shift += late
			s.Exposed += late
			s.Hidden += took
		}
	}
	s.Hidden = max(0, s.Hidden-s.Exposed)
	return s
}

// Scaled is the same step on a machine that computes in another time.
func (t Timeline) Scaled(compute time.Duration) Timeline {
	f := compute.Seconds() / t.Compute.Seconds()
	scale := func(d time.Duration) time.Duration { return time.Duration(float64(d) * f) }
	out := Timeline{Compute: compute}
	for _, c := range t.Calls {
		blocks := c.Blocks()
		c.At, c.Needed = scale(c.At), scale(c.Needed)
		if blocks {
			c.At = c.Needed
		} else if c.At == c.Needed {
			c.Needed++
		}
		out.Calls = append(out.Calls, c)
	}
	return out
}

// Probe is a measured all-reduce.
type Probe struct {
	Bytes int
	Time  time.Duration
}

// Fit finds the network on which a number of ranks sum as fast as was measured: latency
// from the smallest message, bandwidth from the largest.
func Fit(probes []Probe, ranks int) (Network, error) {
	if ranks < 2 {
		return Network{}, errors.New("a network of one rank: start at least two")
	}
	if len(probes) < 2 {
		return Network{}, errors.New("a network takes at least two sizes of messages to tell latency from bandwidth")
	}
	small, large := probes[0], probes[0]
	for _, p := range probes {
		if p.Bytes < small.Bytes {
			small = p
		}
		if p.Bytes > large.Bytes {
			large = p
		}
	}
	rounds := float64(bits.Len(uint(ranks - 1)))
	n := Network{Latency: seconds(small.Time.Seconds() / rounds)}
	// The two formulas are lines in 1/B: the faster one is the larger bandwidth's.
	doubling := (large.Time.Seconds()/rounds - n.Latency.Seconds()) / float64(large.Bytes)
	halving := (large.Time.Seconds() - 2*rounds*n.Latency.Seconds()) / (2 * float64(ranks-1) / float64(ranks) * float64(large.Bytes))
	slow := max(doubling, halving)
	if slow <= 0 {
		return Network{}, errors.New("the largest message was as fast as the smallest: measure larger ones")
	}
	n.Bandwidth = 1 / slow
	return n, nil
}
