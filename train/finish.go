package train

import (
	"context"
	"fmt"
	"image"
	"math/rand/v2"
	"sort"

	"swav/augment"
	"swav/config"
	"swav/dataset"
	"swav/engine"
	"swav/eval"
	"swav/imgcodec"
	"swav/loader"
	"swav/op"
	"swav/op/cpu"
)

// Outcome is what a whole run came to.
type Outcome struct {
	Steps   int
	Seconds float64 // of training, over all sessions
	Images  int     // seen, with repetition
	KNN     *KNNTable
	// Prototypes describes how the images share out among the prototypes.
	Prototypes eval.Clusters
	Classes    []string
	// Sheet is the most used prototypes, each with its nearest images (numbers
	// within Source).
	Sheet  []SheetRow
	Source dataset.Source
	Looked *Embedded // the images of Source that this comes from
}

// KNNTable compares features by weighted nearest-neighbour accuracy (Wu et al.
// 2018), in percent.
type KNNTable struct {
	K                   int
	Temperature         float64
	References, Queries int
	Trained             float64
	Untrained, Pixels   float64 // NaN-free: 0 where Baselines is false
	Majority            float64
	Baselines           bool
	// Holdout tells that queries are held-out training images, because the data
	// has no test part. Their labels were not used, but the network saw them.
	Holdout bool
}

// SheetRow is a prototype with its nearest images.
type SheetRow struct {
	Prototype int
	Share     float64 // of the images
	Majority  int     // most frequent label, -1 where there are none
	Purity    float64 // share of that label
	Images    []int   // numbers in the source, nearest first
}

// sheetRows and sheetImages bound the contact sheet.
const (
	sheetRows   = 24
	sheetImages = 12
	sheetPool   = 20000 // images that are looked at
)

// featureBatch is how many images an extractor takes at once.
const featureBatch = 64

// finish evaluates the trained network and tells the observer.
func (t *run) finish(ctx context.Context) (*Outcome, error) {
	out := &Outcome{Steps: t.state.Step, Seconds: t.state.Seconds, Images: t.state.Step * t.recipe.Train.Batch,
		Classes: t.source.Classes(), Source: t.source}
	m := t.stepper.Model
	prototypesOnSphere(m)
	if t.source.Len() == 0 {
		t.opts.Log.Warn(t.source.Name() + " has no images left to look at: there is no evaluation")
		return out, nil
	}
	seen := &viewer{recipe: t.recipe, precision: t.stepper.Plan.Config.Precision}
	t.opts.Log.Stage("prototypes")
	pool := sample(t.source.Len(), sheetPool, t.recipe.Train.Seed)
	all, err := seen.embed(ctx, m, t.source, pool)
	if err != nil {
		return nil, err
	}
	out.Looked = all
	if err := out.cluster(t.source, all, t.arch.Clusters()); err != nil {
		return nil, err
	}
	if len(t.source.Classes()) > 1 {
		t.opts.Log.Stage("nearest neighbours")
		if out.KNN, err = t.knn(ctx, seen, m); err != nil {
			return nil, err
		}
	}
	return out, t.opts.Log.Finish(out)
}

// sample is n of total image numbers, all if n is 0 or too large, in ascending
// order; the same for the same seed.
func sample(total, n int, seed uint64) []int {
	if n == 0 || n >= total {
		n = total
	}
	perm := rand.New(rand.NewPCG(seed, 0x5eed)).Perm(total)[:n]
	sort.Ints(perm)
	return perm
}

