package train

import (
	"context"
	"errors"
	"io"
	"time"

	"swav/dataset"
	"swav/engine"
	"swav/eval"
	"swav/op"
)

// followBatch is how many images of a stream are labelled at a time, followWait
// how long one waits for others.
const (
	followBatch = 16
	followWait  = 200 * time.Millisecond
)

// Follow labels the images of a stream as they arrive, until it or ctx ends, and
// calls yield with each few. Images that cannot be read are left out.
func Follow(ctx context.Context, o EmbedOptions, yield func([]eval.Assignment) error) error {
	o.Prototypes = true
	t, err := loadTrained(&o)
	if err != nil {
		return err
	}
	open := dataOptions(ctx, t.recipe, dataset.Train)
	open.Note, open.Split = o.Note, ""
	s, err := dataset.OpenStream(o.Data, open)
	if err != nil {
		return err
	}
	defer s.Close()
	return t.on(func(m *engine.Model, precision op.DType) error {
		e, err := NewExtractor(m, EvalSize(t.recipe), followBatch, precision)
		if err != nil {
			return err
		}
		defer e.Close()
		v := &viewer{recipe: t.recipe, precision: precision, skip: o.Skip}
		for {
			records, end := arrivals(ctx, s)
			src := dataset.Records(s.Name(), records, s.Channels())
			got, err := v.through(ctx, e, src, everything(src))
			if err != nil {
				return err
			}
			rows := make([]eval.Assignment, len(got.Index))
			for i, n := range got.Index {
				rows[i] = eval.Assignment{Row: eval.Row{ID: src.ID(n), Label: -1}, Prototype: got.Prototype[i], Score: got.Score[i]}
			}
			if err := yield(rows); err != nil {
				return err
			}
			if errors.Is(end, io.EOF) {
				return nil
			}
			if end != nil {
				return end
			}
		}
	})
}

// arrivals waits for an image and takes those that come right after it. An error
// ends the stream; the images before it count.
func arrivals(ctx context.Context, s dataset.Stream) ([]*dataset.Record, error) {
	var records []*dataset.Record
	wait := ctx
	for len(records) < followBatch {
		r, err := s.Next(wait)
		switch {
		case err == nil:
		case errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil:
			return records, nil
		default:
			return records, err
		}
		if records = append(records, r); len(records) == 1 {
			var end context.CancelFunc
			wait, end = context.WithTimeout(ctx, followWait)
			defer end()
		}
	}
	return records, nil
}
