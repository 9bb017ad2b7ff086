package eval

import (
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"image"
	"image/color"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/parquet-go/parquet-go"
	"pgregory.net/rapid"

	"swav/interop"
)

func TestPixels(t *testing.T) {
	gray := image.NewGray(image.Rect(5, 5, 7, 7)) // bounds need not start at 0
	copy(gray.Pix, []byte{0, 51, 102, 255})
	flat := image.NewNRGBA(image.Rect(0, 0, 9, 4))
	for i := range 36 {
		flat.Set(i%9, i/9, color.NRGBA{255, 102, 0, 255})
	}
	clear := image.NewNRGBA(image.Rect(0, 0, 2, 2))
	clear.Set(0, 0, color.NRGBA{255, 255, 255, 255})
	images := []image.Image{gray, flat, clear}
	at := func(i int) (image.Image, error) { return images[i], nil }

	dim, got, err := Pixels(3, 2, 3, at)
	if err != nil || dim != 12 {
		t.Fatal(dim, err)
	}
	want := []float32{
		0, 0, 0, .2, .2, .2, .4, .4, .4, 1, 1, 1,
		1, .4, 0, 1, .4, 0, 1, .4, 0, 1, .4, 0,
		1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0,
	}
	if !slices.Equal(got, want) {
		t.Errorf("colour %v\nwant %v", got, want)
	}
	dim, got, err = Pixels(2, 2, 1, at)
	if err != nil || dim != 4 || !slices.Equal(got[:4], []float32{0, .2, .4, 1}) || got[4] != got[7] {
		t.Errorf("luma %v, %v", got, err)
	}
	_, _, err = Pixels(2, 2, 1, func(i int) (image.Image, error) { return gray, []error{nil, errors.New("torn")}[i] })
	if err == nil || !strings.Contains(err.Error(), "image 1: torn") {
		t.Errorf("error %v", err)
	}
	if _, _, err := Pixels(math.MaxInt/100, 1000, 3, at); err == nil {
		t.Error("no error for more images than fit in memory")
	}
}

func TestStandardize(t *testing.T) {
	ref := []float32{1, 10, 3, 10, 5, 10, 3, 10}
	other := []float32{3, 12}
	Standardize(2, ref, other)
	r2 := float32(math.Sqrt2)
	if !slices.Equal(ref, []float32{-r2, 0, 0, 0, r2, 0, 0, 0}) || !slices.Equal(other, []float32{0, 2}) {
		t.Errorf("%v, %v", ref, other)
	}
}

func TestSummarize(t *testing.T) {
	for _, c := range []struct {
		name           string
		assign, labels []int
		k              int
		want           Clusters
	}{
		{"no labels", []int{0, 0, 2, 2}, nil, 3,
			Clusters{Counts: []int{2, 0, 2}, Used: 2, Perplexity: 2}},
		{"perfect", []int{1, 1, 0, 0}, []int{0, 0, 1, 1}, 2,
			Clusters{Counts: []int{2, 2}, Used: 2, Perplexity: 2, Labelled: true, Purity: 1, NMI: 1, Majority: []int{1, 0}, Share: []float64{1, 1}}},
		{"independent", []int{0, 1, 0, 1}, []int{0, 0, 1, 1}, 3,
			Clusters{Counts: []int{2, 2, 0}, Used: 2, Perplexity: 2, Labelled: true, Purity: .5, NMI: 0, Majority: []int{0, 0, -1}, Share: []float64{.5, .5, 0}}},
		{"collapsed", []int{0, 0, 0, 0}, []int{0, 0, 0, 1}, 2,
			Clusters{Counts: []int{4, 0}, Used: 1, Perplexity: 1, Labelled: true, Purity: .75, NMI: 0, Majority: []int{0, -1}, Share: []float64{.75, 0}}},
		{"one prototype, one label", []int{0, 0}, []int{0, 0}, 1,
			Clusters{Counts: []int{2}, Used: 1, Perplexity: 1, Labelled: true, Purity: 1, NMI: 1, Majority: []int{0}, Share: []float64{1}}},
		// Prototypes (2,1,1), labels (2,2): MI = ln 2 - 1/4*0 ... = H(p)+H(l)-H(joint).
		{"finer than the labels", []int{0, 0, 1, 2}, []int{0, 0, 1, 1}, 3,
			Clusters{Counts: []int{2, 1, 1}, Used: 3, Perplexity: math.Exp(1.5 * math.Ln2), Labelled: true, Purity: 1, NMI: 2 * 1 / 2.5, Majority: []int{0, 1, 1}, Share: []float64{1, 1, 1}}},
		{"some without a label", []int{0, 0, 1, 1, 1, 2}, []int{-1, 4, 3, 3, -1, -1}, 3,
			Clusters{Counts: []int{2, 3, 1}, Used: 3, Perplexity: math.Exp(math.Log(3)/3 + math.Log(2)/2 + math.Log(6)/6), Labelled: true, Purity: 1, NMI: 1, Majority: []int{4, 3, -1}, Share: []float64{1, 1, 0}}},
		{"none with a label", []int{0, 0}, []int{-1, -1}, 1, Clusters{Counts: []int{2}, Used: 1, Perplexity: 1}},
	} {
		got, err := Summarize(c.assign, c.k, c.labels)
		if err != nil {
			t.Fatal(err)
		}
		if math.Abs(got.NMI-c.want.NMI) > 1e-12 || math.Abs(got.Perplexity-c.want.Perplexity) > 1e-12 {
			t.Errorf("%s: NMI %v, perplexity %v; want %v, %v", c.name, got.NMI, got.Perplexity, c.want.NMI, c.want.Perplexity)
		}
		got.NMI, got.Perplexity = c.want.NMI, c.want.Perplexity
		if !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s:\n%+v, want\n%+v", c.name, got, c.want)
		}
	}
	for _, bad := range [][2][]int{{{0, 3}, nil}, {{-1}, nil}, {{0}, {0, 1}}} {
		if _, err := Summarize(bad[0], 3, bad[1]); err == nil {
			t.Errorf("%v: no error", bad)
		}
	}
}

