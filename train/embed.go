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
)

// EmbedOptions name a trained network and images to show to it.
type EmbedOptions struct {
	Run   string // run directory, or a checkpoint within
	Data  string // source; "": the run's
	Split string // dataset.Train (also "") or dataset.Test
	// Images, if not nil, says which images of the source are shown, by number.
	Images func(dataset.Source) ([]int, error)
	Skip   func(id string, err error)
	// Progress, if not nil, is told how many images are done.
	Progress func(done, total int)
}

// EmbeddedSource is the outcome of Embed, with the images' names.
type EmbeddedSource struct {
	*Embedded
	Source     dataset.Source
	Checkpoint string // that it was embedded with
	Arch       nn.Arch
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
	path, recipe, err := findRun(o.Run)
	if err != nil {
		return nil, err
	}
	r, err := config.Load(recipe)
	if err != nil {
		return nil, err
	}
	saved, err := checkpoint.ReadModel(path)
	if err != nil {
		return nil, err
	}
	var st State
	if err := saved.DecodeState(&st); err != nil {
		return nil, fmt.Errorf("checkpoint %s: %w", path, err)
	}
	if o.Data == "" {
		o.Data = st.Data
	}
	if o.Split == "" {
		o.Split = dataset.Train
	}
	r.Model.InChannels = st.Arch.InChannels
	src, err := OpenData(o.Data, r, o.Split)
	if err != nil {
		return nil, err
	}
	var images []int // nil: all
	if o.Images != nil {
		if images, err = o.Images(src); err != nil {
			return nil, err
		}
	}
	net, err := nn.Build(st.Arch)
	if err != nil {
		return nil, fmt.Errorf("checkpoint %s: %w", path, err)
	}
	out := &EmbeddedSource{Source: src, Checkpoint: path, Arch: st.Arch}
	err = OnThread(func() error {
		b, err := NewBackend(r.Train.Backend, 0)
		if err != nil {
			return err
		}
		defer b.Close()
		m, err := engine.NewModel(b, net, false)
		if err != nil {
			return err
		}
		if err := LoadModel(m, saved.Model); err != nil {
			return fmt.Errorf("checkpoint %s: %w", path, err)
		}
		prototypesOnSphere(m)
		v := &viewer{recipe: r, precision: Precision(r, b.Name()), skip: o.Skip, progress: o.Progress}
		out.Embedded, err = v.embed(ctx, m, src, images)
		return err
	})
	if err == nil && len(out.Index) == 0 {
		err = fmt.Errorf("%s: none of %d images can be read", src.Name(), src.Len())
	}
	return out, err
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
