package train

import (
	"context"

	"swav/config"
	"swav/dataset"
	"swav/imgcodec"
	"swav/loader"
)

// OpenData opens the part of a source that a recipe names: dataset.Train or
// dataset.Test, the recipe's data.split and data.eval_split. When ctx ends, so
// does what the source fetches.
func OpenData(ctx context.Context, path string, r *config.Recipe, part string) (dataset.Source, error) {
	return dataset.Open(path, dataOptions(ctx, r, part))
}

func dataOptions(ctx context.Context, r *config.Recipe, part string) dataset.Options {
	split := r.Data.Split
	if part == dataset.Test {
		split = r.Data.EvalSplit
	}
	channels := r.Model.InChannels
	if channels == 0 {
		channels = r.Data.Channels
	}
	return dataset.Options{Split: split, Channels: channels, Context: ctx, Seed: r.Train.Seed,
		CacheBytes: int64(r.Data.CacheGB * 1e9),
		Decode:     imgcodec.Options{IgnoreOrientation: r.Data.Exif == "ignore", MaxPixels: r.Data.MaxPixels}}
}

// openData opens the run's source or stream and returns how many images are an
// epoch.
func (t *run) openData(ctx context.Context) (images int, err error) {
	o := dataOptions(ctx, t.recipe, dataset.Train)
	o.Note = t.opts.Log.Note
	if !dataset.IsStream(t.opts.Data) {
		if t.source, err = dataset.Open(t.opts.Data, o); err != nil {
			return 0, err
		}
		return t.source.Len(), nil
	}
	if images, err = t.recipe.StreamImages(); err != nil {
		return 0, err
	}
	o.Split = "" // a stream is one part
	if t.stream, err = dataset.OpenStream(t.opts.Data, o); err != nil {
		return 0, err
	}
	t.source = dataset.Records(t.stream.Name(), nil, t.stream.Channels())
	return images, nil
}

// resumeAt is where the run's stream goes on; nil is its beginning.
func (t *run) resumeAt() *loader.StreamPosition {
	at := t.state.Stream
	if at != nil && t.opts.Data == dataset.StandardInput && !t.recipe.Data.Replay {
		return &loader.StreamPosition{Number: at.Number + 1}
	}
	return at
}
