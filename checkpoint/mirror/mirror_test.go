package mirror

import (
	"context"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"

	"swav/checkpoint"
)

// store is a store in memory with a bucket called runs.
func store(t *testing.T) *s3mem.Backend {
	t.Helper()
	b := s3mem.New()
	if err := b.CreateBucket("runs"); err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(gofakes3.New(b).Server())
	t.Cleanup(s.Close)
	t.Setenv("AWS_ENDPOINT_URL_S3", s.URL)
	t.Setenv("AWS_ACCESS_KEY_ID", "user")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "secret")
	t.Setenv("AWS_REGION", "us-east-1")
	return b
}

func open(t *testing.T) *Mirror {
	t.Helper()
	m, err := Open("s3://runs/of/mine/")
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func save(t *testing.T, run string, step int) {
	t.Helper()
	data := make([]float32, 1000)
	for i := range data {
		data[i] = float32(step + i)
	}
	s := checkpoint.Snapshot{Step: step, State: step, Model: []checkpoint.Tensor{{Name: "w", Shape: []int{1000}, Data: data}}, Optimizer: []checkpoint.Tensor{{Name: "m", Shape: []int{1000}, Data: data}}}
	if _, err := checkpoint.Write(run, s, 2); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(run, "recipe.toml"), []byte("# of step"), 0o644); err != nil {
		t.Fatal(err)
	}
}

// keys are the objects of the bucket.
func keys(t *testing.T, b *s3mem.Backend) []string {
	t.Helper()
	list, err := b.ListBucket("runs", nil, gofakes3.ListBucketPage{})
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, o := range list.Contents {
		all = append(all, o.Key)
	}
	return all
}

// A run that was on one machine goes on on another.
func TestThereAndBack(t *testing.T) {
	b := store(t)
	m, run := open(t), t.TempDir()
	if fetched, err := m.Pull(t.Context(), run); err != nil || fetched {
		t.Errorf("of an empty store: %v, %v", fetched, err)
	}
	save(t, run, 5)
	if err := m.Push(t.Context(), run); err != nil {
		t.Fatal(err)
	}
	save(t, run, 10)
	for range 2 { // the second time there is nothing to do
		if err := m.Push(t.Context(), run); err != nil {
			t.Fatal(err)
		}
	}
	want := []string{"of/mine/checkpoints/step-0000010/model.safetensors", "of/mine/checkpoints/step-0000010/optimizer.safetensors",
		"of/mine/checkpoints/step-0000010/state.json", "of/mine/newest", "of/mine/recipe.toml"}
	if d := cmp.Diff(want, keys(t, b)); d != "" {
		t.Error(d)
	}
	other := t.TempDir()
	if fetched, err := m.Pull(t.Context(), other); err != nil || !fetched {
		t.Fatalf("fetched %v, %v", fetched, err)
	}
	l, err := checkpoint.Resume(other, nil)
	if err != nil || l.Step != 10 || l.Model[0].Data[3] != 13 {
		t.Errorf("%+v, %v", l, err)
	}
	if recipe, err := os.ReadFile(filepath.Join(other, "recipe.toml")); err != nil || string(recipe) != "# of step" {
		t.Errorf("recipe %q, %v", recipe, err)
	}
	// What is there already, or newer, stays.
	save(t, other, 12)
	if fetched, err := m.Pull(t.Context(), other); err != nil || fetched {
		t.Errorf("over a newer one: %v, %v", fetched, err)
	}
}

// A copy that was cut off is not taken, and the next one clears it away.
func TestCutOff(t *testing.T) {
	b := store(t)
	m, run := open(t), t.TempDir()
	save(t, run, 5)
	if err := m.Push(t.Context(), run); err != nil {
		t.Fatal(err)
	}
	if err := m.send(t.Context(), filepath.Join(run, "checkpoints", "step-0000005"), "checkpoints/step-0000009/"); err != nil {
		t.Fatal(err)
	}
	other := t.TempDir()
	if fetched, err := m.Pull(t.Context(), other); err != nil || !fetched {
		t.Fatal(fetched, err)
	}
	if l, err := checkpoint.Resume(other, nil); err != nil || l.Step != 5 {
		t.Errorf("%v, %v", l, err)
	}
	save(t, run, 10)
	if err := m.Push(t.Context(), run); err != nil {
		t.Fatal(err)
	}
	if n := len(keys(t, b)); n != 5 {
		t.Errorf("%d objects: %v", n, keys(t, b))
	}
	// Damage is found out before it is taken.
	if _, err := b.PutObject("runs", "of/mine/checkpoints/step-0000010/model.safetensors", map[string]string{}, strings.NewReader("no"), 2, nil); err != nil {
		t.Fatal(err)
	}
	fresh := t.TempDir()
	if _, err := m.Pull(t.Context(), fresh); err == nil || !strings.Contains(err.Error(), "model.safetensors") {
		t.Errorf("a damaged copy: %v", err)
	}
	if _, err := checkpoint.Latest(fresh); err == nil {
		t.Error("a damaged copy was taken")
	}
	if _, err := b.PutObject("runs", "of/mine/newest", map[string]string{}, strings.NewReader("../../etc"), 9, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Pull(t.Context(), fresh); err == nil || !strings.Contains(err.Error(), "no checkpoint's name") {
		t.Errorf("a bad name: %v", err)
	}
}

// Training does not wait for the store, and what fails is told.
func TestFollow(t *testing.T) {
	b := store(t)
	run := t.TempDir()
	f := open(t).Follow(run, func(err error) { t.Error(err) })
	for step := 1; step <= 5; step++ {
		save(t, run, step)
		f.Written()
	}
	if err := f.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if all := strings.Join(keys(t, b), " "); !strings.Contains(all, "step-0000005/state.json") || strings.Contains(all, "step-0000004") {
		t.Errorf("objects %s", all)
	}
	t.Setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:1")
	warned := make(chan error, 10)
	f = open(t).Follow(run, func(err error) { warned <- err })
	f.Written()
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := f.Close(ctx); err == nil {
		t.Error("a store that is away took a checkpoint")
	}
}

func TestPlaces(t *testing.T) {
	t.Setenv("AWS_ENDPOINT_URL_S3", "")
	for _, bad := range []string{"", "s3://", "s3://bucket", "s3://bucket/", "gs://bucket/x", "/tmp/x"} {
		if _, err := Open(bad); err == nil || !strings.Contains(err.Error(), "s3://BUCKET/PREFIX") {
			t.Errorf("%q: %v", bad, err)
		}
	}
	t.Setenv("AWS_ENDPOINT_URL_S3", "nowhere")
	if _, err := Open("s3://bucket/x"); err == nil || !strings.Contains(err.Error(), "nowhere") {
		t.Errorf("a bad endpoint: %v", err)
	}
}
