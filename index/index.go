// Package index finds the nearest images: it keeps the features of all images of
// a source under one trained network, and answers which are most similar to
// another image, in exact search.
//
// The features are computed once and kept beside the run (RUN/index), under a
// name that changes with the weights, the recipe, the list of images and, where
// images are files, their sizes and times. A file that does not fit is made anew.
// Images that are swapped for others of the same names within an archive go
// unnoticed; without the file in RUN/index they are looked at again.
//
// An Index is read-only and may be used concurrently.
package index

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math"
	"os"
	"path/filepath"

	"swav/dataset"
	"swav/interop"
	"swav/train"
)

// Index is the images of a source as a network sees them, one row an image.
type Index struct {
	Source     dataset.Source
	Image      []int // number within Source; unreadable images are missing
	Dim        int
	Features   []float32 // [n, Dim], rows of length 1
	Prototypes int       // of the network
	Prototype  []int     // of each row
	Score      []float32 // cosine of embedding and prototype
}

// Options say where an index is kept and who hears of what.
type Options struct {
	Dir  string                     // of the cache; "": none
	Skip func(id string, err error) // told of unreadable images; may be nil
	Note func(text string)          // told of what takes long or goes wrong; may be nil
	// Progress, if not nil, is told of how many images features are computed.
	Progress func(done, total int)
}

// Dir is where the indexes of a run are kept. Run may also be one of its
// checkpoints.
func Dir(run string) string {
	if _, err := os.Stat(filepath.Join(run, "state.json")); err == nil {
		run = filepath.Join(run, "..", "..")
	}
	return filepath.Join(run, "index")
}

// Open reads the index of a source from the cache, or computes it and keeps it
// there. A cache that cannot be written is noted and done without.
func Open(ctx context.Context, t *train.Trained, src dataset.Source, o Options) (*Index, error) {
	if o.Note == nil {
		o.Note = func(string) {}
	}
	x := &Index{Source: src, Prototypes: t.Arch().Clusters()}
	path := ""
	if o.Dir != "" {
		id, err := t.Identity()
		if err != nil {
			return nil, err
		}
		path = filepath.Join(o.Dir, key(id, src)+".safetensors")
		switch err := x.read(path); {
		case err == nil:
			return x, nil
		case !os.IsNotExist(err):
			o.Note(fmt.Sprintf("index %s is made anew: %v", path, err))
		}
	}
	o.Note(fmt.Sprintf("computing features of %d images of %s", src.Len(), src.Name()))
	e, err := t.Embed(ctx, src, o.Skip, o.Progress)
	if err != nil {
		return nil, err
	}
	x.Image, x.Prototype, x.Score, x.Features = e.Index, e.Prototype, e.Score, e.Features
	x.Dim = len(e.Features) / len(e.Index)
	if err := x.normalize(); err != nil {
		return nil, err
	}
	if path != "" {
		if err := x.write(path); err != nil {
			o.Note(fmt.Sprintf("index is not kept: %v", err))
		}
	}
	return x, nil
}

// Len is the number of rows.
func (x *Index) Len() int { return len(x.Image) }

// ID names the image of a row.
func (x *Index) ID(row int) string { return x.Source.ID(x.Image[row]) }

// Label is the label of a row, -1 for none.
func (x *Index) Label(row int) int { return x.Source.Label(x.Image[row]) }

// Class names the label of a row, "" for none.
func (x *Index) Class(row int) string {
	if l := x.Label(row); l >= 0 && l < len(x.Source.Classes()) {
		return x.Source.Classes()[l]
	}
	return ""
}

// Labels are the rows' labels.
func (x *Index) Labels() []int {
	labels := make([]int, x.Len())
	for i := range labels {
		labels[i] = x.Label(i)
	}
	return labels
}

// key hashes all that features depend on.
func key(network string, src dataset.Source) string {
	h := sha256.New()
	text := func(s string) {
		h.Write(binary.LittleEndian.AppendUint64(nil, uint64(len(s))))
		h.Write([]byte(s))
	}
	text("index 1")
	text(network)
	text(src.Name())
	files, _ := src.(interface{ Path(i int) string })
	for i := range src.Len() {
		text(src.ID(i))
		if files == nil {
			continue
		}
		if info, err := os.Stat(files.Path(i)); err == nil {
			text(fmt.Sprint(info.Size(), info.ModTime().UnixNano()))
		}
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// normalize divides each row by its length; a zero row stays zero.
func (x *Index) normalize() error {
	for i := range x.Len() {
		if !Normalize(x.Features[i*x.Dim : (i+1)*x.Dim]) {
			return fmt.Errorf("features of %s are not finite: the network that made them has diverged", x.ID(i))
		}
	}
	return nil
}

// Normalize divides a row by its length and says whether it was finite.
func Normalize(row []float32) bool {
	var sum float64
	for _, v := range row {
		sum += float64(v) * float64(v)
	}
	if math.IsNaN(sum) || math.IsInf(sum, 0) {
		return false
	}
	if sum > 0 {
		inv := 1 / math.Sqrt(sum)
		for i, v := range row {
			row[i] = float32(float64(v) * inv)
		}
	}
	return true
}

func (x *Index) write(path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".tmp-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // in vain after the renaming
	n := x.Len()
	err = interop.WriteSafetensors(f, []interop.Tensor{
		{Name: "image", Shape: []int{n}, Data: widen(x.Image)},
		{Name: "prototype", Shape: []int{n}, Data: widen(x.Prototype)},
		{Name: "score", Shape: []int{n}, Data: x.Score},
		{Name: "features", Shape: []int{n, x.Dim}, Data: x.Features},
	}, map[string]string{"data": x.Source.Name()})
	if err == nil {
		err = f.Chmod(0o644) // as other files of a run
	}
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	return err
}

func widen(x []int) []int64 {
	out := make([]int64, len(x))
	for i, v := range x {
		out[i] = int64(v)
	}
	return out
}

// read fills in the rows from a file.
func (x *Index) read(path string) error {
	f, err := interop.OpenSafetensors(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return x.decode(f)
}

// decode fills in the rows from a file and trusts none of them.
func (x *Index) decode(f *interop.Safetensors) error {
	image, err := f.Int64("image")
	if err != nil {
		return err
	}
	prototype, err := f.Int64("prototype")
	if err != nil {
		return err
	}
	if x.Score, err = f.Float32("score"); err != nil {
		return err
	}
	if x.Features, err = f.Float32("features"); err != nil {
		return err
	}
	n := len(image)
	if n == 0 || len(prototype) != n || len(x.Score) != n || len(x.Features)%n != 0 || len(x.Features) == 0 {
		return fmt.Errorf("%d images, %d prototypes, %d scores, %d features", n, len(prototype), len(x.Score), len(x.Features))
	}
	x.Dim = len(x.Features) / n
	x.Image, x.Prototype = make([]int, n), make([]int, n)
	for i := range n {
		if image[i] < 0 || image[i] >= int64(x.Source.Len()) || prototype[i] < 0 || prototype[i] >= int64(x.Prototypes) || x.Score[i]-x.Score[i] != 0 {
			return fmt.Errorf("row %d: image %d, prototype %d, score %v", i, image[i], prototype[i], x.Score[i])
		}
		x.Image[i], x.Prototype[i] = int(image[i]), int(prototype[i])
	}
	return x.normalize()
}
