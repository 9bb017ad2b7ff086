package kernel

import "math"

// Box is one extended box filter: full weight over the 2R+1 pixels around the
// centre and a fractional one on the pixel beyond at either side, in 24-bit fixed
// point.
type Box struct {
	R         int
	Full, Far uint32
}

// BoxFor returns the box that, run three times, approximates a Gaussian of the
// given sigma (Gwosdek et al., "Theoretical Foundations of Gaussian Convolution
// by Extended Box Filtering", SSVM 2011), in the float32 steps of Pillow's
// BoxBlur. ok is false where nothing is left to blur.
func BoxFor(sigma float64) (b Box, ok bool) {
	const passes = 3
	s2 := float32(float32(sigma)*float32(sigma)) / passes
	length := float32(math.Sqrt(float64(12*float64(s2)) + 1))
	l := float32(math.Floor((float64(length) - 1) / 2))
	a := float32((2*l + 1) * (float32(l*(l+1)) - float32(3*s2)))
	a /= 6 * (s2 - float32((l+1)*(l+1)))
	radius := l + a
	if !(radius > 0) {
		return Box{}, false
	}
	b.R = int(radius)
	b.Full = uint32(float32(1<<24) / (float32(radius*2) + 1))
	b.Far = (1<<24 - uint32(2*b.R+1)*b.Full) / 2
	return b, true
}

// BlurMemory is the working memory of Set.Blur: a plane, and two strips of rows
// with their repeated ends.
func BlurMemory(w, h int, b Box) int { return w*h + 2*strip*(w+2*(b.R+1)) }

// strip is the number of rows that C kernels take at a time (STRIP in blur.h).
const strip = 8

// mix rounds the weighted sum of the samples with full and with fractional weight.
func (b Box) mix(full, far uint32) byte {
	return byte((full*b.Full + far*b.Far + 1<<23) >> 24)
}
