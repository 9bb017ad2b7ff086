package imgcodec

import (
	"bytes"
	"encoding/binary"
	"image"
	"image/color/palette"
	"image/gif"
	"runtime"
	"testing"

	"golang.org/x/image/bmp"
	"golang.org/x/image/tiff"
)

// seeds are small whole files of every kind.
func seeds(t testing.TB) map[string][]byte {
	t.Helper()
	var g, b, f bytes.Buffer
	p := image.NewPaletted(image.Rect(0, 0, 9, 5), palette.Plan9)
	grey := image.NewGray(image.Rect(0, 0, 30, 20))
	for i := range grey.Pix {
		grey.Pix[i] = byte(i * 7)
	}
	copy(p.Pix, grey.Pix)
	for _, err := range []error{gif.Encode(&g, p, nil), bmp.Encode(&b, photo(5, 4)), tiff.Encode(&f, photo(9, 7), &tiff.Options{Compression: tiff.Deflate})} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return map[string][]byte{
		"jpeg": encodeJPEG(t, photo(40, 24)), "jpeg grey": encodeJPEG(t, grey),
		"png": encodePNG(t, photo(20, 12)), "png grey": encodePNG(t, grey),
		"webp": webpFile(t, "lossy"), "webp lossless": webpFile(t, "lossless"), "webp animation": webpFile(t, "animation"),
		"gif": g.Bytes(), "bmp": b.Bytes(), "tiff": f.Bytes(),
		"tiff channels": writeTIFF(9, 7, 5, tiffSpec{order: binary.LittleEndian, bytes: 2, photo: blackIsZero}),
		"tiff tiles":    writeTIFF(20, 18, 4, tiffSpec{order: binary.BigEndian, bytes: 1, photo: photoCMYK, tile: 16, deflate: true, predictor: true}),
		"npy":           npy("<u2", false, "2, 3, 5", make([]byte, 60)),
	}
}

// fuzz checks that decoding ends without a crash whatever the bytes, gives
// samples that fit the declared size, within the limit and without much memory
// besides, and harms no later image.
func fuzz(f *testing.F, more [][]byte, kinds ...string) {
	all := seeds(f)
	for _, k := range kinds {
		f.Add(all[k])
		f.Add(all[k][:len(all[k])/2])
	}
	for _, m := range more {
		f.Add(m)
	}
	good := all["jpeg"]
	want, err := Decode(good, Options{})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		const limit = 1 << 16
		if len(data) > 1<<20 {
			return
		}
		defer func() {
			if got, err := Decode(good, Options{}); err != nil || !bytes.Equal(got.Pix, want.Pix) {
				t.Fatalf("a good file decodes otherwise after this one: %v", err)
			}
		}()
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		m, err := Decode(data, Options{MaxPixels: limit, Deep: true, Alpha: true})
		runtime.ReadMemStats(&after)
		// The samples, the library's copy of them, tiles that are filled up, and
		// tables of decoders.
		if used, most := after.TotalAlloc-before.TotalAlloc, uint64(64<<20+64*limit+64*len(data)); used > most {
			t.Fatalf("%d bytes were allocated, want at most %d", used, most)
		}
		if err != nil {
			return
		}
		if m.W < 1 || m.H < 1 || m.C < 1 || m.W*m.H > limit || len(m.Pix)+len(m.Deep) != m.W*m.H*m.C {
			t.Fatalf("%d x %d x %d, %d and %d samples", m.W, m.H, m.C, len(m.Pix), len(m.Deep))
		}
		need := image.Rect(m.W/2, m.H/2, m.W/2+1, m.H/2+1) // far from the edges of larger ones
		part := Image{Region: func(int, int) image.Rectangle { return need }}
		if err := DecodeInto(&part, data, Options{MaxPixels: limit}); err != nil {
			t.Fatalf("the whole decodes, %v of it does not: %v", need, err)
		}
	})
}

func FuzzJPEG(f *testing.F) {
	jpg := encodeJPEG(f, photo(20, 12))
	fuzz(f, [][]byte{withOrientation(jpg, 6, binary.LittleEndian), resized(jpg, 65500, 2), encodeJPEG(f, photo(160, 150))}, "jpeg", "jpeg grey")
}

func FuzzPNG(f *testing.F)  { fuzz(f, [][]byte{bomb(10, 10)}, "png", "png grey") }
func FuzzWebP(f *testing.F) { fuzz(f, nil, "webp", "webp lossless", "webp animation") }
func FuzzGIF(f *testing.F)  { fuzz(f, nil, "gif") }
func FuzzBMP(f *testing.F)  { fuzz(f, nil, "bmp") }
func FuzzTIFF(f *testing.F) { fuzz(f, nil, "tiff", "tiff channels", "tiff tiles") }
func FuzzNPY(f *testing.F)  { fuzz(f, nil, "npy") }
