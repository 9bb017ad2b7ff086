package imgcodec

import (
	"bytes"
	"compress/zlib"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"image"
	"image/color"
	"image/color/palette"
	"image/gif"
	"slices"
	"strings"
	"testing"

	"golang.org/x/image/bmp"
	"golang.org/x/image/tiff"
)

// webps are pictures of 7 x 5 pixels written by Pillow 13, with the CRC-32 of
// the pixels that it reads back as RGB.
var webps = map[string]struct {
	file string
	sum  uint32
}{
	"lossy":     {"UklGRlQAAABXRUJQVlA4IEgAAAAQAgCdASoHAAUAAsBMJbACdLoAAzpS0GXAAP7qToAr67NfWu0WcHYD7wY1/5XQK5rXsAHK2H/3N7/+/7izh4Ovjao5l8VwAAA=", 0x2ea28411},
	"lossless":  {"UklGRjgAAABXRUJQVlA4TCsAAAAvBgABALkyRPQ/dhHR/4BBtpEKdv5kd/8Kg0KQbVOFsVz2uDEBUA1UH6xxAA==", 0xc43578fd},
	"alpha":     {"UklGRo4AAABXRUJQVlA4WAoAAAAQAAAABgAABAAAQUxQSB4AAAABNyAQSCLZH3SIiEgNZlNI281Hcizvr/MKEf0PGx9WUDggSgAAABACAJ0BKgcABQACwEwlsAJ0ugADOlLSsQAA/r6OdUteU+ObmJzKU6GNp/HK6n+V0Cua17ABuEk/3N7+/+caJv1P/SHDtvgHAAAA", 0x56153731},
	"animation": {"UklGRgoBAABXRUJQVlA4WAoAAAACAAAABgAABAAAQU5JTQYAAAAAAAAAAABBTk1GfAAAAAAAAAAAAAYAAAQAAAAAAAJWUDggZAAAAFABAJ0BKgcABQACwEwlsAAFjAAA/u6gP7Y//HP/9Mw/+/+tn/+l1f/53w4f/eLtVP/1XAf/qvb70HIfvQf990idv/pAAH/K6BXNa/3f3+wQL/ub4Afk/7XQ2/WK93m/+b/FcABBTk1GWgAAAAAAAAAAAAYAAAQAAAAAAABWUDggQgAAANQBAJ0BKgcABQAAAEwlsAADQRFjAVLwAP5oxT5QLzSWTc82pG//2VO9KD1Mxl782lrn/ifmYu//mB99zP/N7qgAAA==", 0x673b8a4d},
	"turned":    {"UklGRmwAAABXRUJQVlA4WAoAAAAIAAAABgAABAAAVlA4TCsAAAAvBgABALkyRPQ/dhHR/4BBtpEKdv5kd/8Kg0KQbVOFsVz2uDEBUA1UH6xxAEVYSUYaAAAATU0AKgAAAAgAAQESAAMAAAABAAYAAAAAAAA=", 0xc43578fd},
}

