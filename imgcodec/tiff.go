package imgcodec

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/image/tiff"
)

// Tags and values of TIFF that matter here.
const (
	tagWidth, tagHeight      = 256, 257
	tagBits                  = 258
	tagCompression           = 259
	tagPhotometric           = 262
	tagStrips, tagStripBytes = 273, 279
	tagOrientation           = 274
	tagSamples               = 277
	tagRowsPerStrip          = 278
	tagPlanar                = 284
	tagPredictor             = 317
	tagTileW, tagTileH       = 322, 323
	tagTiles, tagTileBytes   = 324, 325
	tagExtra                 = 338
	tagSampleFormat          = 339

	// Colour models and compressions.
	whiteIsZero, blackIsZero, photoRGB, photoPalette, photoCMYK = 0, 1, 2, 3, 5
	faxG3, faxG4                                                = 3, 4
)

// tiffFile is the directory of a file's first image.
type tiffFile struct {
	data  []byte
	order binary.ByteOrder
	big   bool // BigTIFF: 64-bit offsets
	tags  map[int]tiffField
}

// tiffField is where the numbers of a tag lie.
type tiffField struct {
	at, count, size int
}

func isTIFF(data []byte) bool {
	if len(data) < 4 {
		return false
	}
	switch string(data[:4]) {
	case "II*\x00", "MM\x00*", "II+\x00", "MM\x00+":
		return true
	}
	return false
}

// openTIFF reads the first directory. It keeps places only, all of them inside
// data.
func openTIFF(data []byte) (*tiffFile, error) {
	f := &tiffFile{data: data, order: binary.LittleEndian, tags: map[int]tiffField{}}
	if data[0] == 'M' {
		f.order = binary.BigEndian
	}
	f.big = f.order.Uint16(data[2:]) == '+'
	// A directory is a count and entries of tag, type, count and value.
	head, counter, entry, value := 4, 2, 12, 4
	if f.big {
		head, counter, entry, value = 8, 8, 20, 8
	}
	start, ok := f.uint(head, value)
	if !ok || start > uint64(len(data)) {
		return nil, fmt.Errorf("%w: no directory", ErrTruncated)
	}
	at := int(start)
	entries, ok := f.uint(at, counter)
	if !ok || entries > uint64(len(data)-at-counter)/uint64(entry) {
		return nil, fmt.Errorf("%w: directory at byte %d", ErrTruncated, at)
	}
	for e := at + counter; entries > 0; e, entries = e+entry, entries-1 {
		tag, kind := int(f.order.Uint16(data[e:])), f.order.Uint16(data[e+2:])
		size := map[uint16]int{1: 1, 3: 2, 4: 4, 16: 8}[kind]
		count, _ := f.uint(e+4, value)
		if size == 0 || count == 0 || count > uint64(len(data)/size) {
			continue // no whole numbers, or more than the file holds
		}
		p := e + 4 + value
		if int(count)*size > value {
			far, _ := f.uint(p, value)
			if far > uint64(len(data)-int(count)*size) {
				continue
			}
			p = int(far)
		}
		f.tags[tag] = tiffField{p, int(count), size}
	}
	return f, nil
}

// uint reads a number of some bytes.
func (f *tiffFile) uint(at, size int) (uint64, bool) {
	if at < 0 || at > len(f.data)-size {
		return 0, false
	}
	p := f.data[at:]
	switch size {
	case 1:
		return uint64(p[0]), true
	case 2:
		return uint64(f.order.Uint16(p)), true
	case 4:
		return uint64(f.order.Uint32(p)), true
	}
	return f.order.Uint64(p), true
}

// count is how many numbers a tag has.
func (f *tiffFile) count(tag int) int { return f.tags[tag].count }

// value is number i of a tag, or absent where the tag has none. It is cut to what
// an int32 holds: nothing of use is larger but offsets, which are in a file of
// bounded size.
func (f *tiffFile) value(tag, i, absent int) int {
	t := f.tags[tag]
	if i >= t.count {
		return absent
	}
	v, _ := f.uint(t.at+i*t.size, t.size)
	return int(min(v, 1<<31-1))
}

// samples is the number of samples of a pixel, and how many of them are alpha.
func (f *tiffFile) samples() (n, alpha int) {
	n = f.value(tagSamples, 0, 1)
	for i := range f.count(tagExtra) {
		if v := f.value(tagExtra, i, 0); v == 1 || v == 2 {
			alpha++
		}
	}
	if alpha >= n {
		alpha = 0
	}
	return n, alpha
}

// inks tells whether the samples are cyan, magenta, yellow and black.
func (f *tiffFile) inks() bool {
	n, alpha := f.samples()
	return f.value(tagPhotometric, 0, blackIsZero) == photoCMYK && n-alpha == 4
}

func readTIFFInfo(data []byte) (Info, error) {
	f, err := openTIFF(data)
	if err != nil {
		return Info{}, err
	}
	info := Info{W: f.value(tagWidth, 0, 0), H: f.value(tagHeight, 0, 0), Depth: 8, Orientation: 1}
	if info.W == 0 || info.H == 0 {
		return Info{}, fmt.Errorf("image of %d x %d pixels", info.W, info.H)
	}
	if o := f.value(tagOrientation, 0, 1); o >= 1 && o <= 8 {
		info.Orientation = o
	}
	bits := f.value(tagBits, 0, 1)
	for i := range f.count(tagBits) {
		if f.value(tagBits, i, 0) != bits {
			return Info{}, errors.New("samples of different numbers of bits")
		}
	}
	if v := f.value(tagSampleFormat, 0, 1); v != 1 && v != 4 {
		return Info{}, errors.New("samples are signed or floating point: convert them to unsigned integers of 8 or 16 bits")
	}
	if bits == 16 {
		info.Depth = 16
	}
	n, alpha := f.samples()
	if n > 1<<16 {
		return Info{}, fmt.Errorf("%d channels", n)
	}
	info.C, info.Alpha = n-alpha, alpha > 0
	if f.inks() || f.value(tagPhotometric, 0, blackIsZero) == photoPalette {
		info.C = 3
	}
	return info, nil
}

// decodeTIFF leaves the common kinds to the library, and unpacks the others
// (more channels, a plane for each, 64-bit offsets) itself.
func decodeTIFF(dst *Image, data []byte, info Info, o Options) error {
	f, err := openTIFF(data)
	if err != nil {
		return err
	}
	n, alpha := f.samples()
	photo := f.value(tagPhotometric, 0, blackIsZero)
	known := n == 1 || photo == photoRGB && (n == 3 || n == 4 && alpha == 1)
	if f.big || !known || n > 1 && f.value(tagPlanar, 0, 1) == 2 {
		return f.unpack(dst, info, o)
	}
	c, err := tiff.DecodeConfig(bytes.NewReader(data))
	if err != nil {
		return early(err)
	}
	if c.Width != info.W || c.Height != info.H {
		return fmt.Errorf("two sizes: %d x %d and %d x %d pixels", info.W, info.H, c.Width, c.Height)
	}
	m, err := tiff.Decode(bytes.NewReader(data))
	if err != nil {
		return early(err, "not enough pixel data", "unexpected EOF")
	}
	if err := fromGo(dst, m, info, o); err != nil {
		return err
	}
	// Of faxes, the library takes white runs for white; libtiff, and so Pillow,
	// for zeros, which are black in this colour model.
	if c := f.value(tagCompression, 0, 1); photo == blackIsZero && (c == faxG3 || c == faxG4) {
		for i, v := range dst.Pix {
			dst.Pix[i] = ^v
		}
	}
	return nil
}
