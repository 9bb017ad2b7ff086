package config

import (
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"

	"swav/nn"
)

// Validate checks every value's range and what keys demand of each other. What
// depends on the data or the ranks is Resolve's to check. Each error names its
// key and what to write instead.
func (r *Recipe) Validate() error {
	root := reflect.ValueOf(r).Elem()
	for i := range schema {
		s := &schema[i]
		v := root.Field(s.index)
		if !s.repeated {
			if err := checkFields(s, s.name, v); err != nil {
				return err
			}
			continue
		}
		for j := range v.Len() {
			if err := checkFields(s, fmt.Sprintf("%s[%d]", s.name, j), v.Index(j)); err != nil {
				return err
			}
		}
	}
	c := &checker{}
	if d := r.Data.Depth; d != 8 && d != 16 {
		c.fail("data.depth", "%d bits: want 8 or 16", d)
	}
	r.checkCrops(c)
	r.checkAugment(c)
	r.checkModel(c)
	r.checkSchedule(c)
	if _, err := r.NormRanks(1); err != nil {
		c.errs = append(c.errs, err)
	}
	if m := r.Log.MLflow; m != "" && m != "off" && !strings.HasPrefix(m, "http://") && !strings.HasPrefix(m, "https://") {
		c.fail("log.mlflow", "%q: want a server's address such as http://localhost:5000, off, or nothing", m)
	}
	return errors.Join(c.errs...)
}

func checkFields(s *section, path string, v reflect.Value) error {
	for i := range s.fields {
		f := &s.fields[i]
		if fv := v.Field(f.index); !f.check(fv) {
			key := path + "." + f.name
			return &Error{Key: key, Msg: fmt.Sprintf("%s = %s: want %s (%s)", key, format(fv), f.want(), f.doc)}
		}
	}
	return nil
}

type checker struct{ errs []error }

func (c *checker) fail(key, text string, args ...any) {
	c.errs = append(c.errs, &Error{Key: key, Msg: key + ": " + fmt.Sprintf(text, args...)})
}

func (r *Recipe) checkCrops(c *checker) {
	if len(r.Crops) == 0 || len(r.Crops) > 64 {
		c.fail("crops", "%d groups of views: want 1 to 64", len(r.Crops))
		return
	}
	for i, g := range r.Crops {
		if g.MinScale > g.MaxScale {
			c.fail(fmt.Sprintf("crops[%d].min_scale", i), "%g is above max_scale = %g: swap them", g.MinScale, g.MaxScale)
		}
	}
	if r.Clustering() {
		r.checkViews(c, "deepcluster.bank_views", r.DeepCluster.BankViews, "whose embeddings are clustered")
		return
	}
	if r.Views() < 2 {
		c.fail("crops", "one view of an image leaves nothing to predict: set count to 2 or more")
	}
	r.checkViews(c, "swav.assign", r.SwAV.Assign, "whose codes are computed")
}

// checkViews checks a list of views.
func (r *Recipe) checkViews(c *checker, key string, list []int, which string) {
	views := r.Views()
	if len(list) == 0 {
		c.fail(key, "no views: name those %s, such as %v", which, []int{0, 1}[:min(2, views)])
	}
	seen := map[int]bool{}
	for _, a := range list {
		if a >= views {
			c.fail(key, "view %d: the crops give views 0 to %d", a, views-1)
		}
		if seen[a] {
			c.fail(key, "view %d stands there twice", a)
		}
		seen[a] = true
	}
}

func (r *Recipe) checkAugment(c *checker) {
	if _, err := r.Data.TemporalFrames(); err != nil {
		c.fail("data.temporal", "%v", err)
	}
	a := r.Augment
	if a.Blur > 0 && a.BlurMin > a.BlurMax {
		c.fail("augment.blur_min", "%g is above blur_max = %g: swap them", a.BlurMin, a.BlurMax)
	}
	if n, m := len(a.Mean), len(a.Std); n == 0 || m == 0 || n != m && n != 1 && m != 1 {
		c.fail("augment.mean", "%d numbers and %d in augment.std: want one for every channel, or one for all", n, m)
	}
	if in, stored := r.Model.InChannels, r.Data.Channels; in != 0 && stored != 0 && in != stored {
		c.fail("model.in_channels", "%d, but data.channels = %d: leave one of them 0", in, stored)
	}
	if n := r.channels(0); n > 0 {
		if err := r.checkChannels(n); err != nil {
			c.errs = append(c.errs, err)
		}
	}
}

// TemporalFrames is how many frames data.temporal is, 0 where it is empty.
func (d Data) TemporalFrames() (int64, error) {
	if d.Temporal == "" {
		return 0, nil
	}
	text := strings.TrimSpace(d.Temporal)
	frames := 0.0
	if number, ok := strings.CutSuffix(strings.TrimSuffix(text, "s"), "frame"); ok {
		n, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
		if err != nil {
			n = -1
		}
		frames = n
	} else if length, err := time.ParseDuration(text); err == nil {
		frames = length.Seconds() * d.FPS
	}
	if !(frames >= 1 && frames <= maxDuration) {
		return 0, fmt.Errorf(`%q is not a time of at least one frame: write "2s" (at data.fps = %g) or "50 frames"`, d.Temporal, d.FPS)
	}
	return int64(frames), nil
}

