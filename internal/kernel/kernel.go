// Package kernel has the loops over 8-bit pixels that make a view: resize, colour
// jitter, blur, normalisation.
//
// They exist in plain Go ([Plain]) and, with cgo, in C compiled for several
// instruction sets ([Sets]). All give the same bits, those of Pillow's 8-bit
// operations, so that a view does not depend on the processor; the tests hold
// every set to that.
//
// Between operations an image is planes: all samples of one channel, then all of
// the next. Callers own all memory. Sets are safe for concurrent use.
//
// Which operations run, and in which order, is decided in package augment.
package kernel

// Set is one implementation of the loops. rgb stands for three planes of equal
// length. Slices must have the lengths given here.
type Set interface {
	// Name is "go" or the instruction set.
	Name() string

	// ResizeRows resamples rows of src along x. Their starts are stride bytes
	// apart, and their c channels interleaved; dst is [c][rows][t.N].
	ResizeRows(dst, src []byte, rows, stride, c int, t *Taps)
	// ResizeColumns resamples planes along y: dst is [planes][t.N][width], src
	// [planes][rows][width]. Row 0 of src is row base of what t counts.
	ResizeColumns(dst, src []byte, width, planes, rows, base int, t *Taps)

	// Towards makes every sample from + f (sample - from), cut to 8 bits.
	Towards(pix []byte, from byte, f float32)
	// Sum adds up all samples.
	Sum(pix []byte) uint64
	// SumLuma adds up the luma of all pixels.
	SumLuma(rgb []byte) uint64
	// Saturate makes every sample luma + f (sample - luma), cut to 8 bits.
	Saturate(rgb []byte, f float32)
	// Grey replaces all three planes by their luma.
	Grey(rgb []byte)
	// ShiftHue adds shift to the 8-bit hue. The way through 8-bit HSV changes
	// pixels a little even for a shift of 0; grey ones stay as they are.
	ShiftHue(rgb []byte, shift byte)
	// Solarize inverts samples of 128 and above.
	Solarize(pix []byte)

	// Blur filters planes of w x h: three boxes along x, three along y, each
	// rounded to 8 bits, borders repeated. tmp has BlurMemory bytes.
	Blur(pix, tmp []byte, w, h, planes int, b Box)

	// Normalise makes dst[pixel][channel] = sample * scale + shift; scale and
	// shift have one entry a channel. A lone plane stands for all channels.
	Normalise(dst []float32, pix []byte, planes int, scale, shift []float32)
}

// Sets returns all implementations that can run here, the fastest first.
func Sets() []Set { return append(compiled(), Plain{}) }

var best = Sets()[0]

// Best is the fastest implementation that can run here.
func Best() Set { return best }