func TestSummarizeBounds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n, k := rapid.IntRange(1, 60).Draw(t, "n"), rapid.IntRange(1, 8).Draw(t, "k")
		assign := rapid.SliceOfN(rapid.IntRange(0, k-1), n, n).Draw(t, "assign")
		labels := rapid.SliceOfN(rapid.IntRange(0, 5), n, n).Draw(t, "labels")
		c, err := Summarize(assign, k, labels)
		if err != nil {
			t.Fatal(err)
		}
		if c.Purity <= 0 || c.Purity > 1 || c.NMI < 0 || c.NMI > 1 || c.Perplexity < 1-1e-9 || c.Perplexity > float64(c.Used)+1e-9 {
			t.Fatalf("%+v", c)
		}
		again, _ := Summarize(assign, k, labels)
		if !reflect.DeepEqual(c, again) {
			t.Fatalf("%+v, then %+v", c, again)
		}
	})
}

func TestNearest(t *testing.T) {
	near, err := Nearest([]int{0, 1, 0, 0, 1, 0}, []float32{.1, .2, .3, .3, .4, -1}, 3, 3)
	if err != nil || !reflect.DeepEqual(near, [][]int{{2, 3, 0}, {4, 1}, nil}) {
		t.Errorf("%v, %v", near, err)
	}
	if _, err := Nearest([]int{0}, nil, 1, 1); err == nil {
		t.Error("no error without scores")
	}
	if _, err := Nearest([]int{7}, []float32{1}, 2, 1); err == nil {
		t.Error("no error for prototype 7 of 2")
	}
}

func TestWriteAssignments(t *testing.T) {
	rows := []Assignment{
		{Row{"plain.png", 1}, 5, 0.25},
		{Row{"a,b \"c\"\nd.png", 0}, 0, -1},
		{Row{"no label", -1}, 2, 1e-9},
		{Row{"beyond the names", 7}, 2, 1},
	}
	var buf bytes.Buffer
	if err := WriteAssignments(&buf, rows, []string{"cat", "dog, or cat"}); err != nil {
		t.Fatal(err)
	}
	got, err := csv.NewReader(&buf).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	want := [][]string{
		{"id", "prototype", "score", "label"},
		{"plain.png", "5", "0.25", "dog, or cat"},
		{"a,b \"c\"\nd.png", "0", "-1", "cat"},
		{"no label", "2", "1e-09", ""},
		{"beyond the names", "2", "1", "7"},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%q\nwant %q", got, want)
	}
	buf.Reset()
	if err := WriteAssignments(&buf, rows[:1], nil); err != nil || buf.String() != "id,prototype,score\nplain.png,5,0.25\n" {
		t.Errorf("%q, %v", buf.String(), err)
	}
	if err := WriteAssignments(full{}, slices.Repeat(rows, 10000), nil); err == nil || !strings.Contains(err.Error(), "no space") {
		t.Errorf("full disk: %v", err)
	}
}

type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("no space left") }

var features = []float32{1, 2, 3, 4, 5, 6}

func writeFeatures(path string) error {
	f, err := CreateFeatures(path, 3, 2, []string{"cat", "dog"})
	if err != nil {
		return err
	}
	return errors.Join(
		f.Append(features[:4], []Row{{"a", 0}, {"b,c", 1}}),
		f.Append(features[4:], []Row{{"d", -1}}),
		f.Close())
}