// cluster fills in how images share out among the prototypes, and the sheet.
func (o *Outcome) cluster(src dataset.Source, e *Embedded, k int) error {
	var known []int
	if len(src.Classes()) >= 2 {
		known = labels(src, e.Index)
	}
	var err error
	if o.Prototypes, err = eval.Summarize(e.Prototype, k, known); err != nil {
		return err
	}
	nearest, err := eval.Nearest(e.Prototype, e.Score, k, sheetImages)
	if err != nil {
		return err
	}
	order := make([]int, k)
	for i := range order {
		order[i] = i
	}
	counts := o.Prototypes.Counts
	sort.SliceStable(order, func(a, b int) bool { return counts[order[a]] > counts[order[b]] })
	for _, p := range order[:min(sheetRows, k)] {
		if counts[p] == 0 {
			break
		}
		row := SheetRow{Prototype: p, Share: float64(counts[p]) / float64(len(e.Index)), Majority: -1}
		if o.Prototypes.Labelled {
			row.Majority, row.Purity = o.Prototypes.Majority[p], o.Prototypes.Share[p]
		}
		for _, i := range nearest[p] {
			row.Images = append(row.Images, e.Index[i])
		}
		o.Sheet = append(o.Sheet, row)
	}
	return nil
}

// knn compares the trained network with itself untrained and with raw pixels.
func (t *run) knn(ctx context.Context, seen *viewer, m *engine.Model) (*KNNTable, error) {
	r := t.recipe
	refs, queries, holdout, err := t.evalSets(ctx)
	if err != nil {
		return nil, err
	}
	table := &KNNTable{K: r.Eval.K, Temperature: r.Eval.Temperature, Baselines: r.Eval.Baselines, Holdout: holdout}
	compare := func(a, b *Embedded) (float64, error) {
		res, err := eval.KNN(ctx, set(refs, a), set(queries, b), eval.Options{
			K: min(r.Eval.K, len(a.Index)), Temperature: r.Eval.Temperature, Classes: len(refs.Classes()), Gemm: cpu.Gemm, Scanner: cpu.Scanner{}})
		return 100 * res.Top1, err
	}
	// The network comes first, as the baselines see the images that it could read.
	network := func(m *engine.Model) (float64, error) {
		a, err := seen.embed(ctx, m, refs, nil)
		if err != nil {
			return 0, err
		}
		b, err := seen.embed(ctx, m, queries, nil)
		if err != nil {
			return 0, err
		}
		if len(a.Index) == 0 || len(b.Index) == 0 {
			return 0, fmt.Errorf("%s: no labelled images that can be read, to evaluate with", t.source.Name())
		}
		refs, queries = readable(refs, a), readable(queries, b)
		return compare(a, b)
	}
	if table.Trained, err = network(m); err != nil {
		return nil, err
	}
	table.References, table.Queries = refs.Len(), queries.Len()
	if table.Majority, err = percent(eval.Majority(labels(refs, everything(refs)), labels(queries, everything(queries)))); err != nil || !r.Eval.Baselines {
		return table, err
	}
	fresh, err := freshModel(m.Backend, m.Net, r.Train.Seed)
	if err != nil {
		return nil, err
	}
	defer fresh.Close()
	if table.Untrained, err = network(fresh); err != nil {
		return nil, err
	}
	a, b, err := rawPixels(refs, queries)
	if err != nil {
		return nil, err
	}
	table.Pixels, err = compare(a, b)
	return table, err
}

// readable is the embedded part of a source, and renumbers e to it.
func readable(src dataset.Source, e *Embedded) dataset.Source {
	sub := dataset.Subset(src, e.Index)
	e.Index = everything(sub)
	return sub
}

func percent(share float64, err error) (float64, error) { return 100 * share, err }

// evalSets are labelled references from the training part and queries from the
// evaluation part, or, without one, held-out images of the training part.
func (t *run) evalSets(ctx context.Context) (refs, queries dataset.Source, holdout bool, err error) {
	p, err := divide(ctx, t.source, t.recipe, t.opts.Data, t.recipe.Eval.References, t.recipe.Eval.Queries, nil)
	if err != nil {
		return nil, nil, false, err
	}
	return p.Refs, p.Queries, p.Holdout, nil
}

func labels(src dataset.Source, index []int) []int {
	out := make([]int, len(index))
	for i, n := range index {
		out[i] = src.Label(n)
	}
	return out
}

// everything is the numbers of all images of a source.
func everything(src dataset.Source) []int { return sample(src.Len(), 0, 0) }

func set(src dataset.Source, e *Embedded) eval.Set {
	return eval.Set{Dim: len(e.Features) / max(1, len(e.Index)), Features: e.Features, Labels: labels(src, e.Index)}
}

