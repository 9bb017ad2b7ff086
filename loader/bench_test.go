package loader

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"swav/augment"
	"swav/dataset"
)

// benchmarkLoader reports images a second through one worker, decoding
// included.
func benchmarkLoader(b *testing.B, path string, batch int, groups ...augment.Group) {
	if _, err := os.Stat(path); err != nil {
		b.Skip(err)
	}
	src, err := dataset.Open(path, dataset.Options{})
	if err != nil {
		b.Fatal(err)
	}
	r := augment.Original()
	r.Groups = groups
	r.Mean, r.Std = r.Mean[:src.Channels()], r.Std[:src.Channels()]
	l, err := New(src, Config{Recipe: r, Batch: batch, Workers: 1, MaxSkip: 0.01})
	if err != nil {
		b.Fatal(err)
	}
	l.Start(Position{})
	defer l.Close()
	next := func() {
		x, err := l.Next(context.Background())
		if err != nil {
			b.Fatal(err)
		}
		x.Release()
	}
	for range Prefetch { // made ahead, outside the clock
		next()
	}
	b.ReportAllocs()
	for b.Loop() {
		next()
	}
	b.ReportMetric(float64(b.N*batch)/b.Elapsed().Seconds(), "img/s")
}

func BenchmarkFashion2x28_2x16(b *testing.B) {
	benchmarkLoader(b, "/usr/share/datasets/fashion-mnist", 64,
		augment.Group{Size: 28, Count: 2, MinScale: 0.4, MaxScale: 1}, augment.Group{Size: 16, Count: 2, MinScale: 0.2, MaxScale: 0.5})
}

func BenchmarkPhotos2x224_6x96(b *testing.B) {
	shared := os.Getenv("SWAV_SHARED")
	if shared == "" {
		shared = filepath.Join("..", "..", "shared")
	}
	benchmarkLoader(b, filepath.Join(shared, "data", "photos"), 16, augment.Original().Groups...)
}