func TestFeatures(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"x.npy", "x.safetensors"} {
		if err := writeFeatures(filepath.Join(dir, name)); err != nil {
			t.Fatal(name, err)
		}
		index, err := os.ReadFile(filepath.Join(dir, "x.csv"))
		if err != nil || string(index) != "row,id,label\n0,a,cat\n1,\"b,c\",dog\n2,d,\n" {
			t.Errorf("index %q, %v", index, err)
		}
	}
	f, err := os.Open(filepath.Join(dir, "x.npy"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if rows, cols, data, err := interop.ReadNPY(f); err != nil || rows != 3 || cols != 2 || !slices.Equal(data, features) {
		t.Errorf("npy %d x %d %v, %v", rows, cols, data, err)
	}
	s, err := interop.OpenSafetensors(filepath.Join(dir, "x.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	data, err := s.Float32("features")
	if info, _ := s.Info("features"); err != nil || !slices.Equal(info.Shape, []int{3, 2}) || !slices.Equal(data, features) {
		t.Errorf("safetensors %v %v, %v", info, data, err)
	}
	labels, err := s.Bytes("labels")
	if err != nil || !bytes.Equal(labels, []byte{0, 0, 0, 0, 1, 0, 0, 0, 255, 255, 255, 255}) {
		t.Errorf("labels %v, %v", labels, err)
	}
}

// Tables hold names and features together, and no second file.
func TestFeatureTables(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"x.csv", "y.parquet"} {
		if err := writeFeatures(filepath.Join(dir, name)); err != nil {
			t.Fatal(name, err)
		}
	}
	if files, err := os.ReadDir(dir); err != nil || len(files) != 2 {
		t.Errorf("%v, %v", files, err)
	}
	text, err := os.ReadFile(filepath.Join(dir, "x.csv"))
	if err != nil {
		t.Fatal(err)
	}
	want := "id,label,f0,f1\n"
	for i, row := range []string{"a,cat", `"b,c",dog`, "d,"} {
		want += fmt.Sprintf("%s,%v,%v\n", row, features[2*i], features[2*i+1])
	}
	if string(text) != want {
		t.Errorf("csv %q, want %q", text, want)
	}
	rows, err := parquet.ReadFile[parquetRow](filepath.Join(dir, "y.parquet"))
	if err != nil || len(rows) != 3 {
		t.Fatalf("%d rows, %v", len(rows), err)
	}
	for i, r := range rows {
		label := "null"
		if r.Label != nil {
			label = *r.Label
		}
		if r.ID != []string{"a", "b,c", "d"}[i] || label != []string{"cat", "dog", "null"}[i] || !slices.Equal(r.Features, features[2*i:2*i+2]) {
			t.Errorf("row %d: %+v, label %s", i, r, label)
		}
	}
}

// Whatever goes wrong, no file that looks whole is left.
func TestFeaturesErrors(t *testing.T) {
	for _, ext := range featureFormats {
		for _, c := range []struct {
			name  string
			write func(f *FeatureWriter) error
			want  string
		}{
			{"too few", func(f *FeatureWriter) error { return errors.Join(f.Append(features[:2], []Row{{}}), f.Close()) }, "1 of 3 rows"},
			{"none", func(f *FeatureWriter) error { return f.Close() }, "0 of 3 rows"},
			{"too many", func(f *FeatureWriter) error {
				err := errors.Join(f.Append(features, make([]Row, 3)), f.Append(features[:2], make([]Row, 1)))
				f.Abort()
				return err
			}, "more than the 3 rows"},
			{"given up", func(f *FeatureWriter) error { f.Abort(); return errors.New("given up") }, "given up"},
		} {
			dir := t.TempDir()
			f, err := CreateFeatures(filepath.Join(dir, "x"+ext), 3, 2, nil)
			if err != nil {
				t.Fatal(err)
			}
			if err := c.write(f); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s %s: %v, want %q", ext, c.name, err, c.want)
			}
			if left, _ := os.ReadDir(dir); len(left) > 0 {
				t.Errorf("%s %s: %v is left", ext, c.name, left)
			}
		}
	}
	dir := t.TempDir()
	for _, path := range []string{filepath.Join(dir, "x.txt"), filepath.Join(dir, "no", "x.npy"), dir} {
		if _, err := CreateFeatures(path, 1, 1, nil); err == nil {
			t.Errorf("%s: no error", path)
		}
	}
	if _, err := CreateFeatures(filepath.Join(dir, "x.npy"), 1, 0, nil); err == nil {
		t.Error("no error for features of dimension 0")
	}
}
