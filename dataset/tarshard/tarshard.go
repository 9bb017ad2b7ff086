// Package tarshard reads tar files in the convention of WebDataset: files whose
// names agree up to the first dot of their last element are one sample, such as
// 000123.jpg with 000123.cls or 000123.json. Tar files of plain folders are the
// special case without labels.
//
// A [Reader] gives samples in order from a stream, an index (see [Index]) says
// where they lie in a file. Both read headers as they come and never trust a
// size before its bytes are there. Which suffixes are images is the caller's.
package tarshard

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
)

// Sample is an image of a shard and what belongs to it.
type Sample struct {
	Key    string // name without suffixes
	Suffix string // of the image, with its dot: ".jpg"
	Label  string // of .cls, or the label of .json; empty for none
	Offset int64  // of the image's bytes in the unpacked tar
	Size   int64
	Data   []byte // the image's bytes; nil in an index
}

// Options bound and shape reading.
type Options struct {
	Image    func(suffix string) bool // tells images, by lower-case suffix with its dot
	MaxBytes int64                    // of an image; larger ones come without data
}

// Limits on what belongs to an image.
const (
	maxLabel = 1 << 12 // bytes of .cls
	maxJSON  = 1 << 20
)

// Reader reads samples from an unpacked tar stream.
type Reader struct {
	tar    *tar.Reader
	count  *counter
	o      Options
	keep   bool // data
	next   *Sample
	key    string // of the files being gathered
	label  string
	ranked int // how good the label's origin is
	err    error
}

// NewReader reads from r, which is read in order.
func NewReader(r io.Reader, o Options) *Reader {
	c := &counter{r: r}
	return &Reader{tar: tar.NewReader(c), count: c, o: o, keep: true}
}

// counter knows how many bytes were read.
type counter struct {
	r io.Reader
	n int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

// Next returns the next sample with an image, io.EOF at the end. Tar files that
// follow each other in one stream are read one after the other.
func (r *Reader) Next() (*Sample, error) {
	for r.err == nil {
		done, err := r.file()
		if err != nil {
			r.err = err
			if errors.Is(err, io.EOF) {
				done = r.finish()
				if r.keep {
					r.err = r.another()
				}
			}
		}
		if done != nil {
			return done, nil
		}
	}
	return nil, r.err
}

// another goes to the tar file that follows after blocks of zeros, if one does.
func (r *Reader) another() error {
	var b [block]byte
	for {
		if _, err := io.ReadFull(r.count, b[:]); err != nil {
			return io.EOF // what is left is no tar file
		}
		if b != [block]byte{} {
			r.tar = tar.NewReader(io.MultiReader(bytes.NewReader(b[:]), r.count))
			return nil
		}
	}
}

// file reads one file and returns the sample before it, if that is whole.
func (r *Reader) file() (*Sample, error) {
	h, err := r.tar.Next()
	if err != nil {
		return nil, err
	}
	if h.Typeflag != tar.TypeReg {
		return nil, nil
	}
	dir, base := path.Split(strings.TrimPrefix(path.Clean(strings.ReplaceAll(h.Name, "\\", "/")), "/"))
	stem, suffix, dotted := strings.Cut(base, ".")
	if stem == "" || !dotted {
		return nil, nil // hidden files, files without a suffix
	}
	suffix = "." + strings.ToLower(suffix)
	var done *Sample
	if key := dir + stem; key != r.key {
		done = r.finish()
		r.key = key
	}
	return done, r.take(h, suffix)
}

// take reads what is of use in a file.
func (r *Reader) take(h *tar.Header, suffix string) error {
	at := r.count.n
	switch {
	case suffix == ".cls" || suffix == ".cls.txt":
		text, err := r.text(h, maxLabel)
		r.setLabel(string(text), 2)
		return err
	case suffix == ".json":
		text, err := r.text(h, maxJSON)
		r.setLabel(jsonLabel(text), 1)
		return err
	case r.o.Image(path.Ext(suffix)) && (r.next == nil || plain(suffix) && !plain(r.next.Suffix)):
		s := &Sample{Key: r.key, Suffix: suffix, Offset: at, Size: h.Size}
		if r.keep && h.Size <= r.o.MaxBytes {
			var b bytes.Buffer // grows with what is there, not with what the header says
			if _, err := io.CopyN(&b, r.tar, h.Size); err != nil {
				return early(err)
			}
			s.Data = b.Bytes()
		}
		r.next = s
	}
	return nil
}

// plain tells ".jpg" from ".depth.jpg", which stands beside an image.
func plain(suffix string) bool { return strings.Count(suffix, ".") == 1 }

func (r *Reader) text(h *tar.Header, limit int64) ([]byte, error) {
	if h.Size > limit {
		return nil, nil
	}
	text, err := io.ReadAll(r.tar)
	return text, early(err)
}

// early makes an end within a file an error of its own.
func early(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// setLabel takes a label unless there is a better one.
func (r *Reader) setLabel(label string, rank int) {
	if label = strings.TrimSpace(label); label != "" && len(label) <= maxLabel && rank > r.ranked {
		r.label, r.ranked = label, rank
	}
}

// finish is the sample gathered, nil without an image.
func (r *Reader) finish() *Sample {
	s := r.next
	if s != nil {
		s.Label = r.label
	}
	r.next, r.label, r.ranked, r.key = nil, "", 0, ""
	return s
}

// jsonLabel finds the label in an object under one of the usual names.
func jsonLabel(text []byte) string {
	var object map[string]json.RawMessage
	if json.Unmarshal(text, &object) != nil {
		return ""
	}
	for _, name := range []string{"label", "cls", "class", "class_name", "category"} {
		var word string
		var number json.Number
		switch raw := object[name]; {
		case raw == nil || string(raw) == "null":
		case json.Unmarshal(raw, &word) == nil:
			return word
		case json.Unmarshal(raw, &number) == nil:
			return number.String()
		}
	}
	return ""
}

// block is the unit of a tar file.
const block = 512

// Index lists the samples of a tar file, without their data. A file that is
// damaged gives what comes before the damage, with the error.
func Index(r io.ReadSeeker, o Options) ([]Sample, error) {
	size, err := r.Seek(0, io.SeekEnd)
	if err == nil {
		_, err = r.Seek(0, io.SeekStart)
	}
	if err != nil {
		return nil, err
	}
	// Between headers the tar reader seeks, and so does not read the images.
	c := &seekCounter{counter{r: r}, r}
	t := &Reader{tar: tar.NewReader(c), count: &c.counter, o: o}
	var samples []Sample
	for {
		s, err := t.Next()
		if errors.Is(err, io.EOF) && size%block == 0 {
			return samples, nil
		}
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return samples, fmt.Errorf("after %d images: %w", len(samples), err)
		}
		if s.Offset+s.Size > size || s.Size < 0 {
			return samples, fmt.Errorf("after %d images: %w", len(samples), io.ErrUnexpectedEOF)
		}
		samples = append(samples, *s)
	}
}

// seekCounter is a counter that can be moved.
type seekCounter struct {
	counter
	s io.Seeker
}

func (c *seekCounter) Seek(offset int64, whence int) (int64, error) {
	n, err := c.s.Seek(offset, whence)
	c.n = n
	return n, err
}
