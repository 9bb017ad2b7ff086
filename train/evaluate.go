package train

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"

	"swav/checkpoint"
	"swav/config"
	"swav/dataset"
	"swav/engine"
	"swav/eval"
	"swav/nn"
	"swav/op"
)

// picker chooses the images that an evaluation looks at.
type picker struct {
	recipe              *config.Recipe
	references, queries int // at most; 0: all
}

// pick chooses labelled references of train and queries of test, by number; without a
// test part (nil) some images of train are held out as queries.
func (p picker) pick(train, test dataset.Source) (refs, queries []int, err error) {
	seed := p.recipe.Train.Seed
	refs = labelled(train)
	if test != nil {
		queries = labelled(test)
	} else {
		cut := max(1, int(p.recipe.Eval.Holdout*float64(len(refs))))
		if cut >= len(refs) {
			return nil, nil, fmt.Errorf("%s: %d labelled images are too few to hold some out for evaluation", train.Name(), len(refs))
		}
		perm := rand.New(rand.NewPCG(seed, 0x401d)).Perm(len(refs))
		queries, refs = at(refs, perm[:cut]), at(refs, perm[cut:])
		slices.Sort(queries) // in the order in which they lie
		slices.Sort(refs)
	}
	refs = at(refs, sample(len(refs), p.references, seed))
	return refs, at(queries, sample(len(queries), p.queries, seed)), nil
}

// labelled is the numbers of the images with a label.
func labelled(src dataset.Source) []int {
	var index []int
	for i := range src.Len() {
		if src.Label(i) >= 0 {
			index = append(index, i)
		}
	}
	return index
}

// at is the elements of x at the places index.
func at(x, index []int) []int {
	out := make([]int, len(index))
	for i, n := range index {
		out[i] = x[n]
	}
	return out
}

// Checkpoint is a network that was read from a run, for packages that go on from it.
type Checkpoint struct {
	Recipe *config.Recipe
	Arch   nn.Arch
	Path   string              // of the checkpoint
	Dir    string              // of the run, or of best within it
	Data   string              // the images that it was trained on
	Model  []checkpoint.Tensor // weights and running statistics, torchvision's names

	trained *trained
}

// OpenCheckpoint reads the newest checkpoint of a run directory, or a checkpoint within.
func OpenCheckpoint(run string) (*Checkpoint, error) {
	o := EmbedOptions{Run: run}
	t, err := loadRun(&o)
	if err != nil {
		return nil, err
	}
	_, file, err := findRun(run)
	if err != nil {
		return nil, err
	}
	return &Checkpoint{Recipe: t.recipe, Arch: t.net.Arch, Path: t.saved.Path, Dir: filepath.Dir(file), Data: o.Data, Model: t.saved.Model, trained: t}, nil
}

// On has do use the network, in evaluation mode, on a thread of its own.
func (c *Checkpoint) On(do func(m *engine.Model, precision op.DType) error) error {
	return c.trained.on(do)
}

// Parts are the labelled images of a source, as evaluations divide them.
type Parts struct {
	Refs    dataset.Source // of the part trained on
	Queries dataset.Source // of the evaluation part, or held out of the other
	Classes []string       // of both
	Holdout bool           // queries are held-out training images: the data has no evaluation part
}

// OpenParts opens a source as a recipe reads it and divides it, with at most so many
// references and queries (0: all). Note, if not nil, is told of what takes long.
func OpenParts(ctx context.Context, r *config.Recipe, data string, references, queries int, note func(string)) (*Parts, error) {
	o := dataOptions(ctx, r, dataset.Train)
	o.Note = note
	src, err := openSource(data, o)
	if err != nil {
		return nil, err
	}
	if err := hasClasses(src); err != nil {
		return nil, err
	}
	return divide(ctx, src, r, data, references, queries, note)
}

