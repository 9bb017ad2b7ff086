package dataset

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"swav/imgcodec"
)

// shard packs n images, numbered from first, whose red is their number, with
// labels of two classes.
func shard(t testing.TB, first, n int) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	add := func(name string, data []byte) {
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(data))}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(data); err != nil {
			t.Fatal(err)
		}
	}
	for i := first; i < first+n; i++ {
		add(fmt.Sprintf("%06d.png", i), onePixel(t, byte(i), 0, 0))
		add(fmt.Sprintf("%06d.cls", i), []byte([]string{"9", "10"}[i%2]))
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func gz(t testing.TB, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func zst(t testing.TB, data []byte) []byte {
	t.Helper()
	w, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	return w.EncodeAll(data, nil)
}

// checkPixels loads every image, the last first, and compares its red with its
// number.
func checkPixels(t *testing.T, src Source) {
	t.Helper()
	for i := src.Len() - 1; i >= 0; i-- {
		var img imgcodec.Image
		if err := src.Load(i, &img); err != nil || int(img.Pix[0]) != i {
			t.Fatalf("image %d (%s): %v, %v", i, src.ID(i), img.Pix, err)
		}
	}
}

func TestShards(t *testing.T) {
	dir := t.TempDir()
	write(t, shard(t, 0, 3), dir, "d-000.tar")
	write(t, shard(t, 3, 2), dir, "d-001.tar")
	write(t, gz(t, shard(t, 0, 3)), dir, "z", "e-0.tar.gz")
	write(t, zst(t, shard(t, 3, 2)), dir, "z", "e-1.tar.zst")
	want := []string{"d-000.tar/000000.png 9", "d-000.tar/000001.png 10", "d-000.tar/000002.png 9", "d-001.tar/000003.png 10", "d-001.tar/000004.png 9"}
	for name, path := range map[string]string{
		"braces": filepath.Join(dir, "d-{000..001}.tar"), "wildcard": filepath.Join(dir, "d-*.tar"),
		"joined": filepath.Join(dir, "d-000.tar") + "::" + filepath.Join(dir, "d-001.tar"), "folder": dir, "prefix": "shards:" + dir,
	} {
		t.Run(name, func(t *testing.T) {
			src, err := Open(path, Options{CacheDir: t.TempDir()})
			if err != nil {
				t.Fatal(err)
			}
			if got := ids(src); !slices.Equal(got, want) {
				t.Errorf("%q, want %q", got, want)
			}
			if !slices.Equal(src.Classes(), []string{"9", "10"}) {
				t.Errorf("classes %q", src.Classes())
			}
			checkPixels(t, src)
		})
	}
	t.Run("compressed", func(t *testing.T) {
		cache := t.TempDir()
		var notes []string
		o := Options{CacheDir: cache, Note: func(text string) { notes = append(notes, text) }}
		for range 2 {
			src, err := Open(filepath.Join(dir, "z"), o)
			if err != nil {
				t.Fatal(err)
			}
			checkPixels(t, src)
			// What was unpacked may go at any time.
			if err := os.RemoveAll(filepath.Join(cache, "shards")); err != nil {
				t.Fatal(err)
			}
			checkPixels(t, src)
		}
		if len(notes) != 2 {
			t.Errorf("%d shards were indexed, want each of two once: %q", len(notes), notes)
		}
	})
	t.Run("without labels, folders are", func(t *testing.T) {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		for i, name := range []string{"photos/dog/a.png", "photos/cat/b.png"} {
			px := onePixel(t, byte(i), 0, 0)
			_ = w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(px))})
			_, _ = w.Write(px)
		}
		_ = w.Close()
		write(t, b.Bytes(), dir, "f", "f.tar")
		src, err := Open(filepath.Join(dir, "f", "f.tar"), Options{CacheDir: t.TempDir()})
		if err != nil {
			t.Fatal(err)
		}
		if want := []string{"f.tar/photos/dog/a.png dog", "f.tar/photos/cat/b.png cat"}; !slices.Equal(ids(src), want) {
			t.Errorf("%q, want %q", ids(src), want)
		}
	})
	t.Run("damage", func(t *testing.T) {
		whole := shard(t, 0, 3)
		write(t, whole[:len(whole)-2000], dir, "b", "b.tar")
		packed := gz(t, whole)
		write(t, packed[:len(packed)*2/3], dir, "b", "c.tar.gz")
		for _, name := range []string{"b.tar", "c.tar.gz"} {
			var notes []string
			src, err := Open(filepath.Join(dir, "b", name), Options{CacheDir: t.TempDir(), Note: func(text string) { notes = append(notes, text) }})
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if src.Len() < 1 || src.Len() > 3 || !strings.Contains(strings.Join(notes, " "), "damaged") {
				t.Errorf("%s: %d images, %q", name, src.Len(), notes)
			}
			checkPixels(t, src)
		}
	})
	write(t, gz(t, nil), dir, "n", "none.tar.gz")
	for path, want := range map[string]string{
		filepath.Join(dir, "no-{0..1}.tar"): "no-", filepath.Join(dir, "x*.tar"): "no file is named", filepath.Join(dir, "d-{0..x}.tar"): "range of numbers",
		filepath.Join(dir, "n", "none.tar.gz"): "no images in 1 shard",
	} {
		if _, err := Open(path, Options{CacheDir: t.TempDir()}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", path, err, want)
		}
	}
	if _, err := Open(dir, Options{Split: Test}); !errors.Is(err, ErrNoSplit) {
		t.Errorf("test images: %v", err)
	}
}

