package verify

import (
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"

	"swav/augment"
	"swav/imgcodec"
	"swav/interop"
)

// augmentCase is the case.json of a recorded image transformation.
type augmentCase struct {
	Image string `json:"image"`
	Crop  struct {
		Top    int `json:"top"`
		Left   int `json:"left"`
		Height int `json:"height"`
		Width  int `json:"width"`
	} `json:"crop"`
	Size   int  `json:"size"`
	Flip   bool `json:"flip"`
	Jitter *struct {
		Order      []string `json:"order"`
		Brightness float64  `json:"brightness"`
		Contrast   float64  `json:"contrast"`
		Saturation float64  `json:"saturation"`
		Hue        float64  `json:"hue"`
	} `json:"jitter"`
	Grayscale bool     `json:"grayscale"`
	BlurSigma *float64 `json:"blur_sigma"`
}

// AugmentStage compares the image after one stage with the recorded one.
// Differences are in steps of 8-bit samples, those of the last stage in
// normalised values.
type AugmentStage struct {
	Name      string  `json:"name"`
	Mean      float64 `json:"mean"`
	P999      float64 `json:"p99.9"` // 99.9th percentile
	MeanLimit float64 `json:"mean_limit"`
	P999Limit float64 `json:"p99.9_limit"`
	Pass      bool    `json:"pass"`
}

// AugmentReport is the outcome of one case.
type AugmentReport struct {
	Case    string         `json:"case"`
	Decoder string         `json:"decoder"`
	Kernels string         `json:"kernels"` // the loops over pixels
	Stages  []AugmentStage `json:"stages"`
	Pass    bool           `json:"pass"`
}

// Limits of the reference's rule for pipelines that round to 8 bits between
// operations (its column A): mean and 99.9th percentile. The decoder decides
// more than the operations where colour is subsampled.
type augmentLimits struct{ cropMean, cropP999, mean, p999 float64 }

var (
	limitsWhole      = augmentLimits{0.6, 2.5, 1.0, 8}
	limitsSubsampled = augmentLimits{1.0, 16, 1.5, 18}
)

// normalisedError is the largest error of normalisation alone, given the
// recorded 8-bit image: float32 rounding.
const normalisedError = 1e-5

// maxCaseFile bounds what is read of a case's image and description.
const maxCaseFile = 64 << 20

// Augment replays the recorded image transformation in dir (case.json, an
// image, expect.safetensors) with imgcodec and augment.Apply, as the loader
// calls them, and compares every stage.
func Augment(dir string) (AugmentReport, error) {
	r := AugmentReport{Case: filepath.Base(filepath.Clean(dir)), Decoder: imgcodec.Backend, Kernels: augment.Kernels()}
	fail := func(err error) (AugmentReport, error) {
		return r, fmt.Errorf("augmentation case %s: %w", dir, err)
	}
	c, err := readAugmentCase(dir)
	if err != nil {
		return fail(err)
	}
	data, err := readBounded(filepath.Join(dir, c.Image))
	if err != nil {
		return fail(err)
	}
	info, err := imgcodec.ReadInfo(data)
	if err != nil {
		return fail(fmt.Errorf("%s: %w", c.Image, err))
	}
	// Crops are in stored pixels. As in training only the crop is decoded.
	img := &imgcodec.Image{Region: c.region}
	if err := imgcodec.DecodeInto(img, data, imgcodec.Options{IgnoreOrientation: true}); err != nil {
		return fail(fmt.Errorf("%s: %w", c.Image, err))
	}
	p, err := c.params(img)
	if err != nil {
		return fail(err)
	}
	want, err := interop.OpenSafetensors(filepath.Join(dir, "expect.safetensors"))
	if err != nil {
		return fail(err)
	}
	defer want.Close()
	limits := limitsWhole
	if info.Subsampled {
		limits = limitsSubsampled
	}
	if err := r.replay(img, &p, want, limits); err != nil {
		return fail(err)
	}
	r.Pass = !slices.ContainsFunc(r.Stages, func(s AugmentStage) bool { return !s.Pass })
	return r, nil
}

