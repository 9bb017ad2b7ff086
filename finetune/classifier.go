package finetune

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"

	"swav/config"
	"swav/dataset"
	"swav/engine"
	"swav/interop"
	"swav/nn"
	"swav/op"
	"swav/train"
)

// Classifier is a network that tells classes. In memory and in its file it is
// independent of the run that it came from.
type Classifier struct {
	Recipe  *config.Recipe // how images are read and shown
	Arch    nn.Arch
	Classes []string

	weights, buffers []float32 // flat, as nn.Network orders them
}

// Keys of a file's metadata, and the version of what they say.
const (
	headKey   = "swav.classifier"
	recipeKey = "swav.recipe"
	version   = 1
)

// head is the metadata under headKey.
type head struct {
	Version int      `json:"version"`
	Arch    nn.Arch  `json:"arch"`
	Classes []string `json:"classes"`
}

// FileOf is where the classifier of a run is written: one learnt from all labels at
// DIR/classifier.safetensors, others beside it.
func FileOf(dir string, fraction float64, list string) string {
	return filepath.Join(dir, "classifier"+suffix(fraction, list)+".safetensors")
}

// suffix tells fine-tunings from different images apart.
func suffix(fraction float64, list string) string {
	switch {
	case list != "":
		return "-list"
	case fraction < 1:
		return fmt.Sprintf("-%g", fraction)
	}
	return ""
}

// Find is the file of a classifier: path itself, or that of the run at path.
func Find(path string) (string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", fmt.Errorf("classifier: %w", err)
	}
	if !info.IsDir() {
		return path, nil
	}
	file := FileOf(path, 1, "")
	if _, err := os.Stat(file); err == nil {
		return file, nil
	}
	others, err := filepath.Glob(filepath.Join(path, "classifier-*.safetensors"))
	if err == nil && len(others) > 0 {
		return "", fmt.Errorf("%s: no classifier that was learnt from all labels; name the file of another, such as %s", path, others[0])
	}
	return "", fmt.Errorf("%s: no classifier: `swav eval finetune %s` makes one", path, path)
}

// tensors names the parts of the flat buffers.
func tensors(net *nn.Network, weights, buffers []float32) []interop.Tensor {
	var ts []interop.Tensor
	for _, p := range net.Params {
		ts = append(ts, interop.Tensor{Name: p.Name, Shape: p.Shape, Data: weights[p.Offset : p.Offset+p.Len]})
	}
	for _, p := range net.Buffers {
		ts = append(ts, interop.Tensor{Name: p.Name, Shape: p.Shape, Data: buffers[p.Offset : p.Offset+p.Len]})
	}
	return ts
}

// read takes the weights of a model.
func (c *Classifier) read(m *engine.Model) {
	c.weights, c.buffers = make([]float32, m.Net.NumParams), make([]float32, m.Net.NumBuffers)
	m.Get(c.weights, c.buffers)
}

// Save writes the classifier as safetensors with torchvision's names; classes, network
// and recipe are metadata. The file appears under its name when it is whole.
func (c *Classifier) Save(path string) error {
	fail := func(err error) error { return fmt.Errorf("write classifier %s: %w", path, err) }
	net, err := nn.Build(c.Arch)
	if err != nil {
		return fail(err)
	}
	text, err := json.Marshal(head{Version: version, Arch: c.Arch, Classes: c.Classes})
	if err != nil {
		return fail(err)
	}
	var recipe bytes.Buffer
	if err := c.Recipe.Encode(&recipe); err != nil {
		return fail(err)
	}
	for _, x := range [][]float32{c.weights, c.buffers} {
		for _, v := range x {
			if v-v != 0 {
				return fail(errors.New("weights that are not finite: the learning rates are too high"))
			}
		}
	}
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return fail(err)
	}
	defer os.Remove(f.Name())
	err = interop.WriteSafetensors(f, tensors(net, c.weights, c.buffers), map[string]string{headKey: string(text), recipeKey: recipe.String(), "format": "pt"})
	if err = errors.Join(err, f.Chmod(0o644), f.Sync(), f.Close()); err != nil {
		return fail(err)
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return fail(err)
	}
	return nil
}

