package imgcodec

import (
	"bytes"
	"compress/zlib"
	"errors"
	"fmt"
	"io"

	"golang.org/x/image/tiff/lzw"
)

// blocks is how the pixels of a file are cut up: strips or tiles, of all samples
// or of one.
type blocks struct {
	w, h         int // of a block
	across, down int
	planes       int // sets of blocks
	samples      int // of a pixel in a block
	bytes        int // of a sample
	tiles        bool
}

func (f *tiffFile) layout(info Info) (blocks, error) {
	n, _ := f.samples()
	b := blocks{planes: 1, samples: n, bytes: 1, w: info.W, h: min(f.value(tagRowsPerStrip, 0, info.H), info.H)}
	if f.value(tagPlanar, 0, 1) == 2 {
		b.planes, b.samples = n, 1
	}
	switch bits := f.value(tagBits, 0, 1); bits {
	case 8:
	case 16:
		b.bytes = 2
	default:
		return b, fmt.Errorf("%d channels of %d bits: want 8 or 16", n, bits)
	}
	if f.count(tagTileW) > 0 {
		b.w, b.h, b.tiles = f.value(tagTileW, 0, 0), f.value(tagTileH, 0, 0), true
	}
	if b.w < 1 || b.h < 1 {
		return b, fmt.Errorf("blocks of %d x %d pixels", b.w, b.h)
	}
	// Tiles are filled up at the borders: by no more than makes sense.
	const small, usual = 8, 16 << 20 // pixels of a side, bytes
	pixel := b.samples * b.bytes
	if b.tiles && (b.w < small || b.h < small) || b.w > usual || b.h > usual ||
		b.w*b.h*pixel > max(usual, 2*info.W*info.H*pixel) {
		return b, fmt.Errorf("blocks of %d x %d pixels in an image of %d x %d", b.w, b.h, info.W, info.H)
	}
	b.across, b.down = (info.W+b.w-1)/b.w, (info.H+b.h-1)/b.h
	return b, nil
}

// unpack reads images of any number of channels.
func (f *tiffFile) unpack(dst *Image, info Info, o Options) error {
	b, err := f.layout(info)
	if err != nil {
		return err
	}
	c := info.C
	if o.Alpha && info.Alpha {
		c++
	}
	photo := f.value(tagPhotometric, 0, blackIsZero)
	inks := f.inks() && b.bytes == 1
	switch {
	case inks:
		c = 4
	case photo != whiteIsZero && photo != blackIsZero && photo != photoRGB:
		return fmt.Errorf("%d channels of %d bits in colour model %d: want grey, RGB, or CMYK of 8 bits", info.C, 8*b.bytes, photo)
	}
	if b.bytes == 2 && o.Deep {
		dst.ResetDeep(info.W, info.H, c)
	} else {
		dst.Reset(info.W, info.H, c)
	}
	if err := f.unpackBlocks(dst, b); err != nil {
		return err
	}
	if inks {
		for i, v := range dst.Pix {
			dst.Pix[i] = ^v // 255 is full ink here
		}
		cmykToRGB(dst.Pix, dst.Pix)
		dst.Reset(info.W, info.H, 3)
	}
	return nil
}

func (f *tiffFile) unpackBlocks(dst *Image, b blocks) error {
	places, sizes := tagStrips, tagStripBytes
	if b.tiles {
		places, sizes = tagTiles, tagTileBytes
	}
	if want := b.planes * b.across * b.down; f.count(places) < want || f.count(sizes) < want {
		return fmt.Errorf("%w: %d of %d blocks", ErrTruncated, min(f.count(places), f.count(sizes)), want)
	}
	buf := make([]byte, b.w*b.h*b.samples*b.bytes)
	for i := range b.planes * b.across * b.down {
		plane, place := i/(b.across*b.down), i%(b.across*b.down)
		x, y := place%b.across*b.w, place/b.across*b.h
		rows := b.h
		if !b.tiles {
			rows = min(rows, dst.H-y)
		}
		at, n := f.value(places, i, 0), f.value(sizes, i, 0)
		if n > len(f.data) || at > len(f.data)-n {
			return fmt.Errorf("%w: block at byte %d", ErrTruncated, at)
		}
		pix := buf[:rows*b.w*b.samples*b.bytes]
		if err := f.inflate(pix, f.data[at:at+n]); err != nil {
			return fmt.Errorf("block at byte %d: %w", at, err)
		}
		if f.value(tagPredictor, 0, 1) == 2 {
			f.undoPredictor(pix, b)
		}
		f.place(dst, pix, b, plane, x, y)
	}
	return nil
}

