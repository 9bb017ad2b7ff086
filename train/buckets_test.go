package train

import (
	"errors"
	"testing"

	"swav/dist"
	"swav/engine"
	"swav/nn"
	"swav/optim"
)

// The buckets are the whole gradient from its end, none with parameters of head and
// backbone, none above the size by more than a parameter, and the last is small.
func TestBuckets(t *testing.T) {
	for name, arch := range map[string]nn.Arch{
		"ResNet-50":        {Block: nn.Bottleneck, Layers: []int{3, 4, 6, 3}, Width: 1, Stem: nn.ImageNetStem, InChannels: 3, Hidden: 2048, FeatureDim: 128, Prototypes: 3000},
		"tiny":             {Block: nn.Basic, Layers: []int{1, 1}, Width: 0.0625, Stem: nn.SmallStem, InChannels: 2, Hidden: 6, FeatureDim: 5, Prototypes: 7},
		"no hidden layer":  {Block: nn.Basic, Layers: []int{2, 2, 2, 2}, Width: 1, Stem: nn.ImageNetStem, InChannels: 3, FeatureDim: 128, Prototypes: 3000},
		"ResNet-50, width": {Block: nn.Bottleneck, Layers: []int{3, 4, 6, 3}, Width: 4, Stem: nn.ImageNetStem, InChannels: 3, Hidden: 8192, FeatureDim: 256, Prototypes: 3000},
	} {
		net, err := nn.Build(arch)
		if err != nil {
			t.Fatal(err)
		}
		head := -1
		largest := 0
		for _, p := range net.Params {
			if p.Name == "projection_head.weight" || p.Name == "projection_head.0.weight" {
				head = p.Offset
			}
			largest = max(largest, p.Len)
		}
		to, borders := net.NumParams, false
		all := bucketStarts(net)
		for _, from := range all {
			if from >= to || to-from > bucketElems+largest {
				t.Errorf("%s: a bucket from %d to %d", name, from, to)
			}
			borders = borders || from == head
			to = from
		}
		if to != 0 || !borders {
			t.Errorf("%s: buckets from %v, the head begins at %d", name, all, head)
		}
		if n := len(all); n > 3 && all[n-2] > 2*lastElems {
			t.Errorf("%s: the last bucket has %d elements", name, all[n-2])
		}
	}
}

// late is one rank of two whose peer takes part in nothing, and whose sums fail, but for
// those of gradients, which are over when somebody waits for them.
type late struct {
	dist.Comm
	pending int
}

func (c *late) AllReduce64([]float64, dist.Op) error { return errors.New("cable cut") }

func (c *late) StartAllReduce32([]float32, dist.Op) dist.Handle {
	c.pending++
	return lateHandle{c}
}

type lateHandle struct{ c *late }

func (h lateHandle) Wait() error {
	h.c.pending--
	return nil
}

// A step that fails leaves no sum on its way into the gradients' memory.
func TestFailedStepLeavesNothingUnderWay(t *testing.T) {
	c := &late{Comm: dist.Local(2)[0]}
	arch := nn.Arch{Block: nn.Basic, Layers: []int{1, 1}, Width: 0.0625, Stem: nn.SmallStem, InChannels: 2, Hidden: 6, FeatureDim: 5, Prototypes: 7}
	s := stepperOf(t, "ref", arch, []engine.Group{{Count: 2, Size: 8}}, 2, &SwAV{Assign: []int{0, 1}, Temperature: 0.1, Epsilon: 0.05, Iterations: 3}, optim.Default(optim.KindSGD), c)
	s.Begin(0)
	if _, err := s.Accumulate(); err == nil || err.Error() != "cable cut" {
		t.Errorf("error %v", err)
	}
	if s.started != len(s.buckets) || s.started < 2 || c.pending != 0 {
		t.Errorf("%d of %d sums begun, %d under way", s.started, len(s.buckets), c.pending)
	}
	// Nor does one that is given up before its sums are asked for.
	s.Begin(1)
	s.start(0)
	if c.pending != len(s.buckets) {
		t.Errorf("%d under way", c.pending)
	}
	s.Close()
	if c.pending != 0 {
		t.Errorf("%d under way after Close", c.pending)
	}
}
