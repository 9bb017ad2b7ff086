package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"swav/augment"
	"swav/dataset"
	"swav/imgcodec"
	"swav/loader"
)

// dataBench is what `swav bench data` times.
type dataBench struct {
	data, crops, scales    string
	plain                  bool
	workers, batch, images int
	seed                   uint64
}

func newBenchData() *cobra.Command {
	var b dataBench
	c := &cobra.Command{
		Use:   "data",
		Short: "Time reading, decoding and augmenting images",
		Long: `Times the making of batches by the loader that training uses, reading and decoding
included, with nothing else running. Then one worker does the same with a clock
between the stages. Views are the original's (colour jitter, grayscale, blur);
--plain leaves crop and flip only, as for a linear probe.`,
		Example: `  swav bench data --data ~/photos --crops 2x224,6x96 --workers 1
  swav bench data --data ~/photos --crops 1x224 --scales 0.08-1 --plain`,
		Args: withUsage(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error { return b.run(c.Context(), c.OutOrStdout()) },
	}
	f := c.Flags()
	f.StringVar(&b.data, "data", "", "folder or file of images")
	f.StringVar(&b.crops, "crops", "2x224,6x96", "crops per image: COUNTxSIZE,…")
	f.StringVar(&b.scales, "scales", "0.14-1,0.05-0.14", "share of the image's area, for each group of crops; the last stands for the rest")
	f.BoolVar(&b.plain, "plain", false, "crop and flip only")
	f.IntVar(&b.workers, "workers", 1, "loader workers")
	f.IntVar(&b.batch, "batch-size", 16, "images of a batch")
	f.IntVar(&b.images, "images", 600, "images that are timed")
	f.Uint64Var(&b.seed, "seed", 0, "of the random numbers")
	return c
}

// recipe reads the flags.
func (b *dataBench) recipe(channels int) (augment.Recipe, error) {
	r := augment.Original()
	groups, err := parseCrops(b.crops)
	if err != nil {
		return r, err
	}
	scales := strings.Split(b.scales, ",")
	r.Groups = nil
	for i, g := range groups {
		least, most, ok := strings.Cut(scales[min(i, len(scales)-1)], "-")
		lo, err1 := strconv.ParseFloat(least, 64)
		hi, err2 := strconv.ParseFloat(most, 64)
		if !ok || err1 != nil || err2 != nil {
			return r, fmt.Errorf("--scales %q: want MIN-MAX,… such as 0.14-1,0.05-0.14", b.scales)
		}
		r.Groups = append(r.Groups, augment.Group{Count: g.Count, Size: g.Size, MinScale: lo, MaxScale: hi})
	}
	if b.plain {
		r.JitterP, r.GrayscaleP, r.BlurP = 0, 0, 0
	}
	if channels != len(r.Mean) { // one figure for each, of whatever size
		mean, std := r.Mean[1], r.Std[1]
		r.Mean, r.Std = nil, nil
		for range channels {
			r.Mean, r.Std = append(r.Mean, mean), append(r.Std, std)
		}
	}
	return r, r.Validate()
}

func (b *dataBench) run(ctx context.Context, w io.Writer) error {
	if b.data == "" {
		return usageError{hint(errors.New("--data is missing"), "name a folder of images: swav bench data --data ~/photos")}
	}
	if b.batch < 1 || b.images < b.batch || b.workers < 1 {
		return usageError{fmt.Errorf("--images %d --batch-size %d --workers %d: want at least one of each, and a batch of images", b.images, b.batch, b.workers)}
	}
	src, err := dataset.Open(b.data, dataset.Options{})
	if err != nil {
		return err
	}
	r, err := b.recipe(src.Channels())
	if err != nil {
		return usageError{err}
	}
	batches := b.images / b.batch
	took, err := b.time(ctx, src, r, batches)
	if err != nil {
		return err
	}
	n := batches * b.batch
	fmt.Fprintf(w, "data: %s, %d images\ndecoder: %s, pixels: %s\n", src.Name(), src.Len(), imgcodec.Backend, augment.Kernels())
	fmt.Fprintf(w, "BenchmarkData/%s/workers%d \t%d\t%d ns/op\t%.1f img/s\n", b.crops, b.workers, n, took.Nanoseconds()/int64(n), float64(n)/took.Seconds())
	s, err := loader.MeasureStages(ctx, src, r, b.seed, n)
	if err != nil {
		return err
	}
	stages := []struct {
		name string
		time time.Duration
	}{
		{"decode", s.Decode}, {"crop+resize", s.Crop}, {"colour", s.Colour}, {"blur", s.Blur}, {"normalise", s.Normalise}, {"other", s.Other},
	}
	total := time.Duration(0)
	for _, st := range stages {
		total += st.time
	}
	for _, st := range stages {
		fmt.Fprintf(w, "BenchmarkDataStage/%s \t%d\t%d ns/op\t%.1f %%time\n", st.name, s.Images, st.time.Nanoseconds()/int64(s.Images), 100*st.time.Seconds()/total.Seconds())
	}
	return nil
}

// time is how long the loader takes for the batches, after as many as it makes
// ahead.
func (b *dataBench) time(ctx context.Context, src dataset.Source, r augment.Recipe, batches int) (time.Duration, error) {
	l, err := loader.New(src, loader.Config{Recipe: r, Batch: b.batch, Seed: b.seed, Workers: b.workers, MaxSkip: 1})
	if err != nil {
		return 0, err
	}
	l.Start(loader.Position{})
	defer l.Close()
	next := func(n int) error {
		for range n {
			x, err := l.Next(ctx)
			if err != nil {
				return err
			}
			x.Release()
		}
		return nil
	}
	if err := next(loader.Prefetch); err != nil {
		return 0, err
	}
	start := time.Now()
	err = next(batches)
	return time.Since(start), err
}
