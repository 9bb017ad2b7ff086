package dataset

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"swav/dataset/tarshard"
	"swav/imgcodec"
)

// Record is an image of a stream.
type Record struct {
	ID    string
	Label string // empty for none
	Data  []byte // the image's file

	decode imgcodec.Options
	err    error // why there is no data
}

// Load decodes the record.
func (r *Record) Load(dst *imgcodec.Image) error {
	err := r.err
	if err == nil {
		err = imgcodec.DecodeInto(dst, r.Data, r.decode)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", r.ID, err)
	}
	return nil
}

// Mark is a place in a stream, between two records. What its fields mean is the
// stream's; the zero Mark is the beginning.
type Mark struct {
	Pass   int    `json:",omitempty"` // over a source that repeats itself
	Part   int    `json:",omitempty"` // of the pass
	Record int64  `json:",omitempty"` // of the part
	Time   int64  `json:",omitempty"` // of the last record, in nanoseconds
	Name   string `json:",omitempty"` // of the last record
}

// Stream is images as they come. It belongs to one goroutine.
type Stream interface {
	Name() string
	// Channels is the number of channels that views should have.
	Channels() int
	// Next waits for the next record. It returns io.EOF at the end, if there is
	// one. After ctx's error the stream is where it was.
	Next(ctx context.Context) (*Record, error)
	// Mark is the place of the record that Next gives next.
	Mark() Mark
	// Seek goes to a place; only forward where what has passed is gone.
	Seek(ctx context.Context, to Mark) error
	Close() error
}

// StandardInput is the name of the stream that the process is given.
const StandardInput = "-"

const (
	watchPrefix = "watch:"
	// RepeatPrefix begins the name of a stream that is the same for all who read it.
	RepeatPrefix = "repeat:"
	streamKinds  = "- for standard input, watch:FOLDER, repeat:SHARDS"
)

// IsStream tells the names of streams from those of sources.
func IsStream(path string) bool {
	return path == StandardInput || strings.HasPrefix(path, watchPrefix) || strings.HasPrefix(path, RepeatPrefix)
}

// OpenStream opens a stream: "-" is standard input, a tar stream (compressed or
// not) or a list of files, a path a line and perhaps a label; "watch:FOLDER" the
// images of a folder and those that arrive; "repeat:SHARDS" shards again and
// again.
func OpenStream(path string, o Options) (Stream, error) {
	o, err := o.withDefaults()
	view := fileChannels(o)
	var s Stream
	if err == nil {
		switch {
		case path == StandardInput:
			s = standardInput(o, view)
		case strings.HasPrefix(path, watchPrefix):
			s, err = openWatch(strings.TrimPrefix(path, watchPrefix), o, view)
		case strings.HasPrefix(path, RepeatPrefix):
			s, err = openRepeat(strings.TrimPrefix(path, RepeatPrefix), o, view)
		default:
			err = errors.New("not a stream: " + streamKinds)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("open data %s: %w", path, err)
	}
	return s, nil
}

// Peek reads the next records, as many as there are up to n, and has a stream
// that cannot go back give them again when it is opened again.
func Peek(ctx context.Context, s Stream, n int) ([]*Record, error) {
	var seen []*Record
	for len(seen) < n {
		r, err := s.Next(ctx)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		seen = append(seen, r)
	}
	if in, ok := s.(*input); ok {
		in.unread(seen)
	}
	return seen, nil
}

// records is a source of what was read of a stream.
type records struct {
	name    string
	list    []*Record
	view    int
	labels  []int32
	classes []string
}

// Records is a source of records, which it keeps. Channels is that of its
// stream.
func Records(name string, list []*Record, channels int) Source {
	labels := make([]string, len(list))
	for i, r := range list {
		labels[i] = r.Label
	}
	s := &records{name: name, list: list, view: channels}
	s.classes, s.labels = namedLabels(labels, true)
	return s
}

func (s *records) Name() string      { return s.name }
func (s *records) Len() int          { return len(s.list) }
func (s *records) Channels() int     { return s.view }
func (s *records) Classes() []string { return s.classes }
func (s *records) ID(i int) string   { return s.list[i].ID }
func (s *records) Label(i int) int {
	if s.labels == nil {
		return -1
	}
	return int(s.labels[i])
}
func (s *records) Load(i int, dst *imgcodec.Image) error { return s.list[i].Load(dst) }

// Encoded gives the bytes of record i.
func (s *records) Encoded(i int, buf *[]byte) error {
	r := s.list[i]
	if r.err != nil {
		return fmt.Errorf("%s: %w", r.ID, r.err)
	}
	*buf = append((*buf)[:0], r.Data...)
	return nil
}

// Decode decodes bytes that Encoded has given.
func (s *records) Decode(i int, file []byte, dst *imgcodec.Image) error {
	return decode(s, i, file, dst, s.list[i].decode)
}

var _ Encoded = (*records)(nil)

// tarOptions are how shards are read under o.
func tarOptions(o Options) tarshard.Options {
	return tarshard.Options{Image: func(suffix string) bool { return imageSuffixes[suffix] }, MaxBytes: o.MaxFileBytes}
}

// newRecord is a sample of a shard under the name of the shard.
func newRecord(base string, x *tarshard.Sample, o Options) *Record {
	r := &Record{ID: base + "/" + x.Key + x.Suffix, Label: x.Label, Data: x.Data, decode: o.Decode}
	if x.Size > o.MaxFileBytes {
		r.err = fmt.Errorf("%w: file of %d bytes, the limit is %d", imgcodec.ErrTooLarge, x.Size, o.MaxFileBytes)
	}
	return r
}
