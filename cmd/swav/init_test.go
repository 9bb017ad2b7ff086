package main

import (
	"bytes"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"swav/interop"
)

// original is a checkpoint in the original's layout, written by PyTorch
// (testdata/make_original.py).
const original = "testdata/original.pth.tar"

// originalRecipe is its network, and a run of some steps.
const originalRecipe = `
[[crops]]
count = 2
size = 12
min_scale = 0.3
max_scale = 1
[model]
arch = ""
block = "basic"
layers = [1, 1]
width = 0.125
stem = "small"
hidden = 16
feature_dim = 8
prototypes = 6
[swav]
freeze_prototypes = "0 steps"
queue = 0
[optim]
kind = "sgd"
lr = 1e-4
final_lr = 0
[train]
epochs = 0
steps = 5
batch_size = 4
precision = "fp32"
[eval]
baselines = false
`

// command runs a command line that is to succeed and returns what it prints.
func command(t *testing.T, args ...string) string {
	t.Helper()
	var stdout, stderr bytes.Buffer
	if code := run(args, &stdout, &stderr); code != 0 {
		t.Fatalf("swav %s: exit code %d\n%s%s", strings.Join(args, " "), code, stdout.String(), stderr.String())
	}
	return stdout.String()
}

func tensorsOf(t *testing.T, path string) interop.Tensors {
	t.Helper()
	x, err := interop.OpenTensors(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { x.Close() })
	return x
}

// A checkpoint of the original is trained on, head and prototypes included, and gives
// features.
func TestOriginalsCheckpointGoesOn(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	for i := range 8 {
		writeFile(t, stripes(t, i+2), at("photos"), fmt.Sprintf("%d.png", i))
	}
	writeFile(t, []byte(originalRecipe), dir, "small.toml")

	screen := command(t, "train", "--init", original, "--recipe", at("small.toml"), "--data", at("photos"), "--run", at("run"))
	if !strings.Contains(screen, "weights of "+original) || strings.Contains(screen, "afresh") {
		t.Errorf("start:\n%s", screen)
	}
	command(t, "export", at("run"), "--format", "pytorch", "--head", "--out", at("after.pth"))
	before, after := tensorsOf(t, original), tensorsOf(t, at("after.pth"))
	weights := 0
	for _, name := range after.Names() {
		if !strings.HasSuffix(name, ".weight") && !strings.HasSuffix(name, ".bias") {
			continue
		}
		x, err := before.Float32("state_dict/module." + name)
		if err != nil {
			t.Fatal(err)
		}
		y, err := after.Float32(name)
		if err != nil {
			t.Fatal(err)
		}
		if name == "prototypes.weight" {
			x = unitRows(x, 8) // the original normalises them before each step, as the run does
		}
		moved := 0.0
		for i := range x {
			moved = max(moved, math.Abs(float64(x[i]-y[i])))
		}
		// Five steps at a rate of 1e-4: near the file's weights, and not on them, but for
		// a bias that batch norm takes away again.
		if moved == 0 && name != "projection_head.0.bias" || moved > 0.05 {
			t.Errorf("%s moved by %g", name, moved)
		}
		weights++
	}
	if weights != 25 {
		t.Errorf("%d weights", weights)
	}

	said := command(t, "embed", "--run", original, "--data", at("photos"), "--set", "crops=1x12@0.3-1", "--out", at("f.parquet"))
	if !strings.Contains(said, "8 images x 16 features") {
		t.Error(said)
	}
	said = command(t, "cluster", "--run", original, "--data", at("photos"), "--set", "crops=1x12@0.3-1", "--out", at("c.csv"))
	if !strings.Contains(said, "8 images in ") {
		t.Error(said)
	}
	// A backbone alone has features, and no clusters.
	command(t, "export", original, "--format", "safetensors", "--out", at("backbone.safetensors"))
	command(t, "embed", "--run", at("backbone.safetensors"), "--data", at("photos"), "--set", "crops=1x12@0.3-1", "--out", at("g.csv"))
	var stdout, stderr bytes.Buffer
	code := run([]string{"cluster", "--run", at("backbone.safetensors"), "--data", at("photos"), "--out", at("d.csv")}, &stdout, &stderr)
	if code != 1 || !strings.Contains(stderr.String(), "prototypes") {
		t.Errorf("clusters of a backbone: exit code %d\n%s", code, stderr.String())
	}
	if _, err := os.Stat(at("d.csv")); err == nil {
		t.Error("clusters of a backbone are written")
	}
	code = run([]string{"embed", "--run", original, "--out", at("h.npy")}, &stdout, &stderr)
	if code != 1 || !strings.Contains(stderr.String(), "--data") {
		t.Errorf("features without images: exit code %d\n%s", code, stderr.String())
	}
}

// unitRows scales rows of n numbers to length 1.
func unitRows(x []float32, n int) []float32 {
	out := make([]float32, len(x))
	for r := 0; r < len(x); r += n {
		sum := 0.0
		for _, v := range x[r : r+n] {
			sum += float64(v) * float64(v)
		}
		for i, v := range x[r : r+n] {
			out[r+i] = float32(float64(v) / math.Sqrt(sum))
		}
	}
	return out
}