// divide is OpenParts with the part trained on.
func divide(ctx context.Context, src dataset.Source, r *config.Recipe, data string, references, queries int, note func(string)) (*Parts, error) {
	o := dataOptions(ctx, r, dataset.Test)
	o.Note = note
	test, err := openSource(data, o)
	if err != nil && !errors.Is(err, dataset.ErrNoSplit) {
		return nil, err
	}
	p := &Parts{Classes: src.Classes(), Holdout: err != nil}
	if p.Holdout {
		test = nil
	} else if test = sameClasses(test, p.Classes); len(labelled(test)) == 0 {
		return nil, fmt.Errorf("%s: no image of a class of %s, whose classes are %.200q", test.Name(), src.Name(), p.Classes)
	}
	refs, held, err := picker{r, references, queries}.pick(src, test)
	if err != nil {
		return nil, err
	}
	if p.Holdout {
		test = src
	}
	p.Refs, p.Queries = dataset.Subset(src, refs), dataset.Subset(test, held)
	return p, nil
}

// renumbered is a source whose labels count other classes.
type renumbered struct {
	dataset.Source
	classes []string
	number  []int // by own label; -1: not among the classes
}

// sameClasses gives a source the numbering of some classes, by name: a part of a data
// set in which a class is missing counts on its own.
func sameClasses(src dataset.Source, classes []string) dataset.Source {
	if slices.Equal(src.Classes(), classes) {
		return src
	}
	number := make([]int, len(src.Classes()))
	for i, name := range src.Classes() {
		number[i] = slices.Index(classes, name)
	}
	return &renumbered{src, classes, number}
}

func (r *renumbered) Classes() []string { return r.classes }

func (r *renumbered) Label(i int) int {
	if l := r.Source.Label(i); l >= 0 {
		return r.number[l]
	}
	return -1
}

// EvalOptions name a trained network and the images to evaluate it with.
type EvalOptions struct {
	Run                 string // run directory, or a checkpoint within
	Data                string // source; "": the run's
	References, Queries int    // at most; 0: all
	// Pool, if not 0, has features that are means of every Pool x Pool places of the
	// last feature map, not of all (see NewPooledExtractor).
	Pool int
	Skip func(id string, err error)
	Note func(text string) // told of what takes long; may be nil
	// Progress, if not nil, gives for each stage a function that is told how many
	// images are done.
	Progress func(stage string) func(done, total int)
}

// EvalData are labelled images as a trained network sees them.
type EvalData struct {
	Refs, Queries eval.Set
	Classes       []string
	Holdout       bool   // queries are held-out training images: the data has no test part
	Dir           string // run directory
	Checkpoint    string
	Prototypes    int   // of the network
	Assigned      []int // prototype of each query
}

// EvalFeatures computes the features of labelled images for an evaluation: references
// from the part trained on, queries from the evaluation part, or, without one, from
// held-out training images.
func EvalFeatures(ctx context.Context, o EvalOptions) (*EvalData, error) {
	c, err := OpenCheckpoint(o.Run)
	if err != nil {
		return nil, err
	}
	p, err := OpenParts(ctx, c.Recipe, cmp.Or(o.Data, c.Data), o.References, o.Queries, o.Note)
	if err != nil {
		return nil, err
	}
	d := &EvalData{Classes: p.Classes, Holdout: p.Holdout, Dir: c.Dir, Checkpoint: c.Path, Prototypes: c.Arch.Clusters()}
	err = c.On(func(m *engine.Model, precision op.DType) error {
		embed := func(stage string, src dataset.Source) (*Embedded, error) {
			v := &viewer{recipe: c.Recipe, precision: precision, pool: o.Pool, skip: o.Skip}
			if o.Progress != nil {
				v.progress = o.Progress(stage)
			}
			e, err := v.embed(ctx, m, src, nil)
			if err == nil && len(e.Index) == 0 {
				err = fmt.Errorf("%s: none of %d images can be read", src.Name(), src.Len())
			}
			return e, err
		}
		queries, err := embed("queries", p.Queries)
		if err != nil {
			return err
		}
		refs, err := embed("references", p.Refs)
		if err != nil {
			return err
		}
		d.Refs, d.Queries, d.Assigned = set(p.Refs, refs), set(p.Queries, queries), queries.Prototype
		return nil
	})
	return d, err
}

// hasClasses refuses data that nothing can be measured on.
func hasClasses(src dataset.Source) error {
	if n := len(src.Classes()); n < 2 {
		return fmt.Errorf("%s: %d class(es): an evaluation takes images with labels, such as sub-folders by class", src.Name(), n)
	}
	return nil
}
