package dataset

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"swav/imgcodec"
)

// write makes a file and the folders above it.
func write(t testing.TB, data []byte, elem ...string) {
	t.Helper()
	path := filepath.Join(elem...)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
}

// onePixel is a PNG of one RGB pixel.
func onePixel(t testing.TB, r, g, b byte) []byte {
	t.Helper()
	m := image.NewRGBA(image.Rect(0, 0, 1, 1))
	m.SetRGBA(0, 0, color.RGBA{r, g, b, 255})
	var buf bytes.Buffer
	if err := png.Encode(&buf, m); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func link(t *testing.T, target, path string) {
	t.Helper()
	if err := os.Symlink(target, path); err != nil {
		t.Skipf("no links here: %v", err)
	}
}

// ids lists a source's images with their labels' names.
func ids(src Source) []string {
	var s []string
	for i := range src.Len() {
		label := "-"
		if l := src.Label(i); l >= 0 {
			label = src.Classes()[l]
		}
		s = append(s, src.ID(i)+" "+label)
	}
	return s
}

func TestFolders(t *testing.T) {
	px := onePixel(t, 1, 2, 3)
	for _, tc := range []struct {
		name  string
		files []string
		split string
		want  []string
	}{
		{"flat", []string{"b.png", "a.PNG", "c.jpeg", "labels.csv", "notes.txt", ".hidden.png"}, "",
			[]string{"a.PNG -", "b.png -", "c.jpeg -"}},
		{"classes", []string{"dog/2.png", "cat/1.png", "cat/0.jpg", "labels.csv"}, "",
			[]string{"cat/0.jpg cat", "cat/1.png cat", "dog/2.png dog"}},
		{"nested below classes", []string{"cat/x/y/1.png", "cat/2.png", "dog/z/3.png"}, "",
			[]string{"cat/2.png cat", "cat/x/y/1.png cat", "dog/z/3.png dog"}},
		{"images beside classes have no label", []string{"0.png", "cat/1.png", "dog/2.png"}, "",
			[]string{"0.png -", "cat/1.png cat", "dog/2.png dog"}},
		{"one folder is no class", []string{"images/1.png", "images/2.png"}, "",
			[]string{"images/1.png -", "images/2.png -"}},
		{"folders around classes", []string{"data/v1/cat/1.png", "data/v1/dog/2.png"}, "",
			[]string{"data/v1/cat/1.png cat", "data/v1/dog/2.png dog"}},
		{"class names in order, not paths", []string{"a b/1.png", "a/2.png"}, "",
			[]string{"a b/1.png a b", "a/2.png a"}},
		{"hidden folders", []string{"cat/1.png", ".cache/2.png"}, "", []string{"cat/1.png -"}},
		{"train split", []string{"train/cat/1.png", "train/dog/2.png", "val/cat/3.png"}, "",
			[]string{"cat/1.png cat", "dog/2.png dog"}},
		{"test split", []string{"train/cat/1.png", "val/cat/3.png", "val/dog/4.png"}, Test,
			[]string{"cat/3.png cat", "dog/4.png dog"}},
		{"train alone is a class among others", []string{"train/1.png", "plane/2.png"}, "",
			[]string{"plane/2.png plane", "train/1.png train"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			for _, f := range tc.files {
				write(t, px, dir, filepath.FromSlash(f))
			}
			src, err := Open(dir, Options{Split: tc.split})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, ids(src)); diff != "" {
				t.Error(diff)
			}
			if !slices.IsSorted(src.Classes()) {
				t.Errorf("classes %q", src.Classes())
			}
			forced, err := Open("folder:"+dir, Options{Split: tc.split})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, ids(forced)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// Links are followed; each real folder is entered once, so circles end.
func TestLinks(t *testing.T) {
	dir, other := t.TempDir(), t.TempDir()
	px := onePixel(t, 9, 9, 9)
	write(t, px, dir, "cat", "1.png")
	write(t, px, other, "2.png")
	write(t, px, other, "deep", "3.png")
	link(t, other, filepath.Join(dir, "dog"))
	link(t, dir, filepath.Join(dir, "cat", "up"))                                 // a circle
	link(t, filepath.Join(other, "2.png"), filepath.Join(dir, "cat", "file.png")) // an image
	link(t, filepath.Join(dir, "nowhere"), filepath.Join(dir, "dangling.png"))
	link(t, dir, filepath.Join(other, "deep", "back")) // a circle through both
	src, err := Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"cat/1.png cat", "cat/file.png cat", "dog/2.png dog", "dog/deep/3.png dog"}
	if diff := cmp.Diff(want, ids(src)); diff != "" {
		t.Error(diff)
	}
	for i := range src.Len() {
		var img imgcodec.Image
		if err := src.Load(i, &img); err != nil {
			t.Error(err)
		}
	}
}

func TestFolderLoad(t *testing.T) {
	dir := t.TempDir()
	write(t, onePixel(t, 10, 20, 30), dir, "a.png")
	write(t, []byte("not an image"), dir, "b.jpg")
	write(t, nil, dir, "c.png")
	write(t, onePixel(t, 1, 1, 1), dir, "d.png")
	src, err := Open(dir, Options{MaxFileBytes: 1 << 10})
	if err != nil {
		t.Fatal(err)
	}
	write(t, make([]byte, 2<<10), dir, "d.png") // grown since
	img := imgcodec.Image{Pix: make([]byte, 0, 100)}
	if err := src.Load(0, &img); err != nil || !bytes.Equal(img.Pix, []byte{10, 20, 30}) {
		t.Errorf("%v, %v", img, err)
	}
	for i, want := range map[int]error{1: imgcodec.ErrFormat, 2: imgcodec.ErrTruncated, 3: imgcodec.ErrTooLarge} {
		if err := src.Load(i, &img); !errors.Is(err, want) || !strings.Contains(err.Error(), src.ID(i)) {
			t.Errorf("%s: %v, want %v and the name", src.ID(i), err, want)
		}
	}
	if err := os.Remove(filepath.Join(dir, "a.png")); err != nil {
		t.Fatal(err)
	}
	if err := src.Load(0, &img); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file that is gone: %v", err)
	}
	if src.Channels() != 3 {
		t.Errorf("%d channels", src.Channels())
	}
	if src, err = Open(dir, Options{Channels: 1}); err != nil || src.Channels() != 1 {
		t.Errorf("%d channels, %v, want 1", src.Channels(), err)
	}
}

// idx builds an idx file.
func idx(kind byte, data []byte, dims ...uint32) []byte {
	out := []byte{0, 0, kind, byte(len(dims))}
	for _, d := range dims {
		out = binary.BigEndian.AppendUint32(out, d)
	}
	return append(out, data...)
}

func zipped(data []byte) []byte {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := z.Write(data); err != nil {
		panic(err)
	}
	if err := z.Close(); err != nil {
		panic(err)
	}
	return b.Bytes()
}

func sequence(n int) []byte {
	s := make([]byte, n)
	for i := range s {
		s[i] = byte(i)
	}
	return s
}

// Fashion-MNIST's files hold numbers; people want to read names.
func TestFashionMNISTHasNames(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "fashion-mnist")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, idx(8, sequence(24), 4, 2, 3), dir, "train-images-idx3-ubyte")
	write(t, idx(8, []byte{9, 0, 1, 3}, 4), dir, "train-labels-idx1-ubyte")
	src, err := Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"train/0 ankle boot", "train/1 T-shirt", "train/2 trouser", "train/3 dress"}; !slices.Equal(ids(src), want) {
		t.Errorf("%q, want %q", ids(src), want)
	}
}

