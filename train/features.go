package train

import (
	"context"
	"fmt"

	"swav/engine"
	"swav/nn"
	"swav/op"
)

// Extractor computes features of images with a network in evaluation mode.
type Extractor struct {
	Plan  *engine.Plan
	model *engine.Model
	batch int
	input []float32
}

// NewExtractor compiles a model for batches of single images of size x size
// pixels.
func NewExtractor(m *engine.Model, size, batch int, precision op.DType) (*Extractor, error) {
	plan, err := engine.Compile(m, engine.Config{Groups: []engine.Group{{Count: 1, Size: size}}, Batch: batch, Precision: precision})
	if err != nil {
		return nil, err
	}
	plan.SetWeights()
	return &Extractor{Plan: plan, model: m, batch: batch, input: make([]float32, plan.Inputs[0].Elems())}, nil
}

// Close frees the plan, not the model.
func (e *Extractor) Close() { e.Plan.Close() }

// Batch is the largest number of images that Run takes.
func (e *Extractor) Batch() int { return e.batch }

// Run computes n images' pooled features, embeddings and prototype scores from
// pixels [n, size, size, channels], appending to the given slices those that
// are not nil pointers. Rows do not depend on the batch they come in.
func (e *Extractor) Run(pixels []float32, n int, features, embeddings, scores *[]float32) error {
	one := len(e.input) / e.batch
	if n < 1 || n > e.batch || len(pixels) != n*one {
		return fmt.Errorf("features of %d images from %d numbers: want 1 to %d images of %d", n, len(pixels), e.batch, one)
	}
	copy(e.input, pixels)
	clear(e.input[n*one:])
	b := e.model.Backend
	b.Write(e.Plan.Inputs[0], e.input)
	e.Plan.Forward()
	for _, o := range []struct {
		dst *[]float32
		src op.Tensor
	}{{features, e.Plan.Features}, {embeddings, e.Plan.Embeddings}, {scores, e.Plan.Scores}} {
		if o.dst == nil {
			continue
		}
		at := len(*o.dst)
		*o.dst = append(*o.dst, make([]float32, n*o.src.Cols())...)
		b.Read((*o.dst)[at:], o.src.Slice(0, n))
	}
	return b.Sync()
}

// Embedded is a set of images as a network sees them.
type Embedded struct {
	Index      []int     // of the images in their source; unreadable ones are missing
	Features   []float32 // [n, FeatureDim] pooled backbone output
	Embeddings []float32 // [n, Arch.FeatureDim] on the unit sphere
	Prototype  []int     // with the largest score
	Score      []float32 // of that prototype: the cosine
}

// collect runs all batches that next yields through the extractor. Scores are
// reduced to the best prototype on the way, so that memory stays with the
// features.
func (e *Extractor) collect(ctx context.Context, next func() (index []int, pixels []float32, ok bool, err error)) (*Embedded, error) {
	out := &Embedded{}
	k := e.model.Net.Arch.Prototypes
	var scores []float32
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		index, pixels, ok, err := next()
		if err != nil {
			return nil, err
		}
		if !ok {
			return out, nil
		}
		scores = scores[:0]
		if err := e.Run(pixels, len(index), &out.Features, &out.Embeddings, &scores); err != nil {
			return nil, err
		}
		out.Index = append(out.Index, index...)
		for i := range index {
			row := scores[i*k : (i+1)*k]
			best := 0
			for j, s := range row {
				if s > row[best] {
					best = j
				}
			}
			out.Prototype = append(out.Prototype, best)
			out.Score = append(out.Score, row[best])
		}
	}
}

// prototypesOnSphere normalises the prototypes of a model that is not trained
// any further, so that scores are cosines.
func prototypesOnSphere(m *engine.Model) { m.Backend.NormalizeRows(m.Prototypes()) }

// freshModel is a model of untrained weights: the baseline.
func freshModel(b op.Backend, net *nn.Network, seed uint64) (*engine.Model, error) {
	m, err := engine.NewModel(b, net, false)
	if err != nil {
		return nil, err
	}
	m.Set(net.Init(seed))
	return m, nil
}
