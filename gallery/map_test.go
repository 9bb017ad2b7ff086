package gallery

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"image/jpeg"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"testing"
)

// mapOf writes a map and reads the data of its page.
func mapOf(t *testing.T, n int, o MapOptions) (data mapData, file []byte) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "map.html")
	x := indexOf(numbered(n), 3)
	shown, err := WriteMap(context.Background(), path, x, o)
	if err != nil {
		t.Fatal(err)
	}
	if file, err = os.ReadFile(path); err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`(?m)^const data = (\{.*\});$`).FindSubmatch(file)
	if m == nil {
		t.Fatal("the page has no data")
	}
	if err := json.Unmarshal(m[1], &data); err != nil {
		t.Fatal(err)
	}
	if shown != len(data.IDs) {
		t.Errorf("%d images reported, %d shown", shown, len(data.IDs))
	}
	return data, file
}

func TestMapHasAllImages(t *testing.T) {
	const n = 60
	data, _ := mapOf(t, n, MapOptions{})
	if len(data.IDs) != n || data.Total != n || len(data.Labels) != n || len(data.Clusters) != n || len(data.Axes) < 2 || len(data.UMAP) != 2 {
		t.Fatalf("%d names, %d labels, %d clusters, %d axes, %d UMAP axes", len(data.IDs), len(data.Labels), len(data.Clusters), len(data.Axes), len(data.UMAP))
	}
	for _, column := range append(data.UMAP, data.Axes...) {
		if len(column) != n || slices.Min(column) == slices.Max(column) {
			t.Errorf("a column of %d numbers, from %v to %v", len(column), slices.Min(column), slices.Max(column))
		}
	}
	for i, id := range data.IDs {
		if id != numbered(n).names[i] || data.Labels[i] != i%2 || data.Clusters[i] != i%3 {
			t.Fatalf("image %d: %s, label %d, cluster %d", i, id, data.Labels[i], data.Clusters[i])
		}
	}
}

// Thumbnail i is in the cell that the page looks it up in.
func TestMapThumbnails(t *testing.T) {
	const n = 40
	data, _ := mapOf(t, n, MapOptions{})
	if len(data.Sheets) != 1 {
		t.Fatalf("%d sheets", len(data.Sheets))
	}
	file, err := base64.StdEncoding.DecodeString(data.Sheets[0])
	if err != nil {
		t.Fatal(err)
	}
	sheet, err := jpeg.Decode(bytes.NewReader(file))
	if err != nil {
		t.Fatal(err)
	}
	if b := sheet.Bounds(); b.Dx() != data.Cells*data.Thumb || b.Dy() != (n+data.Cells-1)/data.Cells*data.Thumb {
		t.Errorf("sheet of %v, cells of %d", b, data.Thumb)
	}
	for i := range n {
		r, _, _, _ := sheet.At(i%data.Cells*data.Thumb+data.Thumb/2, i/data.Cells*data.Thumb+data.Thumb/2).RGBA()
		if got, want := int(r>>8), 17*i%256; got < want-12 || got > want+12 {
			t.Errorf("image %d has red %d, want about %d", i, got, want)
		}
	}
}

func TestMapOfASample(t *testing.T) {
	data, first := mapOf(t, 200, MapOptions{Images: 60, Seed: 1})
	if len(data.IDs) != 60 || data.Total != 200 || !slices.IsSorted(data.IDs) || len(slices.Compact(data.IDs)) != 60 {
		t.Errorf("%d of %d images", len(data.IDs), data.Total)
	}
	if _, again := mapOf(t, 200, MapOptions{Images: 60, Seed: 1}); !bytes.Equal(first, again) {
		t.Error("the same seed gave another page")
	}
	if other, _ := mapOf(t, 200, MapOptions{Images: 60, Seed: 2}); slices.Equal(other.IDs, data.IDs) {
		t.Error("another seed gave the same sample")
	}
}

func TestMapOfFewImagesOrLinear(t *testing.T) {
	for _, c := range []struct {
		n      int
		linear bool
	}{{1, false}, {2, false}, {fewImages, false}, {fewImages + 5, true}} {
		data, _ := mapOf(t, c.n, MapOptions{Linear: c.linear})
		if data.UMAP != nil || len(data.Axes) == 0 || len(data.Axes[0]) != c.n {
			t.Errorf("%d images, linear %v: %d UMAP axes, %d axes", c.n, c.linear, len(data.UMAP), len(data.Axes))
		}
	}
}
