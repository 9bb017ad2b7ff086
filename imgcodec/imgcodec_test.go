package imgcodec

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"image"
	"image/color"
	"image/jpeg"
	"image/png"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
)

func encodePNG(t testing.TB, m image.Image) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := png.Encode(&b, m); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func encodeJPEG(t testing.TB, m image.Image) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := jpeg.Encode(&b, m, &jpeg.Options{Quality: 90}); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// photo is a smooth picture with edges, for lossy coding.
func photo(w, h int) *image.RGBA {
	m := image.NewRGBA(image.Rect(0, 0, w, h))
	for y := range h {
		for x := range w {
			r := 128 + 100*math.Sin(float64(x)/9)
			g := 128 + 100*math.Cos(float64(y)/7)
			b := float64((x / 8 % 2) * 200)
			m.SetRGBA(x, y, color.RGBA{byte(r), byte(g), byte(b), 255})
		}
	}
	return m
}

// PNG gives the colours as they stand in the file: alpha is dropped, not
// multiplied in, 16 bits are cut to 8, grey stays one channel.
func TestPNG(t *testing.T) {
	rect := image.Rect(0, 0, 3, 2)
	grey, grey16 := image.NewGray(rect), image.NewGray16(rect)
	nrgba, nrgba64 := image.NewNRGBA(rect), image.NewNRGBA64(rect)
	rgba, rgba64 := image.NewRGBA(rect), image.NewRGBA64(rect)
	palette := color.Palette{color.RGBA{9, 8, 7, 255}, color.NRGBA{200, 100, 50, 128}, color.NRGBA{250, 240, 230, 0}}
	paletted := image.NewPaletted(rect, palette)
	var wantGrey, wantRGB, wantPalette []byte
	for i := range 6 {
		x, y := i%3, i/3
		v := byte(10 + 40*i)
		grey.SetGray(x, y, color.Gray{Y: v})
		grey16.SetGray16(x, y, color.Gray16{Y: uint16(v)<<8 | 0xff})
		nrgba.SetNRGBA(x, y, color.NRGBA{v, v + 1, v + 2, byte(i * 40)})
		nrgba64.SetNRGBA64(x, y, color.NRGBA64{uint16(v)<<8 | 0xfe, uint16(v+1) << 8, uint16(v+2) << 8, 0x7fff})
		rgba.SetRGBA(x, y, color.RGBA{v, v + 1, v + 2, 255})
		rgba64.SetRGBA64(x, y, color.RGBA64{uint16(v) << 8, uint16(v+1)<<8 | 0xff, uint16(v+2) << 8, 0xffff})
		paletted.SetColorIndex(x, y, byte(i%3))
		wantGrey = append(wantGrey, v)
		wantRGB = append(wantRGB, v, v+1, v+2)
		c := color.NRGBAModel.Convert(palette[i%3]).(color.NRGBA)
		if n, ok := palette[i%3].(color.NRGBA); ok {
			c = n
		}
		wantPalette = append(wantPalette, c.R, c.G, c.B)
	}
	for _, tc := range []struct {
		name string
		m    image.Image
		c    int
		want []byte
	}{
		{"grey", grey, 1, wantGrey}, {"grey 16 bit", grey16, 1, wantGrey},
		{"RGB", rgba, 3, wantRGB}, {"RGB 16 bit", rgba64, 3, wantRGB},
		{"RGBA", nrgba, 3, wantRGB}, {"RGBA 16 bit", nrgba64, 3, wantRGB},
		{"palette", paletted, 3, wantPalette},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := Decode(encodePNG(t, tc.m), Options{})
			if err != nil {
				t.Fatal(err)
			}
			if got.W != 3 || got.H != 2 || got.C != tc.c || !bytes.Equal(got.Pix, tc.want) {
				t.Errorf("%d x %d x %d %v, want %v", got.W, got.H, got.C, got.Pix, tc.want)
			}
		})
	}
}

