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

// FeatureWriter writes features as they are computed: a matrix as .npy or
// .safetensors (tensors "features" and "labels"), and beside it a .csv with row, id
// and label of each. Nothing but the labels stays in memory. The files appear under
// their names when Close succeeds.
type FeatureWriter struct {
	path, index string
	rows, dim   int
	written     int
	classes     []string
	labels      []int32
	matrix, csv *os.File
	data        func([]float32) error
	finish      func() error
	records     *csv.Writer
}

// CreateFeatures opens the files for rows images of dim features; the extension of
// path chooses the format. Classes are the names of the labels, or nil.
func CreateFeatures(path string, rows, dim int, classes []string) (*FeatureWriter, error) {
	ext := filepath.Ext(path)
	if ext != ".npy" && ext != ".safetensors" {
		return nil, fmt.Errorf("write features: %s: the name must end in .npy or .safetensors", path)
	}
	if rows < 0 || dim <= 0 {
		return nil, fmt.Errorf("write features: %d rows of %d", rows, dim)
	}
	f := &FeatureWriter{path: path, index: strings.TrimSuffix(path, ext) + ".csv", rows: rows, dim: dim, classes: classes}
	var err error
	if f.matrix, err = os.Create(path + ".tmp"); err != nil {
		return nil, fmt.Errorf("write features: %w", err)
	}
	if f.csv, err = os.Create(f.index + ".tmp"); err != nil {
		f.discard()
		return nil, fmt.Errorf("write features: %w", err)
	}
	f.records = csv.NewWriter(f.csv)
	f.records.Write([]string{"row", "id", "label"})
	if ext == ".npy" {
		err = f.npy()
	} else {
		f.safetensors()
	}
	if err != nil {
		f.discard()
		return nil, err
	}
	return f, nil
}

func (f *FeatureWriter) npy() error {
	buf := bufio.NewWriterSize(f.matrix, 1<<20)
	w, err := interop.NewNPY(buf, f.rows, f.dim)
	if err != nil {
		return err
	}
	f.data = w.Write
	f.finish = func() error { return errors.Join(w.Close(), buf.Flush()) }
	return nil
}

// safetensors lets the format's writer pull rows through a pipe. Labels are drawn
// after the features and have elements of the same size, so they come after them
// in the file and are complete by then.
func (f *FeatureWriter) safetensors() {
	r, w := io.Pipe()
	done := make(chan error, 1)
	go func() {
		buf := bufio.NewWriterSize(f.matrix, 1<<20)
		err := interop.WriteSafetensors(buf, []interop.Tensor{
			{Name: "features", DType: interop.F32, Shape: []int{f.rows, f.dim}, Data: io.LimitReader(r, int64(f.rows)*int64(f.dim)*4)},
			{Name: "labels", DType: interop.I32, Shape: []int{f.rows}, Data: &labelReader{f: f, pipe: r}},
		}, map[string]string{"ids": filepath.Base(f.index)})
		err = errors.Join(err, buf.Flush())
		r.CloseWithError(errors.Join(err, io.ErrClosedPipe)) // frees a writer that waits
		done <- err
	}()
	var bytes []byte
	f.data = func(rows []float32) error {
		bytes = bytes[:0]
		bytes, _ = binary.Append(bytes, binary.LittleEndian, rows)
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
	f     *FeatureWriter
	pipe  io.Reader
	bytes []byte
	ended bool
}

func (l *labelReader) Read(p []byte) (int, error) {
	if !l.ended {
		if n, err := io.Copy(io.Discard, l.pipe); err != nil || n > 0 {
			return 0, fmt.Errorf("%d more bytes of features: %w", n, err)
		}
		l.bytes, _ = binary.Append(nil, binary.LittleEndian, l.f.labels)
		l.ended = true
	}
	if len(l.bytes) == 0 {
		return 0, io.EOF
	}
	n := copy(p, l.bytes)
	l.bytes = l.bytes[n:]
	return n, nil
}

// Append writes the features of len(rows) images.
func (f *FeatureWriter) Append(features []float32, rows []Row) error {
	if len(features) != len(rows)*f.dim {
		panic(fmt.Sprintf("eval: %d features for %d rows of %d", len(features), len(rows), f.dim))
	}
	if f.written+len(rows) > f.rows {
		return fmt.Errorf("write features %s: more than the %d rows announced", f.path, f.rows)
	}
	for _, r := range rows {
		label := className(f.classes, r.Label)
		if err := f.records.Write([]string{strconv.Itoa(f.written), r.ID, label}); err != nil {
			return fmt.Errorf("write features %s: %w", f.index, err)
		}
		f.labels = append(f.labels, int32(r.Label))
		f.written++
	}
	if err := f.data(features); err != nil {
		return fmt.Errorf("write features %s: %w", f.path, err)
	}
	return nil
}

// Close completes the files. Fewer rows than announced are an error, and leave
// nothing.
func (f *FeatureWriter) Close() error {
	err := f.finish()
	if f.written != f.rows {
		err = fmt.Errorf("%d of %d rows", f.written, f.rows)
	}
	f.records.Flush()
	err = errors.Join(err, f.records.Error(), f.matrix.Close(), f.csv.Close())
	if err == nil {
		err = errors.Join(os.Rename(f.csv.Name(), f.index), os.Rename(f.matrix.Name(), f.path))
	}
	if err != nil {
		f.discard()
		return fmt.Errorf("write features %s: %w", f.path, err)
	}
	return nil
}

// Abort gives up what was written.
func (f *FeatureWriter) Abort() {
	f.finish()
	f.discard()
}

func (f *FeatureWriter) discard() {
	for _, file := range []*os.File{f.matrix, f.csv} {
		if file != nil {
			file.Close()
			os.Remove(file.Name())
		}
	}
}
