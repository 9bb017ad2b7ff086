package config

import (
	"math"
	"strconv"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

var (
	laptop   = Machine{Cores: 2, MemoryBytes: 8 << 30, BF16: true, GFLOPS: 200}
	photos   = DataFacts{Images: 5000, Width: 640, Height: 480, Channels: 3}
	garments = DataFacts{Images: 60000, Width: 28, Height: 28, Channels: 1, Classes: 10, Labeled: true}
)

// Whatever the data, the time and the machine: either a clear refusal, or a
// recipe that is valid, fits the data, the memory and the time, and says why.
func TestAutoAlwaysFits(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := DataFacts{
			Images:   int(50 * math.Exp2(rapid.Float64Range(-2, 15).Draw(t, "images"))),
			Width:    rapid.IntRange(1, 3000).Draw(t, "width"),
			Height:   rapid.IntRange(1, 3000).Draw(t, "height"),
			Channels: rapid.SampledFrom([]int{1, 2, 3, 4, 12}).Draw(t, "channels"),
			Classes:  rapid.IntRange(0, 2000).Draw(t, "classes"),
			Labeled:  rapid.Bool().Draw(t, "labeled"),
		}
		m := Machine{
			Cores: rapid.IntRange(0, 256).Draw(t, "cores"), MemoryBytes: rapid.Int64Range(0, 1<<40).Draw(t, "memory"),
			BF16: rapid.Bool().Draw(t, "bf16"), GFLOPS: rapid.SampledFrom([]float64{0, 1, 30, 200, 1000, 1e5}).Draw(t, "rate"),
		}
		budget := time.Duration(math.Exp2(rapid.Float64Range(-3, 12).Draw(t, "minutes")) * float64(time.Minute))
		r, choices, err := Auto(d, budget, m)
		if err != nil {
			if !strings.Contains(err.Error(), "give") && !strings.Contains(err.Error(), "free") {
				t.Fatalf("a refusal that does not say what to do: %v", err)
			}
			return
		}
		res, err := r.Resolve(d.Images, 1)
		if err != nil {
			t.Fatal(err)
		}
		if r.Train.Batch > d.Images/2 || res.QueueLength > d.Images {
			t.Fatalf("batch %d, queue %d of %d images", r.Train.Batch, res.QueueLength, d.Images)
		}
		if m.Cores < 1 {
			m.Cores = 1
		}
		if m.GFLOPS == 0 {
			m.GFLOPS = 1e9 // then only the evaluation counts below
		}
		c, err := estimate(r, d, m)
		if err != nil {
			t.Fatal(err)
		}
		if total := time.Duration(res.Steps*r.Train.Batch)*c.image + evaluation(r, d, m, c); total > budget {
			t.Fatalf("%d steps take %v of %v", res.Steps, total, budget)
		}
		if m.MemoryBytes > 0 && c.fixed+int64(r.Train.Batch)*c.memory > m.MemoryBytes {
			t.Fatalf("a batch of %d takes more than %d bytes", r.Train.Batch, m.MemoryBytes)
		}
		if res.Steps < minSteps || res.FreezePrototypes >= res.Steps || res.Warmup >= res.Steps {
			t.Fatalf("%+v", res)
		}
		seen := map[string]bool{}
		for _, ch := range choices {
			if ch.Key == "" || ch.Value == "" || ch.Reason == "" || seen[ch.Key] {
				t.Fatalf("choice %+v", ch)
			}
			seen[ch.Key] = true
			f, v, err := r.lookup(ch.Key)
			if ch.Key == "crops" {
				if FormatCrops(r.Crops) != ch.Value {
					t.Fatalf("crops are %s, said %s", FormatCrops(r.Crops), ch.Value)
				}
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			value, err := f.parse(ch.Value)
			if err == nil {
				err = f.assign(ch.Key, v, value)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		if diff := equal(r, roundTrip(t, r)); diff != "" {
			t.Fatal(diff)
		}
	})
}

func mustAuto(t *testing.T, d DataFacts, budget time.Duration, m Machine, fixed ...string) *Recipe {
	t.Helper()
	r, choices, err := Auto(d, budget, m, fixed...)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range choices {
		t.Logf("%s = %s: %s", c.Key, c.Value, c.Reason)
	}
	return r
}

func TestAutoGrowsWithTheTime(t *testing.T) {
	macs := func(budget time.Duration) int64 {
		r := mustAuto(t, photos, budget, laptop)
		c, err := estimate(r, photos, laptop)
		if err != nil {
			t.Fatal(err)
		}
		return int64(c.image)
	}
	short, long, longer := macs(10*time.Minute), macs(4*time.Hour), macs(7*24*time.Hour)
	if !(short < long && long < longer) {
		t.Errorf("time for an image: %d ns in 10 minutes, %d in 4 hours, %d in a week", short, long, longer)
	}
}

func TestAutoOnLabelledGrayImages(t *testing.T) {
	r := mustAuto(t, garments, 8*time.Minute, laptop)
	if r.Model.Stem != "small" || r.Model.InChannels != 1 || r.Crops[0].Size != 28 || r.Model.Prototypes != 128 {
		t.Errorf("%+v %+v", r.Model, r.Crops)
	}
	if r.Augment.Saturation != 0 || r.Augment.Hue != 0 || r.Augment.Grayscale != 0 {
		t.Errorf("colour changes on gray images: %+v", r.Augment)
	}
}

func TestAutoQueuesWhereTheBatchIsSmall(t *testing.T) {
	many := DataFacts{Images: 100000, Width: 32, Height: 32, Channels: 3, Classes: 200, Labeled: true}
	r := mustAuto(t, many, 30*time.Minute, laptop)
	if r.Model.Prototypes <= 2*r.Train.Batch || r.SwAV.Queue < r.Model.Prototypes-r.Train.Batch {
		t.Errorf("%d prototypes, batch %d, queue %d", r.Model.Prototypes, r.Train.Batch, r.SwAV.Queue)
	}
	if r = mustAuto(t, garments, 30*time.Minute, laptop); r.SwAV.Queue != 0 {
		t.Errorf("a queue of %d for %d prototypes and a batch of %d", r.SwAV.Queue, r.Model.Prototypes, r.Train.Batch)
	}
}

func TestAutoRefuses(t *testing.T) {
	for _, c := range []struct {
		d      DataFacts
		budget time.Duration
		m      Machine
		fixed  []string
		want   string
	}{
		{DataFacts{Images: 5, Width: 100, Height: 100, Channels: 3}, time.Hour, laptop, nil, "5 images are too few"},
		{DataFacts{Images: 500, Channels: 3}, time.Hour, laptop, nil, "nothing to learn from"},
		{photos, 0, laptop, nil, "--time 30m"},
		{photos, 10 * time.Second, laptop, nil, "give it --time"},
		{garments, time.Minute, Machine{Cores: 1, GFLOPS: 0.5}, nil, "give it --time"},
		{photos, time.Hour, Machine{Cores: 2, MemoryBytes: 1 << 20}, nil, "memory are free"},
		{photos, time.Hour, laptop, []string{"optim.learning_rate=3"}, "the nearest is optim.lr"},
		{photos, time.Hour, laptop, []string{"swav.assign=0,30"}, "view 30"},
	} {
		_, _, err := Auto(c.d, c.budget, c.m, c.fixed...)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v in %v with %v: %v, want %q", c.d, c.budget, c.fixed, err, c.want)
		}
	}
}

func TestAutoTakesWhatItAdvises(t *testing.T) {
	for _, m := range []Machine{laptop, {Cores: 1, GFLOPS: 5}} {
		_, _, err := Auto(garments, 8*time.Second, m)
		if err == nil {
			t.Fatal("8 seconds are enough")
		}
		_, advice, _ := strings.Cut(err.Error(), "--time ")
		budget, parseErr := time.ParseDuration(advice)
		if parseErr != nil {
			t.Fatal(err)
		}
		if _, _, err = Auto(garments, budget, m); err != nil {
			t.Errorf("in %v: %v", budget, err)
		}
	}
}

func TestAutoAroundWhatIsGiven(t *testing.T) {
	r := mustAuto(t, photos, time.Hour, laptop, "model.width=1", "train.batch_size=32", "crops[1].count=3", "optim.kind=larc", "model.prototypes=50")
	if r.Model.Width != 1 || r.Train.Batch != 32 || r.Crops[1].Count != 3 || r.Optim.Kind != "larc" || r.Model.Prototypes != 50 {
		t.Errorf("%+v", r)
	}
	free := mustAuto(t, garments, 8*time.Minute, laptop)
	wide := mustAuto(t, garments, 8*time.Minute, laptop, "model.width=0.5", "train.batch_size="+strconv.Itoa(free.Train.Batch))
	if wide.Train.Steps >= free.Train.Steps {
		t.Errorf("a wider network does %d steps in the time of %d", wide.Train.Steps, free.Train.Steps)
	}
	if r := mustAuto(t, garments, 8*time.Minute, laptop, "train.epochs=2"); r.Train.Epochs != 2 || r.Train.Steps != 0 {
		t.Errorf("%g epochs, %d steps", r.Train.Epochs, r.Train.Steps)
	}
	if r := mustAuto(t, photos, 24*time.Hour, laptop, "model.arch=resnet50"); r.Model.Arch != "resnet50" {
		t.Errorf("%+v", r.Model)
	}
}

// Views that are given have the stem of their size, not that of the network which
// stands for them, and a batch that is given counts in the memory.
func TestAutoAroundGivenViews(t *testing.T) {
	m := Machine{Cores: 2, MemoryBytes: 23385 << 20, BF16: true, GFLOPS: 200}
	resnet := []string{"model.arch=resnet50", "model.width=1"}
	for _, c := range []struct {
		name, crops, batch, stem string
		refused                  bool
	}{
		{"large views", "2x224@0.14-1", "8", "imagenet", false},
		{"views of 96 pixels", "2x96@0.14-1", "8", "imagenet", false},
		{"small views", "2x32@0.14-1", "8", "small", false},
		{"a batch beyond the memory", "2x224@0.14-1", "4096", "", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, _, err := Auto(photos, 10*time.Hour, m, append(resnet, "crops="+c.crops, "train.batch_size="+c.batch)...)
			if c.refused {
				if err == nil || !strings.Contains(err.Error(), "--set") {
					t.Fatalf("error %v, want a refusal that names --set", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if r.Model.Stem != c.stem {
				t.Errorf("stem %q, want %q", r.Model.Stem, c.stem)
			}
		})
	}
}