// Shards on a server that stumbles are read whole, once, and again when they
// have changed or gone from the cache.
func TestRemoteShards(t *testing.T) {
	files := map[string][]byte{"/d-0.tar": shard(t, 0, 3), "/d-1.tar.gz": gz(t, shard(t, 3, 3)), "/d-2.tar": shard(t, 6, 2)}
	var bodies, requests atomic.Int32
	down := atomic.Bool{}
	version := atomic.Int32{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		data, ok := files[r.URL.Path]
		switch n := requests.Add(1); {
		case !ok:
			http.NotFound(w, r)
			return
		case down.Load() || n == 2:
			w.Header().Set("Retry-After", "0")
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		w.Header().Set("ETag", fmt.Sprintf(`"%d"`, version.Load()))
		if r.Header.Get("Range") == "" && bodies.Add(1) == 1 {
			w.Header().Set("Content-Length", fmt.Sprint(len(data)))
			_, _ = w.Write(data[:len(data)/2])
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler) // the rest is asked for by a range
		}
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
	}))
	defer server.Close()
	cache := t.TempDir()
	open := func(path string, o Options) (Source, error) {
		o.CacheDir = cache
		return Open(server.URL+path, o)
	}
	src, err := open("/d-{0..0}.tar::"+server.URL+"/d-1.tar.gz::"+server.URL+"/d-2.tar", Options{})
	if err != nil {
		t.Fatal(err)
	}
	if src.Len() != 8 || src.ID(3) != "d-1.tar.gz/000003.png" {
		t.Errorf("%d images, the fourth is %s", src.Len(), src.ID(3))
	}
	checkPixels(t, src)
	if bodies.Load() != 3 {
		t.Errorf("%d bodies from the beginning, want each of three shards once", bodies.Load())
	}
	if src, err = open("/d-2.tar", Options{}); err != nil || src.Len() != 2 || bodies.Load() != 3 {
		t.Errorf("opened again: %v, %d bodies", err, bodies.Load())
	}
	version.Add(1)
	files["/d-2.tar"] = shard(t, 0, 5)
	if src, err = open("/d-2.tar", Options{}); err != nil || src.Len() != 5 {
		t.Fatalf("changed: %v", err)
	}
	checkPixels(t, src)
	if _, err := open("/none.tar", Options{}); !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), server.URL+"/none.tar") || !strings.Contains(err.Error(), "byte 0") {
		t.Errorf("not there: %v", err)
	}
	// A source that goes away is no bad image.
	if err := os.RemoveAll(filepath.Join(cache, "shards")); err != nil {
		t.Fatal(err)
	}
	server.Close()
	ctx, cancel := context.WithCancel(context.Background())
	src.(*shards).access.ctx = ctx
	src.(*shards).access.client.Tries, src.(*shards).access.client.Wait = 2, time.Millisecond
	var img imgcodec.Image
	if err := src.Load(0, &img); !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), "d-2.tar") {
		t.Errorf("gone: %v", err)
	}
	cancel()
	if err := src.Load(0, &img); !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted: %v", err)
	}
}

