package train

import (
	"context"
	"errors"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"swav/runlog"
)

// Evaluations during training leave it as it is, find the best checkpoint, and go on
// with a resumed run.
func TestEvaluationsDuringTraining(t *testing.T) {
	data, plain := photos(t, 20), t.TempDir()
	if _, _, err := execute(context.Background(), Options{Recipe: recipe(t), Data: data, Dir: plain}); err != nil {
		t.Fatal(err)
	}
	for _, protocol := range []string{"knn", "linear", "cluster"} {
		t.Run(protocol, func(t *testing.T) {
			dir := t.TempDir()
			o := Options{Recipe: recipe(t, "eval.every=2 steps", "eval.protocol="+protocol), Data: data, Dir: dir, Stop: 3}
			if _, _, err := execute(context.Background(), o); !errors.Is(err, ErrInterrupted) {
				t.Fatal(err)
			}
			_, screen, err := execute(context.Background(), Options{Dir: dir, Resume: true})
			if err != nil {
				t.Fatal(err)
			}
			sameRuns(t, plain, dir)
			all, err := runlog.ReadEvaluations(dir)
			if err != nil {
				t.Fatal(err)
			}
			var steps []int
			best, at := math.Inf(-1), 0
			for _, e := range all {
				steps = append(steps, e.Step)
				if e.Best != (float64(e.Score) > best) {
					t.Errorf("%+v after a best of %v", e, best)
				}
				if float64(e.Score) > best {
					best, at = float64(e.Score), e.Step
				}
				if e.Protocol != protocol || !strings.Contains(screen, protocol) {
					t.Errorf("protocol %q; console:\n%s", e.Protocol, screen)
				}
			}
			if len(steps) != 4 || steps[0] != 2 || steps[3] != 7 {
				t.Errorf("evaluated after steps %v, want 2, 4, 6 and the last, 7", steps)
			}
			d, err := EvalFeatures(context.Background(), EvalOptions{Run: filepath.Join(dir, "best")})
			if err != nil {
				t.Fatal(err)
			}
			if step, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(d.Checkpoint), "step-000000"), "/"); step != string(rune('0'+at)) {
				t.Errorf("best checkpoint %s, want that of step %d", d.Checkpoint, at)
			}
			if d.Queries.Len() != 6 || d.Refs.Len() != 14 || !d.Holdout || len(d.Assigned) != 6 || len(d.Classes) != 2 {
				t.Errorf("%d queries, %d references, holdout %v", d.Queries.Len(), d.Refs.Len(), d.Holdout)
			}
		})
	}
	// Without labels there is nothing to evaluate by.
	flat := t.TempDir()
	files, err := filepath.Glob(filepath.Join(data, "spots", "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if err := os.Link(f, filepath.Join(flat, filepath.Base(f))); err != nil {
			t.Fatal(err)
		}
	}
	_, _, err = execute(context.Background(), Options{Recipe: recipe(t, "eval.every=2 steps"), Data: flat, Dir: t.TempDir()})
	if err == nil || !strings.Contains(err.Error(), "eval.every=0") {
		t.Errorf("error %v, want one that names eval.every", err)
	}
}

// Means of every few places of a map, in the order channels, rows, columns; of all
// places they are what the network pools itself.
func TestPoolMap(t *testing.T) {
	maps := make([]float32, 2*3*4*2) // two maps of 3x4 places and 2 channels
	for i := range maps {
		maps[i] = float32(i * i % 17)
	}
	at := func(n, y, x, c int) float64 { return float64(maps[((n*3+y)*4+x)*2+c]) }
	got := poolMap([]float32{-1}, maps, 2, 3, 4, 2, 2)
	if len(got) != 1+2*2*2*3 || got[0] != -1 {
		t.Fatalf("%d numbers, the first %v", len(got), got[0])
	}
	i := 1
	for n := range 2 {
		for c := range 2 {
			for y := range 2 {
				for x := range 3 {
					want := (at(n, y, x, c) + at(n, y, x+1, c) + at(n, y+1, x, c) + at(n, y+1, x+1, c)) / 4
					if math.Abs(float64(got[i])-want) > 1e-6 {
						t.Errorf("map %d, channel %d, place %d, %d: %v, want %v", n, c, y, x, got[i], want)
					}
					i++
				}
			}
		}
	}
}

// Larger features come out of the same images; a square larger than the map is refused
// with the map's size.
func TestPooledFeatures(t *testing.T) {
	data, dir := photos(t, 20), t.TempDir()
	if _, _, err := execute(context.Background(), Options{Recipe: recipe(t), Data: data, Dir: dir}); err != nil {
		t.Fatal(err)
	}
	whole, err := EvalFeatures(context.Background(), EvalOptions{Run: dir})
	if err != nil {
		t.Fatal(err)
	}
	// 12 pixels come to 6x6 places.
	same, err := EvalFeatures(context.Background(), EvalOptions{Run: dir, Pool: 6})
	if err != nil {
		t.Fatal(err)
	}
	if same.Refs.Dim != whole.Refs.Dim || len(same.Refs.Features) != len(whole.Refs.Features) {
		t.Fatalf("%d features, want %d", same.Refs.Dim, whole.Refs.Dim)
	}
	for i, want := range whole.Refs.Features {
		if got := same.Refs.Features[i]; math.Abs(float64(got-want)) > 1e-5*(1+math.Abs(float64(want))) {
			t.Fatalf("feature %d: %v, want %v", i, got, want)
		}
	}
	more, err := EvalFeatures(context.Background(), EvalOptions{Run: dir, Pool: 5})
	if err != nil || more.Refs.Dim != 4*whole.Refs.Dim {
		t.Errorf("%d features, want %d; %v", more.Refs.Dim, 4*whole.Refs.Dim, err)
	}
	if _, err := EvalFeatures(context.Background(), EvalOptions{Run: dir, Pool: 7}); err == nil || !strings.Contains(err.Error(), "6x6") {
		t.Errorf("error %v", err)
	}
}

// An evaluation part that lacks a class, or has another, counts as the part trained on.
func TestPartsShareClasses(t *testing.T) {
	data := t.TempDir()
	from := photos(t, 4)
	for to, class := range map[string]string{"train/ape": "spots", "train/bee": "stripes", "train/cat": "spots", "val/cat": "spots", "val/bee": "stripes", "val/dog": "spots"} {
		if err := os.CopyFS(filepath.Join(data, to), os.DirFS(filepath.Join(from, class))); err != nil {
			t.Fatal(err)
		}
	}
	p, err := OpenParts(context.Background(), recipe(t), data, 0, 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Join(p.Classes, " ") != "ape bee cat" || p.Holdout || p.Refs.Len() != 6 || p.Queries.Len() != 4 {
		t.Fatalf("classes %v, %d references, %d queries, holdout %v", p.Classes, p.Refs.Len(), p.Queries.Len(), p.Holdout)
	}
	for i := range p.Queries.Len() {
		if class, _, _ := strings.Cut(p.Queries.ID(i), "/"); p.Classes[p.Queries.Label(i)] != class {
			t.Errorf("%s has class %s", p.Queries.ID(i), p.Classes[p.Queries.Label(i)])
		}
	}
}
