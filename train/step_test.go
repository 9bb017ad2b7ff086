package train

import (
	"testing"

	"swav/dist"
	"swav/engine"
	"swav/nn"
	"swav/op"
	"swav/optim"
)

// A step allocates nothing on Go's heap once the first steps have made scratch
// memory: nothing for the collector to do beside the compute.
func TestStepAllocatesNothing(t *testing.T) {
	for _, d := range []op.DType{op.Float32, op.BFloat16, op.Float64} {
		t.Run(d.String(), func(t *testing.T) {
			s := stepper(t, d, dist.Solo())
			step := 0
			run := func() {
				if err := s.whole(step); err != nil {
					t.Fatal(err)
				}
				step++
			}
			for range 4 { // the queue fills
				run()
			}
			if n := testing.AllocsPerRun(3, run); n != 0 {
				t.Errorf("%.0f allocations a step", n)
			}
		})
	}
}

// stepper makes one of a tiny network.
func stepper(t *testing.T, d op.DType, comm dist.Comm) *Stepper {
	t.Helper()
	b, err := NewBackend("cpu", 1)
	if err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	net, err := nn.Build(nn.Arch{Block: nn.Bottleneck, Layers: []int{1, 1}, Width: 0.5, Stem: nn.ImageNetStem, InChannels: 3, Hidden: 32, FeatureDim: 16, Prototypes: 20})
	if err != nil {
		t.Fatal(err)
	}
	m, err := engine.NewModel(b, net, true)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	m.Set(net.Init(1))
	plan, err := engine.Compile(m, engine.Config{Groups: []engine.Group{{Count: 2, Size: 32}, {Count: 1, Size: 24}}, Batch: 4,
		Precision: d, NoWidening: true, Comm: comm, Train: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(plan.Close)
	for _, in := range plan.Inputs {
		b.Write(in, noise(in.Elems()))
	}
	s, err := NewStepper(plan, &SwAV{Assign: []int{0, 1}, Temperature: 0.1, Epsilon: 0.05, Iterations: 3, QueueLength: 8}, optim.Default(optim.KindLARC))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// sums is one of two ranks whose other is always 0, and whose sums are done when they are
// waited for.
type sums struct {
	dist.Comm
	begun   []*sum
	pending int
}

type sum struct {
	of     *sums
	first  *float32
	n      int
	waited bool
}

func (s *sums) Size() int { return 2 }

func (s *sums) StartAllReduce32(x []float32, _ dist.Op) dist.Handle {
	h := s.begun[len(s.begun) : len(s.begun)+1][0]
	*h = sum{of: s, first: &x[0], n: len(x)}
	s.begun = append(s.begun, h)
	s.pending++
	return h
}

func (h *sum) Wait() error {
	h.of.pending--
	h.waited = true
	return nil
}

// newSums has room for some sums of a step.
func newSums(n int) *sums {
	s := &sums{Comm: dist.Solo(), begun: make([]*sum, n)}
	for i := range s.begun {
		s.begun[i] = &sum{}
	}
	s.begun = s.begun[:0]
	return s
}

// Buckets divide the gradients from the last to the first, are begun in the last part of a
// step only, and add nothing to Go's heap; what a failed step leaves under way is waited for.
func TestStepWithBuckets(t *testing.T) {
	defer func(n int) { bucketElems = n }(bucketElems)
	bucketElems = 500
	comm := newSums(100)
	s := stepper(t, op.Float32, comm)
	s.Parts = 2
	step := func(finish bool) {
		comm.begun = comm.begun[:0]
		s.Begin(0)
		for part := range s.Parts {
			if len(comm.begun) > 0 {
				t.Errorf("%d sums begun before part %d", len(comm.begun), part)
			}
			if _, err := s.Accumulate(); err != nil {
				t.Fatal(err)
			}
		}
		if finish {
			if _, err := s.Reduce(); err != nil {
				t.Fatal(err)
			}
		}
	}
	step(true)
	n := 0
	for _, h := range comm.begun {
		n += h.n
		if !h.waited {
			t.Error("a sum is not waited for")
		}
	}
	if want := s.Model.Net.NumParams; n != want || len(comm.begun) < 5 {
		t.Errorf("%d sums of %d elements, want several of all %d", len(comm.begun), n, want)
	}
	for i := 1; i < len(s.buckets); i++ {
		if a, b := s.buckets[i], s.buckets[i-1]; a.from+a.grads.Elems() != b.from {
			t.Errorf("bucket %d ends at %d, the one before begins at %d", i, a.from+a.grads.Elems(), b.from)
		}
	}
	for range 4 {
		step(true)
	}
	if n := testing.AllocsPerRun(3, func() { step(true) }); n != 0 {
		t.Errorf("%.0f allocations a step", n)
	}
	if step(false); comm.pending == 0 {
		t.Error("no sum is under way after the backward pass")
	}
	if s.Close(); comm.pending != 0 {
		t.Errorf("%d sums are under way in memory that may be freed", comm.pending)
	}
}