// openTogether opens a source on so many ranks at once; each has its cache.
func openTogether(t *testing.T, paths []string) ([]Source, []error) {
	t.Helper()
	n := len(paths)
	all, met := make([][]byte, n), make(chan bool)
	var arrived sync.WaitGroup
	arrived.Add(n)
	go func() { arrived.Wait(); close(met) }()
	sources, errs := make([]Source, n), make([]error, n)
	var done sync.WaitGroup
	for rank, path := range paths {
		done.Go(func() {
			once := sync.OnceFunc(arrived.Done)
			defer once() // also if it fails before it has met the others
			sources[rank], errs[rank] = Open(path, Options{CacheDir: t.TempDir(), Peers: &Peers{Rank: rank, Ranks: n, Exchange: func(own []byte) ([][]byte, error) {
				all[rank] = own
				once()
				<-met
				return all, nil
			}}})
		})
	}
	done.Wait()
	return sources, errs
}

// Ranks that open shards together read each of them once, all ranks together, and see
// what one alone sees.
func TestRanksOpenShardsTogether(t *testing.T) {
	files := t.TempDir()
	for i := range 7 {
		write(t, shard(t, 3*i, 3), files, fmt.Sprintf("d-%d.tar", i))
	}
	var mu sync.Mutex
	bodies := map[string]int{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Range") == "" && r.Method == http.MethodGet {
			mu.Lock()
			bodies[r.URL.Path]++
			mu.Unlock()
		}
		http.FileServer(http.Dir(files)).ServeHTTP(w, r)
	}))
	defer server.Close()
	path := server.URL + "/d-{0..6}.tar"
	for _, ranks := range []int{2, 3, 9} {
		clear(bodies)
		sources, errs := openTogether(t, slices.Repeat([]string{path}, ranks))
		if err := errors.Join(errs...); err != nil {
			t.Fatal(err)
		}
		for name, n := range bodies {
			if n != 1 {
				t.Errorf("%d ranks: %s was read %d times", ranks, name, n)
			}
		}
		if len(bodies) != 7 {
			t.Errorf("%d ranks: %d shards were read", ranks, len(bodies))
		}
		for rank, src := range sources {
			if src.Len() != 21 || src.ID(20) != "d-6.tar/000020.png" || src.Label(20) != 0 {
				t.Errorf("rank %d of %d: %d images, the last is %s of class %d", rank, ranks, src.Len(), src.ID(20), src.Label(20))
			}
			checkPixels(t, src)
		}
	}
	for _, other := range []string{"/d-{1..6}.tar", "/d-{0..5}.tar"} {
		_, errs := openTogether(t, []string{path, server.URL + other})
		if errs[0] == nil && errs[1] == nil || !strings.Contains(errors.Join(errs...).Error(), "all ranks must see the same data") {
			t.Errorf("ranks with other shards (%s): %v", other, errs)
		}
	}
}

// The window of shards that are visited by turns fits the cache with the next.
func TestShardWindow(t *testing.T) {
	dir := t.TempDir()
	one := shard(t, 0, 4)
	for i := range 9 {
		write(t, gz(t, one), dir, fmt.Sprintf("s-%d.tar.gz", i))
	}
	for limit, want := range map[int64]int{0: 9, int64(len(one)) * 9: 3, int64(len(one)) * 2: 1} {
		src, err := Open(dir, Options{CacheDir: t.TempDir(), CacheBytes: limit})
		if err != nil {
			t.Fatal(err)
		}
		if first, window := src.(Sharded).Shards(); window < want || window > want+1 && limit > 0 || len(first) != 10 || first[9] != 36 {
			t.Errorf("cache of %d bytes: window %d, want %d; %v", limit, window, want, first)
		}
	}
}

// Numbers get the names that lie beside the shards, if those are complete.
func TestClassNames(t *testing.T) {
	dir := t.TempDir()
	for text, want := range map[string][]string{
		"cat\ndog\nfish\n": {"cat", "fish"}, "cat\ndog": {"0", "2"}, "": {"0", "2"},
	} {
		write(t, []byte(text), dir, classesFile)
		if got := shardClasses(dir, []string{"0", "2"}); !slices.Equal(got, want) {
			t.Errorf("%q: %v, want %v", text, got, want)
		}
		if got := shardClasses(dir, []string{"bird"}); !slices.Equal(got, []string{"bird"}) {
			t.Errorf("%q: names become %v", text, got)
		}
	}
	if got := shardClasses(t.TempDir(), []string{"0"}); !slices.Equal(got, []string{"0"}) {
		t.Errorf("without the file: %v", got)
	}
}