// channels is the number of input channels for data of the given number, 0
// where neither says.
func (r *Recipe) channels(data int) int {
	switch {
	case r.Model.InChannels != 0:
		return r.Model.InChannels
	case r.Data.Channels != 0:
		return r.Data.Channels
	}
	return data
}

func (r *Recipe) checkChannels(n int) error {
	for _, v := range []struct {
		key  string
		list []float64
	}{{"augment.mean", r.Augment.Mean}, {"augment.std", r.Augment.Std}} {
		if len(v.list) != 1 && len(v.list) != n {
			return &Error{Key: v.key, Msg: fmt.Sprintf("%s: %d numbers for %d channels: want %d, or one for all (`swav data stats` measures them)", v.key, len(v.list), n, n)}
		}
	}
	return nil
}

func (r *Recipe) checkModel(c *checker) {
	m := r.Model
	switch {
	case m.Arch != "" && (m.Block != "" || len(m.Layers) > 0):
		c.fail("model.arch", `%q already says block and layers: leave those out, or set arch = ""`, m.Arch)
		return
	case m.Arch == "" && m.Block == "":
		c.fail("model.block", `empty: write "basic" or "bottleneck", or name the network with arch`)
		return
	case m.Arch == "" && (len(m.Layers) == 0 || len(m.Layers) > 8):
		c.fail("model.layers", "%d stages: want 1 to 8, such as [2, 2, 2, 2], or name the network with arch", len(m.Layers))
		return
	}
	a, err := r.Arch(max(1, r.channels(3)))
	if err != nil {
		c.errs = append(c.errs, err)
		return
	}
	for i, g := range r.Crops {
		if least := a.MinSize(); g.Size < least {
			c.fail(fmt.Sprintf("crops[%d].size", i), "%d pixels vanish in this network, which halves them to nothing below %d: enlarge them, use stem = \"small\" or fewer stages", g.Size, least)
		}
	}
}

// Arch is the network for data of the given number of channels.
func (r *Recipe) Arch(dataChannels int) (nn.Arch, error) {
	m := r.Model
	a := nn.Arch{Block: nn.Block(m.Block), Layers: append([]int(nil), m.Layers...), Width: 1}
	if m.Arch != "" {
		var err error
		if a, err = nn.ResNet(m.Arch); err != nil {
			return nn.Arch{}, &Error{Key: "model.arch", Msg: "model.arch: " + err.Error()}
		}
	}
	a.Width *= m.Width
	if a.Width > 5 {
		return nn.Arch{}, &Error{Key: "model.width", Msg: fmt.Sprintf("model.width: %s times %g is %g times the usual width: want at most 5", m.Arch, m.Width, a.Width)}
	}
	a.Stem, a.InChannels = nn.Stem(m.Stem), r.channels(dataChannels)
	a.Hidden, a.FeatureDim, a.Prototypes = m.Hidden, m.FeatureDim, m.Prototypes
	if heads := r.DeepCluster.Prototypes; r.Clustering() && len(heads) > 0 {
		if a = a.WithHeads(heads); a.Validate() != nil {
			return nn.Arch{}, &Error{Key: "deepcluster.prototypes", Msg: "deepcluster.prototypes: " + a.Validate().Error()}
		}
	}
	if err := a.Validate(); err != nil {
		return nn.Arch{}, &Error{Key: "model.layers", Msg: "model: " + err.Error()}
	}
	return a, nil
}

func (r *Recipe) checkSchedule(c *checker) {
	t := r.Train
	switch {
	case t.Epochs > 0 && t.Steps > 0:
		c.fail("train.steps", "%d steps and train.epochs = %g: set one of them to 0", t.Steps, t.Epochs)
	case t.Epochs == 0 && t.Steps == 0:
		c.fail("train.epochs", "the run has no length: set train.epochs or train.steps")
	}
	if t.Batch%t.Accumulate != 0 {
		c.fail("train.accumulate", "a batch of %d does not divide into %d parts: choose a divisor", t.Batch, t.Accumulate)
	}
	if t.Batch < 2 {
		c.fail("train.batch_size", "%d image: codes are balanced over a batch, which takes at least 2", t.Batch)
	}
	if part := t.Batch / t.Accumulate; !r.Clustering() && r.SwAV.Queue != 0 && r.SwAV.Queue < part {
		c.fail("swav.queue", "%d is less than the %d images that are pushed at once: raise it or set it to 0", r.SwAV.Queue, part)
	}
	o := r.Optim
	if o.FinalLR > o.LR {
		c.fail("optim.final_lr", "%g is above optim.lr = %g: the rate falls after warm-up", o.FinalLR, o.LR)
	}
	if o.Warmup.epochs && t.Epochs > 0 && o.Warmup.n > t.Epochs || !o.Warmup.epochs && t.Steps > 0 && o.Warmup.n > float64(t.Steps) {
		c.fail("optim.warmup", "%s is longer than the run: shorten it", o.Warmup)
	}
}