func TestIDX(t *testing.T) {
	dir := t.TempDir()
	write(t, zipped(idx(8, sequence(24), 4, 2, 3)), dir, "train-images-idx3-ubyte.gz")
	write(t, idx(8, []byte{3, 0, 1, 3}, 4), dir, "train-labels-idx1-ubyte")
	write(t, idx(8, sequence(6), 1, 2, 3), dir, "t10k-images-idx3-ubyte")
	for _, path := range []string{dir, "idx:" + dir, filepath.Join(dir, "train-images-idx3-ubyte.gz")} {
		src, err := Open(path, Options{})
		if err != nil {
			t.Fatal(err)
		}
		if want := []string{"train/0 3", "train/1 0", "train/2 1", "train/3 3"}; !slices.Equal(ids(src), want) {
			t.Errorf("%s: %q, want %q", path, ids(src), want)
		}
		var img imgcodec.Image
		if err := src.Load(1, &img); err != nil {
			t.Fatal(err)
		}
		if img.W != 3 || img.H != 2 || img.C != 1 || !bytes.Equal(img.Pix, []byte{6, 7, 8, 9, 10, 11}) {
			t.Errorf("%s: image 1 is %+v", path, img)
		}
		test, err := Open(path, Options{Split: Test})
		if err != nil {
			t.Fatal(err)
		}
		if want := []string{"test/0 -"}; !slices.Equal(ids(test), want) || len(test.Classes()) != 0 {
			t.Errorf("%s: test images %q of classes %q, want %q without", path, ids(test), test.Classes(), want)
		}
		if src.Channels() != 1 {
			t.Errorf("%d channels", src.Channels())
		}
	}
}

