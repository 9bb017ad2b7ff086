package dataset

import (
	"errors"
	"fmt"
	"path/filepath"
)

// Files is a source of image files, wherever they are, in the given order and without
// labels. An ID is the path as it was given.
func Files(paths []string, o Options) (Source, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("open images: %w", err)
	}
	if len(paths) == 0 {
		return nil, errors.New("open images: no files named")
	}
	f := &folder{list: fmt.Sprintf("%d files", len(paths)), opts: o, view: fileChannels(o)}
	for _, p := range paths {
		f.files = append(f.files, filepath.ToSlash(p))
	}
	return f, nil
}
