package train

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"swav/checkpoint"
	"swav/config"
	"swav/dataset"
	"swav/engine"
	"swav/transfer"
)

// isForeign tells whether a path names weights rather than a run: a file, or a
// folder with the weights in it but not a checkpoint's state.
func isForeign(path string) bool {
	info, err := os.Stat(path)
	if err != nil {
		return false
	}
	if !info.IsDir() {
		return true
	}
	has := func(name string) bool {
		_, err := os.Stat(filepath.Join(path, name))
		return err == nil
	}
	return (has("model.safetensors") || has("pytorch_model.bin")) && !has("state.json")
}

// loadForeign reads weights that no run of swav wrote. Images are shown as the
// original shows them, but for what the folder of the weights says.
func loadForeign(o *EmbedOptions) (*trained, error) {
	m, err := readForeign(o.Run)
	if err != nil {
		return nil, err
	}
	r := config.Default()
	a := m.Net.Arch
	r.Model.Arch, r.Model.Block, r.Model.Layers, r.Model.Width = "", string(a.Block), a.Layers, a.Width
	r.Model.Stem, r.Model.InChannels = string(a.Stem), a.InChannels
	r.Model.Hidden, r.Model.FeatureDim, r.Model.Prototypes = a.Hidden, a.FeatureDim, a.Prototypes
	if m.Size > 0 {
		r.Crops = []config.Crop{{Count: 1, Size: m.Size, MinScale: 1, MaxScale: 1}}
	}
	if m.Mean != nil {
		r.Augment.Mean, r.Augment.Std = wide(m.Mean), wide(m.Std)
	}
	t := &trained{recipe: r, net: m.Net, head: m.Head, saved: &checkpoint.Loaded{Path: m.Source,
		Model: slices.Concat(split("", m.Net.Params, m.Weights), split("", m.Net.Buffers, m.Buffers))}}
	if o.Split == "" {
		o.Split = dataset.Train
	}
	return t, t.set(o.Set)
}

func readForeign(path string) (*transfer.Model, error) {
	f, err := transfer.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return f.Model()
}

func wide(x []float32) []float64 {
	out := make([]float64, len(x))
	for i, v := range x {
		out[i] = float64(v)
	}
	return out
}

// set changes the recipe of a trained network: how images are shown to it, and
// the precision.
func (t *trained) set(assignments []string) error {
	for _, s := range assignments {
		if err := t.recipe.Set(s); err != nil {
			return err
		}
	}
	return nil
}

// Portable reads a network for other tools: of a run directory, of one checkpoint
// of it, or out of weights that package transfer opens. Set changes the recipe.
func Portable(path string, set ...string) (*transfer.Model, error) {
	t, err := loadTrained(&EmbedOptions{Run: path, Set: set})
	if err != nil {
		return nil, err
	}
	m := &transfer.Model{Net: t.net, Head: t.head, Size: EvalSize(t.recipe), Source: filepath.Base(path)}
	if m.Weights, m.Buffers, err = flatten(t.net, t.saved.Model); err != nil {
		return nil, fmt.Errorf("checkpoint %s: %w", t.saved.Path, err)
	}
	v, err := Views(t.recipe, t.net.Arch.InChannels)
	if err != nil {
		return nil, err
	}
	m.Mean, m.Std = v.Mean, v.Std
	return m, nil
}

// startFrom puts the weights of a file, of whatever tool, into a model that is
// about to be trained. It returns what the user should know: what starts afresh.
func startFrom(m *engine.Model, path string) (notes []string, err error) {
	f, err := transfer.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	weights, buffers := make([]float32, m.Net.NumParams), make([]float32, m.Net.NumBuffers)
	m.Get(weights, buffers)
	if err := m.Backend.Sync(); err != nil {
		return nil, err
	}
	left, err := f.Into(m.Net, weights, buffers)
	if err != nil {
		if a, _, aerr := f.Arch(); aerr == nil {
			err = fmt.Errorf("%w (the file's network: %v)", err, a)
		}
		return nil, err
	}
	m.Set(weights, buffers)
	notes = append(notes, "weights of "+path)
	for _, l := range left {
		notes = append(notes, "afresh, as it does not fit: "+l)
	}
	return notes, m.Backend.Sync()
}