func TestBadIDX(t *testing.T) {
	good := idx(8, sequence(24), 4, 2, 3)
	for name, tc := range map[string]struct {
		images, labels []byte
		want           string
	}{
		"truncated":          {good[:20], nil, "ends early"},
		"only a beginning":   {good[:10], nil, "header"},
		"empty":              {nil, nil, "header"},
		"not idx":            {[]byte("GIF89a, which is no idx file at all"), nil, "not an idx file"},
		"floats":             {idx(0x0d, sequence(96), 4, 2, 3), nil, "unsigned bytes"},
		"labels for images":  {idx(8, sequence(24), 24), nil, "1 dimensions, want 3"},
		"no images":          {idx(8, nil, 0, 2, 3), nil, "dimension 0 is 0"},
		"claims too much":    {idx(8, sequence(24), 1<<31, 1<<31, 1<<31), nil, "more than"},
		"claims a lot":       {idx(8, sequence(24), 1<<20, 64, 64), nil, "ends early"},
		"too few labels":     {good, idx(8, []byte{1, 2}, 2), "4 images but 2 labels"},
		"broken labels":      {good, []byte{0, 0, 8, 1}, "train-labels-idx1-ubyte"},
		"broken compression": {nil, nil, "gzip"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			file := "train-images-idx3-ubyte"
			if name == "broken compression" {
				file += ".gz"
				tc.images = []byte("this was never compressed")
			}
			write(t, tc.images, dir, file)
			if tc.labels != nil {
				write(t, tc.labels, dir, "train-labels-idx1-ubyte")
			}
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, err := Open(dir, Options{})
			runtime.ReadMemStats(&after)
			if err == nil || !strings.Contains(err.Error(), tc.want) || !strings.Contains(err.Error(), dir) {
				t.Errorf("%v, want %q and the folder in it", err, tc.want)
			}
			if n := after.TotalAlloc - before.TotalAlloc; n > 8<<20 {
				t.Errorf("%d bytes were allocated", n)
			}
		})
	}
}

func cifarRecord(labels []byte, seed byte) []byte {
	r := slices.Clone(labels)
	for c := range 3 {
		for i := range cifarPixels {
			r = append(r, seed+byte(c*50)+byte(i))
		}
	}
	return r
}

