package eval

import (
	"bufio"
	"encoding/binary"
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

// Row names an image in the files written here.
type Row struct {
	ID    string // a path, or whatever the data set calls it
	Label int    // -1: none
}

// Assignment is an image's prototype.
type Assignment struct {
	Row
	Prototype int
	Score     float32 // cosine of embedding and prototype
}

// WriteAssignments writes id, prototype, score and, where classes is not nil, label
// as CSV (RFC 4180: ids with commas, quotes or line feeds are quoted). Classes are
// the names of the labels.
func WriteAssignments(w io.Writer, rows []Assignment, classes []string) error {
	header := "id,prototype,score"
	if classes != nil {
		header += ",label"
	}
	if _, err := io.WriteString(w, header+"\n"); err != nil {
		return fmt.Errorf("write assignments: %w", err)
	}
	return AppendAssignments(w, rows, classes)
}

// AppendAssignments is WriteAssignments without the line of names.
func AppendAssignments(w io.Writer, rows []Assignment, classes []string) error {
	out := csv.NewWriter(w)
	for _, r := range rows {
		record := []string{r.ID, strconv.Itoa(r.Prototype), strconv.FormatFloat(float64(r.Score), 'g', -1, 32)}
		if classes != nil {
			record = append(record, className(classes, r.Label))
		}
		if out.Write(record) != nil {
			break
		}
	}
	out.Flush()
	if err := out.Error(); err != nil {
		return fmt.Errorf("write assignments: %w", err)
	}
	return nil
}

func className(classes []string, label int) string {
	switch {
	case label < 0:
		return ""
	case label < len(classes):
		return classes[label]
	}
	return strconv.Itoa(label)
}

// featureFormats are the endings of the names of feature files.
var featureFormats = []string{".npy", ".safetensors", ".parquet", ".csv"}

// FeatureFormat is the ending of a feature file's name in lower case, or an error
// for one that is not known.
func FeatureFormat(path string) (string, error) {
	ext := strings.ToLower(filepath.Ext(path))
	if !slices.Contains(featureFormats, ext) {
		return "", fmt.Errorf("features %s: the name must end in one of %s", path, strings.Join(featureFormats, ", "))
	}
	return ext, nil
}

// FeatureWriter writes features as they are computed. The ending of the name chooses
// the format:
//
//	.npy, .safetensors  a matrix (tensors "features" and "labels"), and beside it a
//	                    .csv with row, id and label of each
//	.parquet            columns id, label (null where there is none) and features, a
//	                    list of float32
//	.csv                columns id, label, f0, f1 and so on
//
// Memory stays with some rows, whatever their number. The files appear under their
// names when Close succeeds.
type FeatureWriter struct {
	path      string
	rows, dim int
	written   int
	classes   []string
	files     []*os.File // under temporary names; the one at path is the last
	put       func(features []float32, rows []Row) error
	finish    func() error
}

// CreateFeatures opens the files for rows images of dim features. Classes are the
// names of the labels, or nil.
func CreateFeatures(path string, rows, dim int, classes []string) (*FeatureWriter, error) {
	ext, err := FeatureFormat(path)
	if err != nil {
		return nil, err
	}
	if rows < 0 || dim <= 0 {
		return nil, fmt.Errorf("write features: %d rows of %d", rows, dim)
	}
	f := &FeatureWriter{path: path, rows: rows, dim: dim, classes: classes}
	var index *os.File
	if ext == ".npy" || ext == ".safetensors" {
		if index, err = f.create(strings.TrimSuffix(path, filepath.Ext(path)) + ".csv"); err != nil {
			return nil, err
		}
	}
	file, err := f.create(path)
	if err != nil {
		return nil, err
	}
	switch ext {
	case ".npy":
		err = f.npy(file)
	case ".safetensors":
		f.safetensors(file, filepath.Base(strings.TrimSuffix(index.Name(), tmpSuffix)))
	case ".parquet":
		f.parquet(file)
	case ".csv":
		f.csv(file)
	}
	if err != nil {
		f.discard()
		return nil, err
	}
	if index != nil {
		f.index(index)
	}
	return f, nil
}

// tmpSuffix is on the names of files until they are whole.
const tmpSuffix = ".tmp"

func (f *FeatureWriter) create(path string) (*os.File, error) {
	file, err := os.Create(path + tmpSuffix)
	if err != nil {
		f.discard()
		return nil, fmt.Errorf("write features: %w", err)
	}
	f.files = append(f.files, file)
	return file, nil
}

func (f *FeatureWriter) npy(file *os.File) error {
	buf := bufio.NewWriterSize(file, 1<<20)
	w, err := interop.NewNPY(buf, f.rows, f.dim)
	if err != nil {
		return err
	}
	f.put = func(features []float32, _ []Row) error { return w.Write(features) }
	f.finish = func() error { return errors.Join(w.Close(), buf.Flush()) }
	return nil
}

// safetensors lets the format's writer pull rows through a pipe. Labels are drawn
// after the features and have elements of the same size, so they come after them
// in the file and are complete by then.
func (f *FeatureWriter) safetensors(file *os.File, index string) {
	r, w := io.Pipe()
	done := make(chan error, 1)
	labels := &labelReader{pipe: r}
	go func() {
		buf := bufio.NewWriterSize(file, 1<<20)
		err := interop.WriteSafetensors(buf, []interop.Tensor{
			{Name: "features", DType: interop.F32, Shape: []int{f.rows, f.dim}, Data: io.LimitReader(r, int64(f.rows)*int64(f.dim)*4)},
			{Name: "labels", DType: interop.I32, Shape: []int{f.rows}, Data: labels},
		}, map[string]string{"ids": index})
		err = errors.Join(err, buf.Flush())
		r.CloseWithError(errors.Join(err, io.ErrClosedPipe)) // frees a writer that waits
		done <- err
	}()
	var bytes []byte
	f.put = func(features []float32, rows []Row) error {
		for _, r := range rows {
			labels.all = append(labels.all, int32(r.Label))
		}
		bytes = bytes[:0]
		bytes, _ = binary.Append(bytes, binary.LittleEndian, features)
		_, err := w.Write(bytes)
		return err
	}
	f.finish = func() error {
		w.Close()
		return <-done
	}
}

// labelReader reads the labels once the pipe of features has ended.
type labelReader struct {
	all   []int32
	pipe  io.Reader
	bytes []byte
	ended bool
}

func (l *labelReader) Read(p []byte) (int, error) {
	if !l.ended {
		if n, err := io.Copy(io.Discard, l.pipe); err != nil || n > 0 {
			return 0, fmt.Errorf("%d more bytes of features: %w", n, err)
		}
		l.bytes, _ = binary.Append(nil, binary.LittleEndian, l.all)
		l.ended = true
	}
	if len(l.bytes) == 0 {
		return 0, io.EOF
	}
	n := copy(p, l.bytes)
	l.bytes = l.bytes[n:]
	return n, nil
}

// csv writes features in the shortest decimals that name the float32.
func (f *FeatureWriter) csv(file *os.File) {
	w := csv.NewWriter(file)
	record := []string{"id", "label"}
	for i := range f.dim {
		record = append(record, "f"+strconv.Itoa(i))
	}
	w.Write(record) // its error is w.Error's
	f.put = func(features []float32, rows []Row) error {
		for i, r := range rows {
			record[0], record[1] = r.ID, className(f.classes, r.Label)
			for j, v := range features[i*f.dim : (i+1)*f.dim] {
				record[2+j] = strconv.FormatFloat(float64(v), 'g', -1, 32)
			}
			if err := w.Write(record); err != nil {
				return err
			}
		}
		return nil
	}
	f.finish = func() error {
		w.Flush()
		return w.Error()
	}
}

// index adds the writing of the .csv beside a matrix.
func (f *FeatureWriter) index(file *os.File) {
	w := csv.NewWriter(file)
	w.Write([]string{"row", "id", "label"})
	put, finish := f.put, f.finish
	f.put = func(features []float32, rows []Row) error {
		for i, r := range rows {
			if err := w.Write([]string{strconv.Itoa(f.written + i), r.ID, className(f.classes, r.Label)}); err != nil {
				return err
			}
		}
		return put(features, rows)
	}
	f.finish = func() error {
		w.Flush()
		return errors.Join(w.Error(), finish())
	}
}

// Append writes the features of len(rows) images.
func (f *FeatureWriter) Append(features []float32, rows []Row) error {
	if len(features) != len(rows)*f.dim {
		panic(fmt.Sprintf("eval: %d features for %d rows of %d", len(features), len(rows), f.dim))
	}
	if f.written+len(rows) > f.rows {
		return fmt.Errorf("write features %s: more than the %d rows announced", f.path, f.rows)
	}
	if err := f.put(features, rows); err != nil {
		return fmt.Errorf("write features %s: %w", f.path, err)
	}
	f.written += len(rows)
	return nil
}

// Close completes the files. Fewer rows than announced are an error, and leave
// nothing.
func (f *FeatureWriter) Close() error {
	err := f.finish()
	if f.written != f.rows {
		err = fmt.Errorf("%d of %d rows", f.written, f.rows)
	}
	for _, file := range f.files {
		err = errors.Join(err, file.Close())
	}
	for _, file := range f.files {
		if err == nil {
			err = os.Rename(file.Name(), strings.TrimSuffix(file.Name(), tmpSuffix))
		}
	}
	if err != nil {
		f.discard()
		return fmt.Errorf("write features %s: %w", f.path, err)
	}
	return nil
}

// Abort gives up what was written.
func (f *FeatureWriter) Abort() {
	_ = f.finish()
	f.discard()
}

func (f *FeatureWriter) discard() {
	for _, file := range f.files {
		file.Close()
		os.Remove(file.Name())
	}
}