// inflate fills dst with a block's bytes.
func (f *tiffFile) inflate(dst, src []byte) error {
	var r io.Reader
	switch c := f.value(tagCompression, 0, 1); c {
	case 1:
		r = bytes.NewReader(src)
	case 5:
		z := lzw.NewReader(bytes.NewReader(src), lzw.MSB, 8)
		defer z.Close()
		r = z
	case 8, 32946:
		z, err := zlib.NewReader(bytes.NewReader(src))
		if err != nil {
			return early(err)
		}
		defer z.Close()
		r = z
	case 32773:
		return unpackBits(dst, src)
	default:
		return fmt.Errorf("compression %d: want none, LZW, deflate or PackBits", c)
	}
	_, err := io.ReadFull(r, dst)
	return early(err)
}

// unpackBits expands runs: a length below 128 is followed by so many bytes and
// one, a length above it by one byte, 257 less it times.
func unpackBits(dst, src []byte) error {
	for len(dst) > 0 {
		if len(src) < 2 {
			return fmt.Errorf("%w: %d bytes are missing", ErrTruncated, len(dst))
		}
		n := int(src[0])
		src = src[1:]
		switch {
		case n < 128:
			if n+1 > len(src) || n+1 > len(dst) {
				return errors.New("run leaves its block")
			}
			copy(dst, src[:n+1])
			dst, src = dst[n+1:], src[n+1:]
		case n > 128:
			n = 257 - n
			if n > len(dst) {
				return errors.New("run leaves its block")
			}
			for i := range n {
				dst[i] = src[0]
			}
			dst, src = dst[n:], src[1:]
		}
	}
	return nil
}

// undoPredictor adds to every sample its left neighbour.
func (f *tiffFile) undoPredictor(pix []byte, b blocks) {
	row := b.w * b.samples * b.bytes
	for ; len(pix) >= row; pix = pix[row:] {
		if b.bytes == 1 {
			for i := b.samples; i < row; i++ {
				pix[i] += pix[i-b.samples]
			}
			continue
		}
		for i := 2 * b.samples; i < row; i += 2 {
			f.order.PutUint16(pix[i:], f.order.Uint16(pix[i:])+f.order.Uint16(pix[i-2*b.samples:]))
		}
	}
}

// place copies a block to its place. Channels beyond dst's are alpha that was
// not asked for.
func (f *tiffFile) place(dst *Image, pix []byte, b blocks, plane, x0, y0 int) {
	invert := uint16(0)
	if f.value(tagPhotometric, 0, blackIsZero) == whiteIsZero {
		invert = 0xffff
	}
	for y := range min(len(pix)/(b.w*b.samples*b.bytes), dst.H-y0) {
		for x := range min(b.w, dst.W-x0) {
			for s := range b.samples {
				c := plane + s
				if c >= dst.C {
					break
				}
				in, out := (y*b.w+x)*b.samples+s, ((y0+y)*dst.W+x0+x)*dst.C+c
				switch {
				case b.bytes == 1:
					dst.Pix[out] = pix[in] ^ byte(invert)
				case dst.IsDeep():
					dst.Deep[out] = f.order.Uint16(pix[2*in:]) ^ invert
				default:
					dst.Pix[out] = byte((f.order.Uint16(pix[2*in:]) ^ invert) >> 8)
				}
			}
		}
	}
}