func TestCIFAR(t *testing.T) {
	for _, tc := range []struct {
		name, train, test, names string
		labels                   [][]byte
	}{
		{"10", "data_batch_1.bin", "test_batch.bin", "batches.meta.txt", [][]byte{{1}, {0}}},
		{"100", "train.bin", "test.bin", "fine_label_names.txt", [][]byte{{7, 1}, {8, 0}}},
		{"10 in its archive's folder", "cifar-10-batches-bin/data_batch_1.bin", "cifar-10-batches-bin/test_batch.bin",
			"cifar-10-batches-bin/batches.meta.txt", [][]byte{{1}, {0}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			write(t, append(cifarRecord(tc.labels[0], 3), cifarRecord(tc.labels[1], 9)...), dir, tc.train)
			write(t, cifarRecord(tc.labels[1], 100), dir, tc.test)
			write(t, []byte("airplane\nautomobile\n\n"), dir, tc.names)
			src, err := Open(dir, Options{})
			if err != nil {
				t.Fatal(err)
			}
			if want := []string{"train/0 automobile", "train/1 airplane"}; !slices.Equal(ids(src), want) {
				t.Errorf("%q, want %q", ids(src), want)
			}
			var img imgcodec.Image
			if err := src.Load(1, &img); err != nil {
				t.Fatal(err)
			}
			if img.W != 32 || img.H != 32 || img.C != 3 || !bytes.Equal(img.Pix[3*33:][:3], []byte{9 + 33, 59 + 33, 109 + 33}) {
				t.Errorf("%d x %d x %d, pixel 33 is %v", img.W, img.H, img.C, img.Pix[3*33:][:3])
			}
			test, err := Open("cifar:"+dir, Options{Split: Test})
			if err != nil || test.Len() != 1 {
				t.Fatalf("test images: %v", err)
			}
			write(t, cifarRecord(tc.labels[0], 3)[:3000], dir, tc.train)
			if _, err := Open(dir, Options{}); err == nil || !strings.Contains(err.Error(), "truncated") {
				t.Errorf("a truncated batch: %v", err)
			}
			write(t, cifarRecord(tc.labels[0], 3), dir, tc.train)
			if _, err := Open(dir, Options{MaxDataBytes: 3000}); err == nil || !strings.Contains(err.Error(), "allowed") {
				t.Errorf("beyond the limit: %v", err)
			}
		})
	}
}

func TestOpenRefuses(t *testing.T) {
	empty, others, broken := t.TempDir(), t.TempDir(), t.TempDir()
	write(t, nil, others, "a.heic")
	write(t, nil, others, "sub", "b.TGA")
	write(t, nil, broken, "file.bin")
	write(t, cifarRecord([]byte{1}, 1), broken, "only-test", "test_batch.bin")
	for _, tc := range []struct {
		path string
		o    Options
		want []string
	}{
		{"", Options{}, []string{"no data given"}},
		{filepath.Join(empty, "none"), Options{}, []string{"none", "no such file"}},
		{empty, Options{}, []string{empty, "no images", "*.jpg", "JPEG, PNG"}},
		{others, Options{}, []string{others, "2 images of other formats", "convert"}},
		{filepath.Join(broken, "file.bin"), Options{}, []string{"file.bin", "image folder", "idx files", "CIFAR"}},
		{"folder:" + filepath.Join(broken, "file.bin"), Options{}, []string{"not a folder"}},
		{"idx:" + empty, Options{}, []string{empty, "train-images-idx3-ubyte"}},
		{"cifar:" + empty, Options{}, []string{empty, "data_batch_1.bin"}},
		{filepath.Join(broken, "only-test"), Options{}, []string{"no such split", "data_batch_1.bin"}},
		{empty, Options{Split: "dev"}, []string{"dev", "train", "test"}},
		{empty, Options{Channels: -1}, []string{"channels"}},
	} {
		_, err := Open(tc.path, tc.o)
		if err == nil {
			t.Errorf("%q: no error", tc.path)
			continue
		}
		for _, want := range tc.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%q: %v, want %q in it", tc.path, err, want)
			}
		}
	}
	// Sources without test images say so in a way that callers can tell.
	flat := t.TempDir()
	write(t, onePixel(t, 1, 1, 1), flat, "a.png")
	write(t, idx(8, sequence(6), 1, 2, 3), empty, "train-images-idx3-ubyte")
	for _, path := range []string{flat, empty} {
		if _, err := Open(path, Options{Split: Test}); !errors.Is(err, ErrNoSplit) {
			t.Errorf("%s: %v, want ErrNoSplit", path, err)
		}
	}
}

