package augment

import (
	"fmt"
	"math"

	"swav/imgcodec"
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
	x, y taps
	rows []byte // after the resize along x
	a, b []byte // the crop and its twin for the blur
	luma []byte // one-channel copy of a colour crop
	deep deepScratch

	// OnStage, if set, sees the 8-bit crop (size x size x c, interleaved) after
	// each stage. A one-channel image keeps c = 1 until normalisation. It is
	// there for verification; pix is valid during the call only. Images of 16-bit
	// samples have no such stages.
	OnStage func(s Stage, pix []byte, c int)
}

// Normalizer maps 8-bit samples to (x/255 - mean) / std by table, and those of
// 16 bits, as a share of 65535, without.
type Normalizer struct {
	table     [][256]float32
	mean, std []float32
}

// NewNormalizer makes the tables; the number of means is the number of channels.
func NewNormalizer(mean, std []float32) *Normalizer {
	if len(mean) != len(std) || len(mean) == 0 {
		panic(fmt.Sprintf("augment: %d means and %d deviations", len(mean), len(std)))
	}
	n := &Normalizer{table: make([][256]float32, len(mean)), mean: mean, std: std}
	for c := range n.table {
		for v := range n.table[c] {
			n.table[c][v] = (float32(v)/255 - mean[c]) / std[c]
		}
	}
	return n
}

// Channels is the number of channels of the views.
func (n *Normalizer) Channels() int { return len(n.table) }

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
	c := cropResize(img, p.Crop, p.Size, p.Size, window{0, 0, p.Size, p.Size}, p.Flip, norm, s)
	a := s.a
	s.stage(Cropped, a, c)
	jitter(a, c, &p.Jitter)
	s.stage(Jittered, a, c)
	if p.Grayscale && c == 3 {
		grey(a)
	}
	s.stage(Grayed, a, c)
	if p.BlurSigma > 0 {
		s.b = grow(s.b, len(a))
		blur(a, s.b, p.Size, p.Size, c, p.BlurSigma)
	}
	s.stage(Blurred, a, c)
	if p.Solarize {
		solarize(a)
	}
	norm.Apply(dst, a, c)
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
	norm.Apply(dst, s.a, c)
}

// centre is where n of all begin when they are central: half away, rounded to
// even as torchvision's CenterCrop does.
func centre(all, n int) int { return int(math.RoundToEven(float64(all-n) / 2)) }

func (s *Scratch) stage(st Stage, pix []byte, c int) {
	if s.OnStage != nil {
		s.OnStage(st, pix, c)
	}
}

func jitter(pix []byte, c int, j *Jitter) {
	for _, op := range j.Order[:j.N] {
		switch {
		case op == OpBrightness:
			towards(pix, 0, float32(j.Brightness))
		case op == OpContrast:
			towards(pix, meanGrey(pix, c), float32(j.Contrast))
		case op == OpSaturation && c == 3:
			saturate(pix, float32(j.Saturation))
		case op == OpHue && c == 3:
			shiftHue(pix, j.Hue)
		}
	}
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
	s.x.set(crop.Width, w, win.x, win.w)
	s.y.set(crop.Height, h, win.y, win.h)
	// Only the rows that the second pass reads go through the first.
	first := int(s.y.first[0])
	last := int(s.y.first[win.h-1] + s.y.count[win.h-1])
	s.rows = grow(s.rows, (last-first)*win.w*c)
	resizeRows(s.rows, src[first*stride:], last-first, stride, win.w, c, &s.x, flip)
	s.a = grow(s.a, win.w*win.h*c)
	resizeColumns(s.a, s.rows, win.h, win.w*c, first, &s.y)
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
	s.luma = grow(s.luma, w*h)
	for y := range h {
		in, out := src[y*stride:][:3*w], s.luma[y*w:][:w]
		for x := range out {
			out[x] = luma(in[3*x], in[3*x+1], in[3*x+2])
		}
	}
	return s.luma
}

// Apply normalises pix of c channels into dst, and repeats grey where views
// have three.
func (n *Normalizer) Apply(dst []float32, pix []byte, c int) {
	want := n.Channels()
	if len(dst) != len(pix)/c*want {
		panic(fmt.Sprintf("augment: destination of %d values for %d pixels of %d channels", len(dst), len(pix)/c, want))
	}
	switch {
	case want == 1:
		t := &n.table[0]
		for i, v := range pix {
			dst[i] = t[v]
		}
	case want == 3:
		t0, t1, t2 := &n.table[0], &n.table[1], &n.table[2]
		if c == 1 {
			for _, v := range pix {
				dst[0], dst[1], dst[2] = t0[v], t1[v], t2[v]
				dst = dst[3:]
			}
			return
		}
		for ; len(pix) >= 3; pix, dst = pix[3:], dst[3:] {
			dst[0], dst[1], dst[2] = t0[pix[0]], t1[pix[1]], t2[pix[2]]
		}
	default:
		for i := 0; i < len(pix); i += want {
			for ch := range want {
				dst[i+ch] = n.table[ch][pix[i+ch]]
			}
		}
	}
}
