package finetune

import (
	"bufio"
	"fmt"
	"math"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"swav/dataset"
)

// choose is the images, by number, that are learnt from.
func choose(src dataset.Source, o Options) ([]int, error) {
	if o.List == "" {
		return stratified(src, o.Fraction, o.Seed), nil
	}
	names, err := ReadNames(o.List)
	if err != nil {
		return nil, err
	}
	index, missing, err := named(src, names)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", o.List, err)
	}
	if len(missing) > 0 && o.Note != nil {
		o.Note(fmt.Sprintf("%s: %d of %d names are of no labelled image of %s, such as %.80q", o.List, len(missing), len(names), src.Name(), missing[0]))
	}
	return index, nil
}

// stratified draws a share of each class, at least one image, in rising order.
func stratified(src dataset.Source, fraction float64, seed uint64) []int {
	byClass := make([][]int, len(src.Classes()))
	for i := range src.Len() {
		if l := src.Label(i); l >= 0 {
			byClass[l] = append(byClass[l], i)
		}
	}
	var index []int
	for class, all := range byClass {
		if len(all) == 0 {
			continue
		}
		n := min(len(all), max(1, int(math.Round(fraction*float64(len(all))))))
		for _, at := range shuffled(len(all), seed, uint64(class)+0xf7ac)[:n] {
			index = append(index, all[at])
		}
	}
	slices.Sort(index)
	return index
}

// maxNames bounds a list; ImageNet has 1.3 million images.
const maxNames = 1 << 24

// ReadNames reads a file with a name of an image a line, such as the original's splits
// of ImageNet (n01440764_10026.JPEG). What follows a tab or comma is left out, as are
// empty lines and those that begin with #.
func ReadNames(file string) ([]string, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("list of images: %w", err)
	}
	defer f.Close()
	var names []string
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		line := strings.TrimPrefix(lines.Text(), "\ufeff")
		if at := strings.IndexAny(line, "\t,"); at >= 0 {
			line = line[:at]
		}
		if line = strings.TrimSpace(line); line == "" || line[0] == '#' {
			continue
		}
		if len(names) == maxNames {
			return nil, fmt.Errorf("list of images %s: more than %d names", file, maxNames)
		}
		names = append(names, filepath.ToSlash(line))
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("list of images %s: line %d: %w", file, len(names)+1, err)
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("list of images %s: no names: want the name of an image a line", file)
	}
	return names, nil
}

// named finds images by the whole name or by its last part, if only one image has it,
// in rising order. Names without a labelled image are missing.
func named(src dataset.Source, names []string) (index []int, missing []string, err error) {
	const several = -2
	whole, last := map[string]int{}, map[string]int{}
	for i := range src.Len() {
		id := src.ID(i)
		whole[id] = i
		base := path.Base(id)
		if _, twice := last[base]; twice {
			last[base] = several
		} else {
			last[base] = i
		}
	}
	for _, name := range names {
		i, ok := whole[name]
		if !ok {
			i, ok = last[path.Base(name)]
		}
		switch {
		case !ok || i >= 0 && src.Label(i) < 0:
			missing = append(missing, name)
		case i == several:
			return nil, nil, fmt.Errorf("%.80q is the name of several images of %s: write their paths within it", name, src.Name())
		default:
			index = append(index, i)
		}
	}
	slices.Sort(index)
	if index = slices.Compact(index); len(index) < 2 {
		example := ""
		if src.Len() > 0 {
			example = fmt.Sprintf(", whose names look like %.80q", src.ID(0))
		}
		return nil, nil, fmt.Errorf("%d of %d names are of labelled images of %s%s: want at least 2", len(index), len(names), src.Name(), example)
	}
	return index, missing, nil
}
