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
	pool  int // 0: the means over all places
	input []float32
	maps  []float32 // with pool
}

// NewExtractor compiles a model for batches of single images of size x size
// pixels.
func NewExtractor(m *engine.Model, size, batch int, precision op.DType) (*Extractor, error) {
	return NewPooledExtractor(m, size, batch, precision, 0)
}

// NewPooledExtractor is NewExtractor whose features are, if pool is not 0, the means of
// every pool x pool neighbouring places of the last feature map, not of all: of a map of
// 7 x 7 places and 2,048 channels with 6 x 6 places the original's 8,192 features.
// Their order is channels, rows, columns.
func NewPooledExtractor(m *engine.Model, size, batch int, precision op.DType, pool int) (*Extractor, error) {
	plan, err := engine.Compile(m, engine.Config{Groups: []engine.Group{{Count: 1, Size: size}}, Batch: batch, Precision: precision, Map: pool != 0})
	if err != nil {
		return nil, err
	}
	e := &Extractor{Plan: plan, model: m, batch: batch, pool: pool, input: make([]float32, plan.Inputs[0].Elems())}
	if pool != 0 {
		if s := plan.Map.Shape; pool < 1 || pool > min(s[1], s[2]) {
			plan.Close()
			return nil, fmt.Errorf("means of %dx%d places: images of %d pixels have a last feature map of %dx%d", pool, pool, size, s[1], s[2])
		}
		e.maps = make([]float32, plan.Map.Elems())
	}
	plan.SetWeights()
	return e, nil
}

// poolMap appends the means of every pool x pool places of n maps [h, w, c].
func poolMap(dst, maps []float32, n, h, w, c, pool int) []float32 {
	oh, ow := h-pool+1, w-pool+1
	at := len(dst)
	dst = append(dst, make([]float32, n*c*oh*ow)...)
	sum := make([]float64, c)
	for i := range n {
		for y := range oh {
			for x := range ow {
				clear(sum)
				for ky := range pool {
					for kx := range pool {
						for ch, v := range maps[((i*h+y+ky)*w+x+kx)*c:][:c] {
							sum[ch] += float64(v)
						}
					}
				}
				out := dst[at+i*c*oh*ow+y*ow+x:]
				for ch, s := range sum {
					out[ch*oh*ow] = float32(s / float64(pool*pool))
				}
			}
		}
	}
	return dst
}

// Close frees the plan, not the model.
func (e *Extractor) Close() { e.Plan.Close() }

// Batch is the largest number of images that Run takes.
func (e *Extractor) Batch() int { return e.batch }

// Dim is the number of features of an image.
func (e *Extractor) Dim() int {
	if e.pool == 0 {
		return e.Plan.Features.Cols()
	}
	s := e.Plan.Map.Shape
	return s[3] * (s[1] - e.pool + 1) * (s[2] - e.pool + 1)
}

// Run computes n images' pooled features, embeddings and scores (of prototypes:
// those of the first head; or of classes) from pixels [n, size, size, channels],
// appending to the given slices those that are not nil pointers. Rows do not depend
// on the batch they come in.
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
		if o.dst == features && e.pool > 0 {
			s := e.Plan.Map.Shape
			b.Read(e.maps, e.Plan.Map)
			*o.dst = poolMap(*o.dst, e.maps, n, s[1], s[2], s[3], e.pool)
			continue
		}
		at := len(*o.dst)
		*o.dst = append(*o.dst, make([]float32, n*o.src.Cols())...)
		b.Read((*o.dst)[at:], o.src.Slice(0, n))
		if heads := e.model.Net.Arch.Heads; o.dst == scores && len(heads) > 0 {
			*o.dst = firstColumns(*o.dst, at, n, o.src.Cols(), heads[0])
		}
	}
	return b.Sync()
}

// firstColumns keeps the first keep columns of a matrix [n, cols] at the end of
// x, which begins at at.
func firstColumns(x []float32, at, n, cols, keep int) []float32 {
	for i := range n {
		copy(x[at+i*keep:][:keep], x[at+i*cols:][:keep])
	}
	return x[:at+n*keep]
}

// Embedded is a set of images as a network sees them.
type Embedded struct {
	Index      []int     // of the images in their source; unreadable ones are missing
	Features   []float32 // [n, FeatureDim] pooled backbone output, or as NewPooledExtractor says
	Embeddings []float32 // [n, Arch.FeatureDim] on the unit sphere
	Prototype  []int     // with the largest score, of the first head
	Score      []float32 // of that prototype: the cosine
}

// collect runs all batches that next yields through the extractor. Scores are
// reduced to the best prototype on the way, so that memory stays with the
// features.
func (e *Extractor) collect(ctx context.Context, next func() (index []int, pixels []float32, ok bool, err error)) (*Embedded, error) {
	out := &Embedded{}
	k := e.model.Net.Arch.Clusters()
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
			row := scores[i*k:][:k]
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
