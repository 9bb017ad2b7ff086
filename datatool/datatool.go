// Package datatool answers what people ask of a pile of images before a run:
// [Check] reads everything once and says what is there and what is broken,
// [Measure] gives each channel's mean and deviation, [Preview] draws what the
// network will see, [Pack] writes tar shards.
//
// All work is done by several goroutines, on any [dataset.Source]. Training, and
// how sources are read, belong elsewhere.
package datatool

import (
	"context"
	"runtime"
	"sync"
	"sync/atomic"

	"swav/augment"
	"swav/dataset"
	"swav/imgcodec"
)

// Options are what the work on all images of a source has in common.
type Options struct {
	Workers int    // 0: one per core
	Done    func() // told of every image that was worked on, from any goroutine; may be nil
}

func (o Options) workers() int {
	if o.Workers > 0 {
		return o.Workers
	}
	return runtime.NumCPU()
}

// each calls f for the numbers 0 to n-1, in about ascending order, with the
// number of the worker that does it. It stops early when ctx ends or f fails.
func each(ctx context.Context, n int, o Options, f func(worker, i int) error) error {
	var next atomic.Int64
	var wg sync.WaitGroup
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	for w := range min(o.workers(), max(1, n)) {
		wg.Go(func() {
			for ctx.Err() == nil {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				if err := f(w, i); err != nil {
					cancel(err)
					return
				}
				if o.Done != nil {
					o.Done()
				}
			}
		})
	}
	wg.Wait()
	return context.Cause(ctx)
}

// worker is the memory of one goroutine.
type worker struct {
	img     imgcodec.Image
	file    []byte
	small   imgcodec.Image // what img is shrunk to
	scratch augment.Scratch
}

// file is an image with what its file says of it.
type file struct {
	info  imgcodec.Info
	bytes int
}

// read reads and decodes image i into w.img. Of sources without files, the format
// is "raw".
func (w *worker) read(src dataset.Source, i int) (file, error) {
	var f file
	files, ok := src.(dataset.Encoded)
	if !ok {
		if err := src.Load(i, &w.img); err != nil {
			return f, err
		}
		f.info = imgcodec.Info{Format: "raw", W: w.img.W, H: w.img.H, C: w.img.C, Depth: 8, Orientation: 1}
		return f, nil
	}
	if err := files.Encoded(i, &w.file); err != nil {
		return f, err
	}
	if err := files.Decode(i, w.file, &w.img); err != nil {
		return f, err
	}
	f.bytes = len(w.file)
	var err error
	f.info, err = imgcodec.ReadInfo(w.file)
	return f, err
}
