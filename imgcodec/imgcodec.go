// Package imgcodec turns the bytes of an image file into 8-bit pixels.
//
// It reads JPEG (baseline, progressive, grayscale, CMYK and YCCK) and PNG (8
// and 16 bit, palette, grayscale, alpha dropped) and gives what Pillow's
// convert("RGB") would give, except that grayscale stays one channel: callers
// replicate it after their one-channel work, at a third of the cost.
//
// Sizes are read from the header and checked against [Options.MaxPixels]
// before memory is set aside. Data that ends early is an error, never a
// half-grey image. All functions may be called concurrently; an [Image] belongs
// to one caller at a time.
//
// With cgo, JPEG goes through libjpeg-turbo, which makes only the pixels that
// [Image.Region] asks for. Without it, the standard library
// decodes and this package upsamples chroma and converts colours as libjpeg
// does, so that pixels stay close to libjpeg's.
//
// Where files lie and what is done to the pixels is not decided here.
package imgcodec

import (
	"bytes"
	"errors"
	"fmt"
	"image"
	"io"
)

// DefaultMaxPixels is the limit on width times height where Options set none.
const DefaultMaxPixels = 64_000_000

// Formats lists the formats that [Decode] reads, for messages.
const Formats = "JPEG, PNG"

// Errors that callers tell apart with errors.Is.
var (
	// ErrFormat says that the data is of no format that this package reads.
	ErrFormat = errors.New("image format not supported")
	// ErrTooLarge says that the header declares more pixels than allowed.
	ErrTooLarge = errors.New("image too large")
	// ErrTruncated says that the data ends before the image does.
	ErrTruncated = errors.New("image data ends early")
)

// Options bound and shape decoding. The zero value is ready for use.
type Options struct {
	// MaxPixels limits width times height; 0 means DefaultMaxPixels.
	MaxPixels int
	// IgnoreOrientation leaves pixels as stored instead of turning them as the
	// EXIF orientation says. The original's training data was read this way.
	IgnoreOrientation bool
}

func (o Options) maxPixels() int {
	if o.MaxPixels <= 0 {
		return DefaultMaxPixels
	}
	return o.MaxPixels
}

// Image is 8-bit interleaved: the sample of channel c at (x, y) is
// Pix[(y*W+x)*C+c]. C is 1 (grey) or 3 (RGB) when it comes from this package;
// other sources may fill more channels.
type Image struct {
	W, H, C int
	Pix     []byte

	// Region, if set, lets decoders save work: once the size is known they may
	// call it for the part whose pixels are needed, and leave others undefined.
	Region func(w, h int) image.Rectangle
}

// Reset gives m the size w x h x c and reuses its memory where it suffices.
// The content of Pix is then undefined.
func (m *Image) Reset(w, h, c int) {
	n := w * h * c
	if cap(m.Pix) < n {
		m.Pix = make([]byte, n)
	}
	m.W, m.H, m.C, m.Pix = w, h, c, m.Pix[:n]
}

// Info is what a header says.
type Info struct {
	Format string // "jpeg", "png"
	W, H   int    // as stored, before the orientation is applied
	C      int    // channels that Decode will give: 1 or 3
	// Orientation is the EXIF orientation, 1 (upright) to 8.
	Orientation int
	// Subsampled says that colour is stored at a lower resolution than
	// brightness: decoders then differ more from each other.
	Subsampled bool

	frame      int // JPEG: offset after the frame header
	components int // JPEG: as stored, 1, 3 or 4
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
func DecodeInto(dst *Image, data []byte, o Options) error {
	info, err := ReadInfo(data)
	if err != nil {
		return err
	}
	if err := checkSize(info.W, info.H, o.maxPixels()); err != nil {
		return err
	}
	turn := 1
	if !o.IgnoreOrientation {
		turn = info.Orientation
	}
	switch info.Format {
	case "jpeg":
		err = decodeJPEG(dst, data, info, dst.region(info.W, info.H, turn))
	case "png":
		err = decodePNG(dst, data, info)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", info.Format, err)
	}
	if turn > 1 {
		orient(dst, turn)
	}
	return nil
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
	switch {
	case len(data) == 0:
		return Info{}, fmt.Errorf("%w: empty file", ErrTruncated)
	case bytes.HasPrefix(data, []byte("\xff\xd8")):
		info, err := readJPEGInfo(data)
		if err != nil {
			err = fmt.Errorf("jpeg: %w", err)
		}
		return info, err
	case bytes.HasPrefix(data, []byte(pngSignature)):
		info, err := readPNGInfo(data)
		if err != nil {
			err = fmt.Errorf("png: %w", err)
		}
		return info, err
	}
	return Info{}, fmt.Errorf("%w: %s (this build reads %s)", ErrFormat, sniff(data), Formats)
}

func checkSize(w, h, maxPixels int) error {
	if w <= 0 || h <= 0 {
		return fmt.Errorf("image of %d x %d pixels", w, h)
	}
	if w > maxPixels/h {
		return fmt.Errorf("%w: %d x %d pixels, the limit is %d", ErrTooLarge, w, h, maxPixels)
	}
	return nil
}

// sniff names well-known formats that are not read, so that messages help.
func sniff(data []byte) string {
	for _, k := range []struct{ prefix, name string }{
		{"GIF8", "a GIF"}, {"BM", "a BMP"}, {"II*\x00", "a TIFF"}, {"MM\x00*", "a TIFF"},
		{"\x00\x00\x00\x0cjP", "a JPEG 2000"}, {"\xff\x0a", "a JPEG XL"}, {"8BPS", "a Photoshop file"},
		{"%PDF", "a PDF"}, {"<svg", "an SVG"}, {"<?xml", "an XML file"}, {"<!DOCTYPE", "a web page"}, {"<html", "a web page"},
	} {
		if bytes.HasPrefix(data, []byte(k.prefix)) {
			return k.name
		}
	}
	if len(data) >= 12 && string(data[:4]) == "RIFF" && string(data[8:12]) == "WEBP" {
		return "a WebP"
	}
	if len(data) >= 12 && string(data[4:8]) == "ftyp" {
		return "an HEIF or AVIF"
	}
	return fmt.Sprintf("starts with % x", data[:min(len(data), 8)])
}
