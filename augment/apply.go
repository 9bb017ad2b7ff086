package augment

import (
	"fmt"
	"math"

	"swav/imgcodec"
	"swav/internal/kernel"
)

// Stage names the image between two steps of [Apply].
type Stage int

const (
	Cropped  Stage = iota // after crop, resize and flip
	Jittered              // after colour jitter
	Grayed                // after grayscale
	Blurred               // after blur
)

// Scratch is the working memory of one goroutine. The zero value is ready.
type Scratch struct {
	x, y kernel.Taps
	rows []byte // after the resize along x
	a    []byte // the crop: planes, one a channel
	blur []byte
	luma []byte // one-channel copy of a colour crop
	deep deepScratch

	// Kernels are the loops over pixels; nil means the fastest. All give the
	// same views.
	Kernels kernel.Set
	// OnStage, if set, sees the 8-bit crop after each stage: c planes of size x
	// size. A one-channel image keeps c = 1 until normalisation. It is there for
	// verification and for measuring; pix is valid during the call only. Images of
	// 16-bit samples have no such stages.
	OnStage func(s Stage, pix []byte, c int)
}

// Normalizer maps 8-bit samples to (x/255 - mean) / std, and those of 16 bits as
// shares of 65535.
type Normalizer struct{ scale, shift []float32 }

// NewNormalizer takes a mean and a deviation for each channel.
func NewNormalizer(mean, std []float32) *Normalizer {
	if len(mean) != len(std) || len(mean) == 0 {
		panic(fmt.Sprintf("augment: %d means and %d deviations", len(mean), len(std)))
	}
	n := &Normalizer{make([]float32, len(mean)), make([]float32, len(mean))}
	for c := range mean {
		n.scale[c] = float32(1 / (255 * float64(std[c])))
		n.shift[c] = float32(-float64(mean[c]) / float64(std[c]))
	}
	return n
}

// Channels is the number of channels of the views.
func (n *Normalizer) Channels() int { return len(n.scale) }

// CheckImage says whether images of c channels can become views of n's
// channels: equal counts, grey to anything of three, colour to grey.
func (n *Normalizer) CheckImage(c int) error {
	if want := n.Channels(); c != want && !(c == 1 && want == 3) && !(c == 3 && want == 1) {
		return fmt.Errorf("image has %d channels, views have %d (data.channels, model.in_channels)", c, want)
	}
	return nil
}

// Apply makes the view p of img: dst[size][size][channels], normalised. Sizes
// and the crop must fit ([Normalizer.CheckImage] for channels); Apply panics
// where they do not.
//
// Brightness and contrast work on any number of channels, saturation, hue and
// grayscale on three only; on others they change nothing.
func Apply(dst []float32, img *imgcodec.Image, p *Params, norm *Normalizer, s *Scratch) {
	if img.IsDeep() {
		applyDeep(dst, img, p, norm, s)
		return
	}
	k := s.kernels()
	c := cropResize(img, p.Crop, p.Size, p.Size, window{0, 0, p.Size, p.Size}, p.Flip, norm, s)
	a := s.a
	s.stage(Cropped, a, c)
	jitter(k, a, c, &p.Jitter)
	s.stage(Jittered, a, c)
	if p.Grayscale && c == 3 {
		k.Grey(a)
	}
	s.stage(Grayed, a, c)
	if p.BlurSigma > 0 {
		if box, ok := kernel.BoxFor(p.BlurSigma); ok {
			s.blur = kernel.Grow(s.blur, kernel.BlurMemory(p.Size, p.Size, box))
			k.Blur(a, s.blur, p.Size, p.Size, c, box)
		}
	}
	s.stage(Blurred, a, c)
	if p.Solarize {
		k.Solarize(a)
	}
	norm.apply(k, dst, a, c)
}

// Kernels names the loops over pixels that run here, for run records.
func Kernels() string { return kernel.Best().Name() }

func (s *Scratch) kernels() kernel.Set {
	if s.Kernels == nil {
		return kernel.Best()
	}
	return s.Kernels
}

// Center makes the view for features: the shorter side resized to resize pixels
// (at least size), the central size x size cut out, normalised. An image that is
// size x size already stays as it is.
func Center(dst []float32, img *imgcodec.Image, resize, size int, norm *Normalizer, s *Scratch) {
	if resize < size {
		panic(fmt.Sprintf("augment: centre of %d pixels from a side of %d", size, resize))
	}
	w, h := resize, resize
	switch {
	case img.W == size && img.H == size:
		w, h = size, size
	case img.W <= img.H:
		h = int(int64(resize) * int64(img.H) / int64(img.W))
	default:
		w = int(int64(resize) * int64(img.W) / int64(img.H))
	}
	whole := Rect{Height: img.H, Width: img.W}
	win := window{centre(w, size), centre(h, size), size, size}
	if img.IsDeep() {
		c := deepCropResize(img, whole, w, h, win, false, norm, s)
		norm.applyDeep(dst, s.deep.a, c)
		return
	}
	c := cropResize(img, whole, w, h, win, false, norm, s)
	norm.apply(s.kernels(), dst, s.a, c)
}

