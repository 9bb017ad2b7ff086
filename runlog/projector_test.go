package runlog

import (
	"errors"
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"os"
	"path/filepath"
	"testing"
)

func TestProjector(t *testing.T) {
	dir := t.TempDir()
	colours := []color.RGBA{{200, 0, 0, 255}, {0, 200, 0, 255}, {0, 0, 200, 255}}
	p := &Points{Dim: 2, Features: []float32{0.1, -2, 3e-9, 4, 5, 6}, Columns: []string{"id", "label"},
		Metadata: [][]string{{"a.png", "cat"}, {"b\tc\n.png", ""}, {"\xff.png", "dog"}},
		Picture: func(i int) (image.Image, error) {
			if i == 1 {
				return nil, errors.New("unreadable")
			}
			img := image.NewRGBA(image.Rect(0, 0, 100, 80))
			draw.Draw(img, img.Rect, image.NewUniform(colours[i]), image.Point{}, draw.Src)
			return img, nil
		}}
	if err := WriteProjector(dir, p); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"projector/tensor.tsv":   "0.1\t-2\n3e-09\t4\n5\t6\n",
		"projector/metadata.tsv": "id\tlabel\na.png\tcat\nb c .png\t\n\ufffd.png\tdog\n",
		"projector_config.pbtxt": `embeddings {
  tensor_name: "features"
  tensor_path: "projector/tensor.tsv"
  metadata_path: "projector/metadata.tsv"
  sprite {
    image_path: "projector/sprite.png"
    single_image_dim: 64
    single_image_dim: 64
  }
}
`} {
		if got, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v, want %q", name, got, err, want)
		}
	}
	f, err := os.Open(filepath.Join(dir, "projector", "sprite.png"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	sprite, err := png.Decode(f)
	if err != nil || sprite.Bounds() != image.Rect(0, 0, 128, 128) {
		t.Fatalf("%v, %v", sprite.Bounds(), err)
	}
	for i, want := range []color.Color{colours[0], color.RGBA{}, colours[2], color.RGBA{}} {
		if got := sprite.At(i%2*64+32, i/2*64+32); color.RGBAModel.Convert(got) != color.RGBAModel.Convert(want) {
			t.Errorf("thumbnail %d: %v, want %v", i, got, want)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*", "*.tmp")); left != nil {
		t.Errorf("%v is left", left)
	}
	p.Metadata = p.Metadata[:2]
	if err := WriteProjector(dir, p); err == nil {
		t.Error("no error for two names of three points")
	}
}

// Many thumbnails get smaller, rather than the sprite larger than TensorBoard takes.
func TestSpriteLayout(t *testing.T) {
	for _, tc := range []struct{ n, columns, cell int }{
		{1, 1, 64}, {2, 2, 64}, {4, 2, 64}, {5, 3, 64}, {1000, 32, 64}, {128 * 128, 128, 64}, {128*128 + 1, 129, 63}, {1 << 30, 32768, 1},
	} {
		if columns, cell := spriteLayout(tc.n); columns != tc.columns || cell != tc.cell {
			t.Errorf("%d thumbnails: %d columns of %d pixels, want %d of %d", tc.n, columns, cell, tc.columns, tc.cell)
		}
	}
}
