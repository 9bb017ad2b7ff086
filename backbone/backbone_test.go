package backbone

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"swav/imgcodec"
	"swav/internal/runtest"
	"swav/train"
)

// run is a run directory that all tests read, data what it was trained on.
var run, data string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "backbone")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		run, data = filepath.Join(dir, "run"), filepath.Join(dir, "photos")
		if err := errors.Join(os.Mkdir(run, 0o755), os.Mkdir(data, 0o755), runtest.WritePhotos(data, 12), runtest.Train(run, data)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return m.Run()
	}())
}

func open(t *testing.T, o Options) *Backbone {
	t.Helper()
	b, err := Open(run, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

// What the command writes is what the library gives, whatever the batch.
func TestFeaturesAreThoseOfEmbed(t *testing.T) {
	tr, err := train.OpenRun(run)
	if err != nil {
		t.Fatal(err)
	}
	src, err := tr.Data(context.Background(), data, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	want, err := tr.Embed(context.Background(), src, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	var files [][]byte
	for i := range src.Len() {
		file, err := os.ReadFile(filepath.Join(data, src.ID(i)))
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, file)
	}
	for _, batch := range []int{1, 5, 32} {
		b := open(t, Options{Batch: batch})
		got, err := b.EmbedFiles(context.Background(), files...)
		if err != nil {
			t.Fatal(err)
		}
		dim := b.Shape().Features
		for i, o := range got {
			if !near(o.Features, want.Features[i*dim:][:dim]) {
				t.Errorf("batch %d, image %d: features %v, want %v", batch, i, o.Features, want.Features[i*dim:][:dim])
			}
			k, score := o.Prototype()
			if k != want.Prototype[i] || math.Abs(float64(score-want.Score[i])) > 1e-5 {
				t.Errorf("batch %d, image %d: prototype %d (%v), want %d (%v)", batch, i, k, score, want.Prototype[i], want.Score[i])
			}
			if len(o.Embedding) != b.Shape().EmbeddingDim || len(o.Scores) != runtest.Prototypes {
				t.Errorf("image %d: embedding of %d, scores of %d", i, len(o.Embedding), len(o.Scores))
			}
		}
	}
}

// near allows for the order of sums, which the batch may change.
func near(a, b []float32) bool {
	return slices.EqualFunc(a, b, func(x, y float32) bool { return math.Abs(float64(x-y)) <= 1e-5*(1+math.Abs(float64(y))) })
}

func TestImagesAndTheirFilesAreTheSame(t *testing.T) {
	b := open(t, Options{})
	file := runtest.Photo(t, 4) // a PNG: a JPEG decoder of another library rounds differently
	img, _, err := image.Decode(bytes.NewReader(file))
	if err != nil {
		t.Fatal(err)
	}
	of, err := b.EmbedFiles(context.Background(), file)
	if err != nil {
		t.Fatal(err)
	}
	oi, err := b.Embed(context.Background(), img)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(of[0].Features, oi[0].Features) {
		t.Errorf("features %v of the image, %v of its file", oi[0].Features, of[0].Features)
	}
	none, err := b.Embed(context.Background())
	if err != nil || len(none) != 0 {
		t.Errorf("no images: %v, %v", none, err)
	}
}

func TestErrors(t *testing.T) {
	if _, err := Open(t.TempDir(), Options{}); err == nil || !strings.Contains(err.Error(), "no checkpoint") {
		t.Errorf("a folder that is no run: %v", err)
	}
	if _, err := Open(run, Options{Batch: -1}); err == nil {
		t.Error("a negative batch was taken")
	}
	b := open(t, Options{})
	good, bad := runtest.Photo(t, 1), runtest.Photo(t, 1)[:50]
	_, err := b.EmbedFiles(context.Background(), good, bad)
	if !errors.Is(err, imgcodec.ErrTruncated) || !strings.Contains(err.Error(), "image 1") {
		t.Errorf("a truncated file: %v", err)
	}
	if _, err := b.Embed(context.Background(), image.NewGray(image.Rectangle{})); err == nil {
		t.Error("an image without pixels was taken")
	}
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := b.EmbedFiles(ended, good); !errors.Is(err, context.Canceled) {
		t.Errorf("an ended context: %v", err)
	}
	if out, err := b.EmbedFiles(context.Background(), good); err != nil || len(out) != 1 {
		t.Errorf("after errors: %v", err)
	}
}

// Many callers at once get each their own answer, and those that come during
// Close an answer or ErrClosed.
func TestConcurrentUse(t *testing.T) {
	b, err := Open(run, Options{Batch: 4})
	if err != nil {
		t.Fatal(err)
	}
	want := make([][]float32, 8)
	files := make([][]byte, len(want))
	for i := range want {
		files[i] = runtest.Photo(t, i)
		out, err := b.EmbedFiles(context.Background(), files[i])
		if err != nil {
			t.Fatal(err)
		}
		want[i] = out[0].Features
	}
	var wg sync.WaitGroup
	for i := range want {
		wg.Go(func() {
			for range 50 {
				out, err := b.EmbedFiles(context.Background(), files[i])
				if errors.Is(err, ErrClosed) {
					return
				}
				if err != nil || !slices.Equal(out[0].Features, want[i]) {
					t.Errorf("image %d: %v", i, err)
					return
				}
				if i == 0 {
					go b.Close()
				}
			}
		})
	}
	wg.Wait()
	if err := b.Close(); err != nil {
		t.Error(err)
	}
	if _, err := b.EmbedFiles(context.Background(), files[0]); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}