// centre is where n of all begin when they are central: half away, rounded to
// even as torchvision's CenterCrop does.
func centre(all, n int) int { return int(math.RoundToEven(float64(all-n) / 2)) }

func (s *Scratch) stage(st Stage, pix []byte, c int) {
	if s.OnStage != nil {
		s.OnStage(st, pix, c)
	}
}

func jitter(k kernel.Set, pix []byte, c int, j *Jitter) {
	for _, op := range j.Order[:j.N] {
		switch {
		case op == OpBrightness:
			k.Towards(pix, 0, float32(j.Brightness))
		case op == OpContrast:
			k.Towards(pix, meanGrey(k, pix, c), float32(j.Contrast))
		case op == OpSaturation && c == 3:
			k.Saturate(pix, float32(j.Saturation))
		case op == OpHue && c == 3:
			k.ShiftHue(pix, byte(int(j.Hue*255)))
		}
	}
}

// meanGrey is the mean luma, rounded. For other than three channels it is the
// mean of all samples.
func meanGrey(k kernel.Set, pix []byte, c int) byte {
	sum, n := uint64(0), len(pix)
	if c == 3 {
		sum, n = k.SumLuma(pix), n/3
	} else {
		sum = k.Sum(pix)
	}
	return byte(float64(sum)/float64(n) + 0.5)
}

// window is a part of the resized crop.
type window struct{ x, y, w, h int }

// cropResize resizes the crop to w x h pixels and leaves the window of that in
// s.a. It returns the channels there.
func cropResize(img *imgcodec.Image, crop Rect, w, h int, win window, flip bool, norm *Normalizer, s *Scratch) int {
	checkCrop(img, crop, norm)
	c, stride := img.C, img.W*img.C
	src := img.Pix[crop.Top*stride+crop.Left*c:]
	if c == 3 && norm.Channels() == 1 {
		src = s.toLuma(src, crop.Width, crop.Height, stride)
		c, stride = 1, crop.Width
	}
	k := s.kernels()
	s.x.Set(crop.Width, w, win.x, win.w, flip)
	s.y.Set(crop.Height, h, win.y, win.h, false)
	// Only the rows that the second pass reads go through the first.
	first, rows := s.y.Begin, s.y.End-s.y.Begin
	s.rows = kernel.Grow(s.rows, rows*win.w*c)
	k.ResizeRows(s.rows, src[first*stride:], rows, stride, c, &s.x)
	s.a = kernel.Grow(s.a, win.w*win.h*c)
	k.ResizeColumns(s.a, s.rows, win.w, c, rows, first, &s.y)
	return c
}

func checkCrop(img *imgcodec.Image, crop Rect, norm *Normalizer) {
	if err := norm.CheckImage(img.C); err != nil {
		panic("augment: " + err.Error())
	}
	if crop.Top < 0 || crop.Left < 0 || crop.Height < 1 || crop.Width < 1 ||
		crop.Top > img.H-crop.Height || crop.Left > img.W-crop.Width {
		panic(fmt.Sprintf("augment: crop %+v of an image of %d x %d pixels", crop, img.W, img.H))
	}
}

func (s *Scratch) toLuma(src []byte, w, h, stride int) []byte {
	s.luma = kernel.Grow(s.luma, w*h)
	for y := range h {
		in, out := src[y*stride:][:3*w], s.luma[y*w:][:w]
		for x := range out {
			out[x] = kernel.Luma(in[3*x], in[3*x+1], in[3*x+2])
		}
	}
	return s.luma
}

// Apply normalises pix of c planes into dst, and repeats grey where views have
// more channels.
func (n *Normalizer) Apply(dst []float32, pix []byte, c int) { n.apply(kernel.Best(), dst, pix, c) }

func (n *Normalizer) apply(k kernel.Set, dst []float32, pix []byte, c int) {
	if want := n.Channels(); len(dst) != len(pix)/c*want {
		panic(fmt.Sprintf("augment: destination of %d values for %d pixels of %d channels", len(dst), len(pix)/c, want))
	}
	k.Normalise(dst, pix, c, n.scale, n.shift)
}
