package config

import (
	"math"
	"strings"
	"testing"
)

// The original's nine SwAV scripts, as its repository has them.
func TestOriginalScripts(t *testing.T) {
	const multi = "2x224@0.14-1,6x96@0.05-0.14"
	for _, c := range []struct {
		name          string
		crops         string
		epochs        float64
		batch         int
		lr            float64
		warmup        Duration
		start         float64
		freeze, queue int
		queueStart    Duration
		arch          string
		hidden        int
	}{
		{"swav_100ep", multi, 100, 4096, 4.8, Epochs(10), 0.3, 313, 0, Epochs(0), "resnet50", 2048},
		{"swav_200ep", multi, 200, 4096, 4.8, Epochs(10), 0.3, 313, 0, Epochs(0), "resnet50", 2048},
		{"swav_400ep", multi, 400, 4096, 4.8, Epochs(10), 0.3, 313, 0, Epochs(0), "resnet50", 2048},
		{"swav_800ep", multi, 800, 4096, 4.8, Epochs(10), 0.3, 313, 0, Epochs(0), "resnet50", 2048},
		{"swav_400ep_2x224", "2x224@0.08-1", 400, 4096, 4.8, Epochs(10), 0.3, 313, 0, Epochs(0), "resnet50", 2048},
		{"swav_200ep_bs256", multi, 200, 256, 0.6, Epochs(0), 0, 5005, 3840, Epochs(15), "resnet50", 2048},
		{"swav_400ep_bs256", multi, 400, 256, 0.6, Epochs(0), 0, 5005, 3840, Epochs(15), "resnet50", 2048},
		{"swav_RN50w2_400ep", "2x224@0.14-1,4x96@0.05-0.14", 400, 4096, 4.8, Epochs(10), 0.3, 313, 0, Epochs(0), "resnet50w2", 8192},
		{"swav_RN50w4_400ep", "2x224@0.08-1,4x96@0.08-0.14", 400, 2560, 4.8, Epochs(10), 0.3, 313, 2560, Epochs(0), "resnet50w4", 8192},
	} {
		r := mustLoad(t, strings.ToLower(c.name))
		crops, err := ParseCrops(c.crops)
		if err != nil {
			t.Fatal(err)
		}
		want := Default()
		want.Crops = crops
		want.Model.Arch, want.Model.Hidden, want.Model.InChannels = c.arch, c.hidden, 3
		want.SwAV.FreezePrototypes, want.SwAV.Queue, want.SwAV.QueueStart = Steps(c.freeze), c.queue, c.queueStart
		want.Optim.LR, want.Optim.FinalLR, want.Optim.StartLR, want.Optim.Warmup = c.lr, c.lr/1000, c.start, c.warmup
		want.Train.Epochs, want.Train.Batch = c.epochs, c.batch
		if math.Abs(r.Optim.FinalLR-c.lr/1000) > 1e-12 {
			t.Errorf("%s: final_lr %g", c.name, r.Optim.FinalLR)
		}
		want.Optim.FinalLR = r.Optim.FinalLR
		if diff := equal(want, r); diff != "" || r.Name != c.name {
			t.Errorf("%s is loaded as %s:\n%s", c.name, r.Name, diff)
		}
	}
}

// The original's three DeepCluster-v2 scripts.
func TestOriginalDeepClusterScripts(t *testing.T) {
	for _, c := range []struct {
		name, crops string
		epochs      float64
	}{
		{"deepclusterv2_400ep", "2x160@0.08-1,4x96@0.05-0.14", 400},
		{"deepclusterv2_400ep_2x224", "2x224@0.08-1", 400},
		{"deepclusterv2_800ep", "2x224@0.14-1,6x96@0.05-0.14", 800},
	} {
		r := mustLoad(t, c.name)
		crops, err := ParseCrops(c.crops)
		if err != nil {
			t.Fatal(err)
		}
		want := Default()
		want.Crops, want.Model.InChannels = crops, 3
		want.DeepCluster = DeepCluster{Prototypes: []int{3000, 3000, 3000}, BankViews: []int{0, 1}, Iterations: 10, Temperature: 0.1}
		want.Optim.LR, want.Optim.FinalLR, want.Optim.StartLR, want.Optim.Warmup = 4.8, 0.0048, 0.3, Epochs(10)
		want.Train.Method, want.Train.Epochs, want.Train.Batch = MethodDeepCluster, c.epochs, 4096
		if diff := equal(want, r); diff != "" {
			t.Errorf("%s:\n%s", c.name, diff)
		}
		a, err := r.Arch(3)
		if err != nil || a.Prototypes != 9000 || a.Clusters() != 3000 || len(a.HeadSizes()) != 3 {
			t.Errorf("%s: %+v, %v", c.name, a, err)
		}
		res, err := r.Resolve(1281167, 64)
		if err != nil || res.BankRows != 312*64 || res.QueueLength != 0 {
			t.Errorf("%s: %+v, %v", c.name, res, err)
		}
	}
}