func webpFile(t testing.TB, name string) []byte {
	t.Helper()
	data, err := base64.StdEncoding.DecodeString(webps[name].file)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// WebP gives libwebp's pixels bit for bit, of animations the first frame.
func TestWebP(t *testing.T) {
	for name, want := range webps {
		data := webpFile(t, name)
		m, err := Decode(data, Options{IgnoreOrientation: true})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if m.W != 7 || m.H != 5 || m.C != 3 || crc32.ChecksumIEEE(m.Pix) != want.sum {
			t.Errorf("%s: %d x %d x %d, CRC %08x, want %08x", name, m.W, m.H, m.C, crc32.ChecksumIEEE(m.Pix), want.sum)
		}
		info, err := ReadInfo(data)
		if turned := name == "turned"; err != nil || (info.Orientation == 6) != turned {
			t.Errorf("%s: %+v, %v", name, info, err)
		}
	}
	if m, err := Decode(webpFile(t, "turned"), Options{}); err != nil || m.W != 5 || m.H != 7 {
		t.Errorf("the orientation is not applied: %v", err)
	}
}

func TestGIF(t *testing.T) {
	file := func(config image.Config, frames ...*image.Paletted) []byte {
		var b bytes.Buffer
		if err := gif.EncodeAll(&b, &gif.GIF{Image: frames, Delay: make([]int, len(frames)), Config: config, BackgroundIndex: 2}); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	p := color.Palette{color.RGBA{1, 2, 3, 255}, color.RGBA{40, 50, 60, 255}, color.RGBA{7, 8, 9, 255}, color.RGBA{}}
	small, other := image.NewPaletted(image.Rect(1, 1, 3, 2), p), image.NewPaletted(image.Rect(0, 0, 4, 2), p)
	copy(small.Pix, []byte{0, 1})
	m, err := Decode(file(image.Config{Width: 4, Height: 2, ColorModel: p}, small, other), Options{})
	if err != nil {
		t.Fatal(err)
	}
	want := []byte{7, 8, 9, 7, 8, 9, 7, 8, 9, 7, 8, 9, 7, 8, 9, 1, 2, 3, 40, 50, 60, 7, 8, 9}
	if m.W != 4 || m.H != 2 || !bytes.Equal(m.Pix, want) {
		t.Errorf("first frame on the screen: %d x %d %v, want %v", m.W, m.H, m.Pix, want)
	}
}

func TestBMP(t *testing.T) {
	grey, rgba := image.NewGray(image.Rect(0, 0, 3, 2)), photo(5, 3)
	copy(grey.Pix, []byte{1, 50, 100, 150, 200, 250})
	for _, want := range []image.Image{grey, rgba} {
		var b bytes.Buffer
		if err := bmp.Encode(&b, want); err != nil {
			t.Fatal(err)
		}
		m, err := Decode(b.Bytes(), Options{})
		if err != nil {
			t.Fatal(err)
		}
		same(t, m, want)
	}
}

// same compares with an image of the standard library.
func same(t *testing.T, m *Image, want image.Image) {
	t.Helper()
	for i := range m.W * m.H {
		r, g, b, _ := want.At(i%m.W, i/m.W).RGBA()
		if got := rgb(m)[3*i:][:3]; !slices.Equal(got, []byte{byte(r >> 8), byte(g >> 8), byte(b >> 8)}) {
			t.Fatalf("%T: pixel %d is %v, want %d %d %d", want, i, got, r>>8, g>>8, b>>8)
		}
	}
}

func TestTIFFOfTheLibrary(t *testing.T) {
	paletted := image.NewPaletted(image.Rect(0, 0, 20, 9), palette.Plan9)
	grey16 := image.NewGray16(paletted.Rect)
	for i := range paletted.Pix {
		paletted.Pix[i] = byte(i)
		binary.BigEndian.PutUint16(grey16.Pix[2*i:], uint16(i*321))
	}
	for _, want := range []image.Image{photo(20, 9), paletted, grey16} {
		for _, o := range []*tiff.Options{nil, {Compression: tiff.Deflate, Predictor: true}} {
			var b bytes.Buffer
			if err := tiff.Encode(&b, want, o); err != nil {
				t.Fatal(err)
			}
			m, err := Decode(b.Bytes(), Options{})
			if err != nil {
				t.Fatal(err)
			}
			same(t, m, want)
		}
	}
	var b bytes.Buffer
	if err := tiff.Encode(&b, grey16, nil); err != nil {
		t.Fatal(err)
	}
	m, err := Decode(b.Bytes(), Options{Deep: true})
	if err != nil || !m.IsDeep() || len(m.Pix) != 0 {
		t.Fatalf("16 bits: %v", err)
	}
	for i, v := range m.Deep {
		if v != uint16(i*321) {
			t.Fatalf("sample %d is %d", i, v)
		}
	}
}

// tiffSpec is how writeTIFF lays an image out.
type tiffSpec struct {
	order       binary.AppendByteOrder
	big, planar bool
	tile        int // side; 0: strips of two rows
	deflate     bool
	predictor   bool
	photo       int
	extra       []int
	bytes       int
	orientation int // 0: none is written
}

// sample is the value of channel c at (x, y) in the files of writeTIFF.
func sample(x, y, c int) uint16 { return uint16(x*2311 + y*7919 + c*12345) }

// writeTIFF makes a file of w x h pixels with c channels.
func writeTIFF(w, h, c int, s tiffSpec) []byte {
	o := s.order
	bw, bh := w, 2
	if s.tile > 0 {
		bw, bh = s.tile, s.tile
	}
	planes, per := 1, c
	if s.planar {
		planes, per = c, 1
	}
	out := make([]byte, 16)
	var places, sizes []int
	for p := range planes {
		for y0 := 0; y0 < h; y0 += bh {
			for x0 := 0; x0 < w; x0 += bw {
				var raw []byte
				for y := y0; y < y0+bh && (s.tile > 0 || y < h); y++ {
					last := make([]uint16, per)
					for x := x0; x < x0+bw; x++ {
						for k := range per {
							v := sample(x, y, p+k)
							if s.bytes == 1 {
								v >>= 8
							}
							d := v
							if s.predictor {
								d -= last[k]
								last[k] = v
							}
							if s.bytes == 2 {
								raw = o.AppendUint16(raw, d)
							} else {
								raw = append(raw, byte(d))
							}
						}
					}
				}
				if s.deflate {
					var b bytes.Buffer
					z := zlib.NewWriter(&b)
					_, _ = z.Write(raw)
					_ = z.Close()
					raw = b.Bytes()
				}
				places, sizes = append(places, len(out)), append(sizes, len(raw))
				out = append(out, raw...)
			}
		}
	}
	var bits []int
	for range c {
		bits = append(bits, 8*s.bytes)
	}
	compression, predictor, planar := 1, 1, 1
	if s.deflate {
		compression = 8
	}
	if s.predictor {
		predictor = 2
	}
	if s.planar {
		planar = 2
	}
	type entry struct {
		tag    int
		values []int
	}
	entries := []entry{{tagWidth, []int{w}}, {tagHeight, []int{h}}, {tagBits, bits}, {tagCompression, []int{compression}}, {tagPhotometric, []int{s.photo}}}
	if s.tile == 0 {
		entries = append(entries, entry{tagStrips, places})
	}
	if s.orientation > 0 {
		entries = append(entries, entry{tagOrientation, []int{s.orientation}})
	}
	entries = append(entries, entry{tagSamples, []int{c}})
	if s.tile == 0 {
		entries = append(entries, entry{tagRowsPerStrip, []int{bh}}, entry{tagStripBytes, sizes})
	}
	entries = append(entries, entry{tagPlanar, []int{planar}}, entry{tagPredictor, []int{predictor}})
	if s.tile > 0 {
		entries = append(entries, entry{tagTileW, []int{bw}}, entry{tagTileH, []int{bh}}, entry{tagTiles, places}, entry{tagTileBytes, sizes})
	}
	if s.extra != nil {
		entries = append(entries, entry{tagExtra, s.extra})
	}
	number := func(b []byte, v int) []byte {
		if s.big {
			return o.AppendUint64(b, uint64(v))
		}
		return o.AppendUint32(b, uint32(v))
	}
	value := 4
	if s.big {
		value = 8
	}
	var dir []byte
	for _, e := range entries {
		dir = o.AppendUint16(dir, uint16(e.tag))
		dir = o.AppendUint16(dir, 4)
		dir = number(dir, len(e.values))
		var list []byte
		for _, v := range e.values {
			list = o.AppendUint32(list, uint32(v))
		}
		if len(list) > value {
			dir = number(dir, len(out))
			out = append(out, list...)
			continue
		}
		dir = append(dir, append(list, make([]byte, value-len(list))...)...)
	}
	head := []byte("II")
	if o == binary.AppendByteOrder(binary.BigEndian) {
		head = []byte("MM")
	}
	if s.big {
		head = o.AppendUint16(head, '+')
		head = o.AppendUint16(head, 8)
		head = o.AppendUint16(head, 0)
		head = o.AppendUint64(head, uint64(len(out)))
		out = o.AppendUint64(out, uint64(len(entries)))
	} else {
		head = o.AppendUint16(head, '*')
		head = o.AppendUint32(head, uint32(len(out)))
		out = o.AppendUint16(out, uint16(len(entries)))
	}
	copy(out, head)
	return append(append(out, dir...), make([]byte, 8)...)
}

// Any number of channels, in strips or tiles, together or apart.
func TestTIFFChannels(t *testing.T) {
	for _, s := range []tiffSpec{
		{order: binary.LittleEndian, bytes: 1}, {order: binary.BigEndian, bytes: 2}, {order: binary.LittleEndian, bytes: 2, planar: true},
		{order: binary.BigEndian, bytes: 2, tile: 16, deflate: true, predictor: true}, {order: binary.LittleEndian, bytes: 1, tile: 16, planar: true},
		{order: binary.LittleEndian, bytes: 1, deflate: true, predictor: true}, {order: binary.LittleEndian, bytes: 2, big: true}, {order: binary.BigEndian, bytes: 1, big: true, tile: 32},
	} {
		for _, c := range []int{2, 4, 5} {
			s.photo = blackIsZero
			name := fmt.Sprintf("%d channels, %+v", c, s)
			data := writeTIFF(21, 19, c, s)
			for _, deep := range []bool{false, true} {
				m, err := Decode(data, Options{Deep: deep})
				if err != nil {
					t.Fatalf("%s: %v", name, err)
				}
				if m.W != 21 || m.H != 19 || m.C != c || m.IsDeep() != (deep && s.bytes == 2) {
					t.Fatalf("%s: %d x %d x %d, deep %v", name, m.W, m.H, m.C, m.IsDeep())
				}
				for i := range 21 * 19 * c {
					want := sample(i/c%21, i/c/21, i%c)
					if m.IsDeep() && m.Deep[i] != want || !m.IsDeep() && m.Pix[i] != byte(want>>8) {
						t.Fatalf("%s: sample %d is wrong", name, i)
					}
				}
			}
		}
	}
}

// Alpha is dropped or kept as asked for; ink becomes colour.
func TestTIFFAlphaAndInk(t *testing.T) {
	s := tiffSpec{order: binary.LittleEndian, bytes: 1, photo: blackIsZero, extra: []int{2}}
	for alpha, c := range map[bool]int{false: 4, true: 5} {
		m, err := Decode(writeTIFF(5, 4, 5, s), Options{Alpha: alpha})
		if err != nil || m.C != c || m.Pix[c] != byte(sample(1, 0, 0)>>8) {
			t.Errorf("alpha %v: %v", alpha, err)
		}
	}
	m, err := Decode(writeTIFF(5, 4, 4, tiffSpec{order: binary.LittleEndian, bytes: 1, photo: photoCMYK}), Options{})
	if err != nil || m.C != 3 {
		t.Fatalf("CMYK: %v", err)
	}
	ink := func(c int) int { return 255 - int(sample(2, 1, c)>>8) }
	for c, got := range m.Pix[(5+2)*3:][:3] {
		if want := ink(c) * ink(3) / 255; int(got) < want-1 || int(got) > want+1 {
			t.Errorf("CMYK: channel %d is %d, want %d", c, got, want)
		}
	}
}

func npy(descr string, fortran bool, shape string, pix []byte) []byte {
	order := map[bool]string{true: "True", false: "False"}[fortran]
	dict := fmt.Sprintf("{'descr': '%s', 'fortran_order': %s, 'shape': (%s), }\n", descr, order, shape)
	out := []byte("\x93NUMPY\x01\x00")
	out = binary.LittleEndian.AppendUint16(out, uint16(len(dict)))
	return append(append(out, dict...), pix...)
}

func TestNPY(t *testing.T) {
	count := []byte{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}
	for name, c := range map[string]struct {
		file    []byte
		w, h, c int
		want    []byte
	}{
		"grey":           {npy("|u1", false, "3, 4", count), 4, 3, 1, count},
		"columns first":  {npy("|u1", true, "3, 4", count), 4, 3, 1, []byte{0, 3, 6, 9, 1, 4, 7, 10, 2, 5, 8, 11}},
		"channels last":  {npy("|u1", false, "2, 3, 2", count), 3, 2, 2, count},
		"channels first": {npy("|u1", false, "2, 2, 3", count), 3, 2, 2, []byte{0, 6, 1, 7, 2, 8, 3, 9, 4, 10, 5, 11}},
		"16 bits":        {npy("<u2", false, "1, 6", count), 6, 1, 1, []byte{1, 3, 5, 7, 9, 11}},
	} {
		m, err := Decode(c.file, Options{})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if m.W != c.w || m.H != c.h || m.C != c.c || !bytes.Equal(m.Pix, c.want) {
			t.Errorf("%s: %d x %d x %d %v, want %v", name, m.W, m.H, m.C, m.Pix, c.want)
		}
	}
	if m, err := Decode(npy(">u2", false, "1, 2", []byte{1, 2, 3, 4}), Options{Deep: true}); err != nil || !slices.Equal(m.Deep, []uint16{0x102, 0x304}) {
		t.Errorf("big-endian: %v", err)
	}
	for want, file := range map[string][]byte{
		"type <f4": npy("<f4", false, "2, 2", count), "1 axes": npy("|u1", false, "2,", count), "early": npy("|u1", false, "3, 5", count),
		"too large": npy("|u1", false, "999999, 999999", nil),
	} {
		if _, err := Decode(file, Options{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want an error with %q: %v", want, err)
		}
	}
}

// Sixteen bits and alpha of PNG files are there for those who ask.
func TestPNGDeepAndAlpha(t *testing.T) {
	deep := image.NewNRGBA64(image.Rect(0, 0, 2, 1))
	deep.SetNRGBA64(0, 0, color.NRGBA64{1000, 2000, 3000, 4000})
	deep.SetNRGBA64(1, 0, color.NRGBA64{5000, 6000, 7000, 8000})
	m, err := Decode(encodePNG(t, deep), Options{Deep: true, Alpha: true})
	if err != nil || !slices.Equal(m.Deep, []uint16{1000, 2000, 3000, 4000, 5000, 6000, 7000, 8000}) {
		t.Errorf("16 bits with alpha: %v, %v", m, err)
	}
	m, err = Decode(encodePNG(t, deep), Options{Deep: true})
	if err != nil || !slices.Equal(m.Deep, []uint16{1000, 2000, 3000, 5000, 6000, 7000}) {
		t.Errorf("16 bits: %v, %v", m, err)
	}
	flat := image.NewNRGBA(image.Rect(0, 0, 1, 1))
	flat.SetNRGBA(0, 0, color.NRGBA{1, 2, 3, 4})
	m, err = Decode(encodePNG(t, flat), Options{Deep: true, Alpha: true})
	if err != nil || m.IsDeep() || !bytes.Equal(m.Pix, []byte{1, 2, 3, 4}) {
		t.Errorf("8 bits with alpha: %v, %v", m, err)
	}
	// An image that was deep serves for 8 bits again.
	m.ResetDeep(9, 9, 1)
	if m.Reset(2, 2, 1); m.IsDeep() || len(m.Pix) != 4 {
		t.Error("16-bit samples stay")
	}
}

// Channels count towards the limit as pixels do.
func TestChannelsAreLimited(t *testing.T) {
	file := npy("<u2", false, "100, 100, 90", make([]byte, 100*100*90*2))
	for limit, ok := range map[int]bool{100*100*90*2/8 - 1: false, 100 * 100 * 90 * 2 / 8: true} {
		if _, err := Decode(file, Options{MaxPixels: limit}); (err == nil) != ok || !ok && !errors.Is(err, ErrTooLarge) {
			t.Errorf("limit %d: %v", limit, err)
		}
	}
}

// EXIF and TIFF say how to turn an image, whatever the format.
func TestOrientationOfOtherFormats(t *testing.T) {
	stored := encodePNG(t, photo(6, 4))
	exif := []byte("MM\x00*\x00\x00\x00\x08\x00\x01\x01\x12\x00\x03\x00\x00\x00\x01\x00\x06\x00\x00\x00\x00\x00\x00")
	chunk := append([]byte("eXIf"), exif...)
	chunk = binary.BigEndian.AppendUint32(chunk, crc32.ChecksumIEEE(chunk))
	chunk = append(binary.BigEndian.AppendUint32(nil, uint32(len(exif))), chunk...)
	header, end := 8+25, len(stored)-12
	for name, file := range map[string][]byte{
		"png, before the pixels": slices.Concat(stored[:header], chunk, stored[header:]),
		"png, after the pixels":  slices.Concat(stored[:end], chunk, stored[end:]),
		"tiff":                   writeTIFF(6, 4, 5, tiffSpec{order: binary.LittleEndian, bytes: 2, photo: blackIsZero, orientation: 6}),
	} {
		for _, deep := range []bool{false, true} {
			plain, err := Decode(file, Options{Deep: deep, IgnoreOrientation: true})
			if err != nil || plain.W != 6 || plain.H != 4 {
				t.Fatalf("%s: as stored: %v", name, err)
			}
			turned, err := Decode(file, Options{Deep: deep})
			if err != nil || turned.W != 4 || turned.H != 6 {
				t.Fatalf("%s: turned: %v", name, err)
			}
			for c := range plain.C { // the lower left corner comes to the upper left
				from, to := 3*6*plain.C+c, c
				if deep && plain.IsDeep() && plain.Deep[from] != turned.Deep[to] || !plain.IsDeep() && plain.Pix[from] != turned.Pix[to] {
					t.Errorf("%s: another corner", name)
				}
			}
		}
	}
}
