// Package runtest trains a tiny network for the tests of packages that work on a
// finished run. It takes about a second; what is learnt is of no account.
package runtest

import (
	"bytes"
	"context"
	"fmt"
	"image"
	"image/color"
	"image/jpeg"
	"image/png"
	"os"
	"path/filepath"
	"testing"

	"swav/config"
	"swav/train"
)

// Recipe of the run: 6 prototypes, 16 features, views of 12 pixels.
const Recipe = `
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
[optim]
lr = 0.1
[train]
epochs = 0
steps = 4
batch_size = 8
precision = "fp32"
checkpoint_every = "4 steps"
[eval]
holdout = 0.3
`

// Prototypes of the network.
const Prototypes = 6

// Photo is image i of Photos, encoded: even ones are PNG, odd ones JPEG.
func Photo(t testing.TB, i int) []byte {
	t.Helper()
	b, err := photo(i)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func photo(i int) ([]byte, error) {
	img := image.NewRGBA(image.Rect(0, 0, 24, 20))
	for p := range 24 * 20 {
		x, y := p%24, p/24
		if i%2 == 0 {
			img.SetRGBA(x, y, color.RGBA{uint8(60 * (x / 3 % 4)), uint8(9 * i), uint8(200 - 5*y), 255})
		} else {
			img.SetRGBA(x, y, color.RGBA{uint8(9 * i), uint8(60 * (y / 4 % 4)), uint8(8*x + y), 255})
		}
	}
	var b bytes.Buffer
	var err error
	if i%2 == 0 {
		err = png.Encode(&b, img)
	} else {
		err = jpeg.Encode(&b, img, &jpeg.Options{Quality: 95})
	}
	return b.Bytes(), err
}

// Photos writes n pictures into a new folder with sub-folders for two classes.
func Photos(t testing.TB, n int) string {
	t.Helper()
	dir := t.TempDir()
	if err := WritePhotos(dir, n); err != nil {
		t.Fatal(err)
	}
	return dir
}

// WritePhotos is Photos for a folder that is there.
func WritePhotos(dir string, n int) error {
	for i := range n {
		b, err := photo(i)
		if err != nil {
			return err
		}
		name := filepath.Join(dir, []string{"stripes", "bands"}[i%2], fmt.Sprintf("%02d.%s", i, []string{"png", "jpg"}[i%2]))
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(name, b, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// Run trains on data, with changes to the recipe as KEY=VALUE, and returns the run
// directory.
func Run(t testing.TB, data string, set ...string) string {
	t.Helper()
	dir := t.TempDir()
	if err := Train(dir, data, set...); err != nil {
		t.Fatal(err)
	}
	return dir
}

// Train is Run for a run directory.
func Train(dir, data string, set ...string) error {
	r, err := config.Parse([]byte(Recipe), "recipe")
	if err != nil {
		return err
	}
	for _, s := range set {
		if err := r.Set(s); err != nil {
			return err
		}
	}
	var screen bytes.Buffer
	log := train.NewRunLog(&screen, &screen, dir)
	_, err = train.Run(context.Background(), train.Options{Recipe: r, Data: data, Dir: dir, Log: log})
	if closed := log.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return fmt.Errorf("%w\n%s", err, screen.String())
	}
	return nil
}
