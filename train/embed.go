package train

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"swav/checkpoint"
	"swav/config"
	"swav/dataset"
	"swav/engine"
	"swav/eval"
	"swav/nn"
	"swav/op"
)

// EmbedOptions name a trained network and images to show to it.
type EmbedOptions struct {
	Run   string   // run directory, a checkpoint within, or weights as package transfer opens them
	Data  string   // source; "": the run's
	Split string   // dataset.Train (also "") or dataset.Test
	Set   []string // changes of the recipe, as config.Recipe.Set takes them
	Skip  func(id string, err error)
	Note  func(text string) // told of what takes long; may be nil
	// Progress, if not nil, is told how many images are done.
	Progress func(done, total int)
}

// EmbeddedSource is the outcome of Embed, with the images' names.
type EmbeddedSource struct {
	*Embedded
	Source dataset.Source
}

// Rows names the embedded images.
func (e *EmbeddedSource) Rows() []eval.Row {
	rows := make([]eval.Row, len(e.Index))
	for i, n := range e.Index {
		rows[i] = eval.Row{ID: e.Source.ID(n), Label: e.Source.Label(n)}
	}
	return rows
}

// Embed runs images through a trained network in evaluation mode.
func Embed(ctx context.Context, o EmbedOptions) (*EmbeddedSource, error) {
	t, err := loadTrained(&o)
	if err != nil {
		return nil, err
	}
	open := dataOptions(ctx, t.recipe, o.Split)
	open.Note = o.Note
	src, err := dataset.Open(o.Data, open)
	if err != nil {
		return nil, err
	}
	out := &EmbeddedSource{Source: src}
	err = t.on(func(m *engine.Model, precision op.DType) error {
		v := &viewer{recipe: t.recipe, precision: precision, skip: o.Skip, progress: o.Progress}
		out.Embedded, err = v.embed(ctx, m, src, nil)
		return err
	})
	if err == nil && len(out.Index) == 0 {
		err = fmt.Errorf("%s: none of %d images can be read", src.Name(), src.Len())
	}
	return out, err
}

// trained is a network read from a checkpoint.
type trained struct {
	recipe *config.Recipe
	net    *nn.Network
	saved  *checkpoint.Loaded
	head   bool // false: weights of a backbone alone
}

// loadTrained reads the network that o names and fills in what o leaves open.
func loadTrained(o *EmbedOptions) (*trained, error) {
	if isForeign(o.Run) {
		return loadForeign(o)
	}
	path, recipe, err := findRun(o.Run)
	if err != nil {
		return nil, err
	}
	t := &trained{head: true}
	if t.recipe, err = config.Load(recipe); err != nil {
		return nil, err
	}
	if t.saved, err = checkpoint.ReadModel(path); err != nil {
		return nil, err
	}
	var st State
	if err := t.saved.DecodeState(&st); err != nil {
		return nil, fmt.Errorf("checkpoint %s: %w", path, err)
	}
	if o.Data == "" {
		o.Data = st.Data
	}
	if o.Split == "" {
		o.Split = dataset.Train
	}
	t.recipe.Model.InChannels = st.Arch.InChannels
	if err := t.set(o.Set); err != nil {
		return nil, err
	}
	if t.net, err = nn.Build(st.Arch); err != nil {
		return nil, fmt.Errorf("checkpoint %s: %w", path, err)
	}
	return t, nil
}

// loadRun is loadTrained for those who need a run's directory.
func loadRun(o *EmbedOptions) (*trained, error) {
	if isForeign(o.Run) {
		return nil, fmt.Errorf("%s holds weights and is no run directory: `swav train --init` makes a run of them, `swav embed` their features", o.Run)
	}
	return loadTrained(o)
}

// on has do use the network, on a thread of its own.
func (t *trained) on(do func(m *engine.Model, precision op.DType) error) error {
	return OnThread(func() error {
		b, err := NewBackend(t.recipe.Train.Backend, 0)
		if err != nil {
			return err
		}
		defer b.Close()
		m, err := engine.NewModel(b, t.net, false)
		if err != nil {
			return err
		}
		if err := LoadModel(m, t.saved.Model); err != nil {
			return fmt.Errorf("checkpoint %s: %w", t.saved.Path, err)
		}
		prototypesOnSphere(m)
		return do(m, Precision(t.recipe, b.Name()))
	})
}

// findRun takes a run directory or one of its checkpoints and returns the
// checkpoint and the recipe.
func findRun(path string) (ckpt, recipe string, err error) {
	if _, err := os.Stat(filepath.Join(path, "state.json")); err == nil {
		return path, filepath.Join(path, "..", "..", recipeFile), nil
	}
	if ckpt, err = checkpoint.Latest(path); err != nil {
		return "", "", fmt.Errorf("%s: %w (a run directory is what `swav train --run` wrote)", path, err)
	}
	return ckpt, filepath.Join(path, recipeFile), nil
}
