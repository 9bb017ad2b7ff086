package finetune

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"swav/dataset"
)

// images is a source with these names, which are CLASS/FILE or, without a class, FILE.
func images(names ...string) dataset.Source {
	var list []*dataset.Record
	for _, n := range names {
		class, _, ok := strings.Cut(n, "/")
		if !ok {
			class = ""
		}
		list = append(list, &dataset.Record{ID: n, Label: class})
	}
	return dataset.Records("test", list, 3)
}

// A share of the labels is that share of every class, to one image, at least one, and
// the same again.
func TestStratified(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var names []string
		counts := map[int]int{}
		for class := range rapid.IntRange(1, 5).Draw(t, "classes") {
			counts[class] = rapid.IntRange(1, 40).Draw(t, "images")
			for i := range counts[class] {
				names = append(names, fmt.Sprintf("%d/%d", class, i))
			}
		}
		src := images(append(names, "unlabelled")...)
		fraction, seed := rapid.Float64Range(0.001, 1).Draw(t, "fraction"), rapid.Uint64().Draw(t, "seed")
		got := stratified(src, fraction, seed)
		if !slices.IsSorted(got) || len(slices.Compact(slices.Clone(got))) != len(got) || !slices.Equal(got, stratified(src, fraction, seed)) {
			t.Fatalf("%v", got)
		}
		drawn := map[int]int{}
		for _, i := range got {
			drawn[src.Label(i)]++
		}
		for class, n := range counts {
			want := fraction * float64(n)
			if d := float64(drawn[class]); d < 1 || d > float64(n) || d > 1 && (d < want-0.5 || d > want+0.5) || d == 1 && want >= 1.5 {
				t.Fatalf("class %d: %v of %d for a share of %g", class, d, n, fraction)
			}
		}
		if drawn[-1] > 0 {
			t.Fatal("an image without a label")
		}
	})
}

func TestNamed(t *testing.T) {
	src := images("a/one.png", "a/two.png", "b/one.png", "b/three.jpg", "four.png")
	for _, c := range []struct {
		text    string
		want    []int
		missing int
		err     string
	}{
		{"a/one.png\nb/one.png\n", []int{0, 2}, 0, ""},
		{"\ufeff# the split\ntwo.png\r\n\n  three.jpg\tb\n", []int{1, 3}, 0, ""},
		{"two.png,a\nthree.jpg,b\nnone.png\nfour.png\nelsewhere/two.png\n", []int{1, 3}, 2, ""},
		{"one.png\ntwo.png\n", nil, 0, "several images"},
		{"two.png\nfive.png\n", nil, 0, "1 of 2 names"},
		{"\n", nil, 0, "no names"},
		{strings.Repeat("x", 1<<17), nil, 0, "line 1"},
	} {
		file := filepath.Join(t.TempDir(), "names.txt")
		if err := os.WriteFile(file, []byte(c.text), 0o644); err != nil {
			t.Fatal(err)
		}
		names, err := ReadNames(file)
		var index []int
		var missing []string
		if err == nil {
			index, missing, err = named(src, names)
		}
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%.40q: error %v, want %q", c.text, err, c.err)
			}
			continue
		}
		if err != nil || !slices.Equal(index, c.want) || len(missing) != c.missing {
			t.Errorf("%.40q: %v, missing %v, %v; want %v", c.text, index, missing, err, c.want)
		}
	}
}