// viewer shows images to networks as evaluation does: not augmented, at the
// size of the largest crops.
type viewer struct {
	recipe    *config.Recipe
	precision op.DType
	pool      int                        // 0: features are means over all places (NewPooledExtractor)
	skip      func(id string, err error) // told of unreadable images; may be nil
	progress  func(done, total int)      // may be nil
}

// EvalSize is the side of the images that evaluation shows to the network.
func EvalSize(r *config.Recipe) int { return r.Crops[0].Size }

// embed runs the images of src with the given numbers (nil: all) through a
// model.
func (v *viewer) embed(ctx context.Context, m *engine.Model, src dataset.Source, index []int) (*Embedded, error) {
	if index == nil {
		index = everything(src)
	}
	e, err := NewPooledExtractor(m, EvalSize(v.recipe), min(featureBatch, max(1, len(index))), v.precision, v.pool)
	if err != nil {
		return nil, err
	}
	defer e.Close()
	return v.through(ctx, e, src, index)
}

// through is embed with an extractor that is there already.
func (v *viewer) through(ctx context.Context, e *Extractor, src dataset.Source, index []int) (*Embedded, error) {
	norm, err := Views(v.recipe, e.model.Net.Arch.InChannels)
	if err != nil {
		return nil, err
	}
	it, err := loader.NewEval(src, loader.EvalConfig{Index: index, Size: EvalSize(v.recipe), Batch: e.Batch(),
		Mean: norm.Mean, Std: norm.Std, Workers: workers(v.recipe), OnSkip: v.skip})
	if err != nil {
		return nil, err
	}
	defer it.Close()
	done := 0
	return e.collect(ctx, func() ([]int, []float32, bool, error) {
		b, err := it.Next(ctx)
		if err != nil || b == nil {
			return nil, nil, false, err
		}
		if done += len(b.Indices); v.progress != nil {
			v.progress(done, len(index))
		}
		return b.Indices, b.Pixels, true, nil
	})
}

// pixelSide bounds the side of the raw-pixel baseline's images.
const pixelSide = 32

// rawPixels is the baseline without a network: the images themselves at their
// own size, as far as pixelSide, standardised by the references' channels.
func rawPixels(refs, queries dataset.Source) (a, b *Embedded, err error) {
	var first imgcodec.Image
	if err := refs.Load(0, &first); err != nil {
		return nil, nil, err
	}
	side := min(max(first.W, first.H), pixelSide)
	if a, err = pixels(refs, side); err != nil {
		return nil, nil, err
	}
	if b, err = pixels(queries, side); err != nil {
		return nil, nil, err
	}
	channels := len(a.Features) / (refs.Len() * side * side)
	eval.Standardize(channels, a.Features, b.Features)
	return a, b, nil
}

// pixels shrinks images to squares. What is no ordinary picture (16 bits, or
// other than one or three channels) is cut from the centre instead, with all that
// it has.
func pixels(src dataset.Source, side int) (*Embedded, error) {
	out := &Embedded{Index: everything(src)}
	channels := src.Channels()
	var img imgcodec.Image
	err := src.Load(0, &img)
	if err != nil {
		return nil, err
	}
	if img.IsDeep() || channels != 1 && channels != 3 {
		ones := make([]float32, channels)
		for c := range ones {
			ones[c] = 1
		}
		norm := augment.NewNormalizer(make([]float32, channels), ones)
		var scratch augment.Scratch
		one := side * side * channels
		out.Features = make([]float32, src.Len()*one)
		for i := range src.Len() {
			if err := src.Load(i, &img); err != nil {
				return nil, err
			}
			augment.Center(out.Features[i*one:(i+1)*one], &img, side, side, norm, &scratch)
		}
		return out, nil
	}
	_, out.Features, err = eval.Pixels(src.Len(), side, channels, func(i int) (image.Image, error) {
		if err := src.Load(i, &img); err != nil {
			return nil, err
		}
		return PictureOf(&img), nil
	})
	return out, err
}