func TestJPEG(t *testing.T) {
	for _, size := range [][2]int{{64, 48}, {33, 17}, {1, 1}, {2, 1}, {5, 2}, {8, 8}, {17, 100}} {
		m := photo(size[0], size[1])
		data := encodeJPEG(t, m)
		got, err := Decode(data, Options{})
		if err != nil {
			t.Fatalf("%v: %v", size, err)
		}
		if got.W != size[0] || got.H != size[1] || got.C != 3 || len(got.Pix) != size[0]*size[1]*3 {
			t.Fatalf("%v: %d x %d x %d", size, got.W, got.H, got.C)
		}
		grey := image.NewGray(m.Bounds())
		for y := range size[1] {
			for x := range size[0] {
				grey.Set(x, y, m.At(x, y))
			}
		}
		got, err = Decode(encodeJPEG(t, grey), Options{})
		if err != nil {
			t.Fatal(err)
		}
		if got.C != 1 {
			t.Fatalf("grey has %d channels", got.C)
		}
		for i, v := range got.Pix {
			if d := int(v) - int(grey.Pix[i]); d > 40 || d < -40 {
				t.Fatalf("%v: pixel %d is %d, was %d", size, i, v, grey.Pix[i])
			}
		}
	}
}

// The decoder without cgo is near libjpeg: the same chroma upsampling and
// colour conversion, another inverse transform.
func TestDecodersAgree(t *testing.T) {
	if Backend != "libjpeg-turbo" {
		t.Skip("there is only one decoder in this build")
	}
	files, _ := filepath.Glob(filepath.Join(shared(), "data", "photos", "*", "*1*.jpg"))
	golden, _ := filepath.Glob(filepath.Join(shared(), "golden", "augment", "*", "*.jpg"))
	odd, _ := filepath.Glob(filepath.Join(shared(), "data", "odd", "hopper*.jpg"))
	inputs := map[string][]byte{}
	for _, size := range [][2]int{{64, 48}, {33, 17}, {1, 1}, {3, 3}, {5, 2}, {6, 70}} {
		inputs[string(rune('0'+len(inputs)))] = encodeJPEG(t, photo(size[0], size[1]))
	}
	for _, f := range slices.Concat(files[:min(len(files), 15)], golden, odd) {
		data, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		inputs[filepath.Base(f)] = data
	}
	for name, data := range inputs {
		var std Image
		info, err := ReadInfo(data)
		if err != nil {
			t.Fatal(err)
		}
		if err := decodeJPEGStd(&std, data, info); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		turbo, err := Decode(data, Options{IgnoreOrientation: true})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if std.C != turbo.C || len(std.Pix) != len(turbo.Pix) {
			t.Fatalf("%s: %d x %d x %d and %d x %d x %d", name, std.W, std.H, std.C, turbo.W, turbo.H, turbo.C)
		}
		sum, worst := 0.0, 0.0
		for i, v := range std.Pix {
			d := math.Abs(float64(v) - float64(turbo.Pix[i]))
			sum, worst = sum+d, max(worst, d)
		}
		if mean := sum / float64(len(std.Pix)); mean > 0.15 || worst > 8 {
			t.Errorf("%s: mean %.3f, worst %g", name, mean, worst)
		}
	}
}

// withOrientation puts an EXIF segment after the first two bytes of a JPEG.
func withOrientation(jpg []byte, o byte, order binary.AppendByteOrder) []byte {
	tiff := []byte("II*\x00")
	if order == binary.AppendByteOrder(binary.BigEndian) {
		tiff = []byte("MM\x00*")
	}
	tiff = order.AppendUint32(tiff, 8)
	tiff = order.AppendUint16(tiff, 2)
	for _, e := range [][3]uint16{{0x010f, 3, 7}, {0x0112, 3, uint16(o)}} {
		tiff = order.AppendUint16(tiff, e[0])
		tiff = order.AppendUint16(tiff, e[1])
		tiff = order.AppendUint32(tiff, 1)
		tiff = order.AppendUint16(tiff, e[2])
		tiff = order.AppendUint16(tiff, 0)
	}
	seg := append([]byte("Exif\x00\x00"), tiff...)
	out := append([]byte{}, jpg[:2]...)
	out = append(out, 0xff, markerAPP1)
	out = binary.BigEndian.AppendUint16(out, uint16(len(seg)+2))
	return append(append(out, seg...), jpg[2:]...)
}

