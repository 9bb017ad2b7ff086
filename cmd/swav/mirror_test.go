package main

import (
	"bytes"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"

	"swav/internal/runtest"
	"swav/runlog"
)

// A run whose machine is lost goes on elsewhere from its copy in an object store.
func TestRunGoesOnFromItsMirror(t *testing.T) {
	b := s3mem.New()
	if err := b.CreateBucket("runs"); err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(gofakes3.New(b).Server())
	defer s.Close()
	t.Setenv("AWS_ENDPOINT_URL_S3", s.URL)
	t.Setenv("AWS_ACCESS_KEY_ID", "user")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "secret")
	photos, lost, found := t.TempDir(), filepath.Join(t.TempDir(), "lost"), filepath.Join(t.TempDir(), "found")
	if err := runtest.WritePhotos(photos, 20); err != nil {
		t.Fatal(err)
	}
	recipe := filepath.Join(t.TempDir(), "tiny.toml")
	if err := os.WriteFile(recipe, []byte(runtest.Recipe), 0o644); err != nil {
		t.Fatal(err)
	}
	train := func(dir string) (int, string) {
		var out bytes.Buffer
		code := run([]string{"train", "--resume=auto", "--mirror", "s3://runs/photos", "--recipe", recipe, "--data", photos, "--run", dir}, &out, &out)
		return code, out.String()
	}
	if code, out := train(lost); code != 0 {
		t.Fatalf("code %d\n%s", code, out)
	}
	if err := os.RemoveAll(lost); err != nil {
		t.Fatal(err)
	}
	code, out := train(found)
	if code != 0 || !strings.Contains(out, "fetched the run from s3://runs/photos") || !strings.Contains(out, "resuming at step 4 of 4") {
		t.Errorf("code %d\n%s", code, out)
	}
	if ms, err := runlog.ReadMetrics(found); err != nil || len(ms) != 4 {
		t.Errorf("%d steps of metrics, %v", len(ms), err)
	}
	s.Close()
	if code, out := train(filepath.Join(t.TempDir(), "none")); code != 1 || !strings.Contains(out, "mirror s3://runs/photos") {
		t.Errorf("without the store: code %d\n%s", code, out)
	}
}
