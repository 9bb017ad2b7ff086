package train

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"swav/checkpoint"
	"swav/interop"
)

// originalLayout saves a run's network as the original's training does: "module."
// before every name, in a dictionary state_dict.
func originalLayout(t *testing.T, run string) string {
	t.Helper()
	m, err := Portable(run)
	if err != nil {
		t.Fatal(err)
	}
	ts, err := m.StateDict(true)
	if err != nil {
		t.Fatal(err)
	}
	for i := range ts {
		ts[i].Name = "module." + ts[i].Name
	}
	var buf bytes.Buffer
	if err := interop.WritePyTorch(&buf, ts); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "checkpoint.pth.tar")
	if err := os.WriteFile(path, buf.Bytes(), 0o666); err != nil {
		t.Fatal(err)
	}
	return path
}

// A run goes on from a checkpoint of the original's layout: one that takes no
// step holds the very weights, and features are the same.
func TestInitFromTheOriginal(t *testing.T) {
	ctx := context.Background()
	data, dir := photos(t, 20), t.TempDir()
	first := filepath.Join(dir, "first")
	if _, screen, err := execute(ctx, Options{Recipe: recipe(t), Data: data, Dir: first}); err != nil {
		t.Fatalf("%v\n%s", err, screen)
	}
	file := originalLayout(t, first)

	second := filepath.Join(dir, "second")
	still := recipe(t, "optim.lr=1e-30", "optim.start_lr=0", "optim.weight_decay=0", "optim.warmup=0 steps", "swav.freeze_prototypes=0 steps", "swav.queue=0", "train.steps=1", "optim.kind=sgd")
	_, screen, err := execute(ctx, Options{Recipe: still, Data: data, Dir: second, Init: file})
	if err != nil || !strings.Contains(screen, "weights of "+file) {
		t.Fatalf("%v\n%s", err, screen)
	}
	have, want := latestModel(t, second), latestModel(t, first)
	for i, w := range want {
		if strings.Contains(w.Name, "running_") || w.Name == "prototypes.weight" {
			continue // the step moves these: statistics, and rows to the unit sphere
		}
		for j, v := range w.Data {
			if have[i].Data[j] != v {
				t.Fatalf("%s: %v after --init, %v in the file", w.Name, have[i].Data[j], v)
			}
		}
	}

	size := "crops=1x12@0.3-1" // of the run; the file does not tell
	a, err := Embed(ctx, EmbedOptions{Run: first})
	if err != nil {
		t.Fatal(err)
	}
	b, err := Embed(ctx, EmbedOptions{Run: file, Data: data, Set: []string{size, "train.precision=fp32"}})
	if err != nil {
		t.Fatal(err)
	}
	for i, v := range a.Features {
		if b.Features[i] != v {
			t.Fatalf("feature %d: %v by the run, %v by the file", i, v, b.Features[i])
		}
	}

	// Other prototypes start afresh, another backbone is refused.
	third := filepath.Join(dir, "third")
	_, screen, err = execute(ctx, Options{Recipe: recipe(t, "model.prototypes=7"), Data: data, Dir: third, Init: file, DryRun: true})
	if err != nil || !strings.Contains(screen, "prototypes.weight is [6 8] in the file, [7 8] here") {
		t.Errorf("%v\n%s", err, screen)
	}
	_, _, err = execute(ctx, Options{Recipe: recipe(t, "model.layers=1,2"), Data: data, Dir: filepath.Join(dir, "fourth"), Init: file})
	if err == nil || !strings.Contains(err.Error(), "layer2.1.conv1.weight") || !strings.Contains(err.Error(), "basic[1 1]") {
		t.Errorf("another backbone: %v", err)
	}
}

func latestModel(t *testing.T, run string) []checkpoint.Tensor {
	t.Helper()
	path, err := checkpoint.Latest(run)
	if err != nil {
		t.Fatal(err)
	}
	l, err := checkpoint.ReadModel(path)
	if err != nil {
		t.Fatal(err)
	}
	return l.Model
}
