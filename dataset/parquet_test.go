package dataset

import (
	"bytes"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/parquet-go/parquet-go"
)

type hfImage struct {
	Bytes []byte `parquet:"bytes,optional"`
	Path  string `parquet:"path,optional"`
}

type hfRow struct {
	Image hfImage `parquet:"image"`
	Label int64   `parquet:"label"`
}

const hfMetadata = `{"info": {"features": {"image": {"_type": "Image"}, "label": {"names": ["cat", "dog"], "_type": "ClassLabel"}}}}`

// parquetFile has n images, numbered from first, in row groups of a few.
func parquetFile(t testing.TB, first, n int, metadata string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := parquet.NewGenericWriter[hfRow](&b, parquet.KeyValueMetadata("huggingface", metadata), parquet.MaxRowsPerRowGroup(3), parquet.Compression(&parquet.Snappy))
	for i := first; i < first+n; i++ {
		if _, err := w.Write([]hfRow{{hfImage{onePixel(t, byte(i), 0, 0), "x.png"}, int64(i % 2)}}); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestParquet(t *testing.T) {
	dir := t.TempDir()
	write(t, parquetFile(t, 0, 5, hfMetadata), dir, "data", "train-00000-of-00002.parquet")
	write(t, parquetFile(t, 5, 2, hfMetadata), dir, "data", "train-00001-of-00002.parquet")
	write(t, parquetFile(t, 0, 1, "no JSON"), dir, "data", "test-00000-of-00001.parquet")
	write(t, []byte("# a data set"), dir, "README.md")
	o := Options{CacheDir: t.TempDir()}
	src, err := Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"train-00000-of-00002.parquet/00000000.png cat", "train-00000-of-00002.parquet/00000001.png dog", "train-00000-of-00002.parquet/00000002.png cat"}
	if got := ids(src); len(got) != 7 || !slices.Equal(got[:3], want) || got[6] != "train-00001-of-00002.parquet/00000001.png cat" {
		t.Errorf("%q", got)
	}
	checkPixels(t, src)
	test, err := Open(dir, Options{CacheDir: o.CacheDir, Split: Test})
	if err != nil || test.Len() != 1 || test.ID(0) != "test-00000-of-00001.parquet/00000000.png" {
		t.Errorf("test images: %v", err)
	}
	server := httptest.NewServer(http.FileServer(http.Dir(dir)))
	defer server.Close()
	remote, err := Open(server.URL+"/data/train-0000{0..1}-of-00002.parquet", o)
	if err != nil {
		t.Fatal(err)
	}
	checkPixels(t, remote)
	s, err := OpenStream("repeat:"+server.URL+"/data/train-00001-of-00002.parquet", o)
	if err != nil {
		t.Fatal(err)
	}
	if got := take(t, s, 3); !slices.Equal(got, []string{"train-00001-of-00002.parquet/00000000.png dog 5", "train-00001-of-00002.parquet/00000001.png cat 6", "train-00001-of-00002.parquet/00000000.png dog 5"}) {
		t.Errorf("repeated: %q", got)
	}

	var other bytes.Buffer
	w := parquet.NewGenericWriter[struct{ Text string }](&other)
	if _, err := w.Write([]struct{ Text string }{{"no image"}}); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	good := parquetFile(t, 0, 5, hfMetadata)
	for name, tc := range map[string]struct {
		data []byte
		want string
	}{"other.parquet": {other.Bytes(), "no column of images"}, "cut.parquet": {good[:len(good)-40], "cut.parquet"}, "empty.parquet": {nil, "empty.parquet"}} {
		write(t, tc.data, dir, "bad", name)
		if _, err := Open(filepath.Join(dir, "bad", name), o); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %q", name, err, tc.want)
		}
	}
}

// Metadata whose lists claim more than follows is refused before it is parsed.
func TestParquetFooterIsChecked(t *testing.T) {
	good := parquetFile(t, 0, 5, hfMetadata)
	if err := checkFooter(bytes.NewReader(good), int64(len(good))); err != nil {
		t.Error(err)
	}
	// Field 4 (row groups), a list of 2^31-1 structs of which none follows.
	footer := []byte{0x49, 0xfc, 0xff, 0xff, 0xff, 0xff, 0x07, 0x00}
	bad := append(append([]byte("PAR1"), footer...), byte(len(footer)), 0, 0, 0, 'P', 'A', 'R', '1')
	if err := checkFooter(bytes.NewReader(bad), int64(len(bad))); !errors.Is(err, errFooter) {
		t.Errorf("%v, want %v", err, errFooter)
	}
	deep := append([]byte("PAR1"), bytes.Repeat([]byte{0x1c}, 1000)...)
	deep = append(deep, 0xe8, 0x03, 0, 0, 'P', 'A', 'R', '1')
	if err := checkFooter(bytes.NewReader(deep), int64(len(deep))); !errors.Is(err, errFooter) {
		t.Errorf("structs in structs: %v, want %v", err, errFooter)
	}
}

// A page that claims more than it may is refused before it is read.
func TestParquetPagesAreChecked(t *testing.T) {
	good := parquetFile(t, 0, 5, hfMetadata)
	if err := checkChunk(bytes.NewReader(good), 4, 5); err == nil {
		t.Error("a page that goes beyond its chunk gave no error")
	}
	// The compact encoding of a data page (type 0) of 2^31-1 bytes unpacked, 1 packed.
	huge := []byte{0x15, 0x00, 0x15, 0xfe, 0xff, 0xff, 0xff, 0x0f, 0x15, 0x02, 0x00, 0xaa}
	if err := checkChunk(bytes.NewReader(huge), 0, int64(len(huge))); err == nil || !strings.Contains(err.Error(), "2147483647 unpacked") {
		t.Errorf("a huge page: %v", err)
	}
}

// Whatever the bytes, unpacking ends without a crash.
func FuzzParquet(f *testing.F) {
	good := parquetFile(f, 0, 4, hfMetadata)
	f.Add(good)
	f.Add(good[:len(good)/2])
	f.Add([]byte("PAR1PAR1"))
	f.Fuzz(func(t *testing.T, data []byte) {
		path := filepath.Join(t.TempDir(), "x.parquet")
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
		file, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		var b bytes.Buffer
		_ = packParquet(file, &b)
	})
}
