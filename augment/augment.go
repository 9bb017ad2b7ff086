// Package augment makes the views of SwAV's multi-crop: a random resized crop,
// a flip, colour jitter, grayscale, blur and normalisation.
//
// Drawing and doing are apart. [Recipe.Draw] turns a [Key] (seed, epoch, sample,
// view) into [Params] with a counter-based generator; [Apply] is a pure
// function of image and Params. So a view depends on nothing else: not on
// workers, ranks, or the order of files.
//
// Apply reproduces Pillow and torchvision's PIL operations on 8-bit pixels,
// rounding included, in the order of the original implementation: crop, resize
// (bilinear, antialiased, only pixels inside the crop), flip, jitter,
// grayscale, blur, normalise. Output is NHWC float32. Images of 16-bit samples
// pass the same operations unrounded.
//
// Nothing is allocated once a [Scratch] has seen its largest image. A Scratch
// belongs to one goroutine; Recipe, Params and Normalizer are read-only and
// shared freely.
//
// Decoding, files and the order of samples do not belong here.
package augment

import (
	"fmt"
	"math"
)

// Group is a set of crops of equal resolution and scale range.
type Group struct {
	Size  int // output is Size x Size pixels
	Count int // crops for each image
	// MinScale and MaxScale bound the crop's area as a share of the image's.
	MinScale, MaxScale float64
}

// Recipe holds the distributions from which views are drawn. Probabilities are
// in [0, 1].
type Recipe struct {
	Groups []Group

	FlipP float64

	// JitterP is the probability of colour jitter as a whole. Factors are
	// uniform in [max(0, 1-strength), 1+strength]; the hue's shift is uniform
	// in [-Hue, Hue] turns, Hue at most 0.5. A strength of 0 leaves its
	// operation out.
	JitterP                               float64
	Brightness, Contrast, Saturation, Hue float64

	GrayscaleP float64

	// BlurP is the probability of a Gaussian blur with sigma uniform in
	// [BlurMin, BlurMax] pixels of the crop.
	BlurP, BlurMin, BlurMax float64

	// SolarizeP is the probability of inverting samples of 128 and above, after
	// the blur. The original has none.
	SolarizeP float64

	// Mean and Std normalise each channel: (x/255 - Mean) / Std. Their length is
	// the number of channels that views have.
	Mean, Std []float32
}

// Original returns the recipe of the SwAV paper's implementation: two crops of
// 224 and six of 96 pixels. Its red deviation is 0.228, not ImageNet's 0.229,
// in all published runs.
func Original() Recipe {
	return Recipe{
		Groups: []Group{
			{Size: 224, Count: 2, MinScale: 0.14, MaxScale: 1},
			{Size: 96, Count: 6, MinScale: 0.05, MaxScale: 0.14},
		},
		FlipP:   0.5,
		JitterP: 0.8, Brightness: 0.8, Contrast: 0.8, Saturation: 0.8, Hue: 0.2,
		GrayscaleP: 0.2,
		BlurP:      0.5, BlurMin: 0.1, BlurMax: 2,
		Mean: []float32{0.485, 0.456, 0.406},
		Std:  []float32{0.228, 0.224, 0.225},
	}
}

// Channels is the number of channels of the views.
func (r *Recipe) Channels() int { return len(r.Mean) }

// Views is the number of views of one image over all groups.
func (r *Recipe) Views() int {
	n := 0
	for _, g := range r.Groups {
		n += g.Count
	}
	return n
}

// Validate says what is wrong with values that came from outside.
func (r *Recipe) Validate() error {
	if len(r.Groups) == 0 {
		return fmt.Errorf("augmentation has no crops: give at least one crop group")
	}
	for i, g := range r.Groups {
		switch {
		case g.Size < 1 || g.Size > 4096:
			return fmt.Errorf("crop group %d: size %d, want 1 to 4096 pixels", i, g.Size)
		case g.Count < 1:
			return fmt.Errorf("crop group %d: %d crops, want at least 1", i, g.Count)
		case !(g.MinScale > 0 && g.MinScale <= g.MaxScale && g.MaxScale <= 1):
			return fmt.Errorf("crop group %d: scale %g to %g, want 0 < min <= max <= 1", i, g.MinScale, g.MaxScale)
		}
	}
	if v := r.Views(); v > 1<<16 {
		return fmt.Errorf("%d views for each image, at most %d", v, 1<<16)
	}
	for _, p := range []struct {
		name string
		v    float64
	}{
		{"flip", r.FlipP}, {"jitter", r.JitterP}, {"grayscale", r.GrayscaleP},
		{"blur", r.BlurP}, {"solarize", r.SolarizeP},
	} {
		if !(p.v >= 0 && p.v <= 1) {
			return fmt.Errorf("%s probability %g, want 0 to 1", p.name, p.v)
		}
	}
	for _, s := range []struct {
		name string
		v    float64
		max  float64
	}{
		{"brightness", r.Brightness, 100}, {"contrast", r.Contrast, 100},
		{"saturation", r.Saturation, 100}, {"hue", r.Hue, 0.5},
	} {
		if !(s.v >= 0 && s.v <= s.max) {
			return fmt.Errorf("%s strength %g, want 0 to %g", s.name, s.v, s.max)
		}
	}
	if !(r.BlurMin >= 0 && r.BlurMin <= r.BlurMax && r.BlurMax <= 1000) {
		return fmt.Errorf("blur sigma %g to %g, want 0 <= min <= max <= 1000", r.BlurMin, r.BlurMax)
	}
	if len(r.Mean) == 0 || len(r.Mean) != len(r.Std) {
		return fmt.Errorf("%d means and %d deviations, want one of each for every channel", len(r.Mean), len(r.Std))
	}
	for c, s := range r.Std {
		if !(s > 0) || math.IsInf(float64(s), 0) {
			return fmt.Errorf("deviation %g of channel %d, want more than 0", s, c)
		}
	}
	return nil
}

// Rect is a crop in stored pixels; it lies inside the image.
type Rect struct{ Top, Left, Height, Width int }

// Op is one operation of colour jitter.
type Op uint8

const (
	OpBrightness Op = iota
	OpContrast
	OpSaturation
	OpHue
)

// Jitter lists the colour operations that run, in order, with their values.
type Jitter struct {
	Order [4]Op
	N     int // Order[:N] runs

	Brightness, Contrast, Saturation float64 // factors; 1 changes nothing
	Hue                              float64 // shift in turns, -0.5 to 0.5
}

// Params is everything that decides one view of an image.
type Params struct {
	Crop      Rect
	Size      int // output is Size x Size
	Flip      bool
	Jitter    Jitter // N == 0 is none
	Grayscale bool
	BlurSigma float64 // pixels of the output; 0 is none
	Solarize  bool
}
