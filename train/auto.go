package train

import (
	"context"
	"fmt"
	"runtime"
	"sort"
	"time"

	"swav/config"
	"swav/dataset"
	"swav/engine"
	"swav/imgcodec"
	"swav/internal/hostmem"
	"swav/nn"
	"swav/op"
)

// Auto has config.Auto choose a recipe for the images of a source, after
// looking at some of them and timing this machine. set are keys that the user
// has fixed (KEY=VALUE), which the choice is planned around. Note is told of what
// takes long.
func Auto(ctx context.Context, data string, budget time.Duration, note func(string), set ...string) (*config.Recipe, []config.Choice, error) {
	var facts config.DataFacts
	o := dataset.Options{Context: ctx, Note: note, Decode: imgcodec.Options{Deep: true}}
	if dataset.IsStream(data) {
		var err error
		if facts, err = streamFacts(data, o); err != nil {
			return nil, nil, err
		}
		// The user's own comes later and counts.
		set = append([]string{fmt.Sprintf("data.epoch_images=%d", facts.Images)}, set...)
	} else {
		src, err := dataset.Open(data, o)
		if err != nil {
			return nil, nil, err
		}
		if facts, err = Facts(ctx, src); err != nil {
			return nil, nil, err
		}
	}
	machine, err := Machine()
	if err != nil {
		return nil, nil, err
	}
	recipe, choices, err := config.Auto(facts, budget, machine, set...)
	for i := range choices {
		if choices[i].Key == "data.epoch_images" {
			choices[i].Reason = "how long a stream is nobody knows: so many images count as an epoch"
			break // the user's own comes later
		}
	}
	return recipe, choices, err
}

// streamEpoch is what counts as an epoch of a stream, whose length nobody knows:
// auto plans as for so many images.
const streamEpoch = 50_000

// streamFacts describes a stream by its first images.
func streamFacts(data string, o dataset.Options) (config.DataFacts, error) {
	s, err := dataset.OpenStream(data, o)
	if err != nil {
		return config.DataFacts{}, err
	}
	defer s.Close()
	o.Note(fmt.Sprintf("looking at the first %d images of %s", factImages, s.Name()))
	first, err := dataset.Peek(o.Context, s, factImages)
	if err != nil {
		return config.DataFacts{}, err
	}
	if len(first) == 0 {
		return config.DataFacts{}, fmt.Errorf("%s: no images", s.Name())
	}
	f, err := Facts(o.Context, dataset.Records(s.Name(), first, s.Channels()))
	f.Images, f.Classes, f.Labeled = streamEpoch, 0, false
	return f, err
}

// factImages is how many images Facts looks at.
const factImages = 64

// Facts describes a source by looking at some of its images.
func Facts(ctx context.Context, src dataset.Source) (config.DataFacts, error) {
	f := config.DataFacts{Images: src.Len(), Channels: src.Channels(), Classes: len(src.Classes()), Labeled: len(src.Classes()) > 1}
	var widths, heights []int
	var img imgcodec.Image
	var last error
	kinds := map[int]*imgcodec.Moments{} // by number of channels
	reach := src.Len()
	if s, ok := src.(dataset.Sharded); ok {
		first, window := s.Shards() // the rest may have to be fetched first
		reach = first[window]
	}
	for _, i := range sample(reach, factImages, 1) {
		if err := ctx.Err(); err != nil {
			return f, err
		}
		if err := src.Load(i, &img); err != nil {
			last = err
			continue
		}
		widths, heights = append(widths, img.W), append(heights, img.H)
		if img.IsDeep() {
			f.Depth = 16
		}
		if kinds[img.C] == nil {
			kinds[img.C] = new(imgcodec.Moments)
		}
		kinds[img.C].Add(&img)
	}
	if len(widths) == 0 {
		return f, fmt.Errorf("%s: none of %d images that were tried can be read: %w", src.Name(), min(reach, factImages), last)
	}
	for c := range kinds {
		if len(kinds) == 1 { // otherwise as the source suggests
			f.Channels = c
		}
	}
	if k := kinds[f.Channels]; k != nil {
		f.Mean, f.Std = k.MeanStd()
	}
	sort.Ints(widths)
	sort.Ints(heights)
	f.Width, f.Height = widths[len(widths)/2], heights[len(heights)/2]
	return f, nil
}

// Machine times a small training step and reports what this machine has.
func Machine() (config.Machine, error) {
	m := config.Machine{Cores: runtime.NumCPU()}
	if n, ok := hostmem.Available(); ok {
		m.MemoryBytes = n
	}
	err := OnThread(func() error {
		b, err := NewBackend("auto", 0)
		if err != nil {
			return err
		}
		defer b.Close()
		precision := Precision(&config.Recipe{Train: config.Train{Precision: "auto"}}, b.Name())
		m.BF16 = precision == op.BFloat16
		arch := nn.Arch{Block: nn.Basic, Layers: []int{1, 1, 1}, Width: 0.5, Stem: nn.SmallStem, InChannels: 3, Hidden: 128, FeatureDim: 64, Prototypes: 128}
		c := BenchConfig{Arch: arch, Groups: []engine.Group{{Count: 2, Size: 32}}, Batch: 32, Precision: precision, Warmup: 1, Rounds: 3}
		if b.Name() == "ref" {
			c.Batch, c.Arch.Width, c.Rounds, c.Warmup = 2, 0.125, 1, 0
		}
		r, err := Bench(b, c)
		if err != nil {
			return err
		}
		// Forward and backward take three times the forward pass's products.
		m.GFLOPS = 6 * float64(r.MACs) * float64(c.Batch) / r.Median().Seconds() / 1e9
		return nil
	})
	return m, err
}
