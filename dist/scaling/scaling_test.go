package scaling_test

import (
	"math"
	"testing"
	"time"

	"swav/dist"
	"swav/dist/disttest"
	"swav/dist/scaling"
)

const ms = time.Millisecond

// gigabit has a latency of 1 ms, so that sums are easy.
var gigabit = scaling.Network{Latency: ms, Bandwidth: 125e6}

func near(a, b time.Duration) bool { return (a - b).Abs() <= 2*time.Microsecond }

func TestAllReduce(t *testing.T) {
	for _, c := range []struct {
		name         string
		bytes, ranks int
		n            scaling.Network
		want         time.Duration
	}{
		{"one rank", 1 << 30, 1, gigabit, 0},
		{"two ranks swap all", 12.5e6, 2, gigabit, 101 * ms},
		{"a small message takes log2 rounds", 0, 8, gigabit, 3 * ms},
		{"a round more where N is no power of two", 0, 9, gigabit, 4 * ms},
		{"a large one takes 2 (N-1)/N of its time", 125e6, 4, gigabit, 1504 * ms},
		{"two ranks on each link halve it", 125e6, 4, scaling.Network{Latency: ms, Bandwidth: 125e6, Shared: 2}, 3004 * ms},
		{"adding takes time too", 125e6, 4, scaling.Network{Latency: ms, Bandwidth: 125e6, Add: 1e-9}, 1504*ms + 93750*time.Microsecond},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := c.n.AllReduce(c.bytes, c.ranks); !near(got, c.want) {
				t.Errorf("%v, want %v", got, c.want)
			}
		})
	}
}

func TestStep(t *testing.T) {
	// A gradient of 125 MB takes 1001 ms between two ranks, one of 12.5 MB 101 ms.
	blocking := scaling.Call{Name: "all-reduce", Bytes: 0, At: 10 * ms, Needed: 10 * ms}
	for _, c := range []struct {
		name                       string
		calls                      []scaling.Call
		blocking, exposed, overlap time.Duration
	}{
		{"nothing to say", nil, 0, 0, 0},
		{"all ranks wait for a blocking call", []scaling.Call{blocking}, ms, 0, 0},
		{"what fits beside the work is hidden", []scaling.Call{{Name: "all-reduce", Bytes: 12.5e6, At: 100 * ms, Needed: 900 * ms}}, 0, 0, 101 * ms},
		{"what does not is waited for", []scaling.Call{{Name: "all-reduce", Bytes: 125e6, At: 100 * ms, Needed: 900 * ms}}, 0, 201 * ms, 800 * ms},
		{"buckets queue up", []scaling.Call{
			{Name: "all-reduce", Bytes: 12.5e6, At: 800 * ms, Needed: 900 * ms}, {Name: "all-reduce", Bytes: 12.5e6, At: 800 * ms, Needed: 900 * ms},
		}, 0, 102 * ms, 100 * ms},
		{"a blocking call gives the wire time", []scaling.Call{
			{Name: "all-reduce", Bytes: 12.5e6, At: 800 * ms, Needed: 900 * ms}, {Name: "all-reduce", At: 850 * ms, Needed: 850 * ms},
		}, ms, 0, 101 * ms},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := scaling.Timeline{Compute: time.Second, Calls: c.calls}.On(gigabit, 2)
			if !near(s.Blocking, c.blocking) || !near(s.Exposed, c.exposed) || !near(s.Hidden, c.overlap) || s.Compute != time.Second {
				t.Errorf("%+v: want blocking %v, exposed %v, hidden %v", s, c.blocking, c.exposed, c.overlap)
			}
			if want := 1 / (1 + (c.blocking + c.exposed).Seconds()); math.Abs(s.Efficiency(time.Second)-want) > 1e-3 {
				t.Errorf("efficiency %.3f, want %.3f", s.Efficiency(time.Second), want)
			}
		})
	}
}

func TestScaled(t *testing.T) {
	s := scaling.Timeline{Compute: time.Second, Calls: []scaling.Call{
		{Name: "all-reduce", Bytes: 8, At: 100 * ms, Needed: 100 * ms}, {Name: "all-reduce", Bytes: 1e6, At: 500 * ms, Needed: 900 * ms},
	}}.Scaled(100 * ms)
	if s.Compute != 100*ms || !s.Calls[0].Blocks() || s.Calls[0].At != 10*ms || s.Calls[1].Blocks() || s.Calls[1].At != 50*ms || s.Calls[1].Needed != 90*ms {
		t.Errorf("%+v", s)
	}
}

func TestFit(t *testing.T) {
	for _, ranks := range []int{2, 3, 4, 64} {
		var probes []scaling.Probe
		for _, n := range []int{8, 4096, 1 << 20, 1 << 26} {
			probes = append(probes, scaling.Probe{Bytes: n, Time: gigabit.AllReduce(n, ranks)})
		}
		got, err := scaling.Fit(probes, ranks)
		if err != nil || !near(got.Latency, gigabit.Latency) || math.Abs(got.Bandwidth/gigabit.Bandwidth-1) > 0.01 {
			t.Errorf("%d ranks: %+v, error %v; want %+v", ranks, got, err, gigabit)
		}
	}
	for name, probes := range map[string][]scaling.Probe{
		"one size":             {{Bytes: 8, Time: ms}},
		"no time for the rest": {{Bytes: 8, Time: ms}, {Bytes: 1 << 20, Time: ms / 2}},
	} {
		if n, err := scaling.Fit(probes, 2); err == nil {
			t.Errorf("%s gives %+v", name, n)
		}
	}
	if _, err := scaling.Fit(nil, 1); err == nil {
		t.Error("one rank has a network")
	}
}

// A recorder changes nothing of what its ranks do.
func TestRecorderIsAComm(t *testing.T) {
	disttest.Run(t, func(t *testing.T, n int) []dist.Comm {
		comms := dist.Local(n)
		for i, c := range comms {
			r := scaling.Record(c)
			r.Begin()
			comms[i] = r
		}
		return comms
	})
}

func TestRecorder(t *testing.T) {
	comms := dist.Local(2)
	done := make(chan scaling.Timeline, 2)
	for _, c := range comms {
		go func() {
			r := scaling.Record(c)
			_ = r.Barrier() // before Begin: not noted
			r.Begin()
			a := r.StartAllReduce32(make([]float32, 100), dist.Sum)
			_ = r.AllReduce64(make([]float64, 3), dist.Max)
			_ = r.AllReduce64(make([]float64, 3), dist.Max)
			time.Sleep(2 * ms)
			_ = a.Wait()
			_ = r.AllGather(make([]float32, 2), make([]float32, 1))
			done <- r.End()
			_ = r.Broadcast(make([]float32, 1), 0)
		}()
	}
	for range comms {
		got := <-done
		want := []scaling.Kind{
			{Name: "all-reduce", Bytes: 400, Beside: true, Count: 1}, {Name: "all-reduce", Bytes: 24, Count: 2}, {Name: "all-gather", Bytes: 4, Count: 1},
		}
		kinds := got.Kinds()
		if len(kinds) != len(want) {
			t.Fatalf("%+v", kinds)
		}
		for i, k := range kinds {
			if k != want[i] {
				t.Errorf("kind %d: %+v, want %+v", i, k, want[i])
			}
		}
		if got.Bytes() != 452 {
			t.Errorf("%d bytes, want 452", got.Bytes())
		}
		if c := got.Calls[2]; c.Blocks() || c.Needed-c.At < ms || got.Compute < c.Needed {
			t.Errorf("beside 2 ms of work: %+v of %v", c, got.Compute)
		}
	}
}