// replay makes the view and compares each stage as it passes.
func (r *AugmentReport) replay(img *imgcodec.Image, p *augment.Params, want *interop.Safetensors, limits augmentLimits) error {
	const channels = 3
	recipe := augment.Original()
	norm := augment.NewNormalizer(recipe.Mean, recipe.Std)
	pixels := p.Size * p.Size
	names := [...]string{augment.Cropped: "cropped", augment.Jittered: "jittered", augment.Grayed: "grayed", augment.Blurred: "blurred"}
	var expected [len(names)][]byte
	for i, name := range names {
		b, err := want.Bytes(name)
		if err != nil {
			return err
		}
		if info, _ := want.Info(name); info.DType != "U8" || len(b) != pixels*channels {
			return fmt.Errorf("%s has %d bytes of type %s, want %d x %d x 3 of U8", name, len(b), info.DType, p.Size, p.Size)
		}
		expected[i] = b
	}
	normalised, err := want.Float32("normalised")
	if err != nil {
		return err
	}
	if len(normalised) != pixels*channels {
		return fmt.Errorf("normalised has %d values, want 3 x %d x %d", len(normalised), p.Size, p.Size)
	}

	diff := make([]float64, pixels*channels)
	scratch := augment.Scratch{OnStage: func(s augment.Stage, pix []byte, c int) {
		for i := range diff {
			got := pix[min(i%channels, c-1)*pixels+i/channels] // grey stands for three
			diff[i] = math.Abs(float64(got) - float64(expected[s][i]))
		}
		mean, p999 := limits.mean, limits.p999
		if s == augment.Cropped {
			mean, p999 = limits.cropMean, limits.cropP999
		}
		r.add(names[s], diff, mean, p999)
	}}
	got := make([]float32, pixels*channels)
	augment.Apply(got, img, p, norm, &scratch)
	for i, v := range got {
		ch := i % channels
		diff[i] = math.Abs(float64(v)-float64(normalised[ch*pixels+i/channels])) * 255 * float64(recipe.Std[ch])
	}
	r.add("normalised", diff, limits.mean, limits.p999)

	planes := make([]byte, pixels*channels)
	for i, v := range expected[augment.Blurred] {
		planes[i%channels*pixels+i/channels] = v
	}
	norm.Apply(got, planes, channels)
	worst := 0.0
	for i, v := range got {
		worst = notLess(worst, math.Abs(float64(v)-float64(normalised[i%channels*pixels+i/channels])))
	}
	r.Stages = append(r.Stages, AugmentStage{Name: "normalised from recorded blurred (largest)", Mean: worst, P999: worst,
		MeanLimit: normalisedError, P999Limit: normalisedError, Pass: worst <= normalisedError})
	return nil
}

// notLess is the larger number, NaN if either is.
func notLess(a, b float64) float64 {
	if b <= a {
		return a
	}
	return b
}

func (r *AugmentReport) add(name string, diff []float64, meanLimit, p999Limit float64) {
	sorted := slices.Clone(diff)
	slices.Sort(sorted)
	sum := 0.0
	for _, d := range sorted {
		sum += d
	}
	s := AugmentStage{Name: name, MeanLimit: meanLimit, P999Limit: p999Limit,
		Mean: sum / float64(len(sorted)), P999: sorted[int(math.Ceil(0.999*float64(len(sorted)-1)))]}
	// NaN is beyond any limit.
	s.Pass = s.Mean <= meanLimit && s.P999 <= p999Limit
	r.Stages = append(r.Stages, s)
}

func readAugmentCase(dir string) (*augmentCase, error) {
	data, err := readBounded(filepath.Join(dir, "case.json"))
	if err != nil {
		return nil, err
	}
	c := new(augmentCase)
	if err := json.Unmarshal(data, c); err != nil {
		return nil, fmt.Errorf("case.json: %w", err)
	}
	if !filepath.IsLocal(c.Image) {
		return nil, fmt.Errorf("case.json: image %q is not a file of this folder", c.Image)
	}
	return c, nil
}

// region is the crop, which need not fit: params says whether it does.
func (c *augmentCase) region(int, int) image.Rectangle {
	return image.Rect(c.Crop.Left, c.Crop.Top, c.Crop.Left+c.Crop.Width, c.Crop.Top+c.Crop.Height)
}

// params checks the case against its image.
func (c *augmentCase) params(img *imgcodec.Image) (augment.Params, error) {
	p := augment.Params{
		Crop: augment.Rect{Top: c.Crop.Top, Left: c.Crop.Left, Height: c.Crop.Height, Width: c.Crop.Width},
		Size: c.Size, Flip: c.Flip, Grayscale: c.Grayscale,
	}
	if p.Size < 1 || p.Size > 4096 {
		return p, fmt.Errorf("size %d, want 1 to 4096", p.Size)
	}
	if r := p.Crop; r.Top < 0 || r.Left < 0 || r.Height < 1 || r.Width < 1 || r.Top > img.H-r.Height || r.Left > img.W-r.Width {
		return p, fmt.Errorf("crop %+v outside the image of %d x %d pixels", r, img.W, img.H)
	}
	if c.BlurSigma != nil {
		if p.BlurSigma = *c.BlurSigma; p.BlurSigma < 0 || p.BlurSigma > 1000 {
			return p, fmt.Errorf("blur_sigma %g, want 0 to 1000", p.BlurSigma)
		}
	}
	j := c.Jitter
	if j == nil {
		return p, nil
	}
	p.Jitter = augment.Jitter{Brightness: j.Brightness, Contrast: j.Contrast, Saturation: j.Saturation, Hue: j.Hue}
	ops := map[string]augment.Op{"brightness": augment.OpBrightness, "contrast": augment.OpContrast,
		"saturation": augment.OpSaturation, "hue": augment.OpHue}
	for _, name := range j.Order {
		op, ok := ops[name]
		if !ok || p.Jitter.N == len(p.Jitter.Order) {
			return p, fmt.Errorf("jitter order %q, want at most four of brightness, contrast, saturation, hue", j.Order)
		}
		p.Jitter.Order[p.Jitter.N] = op
		p.Jitter.N++
	}
	return p, nil
}

func readBounded(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxCaseFile+1))
	if err == nil && len(data) > maxCaseFile {
		err = errors.New("file too large")
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return data, nil
}
