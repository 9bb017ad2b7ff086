package finetune

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"swav/config"
	"swav/eval"
	"swav/train"
)

const tiny = `
[[crops]]
count = 2
size = 12
min_scale = 0.3
max_scale = 1
[[crops]]
count = 1
size = 8
min_scale = 0.2
max_scale = 0.5
[model]
arch = ""
block = "basic"
layers = [1, 1]
width = 0.125
stem = "small"
hidden = 16
feature_dim = 8
prototypes = 6
[optim]
kind = "sgd"
lr = 0.01
[train]
epochs = 0
steps = 3
batch_size = 6
precision = "fp32"
[eval]
holdout = 0.25
baselines = false
`

// photos writes n pictures of two classes that differ in their brightest colour.
func photos(t *testing.T, n int) string {
	t.Helper()
	dir := t.TempDir()
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range n {
		class := filepath.Join(dir, []string{"blue", "red"}[i%2])
		if err := os.MkdirAll(class, 0o755); err != nil {
			t.Fatal(err)
		}
		img := image.NewRGBA(image.Rect(0, 0, 16, 14))
		for p := range 16 * 14 {
			low, high := uint8(rng.IntN(120)), uint8(120+rng.IntN(120))
			c := color.RGBA{low, low, high, 255}
			if i%2 == 1 {
				c = color.RGBA{high, low, low, 255}
			}
			img.SetRGBA(p%16, p/16, c)
		}
		var b bytes.Buffer
		if err := png.Encode(&b, img); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(class, fmt.Sprintf("%02d.png", i)), b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// trained is a short run on data.
func trained(t *testing.T, data string) string {
	t.Helper()
	r, err := config.Parse([]byte(tiny), "tiny")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	var screen bytes.Buffer
	log := train.NewRunLog(&screen, &screen, dir)
	_, err = train.Run(context.Background(), train.Options{Recipe: r, Data: data, Dir: dir, Log: log})
	if err := errors.Join(err, log.Close()); err != nil {
		t.Fatal(err)
	}
	return dir
}

// Labels that can be learnt are: the classifier that is left tells all images, from
// its file and to the same bits again; part of the labels leaves another file.
func TestFineTuning(t *testing.T) {
	data := photos(t, 40)
	dir := trained(t, data)
	o := Options{Run: dir, Epochs: 6, Batch: 10, BackboneLR: 0.5, HeadLR: 5, MinScale: 0.5, Seed: 3}
	var told []Epoch
	o.Epoch = func(e Epoch) { told = append(told, e) }
	r, err := Run(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	if r.Images != 30 || r.Queries != 10 || !r.Holdout || r.Protocol() != "finetune" || !reflect.DeepEqual(told, r.Epochs) || len(told) != 6 {
		t.Errorf("%+v, told of %d epochs", r, len(told))
	}
	first, last := r.Epochs[0], r.Last()
	if last.Top1 < 100 || last.Top5 != 100 || last.Loss >= first.Loss || math.Abs(last.HeadLR-first.HeadLR/25) > 1e-12 {
		t.Errorf("first epoch %+v, last %+v", first, last)
	}
	file, err := Find(dir)
	if err != nil || file != r.Classifier {
		t.Fatal(file, err)
	}
	c, err := Open(file)
	if err != nil {
		t.Fatal(err)
	}
	guesses := map[string]Guess{}
	files, err := filepath.Glob(filepath.Join(data, "*", "*.png"))
	if err != nil {
		t.Fatal(err)
	}
	broken := filepath.Join(t.TempDir(), "broken.png")
	if err := os.WriteFile(broken, []byte("no image"), 0o644); err != nil {
		t.Fatal(err)
	}
	skipped := 0
	n, err := c.Predict(context.Background(), PredictOptions{Files: append(files, broken), Top: 5, Skip: func(string, error) { skipped++ }}, func(g Guess) error {
		guesses[g.ID] = g
		return nil
	})
	if err != nil || n != 41 || len(guesses) != 40 || skipped != 1 {
		t.Fatalf("%d images, %d guesses, %d skipped, %v", n, len(guesses), skipped, err)
	}
	for _, f := range files {
		g := guesses[filepath.ToSlash(f)]
		if want := filepath.Base(filepath.Dir(f)); g.Class != want || len(g.Top) != 2 || math.Abs(g.Top[0].P+g.Top[1].P-1) > 1e-6 || g.P != g.Top[0].P || g.P < g.Top[1].P {
			t.Errorf("%s: %+v", f, g)
		}
	}
	again := 0
	if _, err := c.Predict(context.Background(), PredictOptions{Data: data, Top: 5}, func(g Guess) error {
		g.ID = filepath.ToSlash(filepath.Join(data, g.ID))
		if !reflect.DeepEqual(g, guesses[g.ID]) {
			t.Errorf("as a folder %+v, as a file %+v", g, guesses[g.ID])
		}
		again++
		return nil
	}); err != nil || again != 40 {
		t.Errorf("%d of a folder, %v", again, err)
	}

	o.Fraction, o.Epoch = 0.2, nil
	part, err := Run(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	if part.Images != 6 || part.Labelled != 30 || part.Batch != 6 || part.Protocol() != "finetune-0.2" || part.Classifier == r.Classifier {
		t.Errorf("%+v of a fifth", part)
	}
	if err := os.Remove(r.Classifier); err != nil {
		t.Fatal(err)
	}
	if _, err := Find(dir); err == nil || !strings.Contains(err.Error(), "classifier-0.2.safetensors") {
		t.Errorf("error %v, want one that names the other", err)
	}
	b, err := json.Marshal(part.Evaluation(dir, 1))
	if err != nil || !bytes.Contains(b, []byte(`"protocol":"finetune-0.2"`)) || !bytes.Contains(b, []byte(`"top1"`)) {
		t.Errorf("%s, %v", b, err)
	}
}

// The same seed gives the same classifier.
func TestFineTuningIsDeterministic(t *testing.T) {
	data := photos(t, 24)
	dir := trained(t, data)
	var files [2][]byte
	for i := range files {
		r, err := Run(context.Background(), Options{Run: dir, Epochs: 2, Batch: 6, Seed: 1})
		if err != nil {
			t.Fatal(err)
		}
		if files[i], err = os.ReadFile(r.Classifier); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(files[0], files[1]) {
		t.Error("two runs with one seed differ")
	}
}

func TestLinearOnAugmentedViews(t *testing.T) {
	data := photos(t, 40)
	dir := trained(t, data)
	for _, pool := range []int{0, 5} {
		l := eval.DefaultLinear()
		l.LR, l.WeightDecay, l.C, l.Epochs, l.Batch = []float64{0.1, 1}, []float64{0, 1e-4}, nil, 8, 10
		r, at, err := Linear(context.Background(), LinearOptions{LinearOptions: l, Run: dir, Pool: pool, MinScale: 0.5})
		if err != nil {
			t.Fatal(err)
		}
		rows := r.Result.(*eval.LinearReport).Rows
		// Maps of 6x6 places and 16 channels: 2x2 means of 5x5.
		if want := map[int]int{0: 16, 5: 64}[pool]; r.Features != want || len(rows) != 4 || r.References != 30 || r.Queries != 10 || at != dir {
			t.Errorf("pool %d: %+v, %d rows in %s", pool, r, len(rows), at)
		}
		if best := r.Result.(*eval.LinearReport).Best(); best.Top1 < 90 {
			t.Errorf("pool %d: best %+v of %+v", pool, best, rows)
		}
	}
	if _, _, err := Linear(context.Background(), LinearOptions{LinearOptions: eval.DefaultLinear(), Run: dir}); err == nil {
		t.Error("no error for C")
	}
	l := eval.DefaultLinear()
	l.C = nil
	if _, _, err := Linear(context.Background(), LinearOptions{LinearOptions: l, Run: dir, Pool: 7}); err == nil || !strings.Contains(err.Error(), "6x6") {
		t.Errorf("error %v for means of more places than there are", err)
	}
}

func TestSettings(t *testing.T) {
	for _, c := range []struct {
		o             Options
		images        int
		share         float64
		batch         int
		backbone, lr1 float64
	}{
		{Options{}, 12811, 0.01, 256, 0.02, 5}, // the original's 1%
		{Options{}, 128116, 0.1, 256, 0.01, 0.2},
		{Options{}, 1281167, 1, 256, 0.01, 0.2},
		{Options{}, 500, 0.01, 32, 0.02 / 8, 5.0 / 8},
		{Options{}, 20, 1, 20, 0.01 * 20 / 256, 0.2 * 20 / 256},
		{Options{Batch: 128, BackboneLR: 1, HeadLR: 2}, 5000, 0.5, 128, 0.5, 1},
	} {
		o := c.o
		o.settle(c.images, c.share)
		if o.Batch != c.batch || math.Abs(o.BackboneLR-c.backbone) > 1e-12 || math.Abs(o.HeadLR-c.lr1) > 1e-12 {
			t.Errorf("%d images, share %g: batch %d, rates %g and %g; want %d, %g and %g", c.images, c.share, o.Batch, o.BackboneLR, o.HeadLR, c.batch, c.backbone, c.lr1)
		}
	}
	for epoch, want := range map[int]float64{0: 1, 11: 1, 12: 0.2, 15: 0.2, 16: 0.04, 19: 0.04} {
		if got := rateFactor(epoch, 20); math.Abs(got-want) > 1e-12 {
			t.Errorf("epoch %d: factor %g, want %g", epoch, got, want)
		}
	}
	if got := rateFactor(0, 1); got != 1 {
		t.Errorf("one epoch begins with factor %g", got)
	}
}

func TestRunRefuses(t *testing.T) {
	dir := trained(t, photos(t, 24))
	list := filepath.Join(t.TempDir(), "names.txt")
	if err := os.WriteFile(list, []byte("nobody.png\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		o    Options
		want string
	}{
		{Options{Run: dir, Fraction: 2}, "fraction 2"},
		{Options{Run: dir, Fraction: 0.5, List: list}, "one of them"},
		{Options{Run: dir, List: list}, "0 of 1 names"},
		{Options{Run: dir, List: list + "x"}, "names.txtx"},
		{Options{Run: dir, Epochs: -1}, "-1 epochs"},
		{Options{Run: dir, BackboneLR: math.NaN()}, "learning rate NaN"},
		{Options{Run: dir, HeadLR: 1e30, Batch: 6}, "lower the learning rates"},
		{Options{Run: t.TempDir()}, "no checkpoint"},
	} {
		if _, err := Run(context.Background(), c.o); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: error %v, want %q", c.o, err, c.want)
		}
	}
	if _, err := Find(dir); err == nil || !strings.Contains(err.Error(), "swav eval finetune") {
		t.Errorf("error %v of a run without a classifier", err)
	}
}

// The gradient is the slope of the loss.
func TestCrossEntropy(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	scores, labels := make([]float32, 12), []int{0, 3, 2}
	for i := range scores {
		scores[i] = float32(3 * rng.NormFloat64())
	}
	scores[0] = 200 // an exponential that float32 does not hold
	gradient := slices.Clone(scores)
	loss := crossEntropy(gradient, labels)
	for i := range scores {
		up, down := slices.Clone(scores), slices.Clone(scores)
		up[i] += 0.01
		down[i] -= 0.01
		slope := (crossEntropy(up, labels) - crossEntropy(down, labels)) / float64(scores[i]+0.01-(scores[i]-0.01))
		if math.Abs(slope-float64(gradient[i])) > 1e-3 {
			t.Errorf("score %d: gradient %g, slope %g", i, gradient[i], slope)
		}
	}
	if uniform := crossEntropy(make([]float32, 8), []int{1, 2}); math.Abs(uniform-math.Log(4)) > 1e-12 || loss < 0 {
		t.Errorf("loss of equal scores %g, want ln 4; loss %g", uniform, loss)
	}
}