// Open reads a classifier that Save wrote.
func Open(path string) (*Classifier, error) {
	s, err := interop.OpenSafetensors(path)
	if err != nil {
		return nil, fmt.Errorf("classifier: %w", err)
	}
	defer s.Close()
	c, err := decode(s, path)
	if err != nil {
		return nil, fmt.Errorf("classifier %s: %w", path, err)
	}
	return c, nil
}

// decode reads what an open file holds.
func decode(s *interop.Safetensors, path string) (*Classifier, error) {
	text, ok := s.Metadata[headKey]
	if !ok {
		return nil, errors.New("no classifier of `swav eval finetune`: its metadata does not say so")
	}
	var h head
	d := json.NewDecoder(bytes.NewReader([]byte(text)))
	d.DisallowUnknownFields()
	if err := d.Decode(&h); err != nil {
		return nil, fmt.Errorf("metadata: %w", err)
	}
	if h.Version != version {
		return nil, fmt.Errorf("version %d, this build reads %d", h.Version, version)
	}
	if len(h.Classes) == 0 || len(h.Classes) != h.Arch.Classes {
		return nil, fmt.Errorf("%d names for %d classes", len(h.Classes), h.Arch.Classes)
	}
	recipe, err := config.Parse([]byte(s.Metadata[recipeKey]), filepath.Base(path))
	if err != nil {
		return nil, fmt.Errorf("recipe in the metadata: %w", err)
	}
	net, err := nn.Build(h.Arch)
	if err != nil {
		return nil, err
	}
	// Names and shapes are compared before memory is taken for what the network claims.
	var elements int64
	for _, p := range slices.Concat(net.Params, net.Buffers) {
		info, ok := s.Info(p.Name)
		if !ok || info.DType != interop.F32 || !slices.Equal(info.Shape, p.Shape) {
			return nil, fmt.Errorf("tensor %s: %s %v, want %s %v", p.Name, info.DType, info.Shape, interop.F32, p.Shape)
		}
		elements += int64(p.Len)
	}
	if n := len(net.Params) + len(net.Buffers); len(s.Names()) != n {
		return nil, fmt.Errorf("%d tensors, want %d", len(s.Names()), n)
	}
	c := &Classifier{Recipe: recipe, Arch: h.Arch, Classes: h.Classes, weights: make([]float32, net.NumParams), buffers: make([]float32, net.NumBuffers)}
	for _, t := range tensors(net, c.weights, c.buffers) {
		x, err := s.Float32(t.Name)
		if err != nil {
			return nil, err
		}
		for _, v := range x {
			if v-v != 0 {
				return nil, fmt.Errorf("tensor %s holds %v", t.Name, v)
			}
		}
		copy(t.Data.([]float32), x)
	}
	return c, nil
}

// Predictor is a classifier ready to compute. It belongs to the thread that made it.
type Predictor struct {
	*train.Extractor
	classes int
	scores  []float32
}

// On has do use the classifier, for at most batch images at a time, on a thread of its
// own.
func (c *Classifier) On(batch int, do func(p *Predictor) error) error {
	return c.model(func(m *engine.Model, precision op.DType) error {
		e, err := train.NewExtractor(m, train.EvalSize(c.Recipe), batch, precision)
		if err != nil {
			return err
		}
		defer e.Close()
		return do(&Predictor{Extractor: e, classes: len(c.Classes)})
	})
}

// Lend has do use the classifier for single files, up to batch at a time, on a thread of
// its own. What the predictor calls scores are logits.
func (c *Classifier) Lend(batch int, do func(p *train.Predictor) error) error {
	return c.model(func(m *engine.Model, precision op.DType) error {
		p, err := train.NewPredictor(m, c.Recipe, batch, precision)
		if err != nil {
			return err
		}
		defer p.Close()
		return do(p)
	})
}

