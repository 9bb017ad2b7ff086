package tarshard

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
)

var options = Options{Image: func(suffix string) bool { return suffix == ".jpg" || suffix == ".png" }, MaxBytes: 1 << 20}

// pack makes a tar of names and contents, in turn.
func pack(t testing.TB, files ...string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for i := 0; i < len(files); i += 2 {
		h := &tar.Header{Name: files[i], Mode: 0o644, Size: int64(len(files[i+1])), Typeflag: tar.TypeReg}
		if strings.HasSuffix(files[i], "/") {
			h.Typeflag = tar.TypeDir
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, files[i+1]); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func read(r io.Reader) (out []string, err error) {
	for t := NewReader(r, options); ; {
		s, err := t.Next()
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return out, err
		}
		out = append(out, fmt.Sprintf("%s%s=%s:%s", s.Key, s.Suffix, s.Data, s.Label))
	}
}

func TestSamples(t *testing.T) {
	long := strings.Repeat("d/", 60) + "x.jpg" // takes an extended header
	shard := pack(t, "dir/", "", "a.jpg", "AA", "a.cls", " 7\n", "a.json", `{"label":"no"}`,
		"b.JPG", "B", "b.json", `{"label": 12}`, "b.txt", "a caption",
		"sub/c.seg.png", "CS", "sub/c.png", "CC", "sub/c.json", `{"class": "cat", "label": null}`,
		"only.cls", "3", ".hidden.jpg", "H", "README", "text", "d.json", "not json", "d.jpg", "D", long, "LL", "e.jpg", strings.Repeat("e", 600))
	want := []string{"a.jpg=AA:7", "b.jpg=B:12", "sub/c.png=CC:cat", "d.jpg=D:", long + "=LL:", "e.jpg=" + strings.Repeat("e", 600) + ":"}
	if got, err := read(bytes.NewReader(shard)); err != nil || !slices.Equal(got, want) {
		t.Errorf("%q, %v; want %q", got, err, want)
	}
	index, err := Index(bytes.NewReader(shard), options)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, s := range index {
		got = append(got, fmt.Sprintf("%s%s=%s:%s", s.Key, s.Suffix, shard[s.Offset:s.Offset+s.Size], s.Label))
	}
	if !slices.Equal(got, want) {
		t.Errorf("index: %q, want %q", got, want)
	}
	two := append(pack(t, "a.jpg", "A"), pack(t, "b.jpg", "B")...)
	if got, err := read(bytes.NewReader(two)); err != nil || !slices.Equal(got, []string{"a.jpg=A:", "b.jpg=B:"}) {
		t.Errorf("two in one stream: %q, %v", got, err)
	}
	// Damage costs what comes after it.
	for _, at := range []int{len(shard) - 1500, len(shard)/2 + 100, 700} {
		some, err := Index(bytes.NewReader(shard[:at]), options)
		if err == nil || len(some) >= len(want) {
			t.Errorf("cut at %d: %d images, %v", at, len(some), err)
		}
		for i, s := range some {
			if s.Key != index[i].Key || s.Offset+s.Size > int64(at) {
				t.Errorf("cut at %d: %+v", at, s)
			}
		}
	}
}

func TestCompression(t *testing.T) {
	plain := pack(t, "a.jpg", "AA", "a.cls", "1")
	var gz, zst bytes.Buffer
	g := gzip.NewWriter(&gz)
	_, _ = g.Write(plain)
	g.Close()
	z, err := zstd.NewWriter(&zst)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = z.Write(plain)
	z.Close()
	for name, data := range map[string][]byte{"plain": plain, "gz": gz.Bytes(), "zst": zst.Bytes()} {
		r, err := Unpack(bytes.NewReader(data))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := read(r); err != nil || !slices.Equal(got, []string{"a.jpg=AA:1"}) {
			t.Errorf("%s: %q, %v", name, got, err)
		}
		r.Close()
	}
	for name, want := range map[string][2]bool{"x/a.tar": {true, false}, "a.TAR.GZ": {true, true}, "https://h/a.tar.zst?sig=1": {true, true}, "a.tgz": {true, true}, "a.zip": {}, "tar": {}} {
		if shard, packed := Is(name); shard != want[0] || packed != want[1] {
			t.Errorf("%s: %v, %v", name, shard, packed)
		}
	}
}

func TestExpand(t *testing.T) {
	for pattern, want := range map[string]string{
		"a.tar":                "a.tar",
		"d-{008..011}.tar":     "d-008.tar d-009.tar d-010.tar d-011.tar",
		"{a,b}-{0..1}.tar":     "a-0.tar a-1.tar b-0.tar b-1.tar",
		"{x,y{1..2}}":          "x y1 y2",
		"s3://b/{0..1}::c{2,}": "s3://b/0 s3://b/1 c2 c",
	} {
		if got, err := Expand(pattern); err != nil || strings.Join(got, " ") != want {
			t.Errorf("%s: %q, %v; want %q", pattern, got, err, want)
		}
	}
	for _, bad := range []string{"{0..999999999}", "{00..99}{00..99}{00..99}{00..99}", "{a", "{2..1}", "{a..b}"} {
		if got, err := Expand(bad); err == nil || !strings.Contains(err.Error(), bad) {
			t.Errorf("%s: %d names, %v", bad, len(got), err)
		}
	}
	dir := t.TempDir()
	for _, name := range []string{"b-1.tar", "a-0.tar", "a-2.tar"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := Glob(filepath.Join(dir, "{b,a}-*.tar"))
	for i := range got {
		got[i] = filepath.Base(got[i])
	}
	if err != nil || strings.Join(got, " ") != "b-1.tar a-0.tar a-2.tar" {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := Glob(filepath.Join(dir, "c*.tar")); err == nil {
		t.Error("no error where nothing is found")
	}
}

// Whatever the bytes, reading ends, and what an index points at is there.
func FuzzReader(f *testing.F) {
	good := pack(f, "a.jpg", "AA", "a.cls", "7", "b/b.png", "B", "b/b.json", `{"label":"x"}`)
	f.Add(good)
	f.Add(good[:1600])
	f.Add([]byte{0x1f, 0x8b, 8, 0})
	f.Add([]byte("\x28\xb5\x2f\xfd\xff\xff\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, data []byte) {
		samples, _ := Index(bytes.NewReader(data), options)
		for _, s := range samples {
			if s.Offset < 0 || s.Size < 0 || s.Offset+s.Size > int64(len(data)) {
				t.Fatalf("%+v of %d bytes", s, len(data))
			}
		}
		if r, err := Unpack(bytes.NewReader(data)); err == nil {
			_, _ = read(io.LimitReader(r, 1<<22))
			r.Close()
		}
	})
}