// Orientations as EXIF defines them: which stored corner is shown at the top
// left, and whether the stored row runs to the right or down.
func TestOrientation(t *testing.T) {
	plain := encodeJPEG(t, photo(24, 16))
	stored, err := Decode(plain, Options{})
	if err != nil {
		t.Fatal(err)
	}
	at := func(m *Image, x, y int) []byte { return m.Pix[(y*m.W+x)*3:][:3] }
	for o, shown := range map[byte]func(x, y int) (sx, sy int){
		1: func(x, y int) (int, int) { return x, y },
		2: func(x, y int) (int, int) { return 23 - x, y },
		3: func(x, y int) (int, int) { return 23 - x, 15 - y },
		4: func(x, y int) (int, int) { return x, 15 - y },
		5: func(x, y int) (int, int) { return y, x },
		6: func(x, y int) (int, int) { return y, 15 - x }, // turn right to view
		7: func(x, y int) (int, int) { return 23 - y, 15 - x },
		8: func(x, y int) (int, int) { return 23 - y, x }, // turn left to view
		9: func(x, y int) (int, int) { return x, y },      // no such orientation
	} {
		for _, order := range []binary.AppendByteOrder{binary.LittleEndian, binary.BigEndian} {
			data := withOrientation(plain, o, order)
			ignored, err := Decode(data, Options{IgnoreOrientation: true})
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(ignored.Pix, stored.Pix) {
				t.Errorf("orientation %d is not ignored", o)
			}
			m, err := Decode(data, Options{})
			if err != nil {
				t.Fatal(err)
			}
			if swapped := o >= 5 && o <= 8; (m.W == 16) != swapped || m.W*m.H != 24*16 {
				t.Fatalf("orientation %d: %d x %d", o, m.W, m.H)
			}
			for y := range m.H {
				for x := range m.W {
					sx, sy := shown(x, y)
					if !bytes.Equal(at(m, x, y), at(stored, sx, sy)) {
						t.Fatalf("orientation %d: (%d, %d) is not stored (%d, %d)", o, x, y, sx, sy)
					}
				}
			}
		}
	}
}

// bomb is a PNG whose header claims w x h pixels and that ends there.
func bomb(w, h uint32) []byte {
	chunk := append([]byte("IHDR"), make([]byte, 13)...)
	binary.BigEndian.PutUint32(chunk[4:], w)
	binary.BigEndian.PutUint32(chunk[8:], h)
	chunk[12], chunk[13] = 8, 2
	out := append([]byte(pngSignature), 0, 0, 0, 13)
	out = append(out, chunk...)
	return binary.BigEndian.AppendUint32(out, crc32.ChecksumIEEE(chunk))
}

// resized rewrites the size in a JPEG's frame header.
func resized(jpg []byte, w, h uint16) []byte {
	out := bytes.Clone(jpg)
	i := bytes.Index(out, []byte{0xff, 0xc0})
	binary.BigEndian.PutUint16(out[i+5:], h)
	binary.BigEndian.PutUint16(out[i+7:], w)
	return out
}

// Sizes are checked before memory is set aside for them.
func TestLimits(t *testing.T) {
	jpg := encodeJPEG(t, photo(16, 16))
	for name, data := range map[string][]byte{
		"png": bomb(60000, 60000), "png of the largest size": bomb(1<<31-1, 1<<31-1), "jpeg": resized(jpg, 65500, 65500),
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := Decode(data, Options{})
		runtime.ReadMemStats(&after)
		if !errors.Is(err, ErrTooLarge) {
			t.Errorf("%s: %v", name, err)
		}
		if n := after.TotalAlloc - before.TotalAlloc; n > 1<<20 {
			t.Errorf("%s: %d bytes were allocated", name, n)
		}
	}
	for max, ok := range map[int]bool{16 * 16: true, 16*16 - 1: false} {
		if _, err := Decode(jpg, Options{MaxPixels: max}); (err == nil) != ok {
			t.Errorf("limit %d: %v", max, err)
		}
	}
	if _, err := DecodeReader(bytes.NewReader(jpg), int64(len(jpg)), Options{}); err != nil {
		t.Error(err)
	}
	if _, err := DecodeReader(bytes.NewReader(jpg), int64(len(jpg))-1, Options{}); !errors.Is(err, ErrTooLarge) {
		t.Errorf("a file beyond the limit: %v", err)
	}
}

