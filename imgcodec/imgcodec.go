// Package imgcodec turns the bytes of an image file into pixels.
//
// It reads JPEG (baseline, progressive, grayscale, CMYK and YCCK), PNG, WebP,
// GIF, BMP, TIFF (8 and 16 bit, any number of channels) and NumPy arrays. It
// goes by the content, not by the name. Of animations it gives the first frame.
// Pixels are what Pillow's convert("RGB") would give, except that grayscale
// stays one channel (callers replicate it after their one-channel work, at a
// third of the cost) and that images of other than one or three channels keep
// them all. Alpha is dropped unless [Options.Alpha] asks for it, 16 bits are cut
// to 8 unless [Options.Deep] does.
//
// Sizes are read from the header and checked against [Options.MaxPixels]
// before memory is set aside. Data that ends early is an error, never a
// half-grey image. All functions may be called concurrently; an [Image] belongs
// to one caller at a time.
//
// With cgo, JPEG goes through libjpeg-turbo, which makes only the pixels that
// [Image.Region] asks for. Without it, the standard library
// decodes and this package upsamples chroma and converts colours as libjpeg
// does, so that pixels stay close to libjpeg's. All other decoders are Go.
//
// Where files lie and what is done to the pixels is not decided here.
package imgcodec

import (
	"bytes"
	"errors"
	"fmt"
	"image"
	"io"
	"strings"

	"swav/interop"
)

// DefaultMaxPixels is the limit on width times height where Options set none.
const DefaultMaxPixels = 64_000_000

// Formats lists the formats that [Decode] reads, for messages.
const Formats = "JPEG, PNG, WebP, GIF, BMP, TIFF, npy"

// Errors that callers tell apart with errors.Is.
var (
	// ErrFormat says that the data is of no format that this package reads.
	ErrFormat = errors.New("image format not supported")
	// ErrTooLarge says that the header declares more than is allowed.
	ErrTooLarge = errors.New("image too large")
	// ErrTruncated says that the data ends before the image does.
	ErrTruncated = errors.New("image data ends early")
)

// Options bound and shape decoding. The zero value is ready for use.
type Options struct {
	// MaxPixels limits width times height; 0 means DefaultMaxPixels. All samples
	// of an image together may take eight bytes for each of these pixels.
	MaxPixels int
	// IgnoreOrientation leaves pixels as stored instead of turning them as the
	// EXIF orientation says. The original's training data was read this way.
	IgnoreOrientation bool
	// Deep keeps the samples of 16-bit PNG, TIFF and npy files in Image.Deep.
	Deep bool
	// Alpha keeps the alpha of PNG and TIFF files as the last channel.
	Alpha bool
}

func (o Options) maxPixels() int {
	if o.MaxPixels <= 0 {
		return DefaultMaxPixels
	}
	return o.MaxPixels
}

// Image is interleaved: the sample of channel c at (x, y) is Pix[(y*W+x)*C+c],
// or Deep[(y*W+x)*C+c] where the samples have 16 bits. C is 1 for grey and 3 for
// RGB.
type Image struct {
	W, H, C int
	Pix     []byte   // 8-bit samples; empty where IsDeep
	Deep    []uint16 // 16-bit samples; empty otherwise

	// Region, if set, lets decoders save work: once the size is known they may
	// call it for the part whose pixels are needed, and leave others undefined.
	Region func(w, h int) image.Rectangle
}

// Reset gives m the size w x h x c in 8 bits and reuses its memory where it
// suffices. The content of Pix is then undefined.
func (m *Image) Reset(w, h, c int) {
	n := w * h * c
	if cap(m.Pix) < n {
		m.Pix = make([]byte, n)
	}
	m.W, m.H, m.C, m.Pix, m.Deep = w, h, c, m.Pix[:n], m.Deep[:0]
}

// ResetDeep is Reset for samples of 16 bits.
func (m *Image) ResetDeep(w, h, c int) {
	n := w * h * c
	if cap(m.Deep) < n {
		m.Deep = make([]uint16, n)
	}
	m.W, m.H, m.C, m.Pix, m.Deep = w, h, c, m.Pix[:0], m.Deep[:n]
}

// Copy makes m's pixels those of src.
func (m *Image) Copy(src *Image) {
	if src.IsDeep() {
		m.ResetDeep(src.W, src.H, src.C)
	} else {
		m.Reset(src.W, src.H, src.C)
	}
	copy(m.Pix, src.Pix)
	copy(m.Deep, src.Deep)
}

// IsDeep tells whether samples have 16 bits.
func (m *Image) IsDeep() bool { return len(m.Deep) > 0 }

// Info is what a header says.
type Info struct {
	Format string // "jpeg", "png", "webp", "gif", "bmp", "tiff", "npy"
	W, H   int    // as stored, before the orientation is applied
	C      int    // channels without alpha
	Depth  int    // bits of a sample that Decode can give: 8 or 16
	Alpha  bool   // an alpha channel that Decode can give
	// Orientation is the EXIF orientation, 1 (upright) to 8.
	Orientation int
	// Subsampled says that colour is stored at a lower resolution than
	// brightness: decoders then differ more from each other.
	Subsampled bool

	frame      int // JPEG: offset after the frame header
	components int // JPEG: as stored, 1, 3 or 4
}

// format is one kind of file.
type format struct {
	name   string
	is     func(data []byte) bool
	info   func(data []byte) (Info, error)
	decode func(dst *Image, data []byte, info Info, o Options) error
}