func TestSubset(t *testing.T) {
	dir := t.TempDir()
	for i := range 5 {
		write(t, onePixel(t, byte(i), 0, 0), dir, string(rune('a'+i%2)), fmt.Sprintf("%d.png", i))
	}
	src, err := Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	sub := Subset(src, []int{4, 0, 4})
	if want := []string{"b/3.png b", "a/0.png a", "b/3.png b"}; !slices.Equal(ids(sub), want) {
		t.Errorf("%q, want %q", ids(sub), want)
	}
	var img imgcodec.Image
	if err := sub.Load(0, &img); err != nil || img.Pix[0] != 3 {
		t.Errorf("image %v, %v", img, err)
	}
	defer func() {
		if recover() == nil {
			t.Error("no panic for an image that is not there")
		}
	}()
	Subset(src, []int{5})
}

// Random numbers hang on these values: they must not change.
func TestKeyIsStable(t *testing.T) {
	seen := map[uint64]string{}
	for id, want := range map[string]uint64{
		"": 0xf52a15e9a9b5e89b, "train/0": 0x7e809ba386e2fe7c, "cat/1.png": 0x26b9d814968838b0,
	} {
		got := Key(id)
		if got != want {
			t.Errorf("Key(%q) = %#x, want %#x", id, got, want)
		}
		if other, ok := seen[got]; ok {
			t.Errorf("%q and %q have the same key", id, other)
		}
		seen[got] = id
	}
}

// The real Fashion-MNIST, where it is installed.
func TestFashionMNIST(t *testing.T) {
	const dir = "/usr/share/datasets/fashion-mnist"
	if _, err := os.Stat(dir); err != nil {
		t.Skipf("Debian package dataset-fashion-mnist is not installed: %v", err)
	}
	for split, n := range map[string]int{Train: 60000, Test: 10000} {
		src, err := Open(dir, Options{Split: split})
		if err != nil {
			t.Fatal(err)
		}
		var img imgcodec.Image
		if err := src.Load(n-1, &img); err != nil {
			t.Fatal(err)
		}
		if src.Len() != n || len(src.Classes()) != 10 || img.W != 28 || img.H != 28 || img.C != 1 {
			t.Errorf("%s: %d images of %d classes, %d x %d x %d", split, src.Len(), len(src.Classes()), img.W, img.H, img.C)
		}
		counts := [10]int{}
		for i := range n {
			counts[src.Label(i)]++
		}
		for label, c := range counts {
			if c != n/10 {
				t.Errorf("%s: %d images of class %d", split, c, label)
			}
		}
	}
}

// Whatever the bytes, parsing ends, and gives the elements that it claims.
func FuzzIDX(f *testing.F) {
	f.Add(idx(8, sequence(24), 4, 2, 3), false)
	f.Add(idx(8, sequence(4), 4, 2, 3), false)
	f.Add(idx(8, nil, 1<<31, 1<<31, 2), false)
	f.Add(zipped(idx(8, sequence(24), 4, 2, 3)), true)
	f.Add([]byte("GIF89a"), true)
	f.Fuzz(func(t *testing.T, data []byte, zip bool) {
		const limit = 1 << 20
		dims, values, err := parseIDX(bytes.NewReader(data), zip, 3, limit)
		if err != nil {
			return
		}
		if len(dims) != 3 || len(values) != dims[0]*dims[1]*dims[2] || len(values) > limit || len(values) == 0 {
			t.Fatalf("%d elements of %v", len(values), dims)
		}
	})
}

// Where two or four channels are wanted, alpha is one of them.
func TestAlphaIsAChannelWhereItIsWanted(t *testing.T) {
	dir := t.TempDir()
	m := image.NewNRGBA(image.Rect(0, 0, 1, 1))
	m.SetNRGBA(0, 0, color.NRGBA{R: 1, G: 2, B: 3, A: 4})
	var b bytes.Buffer
	if err := png.Encode(&b, m); err != nil {
		t.Fatal(err)
	}
	write(t, b.Bytes(), dir, "a.png")
	for channels, want := range map[int][]byte{0: {1, 2, 3}, 3: {1, 2, 3}, 4: {1, 2, 3, 4}, 5: {1, 2, 3}} {
		src, err := Open(dir, Options{Channels: channels})
		if err != nil {
			t.Fatal(err)
		}
		var img imgcodec.Image
		if err := src.Load(0, &img); err != nil || !bytes.Equal(img.Pix, want) {
			t.Errorf("%d channels: %v, %v, want %v", channels, img.Pix, err, want)
		}
	}
}
