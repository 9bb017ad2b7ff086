package train

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"image"
	"image/color"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/image/tiff"
)

// arrays writes n images of 16-bit samples in two class folders: arrays of c
// channels, or grey TIFF files where c is 1. Like a 12-bit camera's, they use the
// lower part of the range.
func arrays(t *testing.T, n, c int) string {
	t.Helper()
	const w, h = 20, 16
	dir := t.TempDir()
	for i := range n {
		value := func(x, y, ch int) uint16 { return uint16((x*(1+i%2)+y*ch+i)%16) * 200 }
		class := filepath.Join(dir, []string{"stripes", "spots"}[i%2])
		if err := os.MkdirAll(class, 0o755); err != nil {
			t.Fatal(err)
		}
		if c == 1 {
			img := image.NewGray16(image.Rect(0, 0, w, h))
			for p := range w * h {
				img.SetGray16(p%w, p/w, color.Gray16{Y: value(p%w, p/w, 1)})
			}
			f, err := os.Create(filepath.Join(class, fmt.Sprintf("%02d.tif", i)))
			if err != nil {
				t.Fatal(err)
			}
			if err := tiff.Encode(f, img, nil); err != nil {
				t.Fatal(err)
			}
			if err := f.Close(); err != nil {
				t.Fatal(err)
			}
			continue
		}
		dict := fmt.Sprintf("{'descr': '<u2', 'fortran_order': False, 'shape': (%d, %d, %d), }\n", h, w, c)
		file := append([]byte("\x93NUMPY\x01\x00"), byte(len(dict)), 0)
		file = append(file, dict...)
		for p := range w * h {
			for ch := range c {
				file = binary.LittleEndian.AppendUint16(file, value(p%w, p/w, ch))
			}
		}
		if err := os.WriteFile(filepath.Join(class, fmt.Sprintf("%02d.npy", i)), file, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// Images of 16 bits and of one or five channels go through everything: training,
// a checkpoint in the middle, evaluation with its baselines, features.
func TestAnyNumberOfChannels(t *testing.T) {
	for _, c := range []int{1, 5} {
		t.Run(fmt.Sprint(c), func(t *testing.T) {
			data, dir := arrays(t, 24, c), t.TempDir()
			set := []string{"data.depth=16", "augment.mean=0.02", "augment.std=0.015"}
			if c == 1 {
				set = append(set, "data.channels=1") // grey becomes colour otherwise
			}
			out, screen, err := execute(context.Background(), Options{Recipe: recipe(t, set...), Data: data, Dir: dir, Stop: 4})
			if !errors.Is(err, ErrInterrupted) {
				t.Fatalf("not interrupted: %v, %v\n%s", out, err, screen)
			}
			out, screen, err = execute(context.Background(), Options{Dir: dir, Resume: true})
			if err != nil {
				t.Fatalf("%v\n%s", err, screen)
			}
			if out.KNN == nil || out.KNN.Trained < 0 || out.KNN.Trained > 100 {
				t.Errorf("no evaluation: %+v", out.KNN)
			}
			w := finalTensors(t, dir)["conv1.weight"]
			if len(w) != 8*c*3*3 {
				t.Errorf("the first convolution has %d weights, want 8 x %d x 3 x 3", len(w), c)
			}
			for _, r := range []string{"metrics.jsonl", "prototypes.png", "report.html"} {
				if _, err := os.Stat(filepath.Join(dir, r)); err != nil {
					t.Error(err)
				}
			}
			e, err := Embed(context.Background(), EmbedOptions{Run: dir})
			if err != nil || len(e.Index) != 24 {
				t.Fatalf("features: %v", err)
			}
			dim := len(e.Features) / 24
			for i := range dim {
				if e.Features[i] != e.Features[dim+i] {
					return
				}
			}
			t.Error("different images have the same features: their bits are lost")
		})
	}
}

// Auto measures channels, bits and what they are like.
func TestAutoMeasuresChannels(t *testing.T) {
	for _, c := range []int{1, 5} {
		r, choices, err := Auto(context.Background(), arrays(t, 40, c), 5*time.Hour, func(string) {})
		if err != nil {
			t.Fatal(err)
		}
		if r.Model.InChannels != c || r.Data.Depth != 16 || len(r.Augment.Mean) != c || len(r.Augment.Std) != c {
			t.Fatalf("%d channels: %+v %+v", c, r.Data, r.Augment)
		}
		if m := r.Augment.Mean[0]; m < 0.01 || m > 0.04 {
			t.Errorf("mean %v, the samples are 0 to 3000 of 65535", m)
		}
		if r.Augment.Hue != 0 || r.Augment.Saturation != 0 || r.Augment.Grayscale != 0 || r.Augment.Brightness == 0 {
			t.Errorf("colour operations on %d channels: %+v", c, r.Augment)
		}
		if !strings.Contains(fmt.Sprint(choices), "16 bits") {
			t.Errorf("no reason is given: %v", choices)
		}
	}
}

// A recipe for colour says what to write where images have other channels.
func TestMeansMustFitTheChannels(t *testing.T) {
	_, _, err := execute(context.Background(), Options{Recipe: recipe(t), Data: arrays(t, 24, 5), Dir: t.TempDir()})
	if err == nil || !strings.Contains(err.Error(), "5 channels") || !strings.Contains(err.Error(), "swav data stats") {
		t.Errorf("%v", err)
	}
}

// Bits are not thrown away without a word.
func TestLostBitsAreWarnedOf(t *testing.T) {
	data := arrays(t, 24, 1)
	for depth, want := range map[int]bool{8: true, 16: false} {
		_, screen, err := execute(context.Background(), Options{Recipe: recipe(t, fmt.Sprintf("data.depth=%d", depth)), Data: data, Dir: t.TempDir(), DryRun: true})
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(screen, "data.depth=16") != want {
			t.Errorf("data.depth = %d:\n%s", depth, screen)
		}
	}
}