// No beginning of a file decodes, wherever it ends.
func TestTruncated(t *testing.T) {
	for name, data := range seeds(t) {
		if _, err := Decode(data, Options{}); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for n := range len(data) {
			_, err := Decode(data[:n], Options{})
			switch {
			case err != nil:
			case strings.HasPrefix(name, "webp") && n == len(data)-1: // fills up
			case name == "gif" && n == len(data)-1: // marks the end
			case strings.HasPrefix(name, "tiff") && n >= len(data)-16: // of no importance here
			default:
				t.Fatalf("%s: %d of %d bytes decode", name, n, len(data))
			}
		}
		if _, err := Decode(data[:len(data)-20], Options{}); !errors.Is(err, ErrTruncated) {
			t.Errorf("%s: a file without its end: %v", name, err)
		}
	}
}

func TestOtherFormatsAreNamed(t *testing.T) {
	for data, want := range map[string]string{
		"\x00\x00\x00\x18ftypheic": "HEIF", "<!DOCTYPE html>": "web page", "8BPS....": "Photoshop", "abc": "61 62 63", "\xff": "ff",
	} {
		_, err := Decode([]byte(data), Options{})
		if !errors.Is(err, ErrFormat) || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), Formats) {
			t.Errorf("%q: %v", data, err)
		}
	}
	if _, err := Decode(nil, Options{}); !errors.Is(err, ErrTruncated) {
		t.Errorf("an empty file: %v", err)
	}
}

// An image's memory serves again, also for smaller and differently shaped ones.
func TestMemoryIsReused(t *testing.T) {
	var m Image
	big, small := encodeJPEG(t, photo(64, 64)), encodePNG(t, image.NewGray(image.Rect(0, 0, 5, 4)))
	for range 3 {
		if err := DecodeInto(&m, big, Options{}); err != nil {
			t.Fatal(err)
		}
		first := &m.Pix[0]
		if err := DecodeInto(&m, small, Options{}); err != nil {
			t.Fatal(err)
		}
		if m.W != 5 || m.H != 4 || m.C != 1 || len(m.Pix) != 20 || &m.Pix[0] != first {
			t.Fatalf("%d x %d x %d, %d bytes, memory kept: %v", m.W, m.H, m.C, len(m.Pix), &m.Pix[0] == first)
		}
	}
}

// rgb is an image's pixels with grey repeated.
func rgb(m *Image) []byte {
	if m.C != 1 {
		return m.Pix
	}
	var out []byte
	for _, v := range m.Pix {
		out = append(out, v, v, v)
	}
	return out
}

// deepBytes is 16-bit samples, the low byte first.
func deepBytes(m *Image) []byte {
	var out []byte
	for _, v := range m.Deep {
		out = binary.LittleEndian.AppendUint16(out, v)
	}
	return out
}

func shared() string {
	if dir := os.Getenv("SWAV_SHARED"); dir != "" {
		return dir
	}
	return filepath.Join("..", "..", "shared")
}