// model has do use the network on a thread of its own.
func (c *Classifier) model(do func(m *engine.Model, precision op.DType) error) error {
	return train.OnThread(func() error {
		b, err := train.NewBackend(c.Recipe.Train.Backend, 0)
		if err != nil {
			return err
		}
		defer b.Close()
		net, err := nn.Build(c.Arch)
		if err != nil {
			return err
		}
		m, err := engine.NewModel(b, net, false)
		if err != nil {
			return err
		}
		m.Set(c.weights, c.buffers)
		return do(m, c.precision(b))
	})
}

func (c *Classifier) precision(b op.Backend) op.DType { return train.Precision(c.Recipe, b.Name()) }

// Probabilities appends the classes' probabilities of n images, pixels as
// train.Extractor takes them, to dst: [n, classes].
func (p *Predictor) Probabilities(dst, pixels []float32, n int) ([]float32, error) {
	p.scores = p.scores[:0]
	if err := p.Run(pixels, n, nil, nil, &p.scores); err != nil {
		return nil, err
	}
	for i := range n {
		row := p.scores[i*p.classes : (i+1)*p.classes]
		top := float64(slices.Max(row))
		var sum float64
		for _, s := range row {
			sum += math.Exp(float64(s) - top)
		}
		for _, s := range row {
			dst = append(dst, float32(math.Exp(float64(s)-top)/sum))
		}
	}
	return dst, nil
}

// Guess is what a classifier says of an image.
type Guess struct {
	ID    string  `json:"id"`
	Class string  `json:"class"`
	P     float64 `json:"probability"`
	Top   []Share `json:"top,omitempty"` // the likeliest classes, likeliest first
}

// Share is the probability of a class.
type Share struct {
	Class string  `json:"class"`
	P     float64 `json:"probability"`
}

// PredictOptions say what is classified.
type PredictOptions struct {
	Files []string // image files, or else a source
	Data  string
	Split string
	Top   int // classes that are told of each image; 0: the likeliest alone
	Skip  func(id string, err error)
	Note  func(text string)
}

// Predict classifies images in their order and calls yield for each. It returns how
// many there are; those that cannot be read are left out.
func (c *Classifier) Predict(ctx context.Context, o PredictOptions, yield func(Guess) error) (images int, err error) {
	open := train.DataOptions(ctx, c.Recipe, o.Split)
	open.Channels, open.Note = c.Arch.InChannels, o.Note
	var src dataset.Source
	if len(o.Files) > 0 {
		src, err = dataset.Files(o.Files, open)
	} else {
		src, err = dataset.Open(o.Data, open)
	}
	if err != nil {
		return 0, err
	}
	batch := min(shownAtOnce, max(1, src.Len()))
	err = c.On(batch, func(p *Predictor) error {
		var all []float32
		s := show{src: src, recipe: c.Recipe, channels: c.Arch.InChannels, skip: o.Skip}
		return s.run(ctx, batch, func(index []int, pixels []float32) error {
			var err error
			if all, err = p.Probabilities(all[:0], pixels, len(index)); err != nil {
				return err
			}
			k := len(c.Classes)
			for i, n := range index {
				if err := yield(c.guess(src.ID(n), all[i*k:(i+1)*k], o.Top)); err != nil {
					return err
				}
			}
			return nil
		})
	})
	return src.Len(), err
}

// guess puts the likeliest classes first; equal ones are in their order.
func (c *Classifier) guess(id string, p []float32, top int) Guess {
	order := make([]int, len(p))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int {
		switch {
		case p[a] > p[b]:
			return -1
		case p[a] < p[b]:
			return 1
		}
		return 0
	})
	g := Guess{ID: id, Class: c.Classes[order[0]], P: float64(p[order[0]])}
	if top > 0 {
		for _, i := range order[:min(top, len(order))] {
			g.Top = append(g.Top, Share{c.Classes[i], float64(p[i])})
		}
	}
	return g
}

// Write shows a guess in a line.
func (g Guess) Write(w io.Writer) error {
	line := fmt.Sprintf("%s\t%s %.1f %%", g.ID, g.Class, 100*g.P)
	for _, s := range g.Top[min(1, len(g.Top)):] {
		line += fmt.Sprintf(", %s %.1f %%", s.Class, 100*s.P)
	}
	_, err := fmt.Fprintln(w, line)
	return err
}
