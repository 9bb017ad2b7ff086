package eval

import (
	"bufio"
	"cmp"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"swav/interop"
)

// FeatureFile is features that FeatureWriter wrote.
type FeatureFile struct {
	Path     string
	Dim      int
	Features []float32 // [rows, Dim]
	IDs      []string  // of each row; nil without the .csv
	Names    []string  // class of each row, "" for none; nil without the .csv

	unmap func() error
}

// OpenFeatures opens an .npy or .safetensors file of features, and the .csv beside it
// where there is one. An .npy file is mapped into memory where the system can, so it
// may be larger than memory, and must not be shortened while it is open.
func OpenFeatures(path string) (*FeatureFile, error) {
	f := &FeatureFile{Path: path}
	var err error
	switch ext := strings.ToLower(filepath.Ext(path)); ext {
	case ".npy":
		err = f.openNPY()
	case ".safetensors":
		err = f.readSafetensors()
	default:
		return nil, fmt.Errorf("features %s: want a file that ends in .npy or .safetensors, as `swav embed` writes it", path)
	}
	if err == nil {
		err = f.readIndex(strings.TrimSuffix(path, filepath.Ext(path)) + ".csv")
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("features %s: %w", path, err), f.Close())
	}
	return f, nil
}

// Rows is the number of rows.
func (f *FeatureFile) Rows() int { return Set{Dim: f.Dim, Features: f.Features}.Len() }

// Close gives the memory back; Features must not be looked at any more.
func (f *FeatureFile) Close() error {
	if f.unmap == nil {
		return nil
	}
	unmap := f.unmap
	f.unmap, f.Features = nil, nil
	return unmap()
}

func (f *FeatureFile) openNPY() error {
	file, err := os.Open(f.Path)
	if err != nil {
		return err
	}
	defer file.Close()
	h, err := interop.ReadNPYHeader(file)
	if err != nil {
		return err
	}
	rows, dim, err := h.Matrix()
	if err != nil {
		return err
	}
	offset, err := file.Seek(0, io.SeekCurrent)
	if err != nil {
		return err
	}
	stat, err := file.Stat()
	if err != nil {
		return err
	}
	if want := offset + int64(rows)*int64(dim)*4; stat.Size() != want {
		return fmt.Errorf("%d bytes, %d rows of %d take %d: the file is cut off or was changed", stat.Size(), rows, dim, want)
	}
	if f.Dim = dim; dim == 0 || rows == 0 {
		return errors.New("no features in it")
	}
	if f.Features, f.unmap = mapFloats(file, int(offset), rows*dim); f.Features != nil {
		return nil
	}
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return err
	}
	_, _, f.Features, err = interop.ReadNPY(bufio.NewReaderSize(file, 1<<20))
	return err
}

func (f *FeatureFile) readSafetensors() error {
	s, err := interop.OpenSafetensors(f.Path)
	if err != nil {
		return err
	}
	defer s.Close()
	info, ok := s.Info("features")
	if !ok || len(info.Shape) != 2 || info.Len() == 0 {
		return fmt.Errorf("no matrix called features; tensors: %.200q", s.Names())
	}
	f.Dim = info.Shape[1]
	f.Features, err = s.Float32("features")
	return err
}

// readIndex reads the names of the rows.
func (f *FeatureFile) readIndex(path string) error {
	file, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer file.Close()
	r := csv.NewReader(bufio.NewReader(file))
	r.ReuseRecord = true
	r.FieldsPerRecord = 3
	rows := f.Rows()
	for i := -1; ; i++ {
		record, err := r.Read()
		if err == io.EOF && i == rows {
			return nil
		}
		switch {
		case err == io.EOF:
			return fmt.Errorf("%s names %d of %d rows: write both again by `swav embed`", path, max(0, i), rows)
		case err != nil:
			return fmt.Errorf("%s: %w", path, err)
		case i < 0 && !slices.Equal(record, []string{"row", "id", "label"}):
			return fmt.Errorf("%s: columns %.200q: want row,id,label", path, record)
		case i >= rows:
			return fmt.Errorf("%s names more than %d rows: write both again by `swav embed`", path, rows)
		case i >= 0 && record[0] != strconv.Itoa(i):
			return fmt.Errorf("%s: row %.40q where %d belongs", path, record[0], i)
		case i >= 0:
			f.IDs = append(f.IDs, strings.Clone(record[1]))
			f.Names = append(f.Names, strings.Clone(record[2]))
		}
	}
}

// LabelledSets are the rows of two files that have a class, with one numbering of the
// classes for both. Query may be nil.
func LabelledSets(ref, query *FeatureFile) (refs, queries Set, classes []string, err error) {
	files := []*FeatureFile{ref}
	if query != nil {
		files = append(files, query)
	}
	number := map[string]int{}
	for _, f := range files {
		for _, name := range f.Names {
			if _, ok := number[name]; !ok && name != "" {
				number[name] = 0
				classes = append(classes, name)
			}
		}
	}
	slices.SortFunc(classes, func(a, b string) int {
		x, err1 := strconv.Atoi(a)
		y, err2 := strconv.Atoi(b)
		if err1 == nil && err2 == nil {
			return cmp.Or(cmp.Compare(x, y), cmp.Compare(a, b))
		}
		return cmp.Compare(a, b)
	})
	for i, name := range classes {
		number[name] = i
	}
	sets := make([]Set, 2)
	for i, f := range files {
		if sets[i] = f.labelled(number); sets[i].Len() == 0 {
			return Set{}, Set{}, nil, fmt.Errorf("%s: no row has a label: the .csv beside it, as `swav embed` writes it, has a column label", f.Path)
		}
	}
	return sets[0], sets[1], classes, nil
}

// labelled is the rows with a class; a copy only where some have none.
func (f *FeatureFile) labelled(number map[string]int) Set {
	if f.Names != nil && !slices.Contains(f.Names, "") {
		labels := make([]int, len(f.Names))
		for i, name := range f.Names {
			labels[i] = number[name]
		}
		return Set{Dim: f.Dim, Features: f.Features, Labels: labels}
	}
	s := Set{Dim: f.Dim}
	for i, name := range f.Names {
		if name != "" {
			s.Labels = append(s.Labels, number[name])
			s.Features = append(s.Features, f.Features[i*f.Dim:][:f.Dim]...)
		}
	}
	return s
}