// Files from the wild: what they are, or which error they give.
func TestOddFiles(t *testing.T) {
	dir := filepath.Join(shared(), "data", "odd")
	if _, err := os.Stat(dir); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skipf("no odd files: %v; SWAV_SHARED names another folder", err)
	}
	type expect struct {
		w, h, c int
		sum     uint32 // CRC-32 of the pixels as RGB by Pillow 13, turned upright
		err     error
	}
	for name, want := range map[string]expect{
		"hopper_orientation_2.jpg": {128, 128, 3, 0x466388f7, nil}, "hopper_orientation_5.jpg": {128, 128, 3, 0x2e705e79, nil},
		"orientation_rectangle.jpg": {1, 2, 3, 0x21008710, nil}, "pil_sample_cmyk.jpg": {100, 100, 3, 0xb166528d, nil},
		"app13-multiple.jpg": {256, 160, 3, 0x4902627d, nil}, "icc_profile_big.jpg": {425, 250, 3, 0x4f165a1c, nil},
		"i_trns.png": {64, 64, 1, 0x8a258aec, nil}, "palette_sepia.png": {128, 128, 3, 0xc675a152, nil},
		"truncated_jpeg.jpg": {err: ErrTruncated}, "truncated_image.png": {err: ErrTruncated},
		"hopper.gif": {128, 128, 3, 0x3104db2e, nil}, "no_palette_with_transparency.gif": {2, 2, 3, 0x428fe8ec, nil},
		"hopper.bmp": {128, 128, 3, 0xdc3ef74f, nil}, "hopper.tif": {128, 128, 3, 0xdc3ef74f, nil},
		"hopper.webp": {128, 128, 3, 0xa2c64b25, nil}, "hopper_orientation_6.webp": {128, 128, 3, 0x6c6ed659, nil},
		"12in16bit.tif": {100, 100, 1, 0x65024a20, nil}, "16bit.cropped.tif": {64, 64, 1, 0x3a8e8ab5, nil},
		"la.tga": {err: ErrFormat}, "PILLOW-LICENSE.txt": {err: ErrFormat},
	} {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Error(err)
			continue
		}
		m, err := Decode(data, Options{})
		if !errors.Is(err, want.err) {
			t.Errorf("%s: error %v, want %v", name, err, want.err)
		}
		if err != nil {
			continue
		}
		if m.W != want.w || m.H != want.h || m.C != want.c {
			t.Errorf("%s: %d x %d x %d, want %+v", name, m.W, m.H, m.C, want)
		}
		jpg := filepath.Ext(name) == ".jpg" // equal bit for bit with the same decoder only
		if sum := crc32.ChecksumIEEE(rgb(m)); sum != want.sum && (!jpg || Backend == "libjpeg-turbo") {
			t.Errorf("%s: pixels with CRC %08x, want %08x", name, sum, want.sum)
		}
	}
	for name, want := range map[string]uint32{"12in16bit.tif": 0xbca266e5, "16bit.cropped.tif": 0x34f47533, "i_trns.png": 0xa9a538b4} {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		m, err := Decode(data, Options{Deep: true})
		if err != nil || !m.IsDeep() {
			t.Fatalf("%s: 16 bits: %v", name, err)
		}
		if sum := crc32.ChecksumIEEE(deepBytes(m)); sum != want {
			t.Errorf("%s: 16-bit pixels with CRC %08x, want %08x", name, sum, want)
		}
	}
	// The same picture in all orientations.
	var first *Image
	for _, name := range []string{"2", "4", "5", "6", "8"} {
		data, err := os.ReadFile(filepath.Join(dir, "hopper_orientation_"+name+".jpg"))
		if err != nil {
			t.Fatal(err)
		}
		m, err := Decode(data, Options{})
		if err != nil {
			t.Fatal(err)
		}
		if first == nil {
			first = m
		}
		sum := 0.0
		for i, v := range m.Pix {
			sum += math.Abs(float64(v) - float64(first.Pix[i]))
		}
		if mean := sum / float64(len(m.Pix)); mean > 6 {
			t.Errorf("orientation %s: mean difference %.1f from the others", name, mean)
		}
	}
}

