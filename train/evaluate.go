package train

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"

	"swav/config"
	"swav/dataset"
	"swav/eval"
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

// EvalOptions name a trained network and the images to evaluate it with.
type EvalOptions struct {
	Run                 string // run directory, or a checkpoint within
	Data                string // source; "": the run's
	References, Queries int    // at most; 0: all
	Skip                func(id string, err error)
	Note                func(text string) // told of what takes long; may be nil
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
	ckpt, file, err := findRun(o.Run)
	if err != nil {
		return nil, err
	}
	r, err := config.Load(file)
	if err != nil {
		return nil, err
	}
	d := &EvalData{Dir: filepath.Dir(file), Checkpoint: ckpt}
	p := picker{r, o.References, o.Queries}
	embed := func(stage, split string, images func(dataset.Source) ([]int, error)) (*EmbeddedSource, error) {
		e := EmbedOptions{Run: ckpt, Data: o.Data, Split: split, Images: images, Skip: o.Skip, Note: o.Note}
		if o.Progress != nil {
			e.Progress = o.Progress(stage)
		}
		return Embed(ctx, e)
	}
	queries, err := embed("queries", dataset.Test, func(test dataset.Source) ([]int, error) {
		index := labelled(test)
		return at(index, sample(len(index), p.queries, r.Train.Seed)), hasClasses(test)
	})
	if d.Holdout = errors.Is(err, dataset.ErrNoSplit); d.Holdout {
		queries, err = embed("queries", dataset.Train, func(src dataset.Source) ([]int, error) {
			_, index, err := p.pick(src, nil)
			return index, errors.Join(hasClasses(src), err)
		})
	}
	if err != nil {
		return nil, err
	}
	refs, err := embed("references", dataset.Train, func(src dataset.Source) ([]int, error) {
		var test dataset.Source
		if !d.Holdout {
			test = queries.Source
		}
		index, _, err := p.pick(src, test)
		return index, errors.Join(hasClasses(src), err)
	})
	if err != nil {
		return nil, err
	}
	d.Refs, d.Queries, d.Classes = set(refs.Source, refs.Embedded), set(queries.Source, queries.Embedded), refs.Source.Classes()
	d.Prototypes, d.Assigned = refs.Arch.Prototypes, queries.Prototype
	return d, nil
}

// hasClasses refuses data that nothing can be measured on.
func hasClasses(src dataset.Source) error {
	if n := len(src.Classes()); n < 2 {
		return fmt.Errorf("%s: %d class(es): an evaluation takes images with labels, such as sub-folders by class", src.Name(), n)
	}
	return nil
}
