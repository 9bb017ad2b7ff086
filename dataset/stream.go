package dataset

import (
	"context"
	"fmt"

	"swav/imgcodec"
)

// Record is an image of a stream.
type Record struct {
	ID    string
	Label string // empty for none
	Data  []byte // the image's file

	decode imgcodec.Options
}

// Load decodes the record.
func (r *Record) Load(dst *imgcodec.Image) error {
	if err := imgcodec.DecodeInto(dst, r.Data, r.decode); err != nil {
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