var formats = []format{
	{"jpeg", hasPrefix("\xff\xd8"), readJPEGInfo, decodePart},
	{"png", hasPrefix(pngSignature), readPNGInfo, decodePNG},
	{"webp", isWebP, readWebPInfo, decodeWebP},
	{"gif", hasPrefix("GIF8"), readGIFInfo, decodeGIF},
	{"bmp", hasPrefix("BM"), readBMPInfo, decodeBMP},
	{"tiff", isTIFF, readTIFFInfo, decodeTIFF},
	{"npy", hasPrefix(interop.NPYMagic), readNPYInfo, decodeNPY},
}

// decodePart decodes what is needed of a JPEG.
func decodePart(dst *Image, data []byte, info Info, o Options) error {
	return decodeJPEG(dst, data, info, dst.region(info.W, info.H, o.turn(info)))
}

func hasPrefix(prefix string) func([]byte) bool {
	return func(data []byte) bool { return bytes.HasPrefix(data, []byte(prefix)) }
}

// Decode decodes a whole file.
func Decode(data []byte, o Options) (*Image, error) {
	m := new(Image)
	if err := DecodeInto(m, data, o); err != nil {
		return nil, err
	}
	return m, nil
}

// DecodeReader reads r to its end, at most maxBytes, and decodes that.
func DecodeReader(r io.Reader, maxBytes int64, o Options) (*Image, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxBytes+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > maxBytes {
		return nil, fmt.Errorf("%w: more than %d bytes", ErrTooLarge, maxBytes)
	}
	return Decode(data, o)
}

// DecodeInto decodes a whole file into dst and reuses dst's memory. After an
// error dst's content is undefined.
func DecodeInto(dst *Image, data []byte, o Options) (err error) {
	f, info, err := readInfo(data)
	if err != nil {
		return err
	}
	defer func() {
		if r := recover(); r != nil { // a bug of a decoder costs its image only
			err = fmt.Errorf("%s: decoder: %v", f.name, r)
		}
	}()
	if err := info.check(o.maxPixels()); err != nil {
		return fmt.Errorf("%s: %w", f.name, err)
	}
	if err := f.decode(dst, data, info, o); err != nil {
		return fmt.Errorf("%s: %w", f.name, err)
	}
	if turn := o.turn(info); turn > 1 {
		orient(dst, turn)
	}
	return nil
}

// turn is the orientation that is applied.
func (o Options) turn(i Info) int {
	if o.IgnoreOrientation {
		return 1
	}
	return i.Orientation
}

// region is the part that is needed of w x h stored pixels, which will be turned.
func (m *Image) region(w, h, turn int) image.Rectangle {
	all := image.Rect(0, 0, w, h)
	if m.Region == nil {
		return all
	}
	var need image.Rectangle
	if turn >= 5 {
		need = m.Region(h, w)
	} else {
		need = m.Region(w, h)
	}
	if need = stored(need, w, h, turn).Intersect(all); need.Empty() {
		return all
	}
	return need
}

// ReadInfo reads the header only. It does not check the size against a limit.
func ReadInfo(data []byte) (Info, error) {
	_, info, err := readInfo(data)
	return info, err
}

func readInfo(data []byte) (*format, Info, error) {
	if len(data) == 0 {
		return nil, Info{}, fmt.Errorf("%w: empty file", ErrTruncated)
	}
	for i := range formats {
		f := &formats[i]
		if !f.is(data) {
			continue
		}
		info, err := f.info(data)
		if err != nil {
			return nil, Info{}, fmt.Errorf("%s: %w", f.name, err)
		}
		info.Format = f.name
		return f, info, nil
	}
	return nil, Info{}, fmt.Errorf("%w: %s (this build reads %s)", ErrFormat, sniff(data), Formats)
}

// check refuses sizes that would take more memory than maxPixels allows.
func (i Info) check(maxPixels int) error {
	switch {
	case i.W <= 0 || i.H <= 0 || i.C <= 0:
		return fmt.Errorf("image of %d x %d pixels, %d channels", i.W, i.H, i.C)
	case i.W > maxPixels/i.H:
		return fmt.Errorf("%w: %d x %d pixels, the limit is %d (data.max_pixels)", ErrTooLarge, i.W, i.H, maxPixels)
	case i.C*i.Depth/8 > 8*maxPixels/(i.W*i.H):
		return fmt.Errorf("%w: %d x %d pixels of %d channels in %d bits, the limit is %d bytes", ErrTooLarge, i.W, i.H, i.C, i.Depth, 8*maxPixels)
	}
	return nil
}

// early marks errors of decoders that say that data ends early. Some tell it by
// their text only.
func early(err error, texts ...string) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: %w", ErrTruncated, err)
	}
	for _, t := range texts {
		if err != nil && strings.Contains(err.Error(), t) {
			return fmt.Errorf("%w: %w", ErrTruncated, err)
		}
	}
	return err
}

// sniff names well-known formats that are not read, so that messages help.
func sniff(data []byte) string {
	for _, k := range []struct{ prefix, name string }{
		{"\x00\x00\x00\x0cjP", "a JPEG 2000"}, {"\xff\x0a", "a JPEG XL"}, {"8BPS", "a Photoshop file"},
		{"%PDF", "a PDF"}, {"<svg", "an SVG"}, {"<?xml", "an XML file"}, {"<!DOCTYPE", "a web page"}, {"<html", "a web page"},
	} {
		if bytes.HasPrefix(data, []byte(k.prefix)) {
			return k.name
		}
	}
	if len(data) >= 12 && string(data[4:8]) == "ftyp" {
		return "an HEIF or AVIF"
	}
	return fmt.Sprintf("starts with % x", data[:min(len(data), 8)])
}
