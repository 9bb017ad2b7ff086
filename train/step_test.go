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
			b, err := NewBackend("cpu", 1)
			if err != nil {
				t.Skip(err)
			}
			defer b.Close()
			net, err := nn.Build(nn.Arch{Block: nn.Bottleneck, Layers: []int{1, 1}, Width: 0.5, Stem: nn.ImageNetStem, InChannels: 3, Hidden: 32, FeatureDim: 16, Prototypes: 20})
			if err != nil {
				t.Fatal(err)
			}
			m, err := engine.NewModel(b, net, true)
			if err != nil {
				t.Fatal(err)
			}
			defer m.Close()
			m.Set(net.Init(1))
			plan, err := engine.Compile(m, engine.Config{Groups: []engine.Group{{Count: 2, Size: 32}, {Count: 1, Size: 24}}, Batch: 4,
				Precision: d, NoWidening: true, Comm: dist.Solo(), Train: true})
			if err != nil {
				t.Fatal(err)
			}
			defer plan.Close()
			for _, in := range plan.Inputs {
				b.Write(in, noise(in.Elems()))
			}
			s, err := NewStepper(plan, &SwAV{Assign: []int{0, 1}, Temperature: 0.1, Epsilon: 0.05, Iterations: 3, QueueLength: 8}, optim.Default(optim.KindLARC))
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
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
