package train

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"image"
	"sync"

	"swav/augment"
	"swav/config"
	"swav/dataset"
	"swav/engine"
	"swav/imgcodec"
	"swav/nn"
	"swav/op"
)

// Trained is a network read from a run, for those who show images to it again
// and again: a search, a server.
type Trained struct {
	trained *trained
	data    string
}

// OpenRun reads the newest checkpoint of a run directory, or one checkpoint
// within. Set changes its recipe, as config.Recipe.Set takes it.
func OpenRun(run string, set ...string) (*Trained, error) {
	o := EmbedOptions{Run: run, Set: set}
	t, err := loadRun(&o)
	if err != nil {
		return nil, err
	}
	return &Trained{trained: t, data: o.Data}, nil
}

// Arch describes the network.
func (t *Trained) Arch() nn.Arch { return t.trained.net.Arch }

// Checkpoint is the directory that the network was read from.
func (t *Trained) Checkpoint() string { return t.trained.saved.Path }

// Identity is a hash of all that features of an image depend on: network, weights,
// recipe.
func (t *Trained) Identity() (string, error) {
	h := sha256.New()
	fmt.Fprintf(h, "%+v\n", t.Arch())
	if err := t.trained.recipe.Encode(h); err != nil {
		return "", err
	}
	for _, x := range t.trained.saved.Model {
		fmt.Fprintf(h, "%q %v\n", x.Name, x.Shape)
		if err := binary.Write(h, binary.LittleEndian, x.Data); err != nil {
			return "", err
		}
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// Data opens images as the run's recipe reads them; data "" names those that the
// network was trained on, split "" their training part.
// Note, if not nil, is told of what takes long. When ctx ends, so does what the
// source fetches.
func (t *Trained) Data(ctx context.Context, data, split string, note func(text string)) (dataset.Source, error) {
	if data == "" {
		data = t.data
	}
	if split == "" {
		split = dataset.Train
	}
	o := dataOptions(ctx, t.trained.recipe, split)
	o.Note = note
	return dataset.Open(data, o)
}

// Embed runs all images of a source through the network. Skip is told of those that
// cannot be read, progress of how many are done; both may be nil.
func (t *Trained) Embed(ctx context.Context, src dataset.Source, skip func(id string, err error), progress func(done, total int)) (*Embedded, error) {
	var out *Embedded
	err := t.trained.on(func(m *engine.Model, precision op.DType) error {
		v := &viewer{recipe: t.trained.recipe, precision: precision, skip: skip, progress: progress}
		var err error
		out, err = v.embed(ctx, m, src, nil)
		return err
	})
	if err == nil && len(out.Index) == 0 {
		err = fmt.Errorf("%s: none of %d images can be read", src.Name(), src.Len())
	}
	return out, err
}

// Predict lends the network, compiled for batches of up to batch single images,
// to do. It calls do on a thread of its own, the only one that may call
// Predictor.Run.
func (t *Trained) Predict(batch int, do func(*Predictor) error) error {
	return t.trained.on(func(m *engine.Model, precision op.DType) error {
		p, err := NewPredictor(m, t.trained.recipe, batch, precision)
		if err != nil {
			return err
		}
		defer p.Close()
		return do(p)
	})
}

// NewPredictor compiles a model for batches of up to batch single images, shown as
// the recipe says.
func NewPredictor(m *engine.Model, r *config.Recipe, batch int, precision op.DType) (*Predictor, error) {
	arch := m.Net.Arch
	norm, err := Views(r, arch.InChannels)
	if err != nil {
		return nil, err
	}
	p := &Predictor{Arch: arch, Size: EvalSize(r), norm: augment.NewNormalizer(norm.Mean, norm.Std), Decode: decodeOptions(r, arch.InChannels)}
	for _, n := range batchSizes(batch) {
		e, err := NewExtractor(m, p.Size, n, precision)
		if err != nil {
			p.Close()
			return nil, err
		}
		p.plans = append(p.plans, e)
	}
	return p, nil
}

// decodeOptions are how a recipe's source decodes files for a network of so many
// channels.
func decodeOptions(r *config.Recipe, channels int) imgcodec.Options {
	o := DataOptions(context.Background(), r, dataset.Train).Decode
	o.Alpha = channels == 2 || channels == 4
	return o
}

// batchSizes are those that plans are compiled for, in descending order. A plan
// computes all its rows, used or not, so a lone image wants a plan of its own;
// each keeps packed weights, so they are few.
func batchSizes(most int) []int {
	sizes := []int{most}
	for n := most / 4; n > 1; n /= 4 {
		sizes = append(sizes, n)
	}
	if most > 1 {
		sizes = append(sizes, 1)
	}
	return sizes
}

// Predictor shows single images to a trained network as evaluation does.
type Predictor struct {
	Arch   nn.Arch
	Size   int              // side of a view in pixels
	Decode imgcodec.Options // of View; may be changed before its first call

	norm    *augment.Normalizer
	plans   []*Extractor // largest first
	viewers sync.Pool    // of *imageViewer
}

// imageViewer is the memory of one call of View.
type imageViewer struct {
	img     imgcodec.Image
	scratch augment.Scratch
}

// Close frees the plans, not the model.
func (p *Predictor) Close() {
	for _, e := range p.plans {
		e.Close()
	}
}

// Batch is the largest number of images that Run takes.
func (p *Predictor) Batch() int { return p.plans[0].Batch() }

// Pixels is the number of values of a view: [Size, Size, channels].
func (p *Predictor) Pixels() int { return p.Size * p.Size * p.Arch.InChannels }

// Features is the number of features of an image.
func (p *Predictor) Features() int { return p.plans[0].Plan.Features.Cols() }

// View decodes an image file and writes the network's view of it to dst, which
// has Pixels values. It may be called concurrently.
func (p *Predictor) View(dst []float32, file []byte) error {
	return p.show(dst, func(img *imgcodec.Image) error { return imgcodec.DecodeInto(img, file, p.Decode) })
}

// ViewImage is View of an image that is decoded already.
func (p *Predictor) ViewImage(dst []float32, m image.Image) error {
	return p.show(dst, func(img *imgcodec.Image) error { return imgcodec.FromImage(img, m, p.Decode) })
}

// show writes the view of the image that load loads.
func (p *Predictor) show(dst []float32, load func(*imgcodec.Image) error) (err error) {
	v, _ := p.viewers.Get().(*imageViewer)
	if v == nil {
		v = &imageViewer{}
	}
	defer func() {
		if r := recover(); r != nil { // v is given up with whatever state it is in
			err = fmt.Errorf("decoder: %v", r)
			return
		}
		p.viewers.Put(v)
	}()
	if err := load(&v.img); err != nil {
		return err
	}
	if err := p.norm.CheckImage(v.img.C); err != nil {
		return err
	}
	augment.Center(dst, &v.img, p.Size*256/224, p.Size, p.norm, &v.scratch)
	return nil
}

// Run computes n views' features, embeddings and prototype scores, appending to
// those slices that are not nil, on plans that fit n.
func (p *Predictor) Run(views []float32, n int, features, embeddings, scores *[]float32) error {
	if n < 1 || n > p.Batch() || len(views) != n*p.Pixels() {
		return fmt.Errorf("features of %d views from %d numbers: want 1 to %d of %d", n, len(views), p.Batch(), p.Pixels())
	}
	for n > 0 {
		e := p.plan(n)
		k := min(n, e.Batch())
		if err := e.Run(views[:k*p.Pixels()], k, features, embeddings, scores); err != nil {
			return err
		}
		views, n = views[k*p.Pixels():], n-k
	}
	return nil
}

// plan is the smallest that n views fill at least by half, or else the largest
// that they fill.
func (p *Predictor) plan(n int) *Extractor {
	best := p.plans[len(p.plans)-1]
	for _, e := range p.plans { // descending
		if 2*n >= e.Batch() {
			best = e
			if n >= e.Batch() {
				break
			}
		}
	}
	return best
}

// Picture decodes an image file for people to look at.
func (t *Trained) Picture(file []byte) (image.Image, error) {
	img, err := imgcodec.Decode(file, decodeOptions(t.trained.recipe, t.Arch().InChannels))
	if err != nil {
		return nil, err
	}
	return PictureOf(img), nil
}
