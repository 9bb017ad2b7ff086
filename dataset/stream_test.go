package dataset

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"swav/imgcodec"
)

// take reads n records, fewer at the end, as "ID label red".
func take(t *testing.T, s Stream, n int) (out []string) {
	t.Helper()
	for range n {
		r, err := s.Next(context.Background())
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		var img imgcodec.Image
		red := "-"
		if err := r.Load(&img); err == nil {
			red = fmt.Sprint(img.Pix[0])
		}
		out = append(out, r.ID+" "+r.Label+" "+red)
	}
	return out
}

func defaults(t *testing.T, o Options) Options {
	t.Helper()
	o, err := o.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func TestInput(t *testing.T) {
	dir := t.TempDir()
	write(t, onePixel(t, 5, 0, 0), dir, "a b.png")
	tar := append(shard(t, 0, 2), shard(t, 2, 1)...)
	want := []string{"-/000000.png 9 0", "-/000001.png 10 1", "-/000002.png 9 2"}
	o := defaults(t, Options{})
	for name, tc := range map[string]struct {
		data []byte
		want []string
	}{
		"tar": {tar, want}, "gzip": {gz(t, tar), want}, "zstd": {zst(t, tar), want}, "two gzip files": {append(gz(t, shard(t, 0, 2)), gz(t, shard(t, 2, 1))...), want},
		"paths": {[]byte(dir + "/a b.png cat\n\n" + dir + "/none.png"), []string{dir + "/a b.png cat 5", dir + "/none.png  -"}},
		"empty": {nil, nil},
	} {
		if got := take(t, newInput("input", bytes.NewReader(tc.data), o, 3), 10); !slices.Equal(got, tc.want) {
			t.Errorf("%s: %q, want %q", name, got, tc.want)
		}
	}
	// What was looked at comes again; a seek reads past, and not back.
	s := newInput("input", bytes.NewReader(tar), o, 3)
	if seen, err := Peek(context.Background(), s, 2); err != nil || len(seen) != 2 || s.Mark() != (Mark{}) {
		t.Errorf("peeked at %d, %v, mark %v", len(seen), err, s.Mark())
	}
	if got := take(t, s, 1); got[0] != want[0] {
		t.Errorf("after a peek: %q", got)
	}
	if err := s.Seek(context.Background(), Mark{Record: 2}); err != nil {
		t.Fatal(err)
	}
	if got := take(t, s, 5); !slices.Equal(got, want[2:]) {
		t.Errorf("after a seek: %q", got)
	}
	if err := s.Seek(context.Background(), Mark{Record: 1}); err == nil {
		t.Error("a seek back gave no error")
	}
	if err := s.Seek(context.Background(), Mark{Record: 9}); err == nil || !strings.Contains(err.Error(), "ends after 3 images") || !strings.Contains(err.Error(), "data.replay") {
		t.Errorf("a seek beyond the end: %v", err)
	}
	for text, want := range map[string]string{"hello\nworld": "line 1", "\x1f\x8bbroken": "gzip"} {
		if _, err := newInput("input", strings.NewReader(text), o, 3).Next(context.Background()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
	// A read that waits can be interrupted.
	r, w := io.Pipe()
	defer w.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
	defer cancel()
	if _, err := newInput("input", r, o, 3).Next(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("an interrupted read: %v", err)
	}
}

// Files come in the order of arrival, each once, and a stream opened anew goes
// on where the last one was.
func TestWatch(t *testing.T) {
	dir := t.TempDir()
	write(t, onePixel(t, 1, 0, 0), dir, "b.png")
	time.Sleep(20 * time.Millisecond)
	write(t, onePixel(t, 2, 0, 0), dir, "cat", "a.png")
	write(t, []byte("no image"), dir, "note.txt")
	s, err := OpenStream("watch:"+dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if got, want := take(t, s, 2), []string{"b.png  1", "cat/a.png cat 2"}; !slices.Equal(got, want) {
		t.Fatalf("%q, want %q", got, want)
	}
	mark := s.Mark()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	if _, err := s.Next(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("with nothing new: %v", err)
	}
	write(t, onePixel(t, 3, 0, 0), dir, "0.png")
	if got := take(t, s, 1); got[0] != "0.png  3" {
		t.Errorf("%q, want what arrived", got)
	}
	again, err := OpenStream("watch:"+dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Seek(context.Background(), mark); err != nil {
		t.Fatal(err)
	}
	if got := take(t, again, 1); got[0] != "0.png  3" {
		t.Errorf("from the mark on: %q", got)
	}
	if _, err := OpenStream("watch:"+filepath.Join(dir, "b.png"), Options{}); err == nil || !strings.Contains(err.Error(), "not a folder") {
		t.Errorf("a file: %v", err)
	}
}

// Every pass gives every image once, in an order of its own, from any mark on
// the same; damage costs what comes after it in its shard.
func TestRepeat(t *testing.T) {
	dir := t.TempDir()
	torn := shard(t, 8, 4)
	files := map[string][]byte{"s-0.tar": shard(t, 0, 4), "s-1.tar.gz": gz(t, shard(t, 4, 4)), "s-2.tar": torn[:len(torn)-3000]}
	for name, data := range files {
		write(t, data, dir, name)
	}
	server := httptest.NewServer(http.FileServer(http.Dir(dir)))
	defer server.Close()
	const each = 10 // of 12, two are lost
	for name, path := range map[string]string{"here": "repeat:" + dir, "remote": "repeat:" + server.URL + "/s-{0,2}.tar::" + server.URL + "/s-1.tar.gz"} {
		t.Run(name, func(t *testing.T) {
			var notes []string
			o := Options{CacheDir: t.TempDir(), Seed: 3, Note: func(text string) { notes = append(notes, text) }}
			open := func() Stream {
				t.Helper()
				s, err := OpenStream(path, o)
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { s.Close() })
				return s
			}
			s := open()
			var all []string
			var marks []Mark
			for range 3 * each {
				marks = append(marks, s.Mark())
				all = append(all, take(t, s, 1)...)
			}
			orders := map[string]bool{}
			for pass := range 3 {
				one := all[pass*each : (pass+1)*each]
				orders[fmt.Sprint(one)] = true
				if sorted := slices.Compact(slices.Sorted(slices.Values(one))); len(sorted) != each {
					t.Errorf("pass %d gives %d different images, want %d", pass, len(sorted), each)
				}
			}
			if len(orders) < 2 {
				t.Error("passes have the same order")
			}
			if !strings.Contains(strings.Join(notes, " "), "s-2.tar is damaged") {
				t.Errorf("notes %q", notes)
			}
			for _, at := range []int{1, 9, 10, 17, 29} {
				again := open()
				if err := again.Seek(context.Background(), marks[at]); err != nil {
					t.Fatal(err)
				}
				if got := take(t, again, 3*each-at); !slices.Equal(got, all[at:]) {
					t.Errorf("from %+v on: %q, want %q", marks[at], got, all[at:])
				}
			}
		})
	}
	write(t, nil, dir, "none", "empty.tar")
	s, err := OpenStream("repeat:"+filepath.Join(dir, "none"), Options{})
	if err == nil {
		_, err = s.Next(context.Background())
	}
	if err == nil || !strings.Contains(err.Error(), "no images") {
		t.Errorf("empty shards: %v", err)
	}
	s, err = OpenStream("repeat:"+server.URL+"/none.tar", Options{CacheDir: t.TempDir()})
	if err == nil {
		_, err = s.Next(context.Background())
	}
	if !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), "/none.tar") {
		t.Errorf("a shard that is not there: %v", err)
	}
}

func TestStreamsAreNoSources(t *testing.T) {
	for _, path := range []string{"-", "watch:/tmp", "repeat:a.tar"} {
		if _, err := Open(path, Options{}); err == nil || !strings.Contains(err.Error(), "stream") {
			t.Errorf("%s: %v", path, err)
		}
		if _, err := Open(path, Options{Split: Test}); !errors.Is(err, ErrNoSplit) {
			t.Errorf("%s: %v, want ErrNoSplit", path, err)
		}
	}
	if _, err := OpenStream("photos", Options{}); err == nil || !strings.Contains(err.Error(), "watch:FOLDER") {
		t.Errorf("a folder: %v", err)
	}
}

// Whatever comes, reading it ends, and what is not an image is no crash.
func FuzzInput(f *testing.F) {
	f.Add(shard(f, 0, 2))
	f.Add(gz(f, shard(f, 0, 1)))
	f.Add(zst(f, shard(f, 0, 1))[:90])
	f.Add([]byte("a.png 3\nb.jpg\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		o, err := Options{MaxFileBytes: 1 << 20}.withDefaults()
		if err != nil {
			t.Fatal(err)
		}
		_ = readInput(bytes.NewReader(data), o, func(r *Record) {
			if r.ID == "" || len(r.Data) > 1<<20 {
				t.Fatalf("record %q of %d bytes", r.ID, len(r.Data))
			}
		})
	})
}
