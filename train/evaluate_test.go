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
