package verify

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"swav/imgcodec"
)

func sharedDir() string {
	if dir := os.Getenv("SWAV_SHARED"); dir != "" {
		return dir
	}
	return filepath.Join("..", "..", "shared")
}

// augmentCases are the recorded image transformations, or a skip that says why
// there are none.
func augmentCases(t *testing.T) []string {
	t.Helper()
	found, _ := filepath.Glob(filepath.Join(sharedDir(), "golden", "augment", "*", "case.json"))
	if len(found) == 0 {
		if os.Getenv("CI") == "true" {
			t.Fatalf("no recorded image transformations in %s", sharedDir())
		}
		t.Skipf("no recorded image transformations in %s; SWAV_SHARED names another folder", sharedDir())
	}
	for i := range found {
		found[i] = filepath.Dir(found[i])
	}
	return found
}

func TestAugmentationPasses(t *testing.T) {
	for _, dir := range augmentCases(t) {
		t.Run(filepath.Base(dir), func(t *testing.T) {
			r, err := Augment(dir)
			if err != nil {
				t.Fatal(err)
			}
			if len(r.Stages) != 6 {
				t.Errorf("%d stages compared, want 6", len(r.Stages))
			}
			for _, s := range r.Stages {
				t.Logf("%-45s mean %.2g (%.2g)  p99.9 %.2g (%.2g)", s.Name, s.Mean, s.MeanLimit, s.P999, s.P999Limit)
				if !s.Pass {
					t.Errorf("%s: mean %.3g (limit %g), p99.9 %.3g (limit %g)", s.Name, s.Mean, s.MeanLimit, s.P999, s.P999Limit)
				}
			}
			if !r.Pass {
				t.Error("the case as a whole does not pass")
			}
		})
	}
}

// On libjpeg's pixels the operations agree with Pillow's to the bit. CMYK is
// apart: Pillow's own decoder differs by a rounding there, and hue carries it
// further.
func TestAugmentationIsExactArithmetic(t *testing.T) {
	if imgcodec.Backend != "libjpeg-turbo" {
		t.Skipf("pixels come from %s", imgcodec.Backend)
	}
	for _, dir := range augmentCases(t) {
		r, err := Augment(dir)
		if err != nil {
			t.Fatal(err)
		}
		mean, p999 := 1e-5, 1e-4 // the last stage is compared in float32
		if strings.Contains(r.Case, "cmyk") {
			mean, p999 = 0.08, 5.001
		}
		for _, s := range r.Stages {
			if s.Mean > mean || s.P999 > p999 {
				t.Errorf("%s %s: mean %.3g, p99.9 %.3g", r.Case, s.Name, s.Mean, s.P999)
			}
		}
	}
}

// A wrong view does not pass, and cases that do not fit their image are errors.
func TestAugmentationNoticesDifferences(t *testing.T) {
	source := augmentCases(t)[0]
	var original map[string]any
	data, err := os.ReadFile(filepath.Join(source, "case.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &original); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name  string
		key   string
		value any
		err   bool
	}{
		{"no flip", "flip", false, false},
		{"grayscale", "grayscale", true, false},
		{"no blur", "blur_sigma", nil, false},
		{"no jitter", "jitter", nil, false},
		{"another size", "size", 32, true},
		{"negative size", "size", -1, true},
		{"crop outside", "crop", map[string]int{"top": 1 << 40, "left": 0, "height": 10, "width": 10}, true},
		{"empty crop", "crop", map[string]int{}, true},
		{"image elsewhere", "image", "../image.jpg", true},
		{"no image", "image", "none.jpg", true},
		{"unknown operation", "jitter", map[string]any{"order": []string{"sepia"}}, true},
		{"five operations", "jitter", map[string]any{"order": []string{"hue", "hue", "hue", "hue", "hue"}}, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			for _, name := range []string{original["image"].(string), "expect.safetensors"} {
				data, err := os.ReadFile(filepath.Join(source, name))
				if err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			c := map[string]any{}
			for k, v := range original {
				c[k] = v
			}
			c[tc.key] = tc.value
			data, err := json.Marshal(c)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, "case.json"), data, 0o600); err != nil {
				t.Fatal(err)
			}
			r, err := Augment(dir)
			if tc.err != (err != nil) {
				t.Fatalf("error %v, wanted one: %v", err, tc.err)
			}
			if err == nil && r.Pass {
				t.Error("passes")
			}
		})
	}
}
