package dataset

import (
	"os"
	"path/filepath"
	"testing"
)

func TestAbsolute(t *testing.T) {
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for src, want := range map[string]string{
		"photos":                      filepath.Join(here, "photos"),
		"../photos/":                  filepath.Join(filepath.Dir(here), "photos"),
		"/data/photos":                "/data/photos",
		"data-{000..123}.tar":         filepath.Join(here, "data-{000..123}.tar"),
		"watch:incoming":              "watch:" + filepath.Join(here, "incoming"),
		"repeat:s3://b/{0..9}.tar":    "repeat:s3://b/{0..9}.tar",
		"https://example.org/a.tar":   "https://example.org/a.tar",
		"s3://bucket/data-{0..9}.tar": "s3://bucket/data-{0..9}.tar",
		"-":                           "-",
		"":                            "",
	} {
		if got := Absolute(src); got != want {
			t.Errorf("Absolute(%q) = %q, want %q", src, got, want)
		}
	}
}
