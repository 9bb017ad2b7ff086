package datatool

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"

	"swav/dataset"
	"swav/imgcodec"
)

// Statistics are what a recipe says about pixels.
type Statistics struct {
	Source   string    `json:"source"`
	Images   int       `json:"images"`  // that were measured
	Skipped  int       `json:"skipped"` // that could not be read, or have other channels
	Channels int       `json:"channels"`
	Depth    int       `json:"depth"` // 8 or 16 bits
	Mean     []float64 `json:"mean"`  // as shares of the largest sample
	Std      []float64 `json:"std"`
}

// kind is what is measured of images with a number of channels.
type kind struct {
	moments imgcodec.Moments
	images  int
}

// Measure reads images number index of src (nil: all). Where there are grey and
// colour images, grey counts as three equal channels, as it does in training;
// otherwise the most frequent number of channels is measured.
func Measure(ctx context.Context, src dataset.Source, index []int, o Options) (*Statistics, error) {
	n := src.Len()
	if index != nil {
		n = len(index)
	}
	workers := make([]worker, o.workers())
	kinds := make([]map[int]*kind, len(workers))
	deep := make([]bool, len(workers))
	err := each(ctx, n, o, func(w, i int) error {
		if index != nil {
			i = index[i]
		}
		img := &workers[w].img
		if err := src.Load(i, img); err != nil {
			return nil
		}
		if kinds[w] == nil {
			kinds[w] = map[int]*kind{}
		}
		k := kinds[w][img.C]
		if k == nil {
			k = new(kind)
			kinds[w][img.C] = k
		}
		k.moments.Add(img)
		k.images++
		deep[w] = deep[w] || img.IsDeep()
		return nil
	})
	if err != nil {
		return nil, err
	}
	all := map[int]*kind{}
	s := &Statistics{Source: src.Name(), Depth: 8}
	for w := range kinds {
		if deep[w] {
			s.Depth = 16
		}
		for c, k := range kinds[w] {
			if all[c] == nil {
				all[c] = new(kind)
			}
			all[c].moments.Merge(&k.moments)
			all[c].images += k.images
		}
	}
	if grey := all[1]; grey != nil && all[3] != nil {
		all[3].moments.Merge(grey.moments.Repeat(3))
		all[3].images += grey.images
		delete(all, 1)
	}
	for _, c := range sortedKeys(all) {
		if all[c].images > s.Images {
			s.Channels, s.Images = c, all[c].images
		}
	}
	if s.Images == 0 {
		return nil, fmt.Errorf("%s: none of %d images can be read (`swav data check` says why)", src.Name(), n)
	}
	s.Skipped = n - s.Images
	s.Mean, s.Std = all[s.Channels].moments.MeanStd()
	return s, nil
}

// WriteTOML writes the lines of a recipe.
func (s *Statistics) WriteTOML(w io.Writer) error {
	list := func(x []float64) string {
		var words []string
		for _, v := range x {
			words = append(words, strconv.FormatFloat(v, 'f', 6, 64))
		}
		return "[" + strings.Join(words, ", ") + "]"
	}
	_, err := fmt.Fprintf(w, `# measured on %d images of %s, each of equal weight
[data]
channels = %d
depth = %d
[augment]
mean = %s
std = %s
`, s.Images, s.Source, s.Channels, s.Depth, list(s.Mean), list(s.Std))
	return err
}