// A broken file leaves the decoders able to read good ones.
func TestBrokenFilesHarmNoOthers(t *testing.T) {
	good := encodeJPEG(t, photo(40, 24))
	want, err := Decode(good, Options{})
	if err != nil {
		t.Fatal(err)
	}
	for i := range len(good) {
		for _, bad := range [][]byte{good[:i], append(append(bytes.Clone(good[:i]), ^good[i]), good[i+1:]...)} {
			_, _ = Decode(bad, Options{MaxPixels: 1 << 16})
			got, err := Decode(good, Options{})
			if err != nil {
				t.Fatalf("after a file broken at byte %d: %v", i, err)
			}
			if !bytes.Equal(got.Pix, want.Pix) {
				t.Fatalf("after a file broken at byte %d: other pixels", i)
			}
		}
	}
}

func FuzzExifOrientation(f *testing.F) {
	f.Add([]byte("II*\x00\x08\x00\x00\x00\x01\x00\x12\x01\x03\x00\x01\x00\x00\x00\x06\x00\x00\x00"))
	f.Add([]byte("MM\x00*\x00\x00\x00\x08\xff\xff"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if o := exifOrientation(data); o < 1 || o > 8 {
			t.Fatalf("orientation %d", o)
		}
	})
}

// regionInputs are JPEG files of several kinds: samplings, sizes, scans, turned ones.
func regionInputs(t *testing.T) map[string][]byte {
	inputs := map[string][]byte{
		"4:2:0":   encodeJPEG(t, photo(300, 200)),
		"turned":  withOrientation(encodeJPEG(t, photo(180, 250)), 6, binary.LittleEndian),
		"grey":    encodeJPEG(t, image.NewGray(image.Rect(0, 0, 150, 140))),
		"big MCU": encodeJPEG(t, photo(67, 131)),
	}
	files, _ := filepath.Glob(filepath.Join(shared(), "data", "photos", "*", "*1*.*"))
	odd, _ := filepath.Glob(filepath.Join(shared(), "data", "odd", "*.jp*g"))
	golden, _ := filepath.Glob(filepath.Join(shared(), "golden", "augment", "*", "*.jpg"))
	for _, f := range slices.Concat(files[:min(len(files), 20)], golden, odd) {
		data, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		inputs[f] = data
	}
	return inputs
}

// The pixels of a region are those of the whole image, to the bit.
func TestRegion(t *testing.T) {
	inputs := regionInputs(t)
	rng := rand.New(rand.NewPCG(1, 2))
	for name, data := range inputs {
		whole, err := Decode(data, Options{})
		if err != nil {
			continue // broken on purpose; other tests see to it
		}
		for range 12 {
			x, y := rng.IntN(whole.W), rng.IntN(whole.H)
			r := image.Rect(x, y, x+1+rng.IntN(whole.W-x), y+1+rng.IntN(whole.H-y))
			part := Image{Region: func(w, h int) image.Rectangle {
				if w != whole.W || h != whole.H {
					t.Errorf("%s: asked for %d x %d pixels, want %d x %d", name, w, h, whole.W, whole.H)
				}
				return r
			}}
			if err := DecodeInto(&part, data, Options{}); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			for y := r.Min.Y; y < r.Max.Y; y++ {
				from, to := (y*whole.W+r.Min.X)*whole.C, (y*whole.W+r.Max.X)*whole.C
				if !bytes.Equal(part.Pix[from:to], whole.Pix[from:to]) {
					t.Fatalf("%s: row %d of %v differs", name, y, r)
				}
			}
		}
	}
}

// An image that ends early is broken whatever is needed of it.
func TestRegionOfTruncated(t *testing.T) {
	data := encodeJPEG(t, photo(300, 200))
	for _, cut := range []int{2, 30, 300, len(data) / 2} {
		broken := bytes.Clone(data[:len(data)-cut])
		for _, tail := range []string{"", "\xff\xd9"} { // without and with an end marker
			m := Image{Region: func(int, int) image.Rectangle { return image.Rect(0, 0, 20, 10) }}
			err := DecodeInto(&m, append(broken, tail...), Options{})
			if cut == 2 && tail != "" {
				if err != nil {
					t.Errorf("whole: %v", err)
				}
			} else if err == nil || tail == "" && !errors.Is(err, ErrTruncated) {
				t.Errorf("%d bytes less, tail %x: %v, want ErrTruncated", cut, tail, err)
			}
		}
	}
}
