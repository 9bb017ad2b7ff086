package train

import (
	"bytes"
	"context"
	"errors"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"swav/imgcodec"
)

// trainedOn trains for some steps on n photos.
func trainedOn(t *testing.T, n int, set ...string) (data, run string) {
	t.Helper()
	data, run = photos(t, n), t.TempDir()
	set = append([]string{"train.steps=2", "swav.queue=0", "eval.baselines=false"}, set...)
	if _, screen, err := execute(context.Background(), Options{Recipe: recipe(t, set...), Data: data, Dir: run}); err != nil {
		t.Fatalf("%v\n%s", err, screen)
	}
	return data, run
}

func files(t *testing.T, root string) (paths []string) {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(root, "*", "*"))
	if err != nil || len(paths) == 0 {
		t.Fatal(paths, err)
	}
	slices.Sort(paths)
	return paths
}

// far is the largest difference, as a share of the largest value.
func far(a, b []float32) float64 {
	worst, largest := 0.0, 0.0
	for i := range a {
		worst = max(worst, math.Abs(float64(a[i]-b[i])))
		largest = max(largest, math.Abs(float64(b[i])))
	}
	return worst / largest
}

// Whatever plan a request falls on, an image's numbers are those of Embed.
func TestPredictorSaysWhatEmbedSays(t *testing.T) {
	data, run := trainedOn(t, 14)
	tr, err := OpenRun(run)
	if err != nil {
		t.Fatal(err)
	}
	src, err := tr.Data(context.Background(), "", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	want, err := tr.Embed(context.Background(), src, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	paths := files(t, data)
	if len(want.Index) != len(paths) || src.Len() != len(paths) {
		t.Fatalf("%d of %d images embedded", len(want.Index), len(paths))
	}
	err = tr.Predict(9, func(p *Predictor) error {
		if p.Batch() != 9 || p.Pixels() != 12*12*3 || p.Features() != len(want.Features)/len(paths) {
			t.Errorf("batch %d, %d pixels, %d features", p.Batch(), p.Pixels(), p.Features())
		}
		views := make([]float32, len(paths)*p.Pixels())
		var wg sync.WaitGroup
		for i, path := range paths {
			wg.Go(func() { // View is for many goroutines
				file, err := os.ReadFile(path)
				if err == nil {
					err = p.View(views[i*p.Pixels():(i+1)*p.Pixels()], file)
				}
				if err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		for _, size := range []int{1, 2, 3, 5, 7, 9} {
			var features, embeddings, scores []float32
			for from := 0; from < len(paths); from += size {
				n := min(size, len(paths)-from)
				if err := p.Run(views[from*p.Pixels():(from+n)*p.Pixels()], n, &features, &embeddings, &scores); err != nil {
					return err
				}
			}
			if d := far(features, want.Features); len(features) != len(want.Features) || d > 1e-5 {
				t.Errorf("batches of %d: features off by %.1e", size, d)
			}
			if d := far(embeddings, want.Embeddings); len(embeddings) != len(want.Embeddings) || d > 1e-5 {
				t.Errorf("batches of %d: embeddings off by %.1e", size, d)
			}
			k := len(scores) / len(paths)
			for i := range paths {
				row := scores[i*k : (i+1)*k]
				if slices.Max(row) != row[want.Prototype[i]] {
					t.Errorf("batches of %d: image %d is not nearest to prototype %d: %v", size, i, want.Prototype[i], row)
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestPredictorRefuses(t *testing.T) {
	_, run := trainedOn(t, 12)
	tr, err := OpenRun(run)
	if err != nil {
		t.Fatal(err)
	}
	err = tr.Predict(2, func(p *Predictor) error {
		view := make([]float32, p.Pixels())
		for name, c := range map[string]struct {
			file []byte
			want error
		}{"no image": {[]byte("hello"), imgcodec.ErrFormat}, "nothing": {nil, imgcodec.ErrTruncated}, "half": {[]byte("\x89PNG\r\n\x1a\n"), imgcodec.ErrTruncated}} {
			if err := p.View(view, c.file); !errors.Is(err, c.want) {
				t.Errorf("%s: %v, want %v", name, err, c.want)
			}
		}
		var out []float32
		for _, n := range []int{0, -1, 3} {
			if err := p.Run(view, n, &out, nil, nil); err == nil {
				t.Errorf("%d views: no error", n)
			}
		}
		if len(out) != 0 {
			t.Errorf("refused calls left %d numbers", len(out))
		}
		return errNotGiven
	})
	if !errors.Is(err, errNotGiven) {
		t.Errorf("the error of the work is lost: %v", err)
	}
}

var errNotGiven = errors.New("as it came")

func TestIdentityFollowsWeightsAndRecipe(t *testing.T) {
	_, run := trainedOn(t, 12)
	id := func(run string) string {
		t.Helper()
		tr, err := OpenRun(run)
		if err != nil {
			t.Fatal(err)
		}
		s, err := tr.Identity()
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	first := id(run)
	if again := id(run); again != first {
		t.Errorf("identity %s, then %s", first, again)
	}
	_, other := trainedOn(t, 12, "train.seed=6")
	if id(other) == first {
		t.Error("other weights, same identity")
	}
	path := filepath.Join(run, recipeFile)
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	changed := regexp.MustCompile(`(?m)^(precision *= )"fp32"`).ReplaceAll(text, []byte(`$1"bf16"`))
	if bytes.Equal(changed, text) {
		t.Fatalf("recipe:\n%s", text)
	}
	if err := os.WriteFile(path, changed, 0o644); err != nil {
		t.Fatal(err)
	}
	if id(run) == first {
		t.Error("another precision, same identity")
	}
}

func TestOpenRunSaysWhatItWants(t *testing.T) {
	_, err := OpenRun(t.TempDir())
	if err == nil || !strings.Contains(err.Error(), "swav train --run") {
		t.Errorf("an empty folder: %v", err)
	}
}

func TestBatchSizes(t *testing.T) {
	for most, want := range map[int][]int{1: {1}, 2: {2, 1}, 4: {4, 1}, 16: {16, 4, 1}, 64: {64, 16, 4, 1}, 9: {9, 2, 1}} {
		if got := batchSizes(most); !slices.Equal(got, want) {
			t.Errorf("batchSizes(%d) = %v, want %v", most, got, want)
		}
	}
}

func TestPictureIsTheImage(t *testing.T) {
	data, run := trainedOn(t, 12)
	tr, err := OpenRun(run)
	if err != nil {
		t.Fatal(err)
	}
	file, err := os.ReadFile(files(t, data)[0])
	if err != nil {
		t.Fatal(err)
	}
	img, err := tr.Picture(file)
	if err != nil || img.Bounds().Dx() != 16 || img.Bounds().Dy() != 14 {
		t.Errorf("%v, %v", img, err)
	}
	if _, err := tr.Picture([]byte("no")); err == nil {
		t.Error("no error")
	}
}
