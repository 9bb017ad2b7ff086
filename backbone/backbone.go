// Package backbone is swav as a library: it opens what a run has learnt and shows
// images to it.
//
//	b, err := backbone.Open("runs/photos", backbone.Options{})
//	if err != nil { … }
//	defer b.Close()
//	out, err := b.Embed(ctx, img) // features, embedding and prototype of an image.Image
//
// It runs the same engine as the command: features of files are those of `swav
// embed` but for rounding, where batches differ. Training from Go is package
// train, and the method alone, on plain slices, package swav.
//
// Stability: this package and package swav follow semantic versioning. Within
// a major version their names stay, and features of the same weights change by
// rounding only. The other packages may change with any version.
//
// What reads a run is train's; what answers over HTTP is serve's. Here is only
// what a program that imports swav wants.
package backbone

import (
	"context"
	"errors"
	"fmt"
	"image"
	"runtime"
	"sync"

	"golang.org/x/sync/errgroup"

	"swav/train"
)

// Options of Open. The zero value is fine.
type Options struct {
	Batch int // images that the network takes at a time; 0: 32. Memory grows with it
}

// Backbone is a trained network with its head and prototypes. It may be used
// concurrently.
type Backbone struct {
	shape   Shape
	view    *train.Predictor
	jobs    chan *job
	closing chan struct{}
	close   sync.Once
	done    chan struct{} // closed when the network is gone
	err     error         // why, valid after done
}

// Shape says what a network takes and gives.
type Shape struct {
	Size         int // side of the view of an image, in pixels
	Channels     int // of an image
	Features     int // of the backbone, what `swav embed` writes
	EmbeddingDim int // of the projection head's unit vectors
	Prototypes   int // of the first head, where there are several (DeepCluster-v2)
}

// Output is what the network makes of one image.
type Output struct {
	Features  []float32 // [Shape.Features], as they come: not normalised
	Embedding []float32 // [Shape.EmbeddingDim], of length 1
	Scores    []float32 // [Shape.Prototypes], cosines of the embedding and each prototype
}

// Prototype is the number of the prototype that the image is assigned to, as
// `swav cluster` does, and the cosine between them.
func (o Output) Prototype() (k int, cosine float32) {
	for i, s := range o.Scores {
		if s > o.Scores[k] {
			k = i
		}
	}
	return k, o.Scores[k]
}

// job is a batch of views on their way through the network.
type job struct {
	views                        []float32
	n                            int
	features, embeddings, scores []float32
	done                         chan error
}

// ErrClosed is returned for images that come after Close.
var ErrClosed = errors.New("backbone: closed")

// Open reads a run directory, one of its checkpoints, or a file of weights that
// `swav embed` takes.
func Open(path string, o Options) (*Backbone, error) {
	if o.Batch == 0 {
		o.Batch = 32
	}
	if o.Batch < 1 || o.Batch > 4096 {
		return nil, fmt.Errorf("backbone: a batch of %d images: want 1 to 4096, or 0 for 32", o.Batch)
	}
	t, err := train.OpenRun(path)
	if err != nil {
		return nil, err
	}
	b := &Backbone{jobs: make(chan *job), closing: make(chan struct{}), done: make(chan struct{})}
	ready := make(chan struct{})
	go func() {
		defer close(b.done)
		b.err = t.Predict(o.Batch, func(p *train.Predictor) error {
			b.view = p
			b.shape = Shape{Size: p.Size, Channels: p.Arch.InChannels, Features: p.Features(), EmbeddingDim: p.Arch.FeatureDim, Prototypes: p.Arch.Clusters()}
			close(ready)
			b.work(p)
			return nil
		})
	}()
	select {
	case <-ready:
		return b, nil
	case <-b.done:
		return nil, b.err
	}
}

// work runs jobs until Close.
func (b *Backbone) work(p *train.Predictor) {
	for {
		select {
		case j := <-b.jobs:
			j.done <- p.Run(j.views, j.n, &j.features, &j.embeddings, &j.scores)
		case <-b.closing:
			return
		}
	}
}

// Shape of the network.
func (b *Backbone) Shape() Shape { return b.shape }

// Close frees the network. Images on their way are finished first or refused
// with ErrClosed. It may be called twice.
func (b *Backbone) Close() error {
	b.close.Do(func() { close(b.closing) })
	<-b.done
	return b.err
}

// Embed shows images to the network, one Output each in their order. Views are
// made as evaluation makes them: the shorter side scaled to 8/7 of Shape.Size,
// the centre cut out. Grey images become colour, and the reverse, where the
// network was trained so; any other difference in channels is an error, as is an
// image without pixels.
func (b *Backbone) Embed(ctx context.Context, images ...image.Image) ([]Output, error) {
	return b.run(ctx, len(images), func(dst []float32, i int) error { return b.view.ViewImage(dst, images[i]) })
}

// EmbedFiles is Embed for the contents of image files, in the formats that
// training reads.
func (b *Backbone) EmbedFiles(ctx context.Context, files ...[]byte) ([]Output, error) {
	return b.run(ctx, len(files), func(dst []float32, i int) error { return b.view.View(dst, files[i]) })
}

// run makes n views, on all processors, and sends them through the network.
func (b *Backbone) run(ctx context.Context, n int, view func(dst []float32, i int) error) ([]Output, error) {
	out := make([]Output, 0, n)
	pixels := b.view.Pixels()
	for len(out) < n {
		first := len(out)
		j := &job{n: min(n-first, b.view.Batch()), done: make(chan error, 1)}
		j.views = make([]float32, j.n*pixels)
		group, making := errgroup.WithContext(ctx)
		group.SetLimit(runtime.GOMAXPROCS(0))
		for i := range j.n {
			group.Go(func() error {
				if err := making.Err(); err != nil {
					return err
				}
				if err := view(j.views[i*pixels:][:pixels], first+i); err != nil {
					return fmt.Errorf("image %d: %w", first+i, err)
				}
				return nil
			})
		}
		if err := group.Wait(); err != nil {
			return nil, err
		}
		if err := b.do(ctx, j); err != nil {
			return nil, err
		}
		for i := range j.n {
			out = append(out, Output{
				Features:  row(j.features, i, b.shape.Features),
				Embedding: row(j.embeddings, i, b.shape.EmbeddingDim),
				Scores:    row(j.scores, i, b.shape.Prototypes),
			})
		}
	}
	return out, nil
}

// row cuts one row off, so that appending to it does not reach the next.
func row(x []float32, i, n int) []float32 { return x[i*n : (i+1)*n : (i+1)*n] }

// do runs one job.
func (b *Backbone) do(ctx context.Context, j *job) error {
	select {
	case b.jobs <- j:
		return <-j.done
	case <-ctx.Done():
		return ctx.Err()
	case <-b.closing:
		return ErrClosed
	case <-b.done:
		return errors.Join(ErrClosed, b.err)
	}
}
