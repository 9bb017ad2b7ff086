package train

import (
	"context"
	"strconv"

	"swav/config"
	"swav/dataset"
	"swav/imgcodec"
	"swav/loader"
)

// OpenData opens the part of a source that a recipe names: dataset.Train or
// dataset.Test, the recipe's data.split and data.eval_split. When ctx ends, so
// does what the source fetches.
func OpenData(ctx context.Context, path string, r *config.Recipe, part string) (dataset.Source, error) {
	return openSource(path, dataOptions(ctx, r, part))
}

// openSource opens a source with the channels that its images have, unless o says
// how many they should have.
func openSource(path string, o dataset.Options) (dataset.Source, error) {
	src, err := dataset.Open(path, o)
	if err != nil || o.Channels != 0 {
		return src, err
	}
	if o.Peers == nil || o.Peers.Rank == 0 {
		o.Channels = ownChannels(src)
	}
	if o.Peers != nil {
		// Rank 0 alone looks into images, and all see them alike.
		all, err := o.Peers.Exchange([]byte(strconv.Itoa(o.Channels)))
		if err != nil {
			return nil, err
		}
		if o.Channels, err = strconv.Atoi(string(all[0])); err != nil {
			return nil, err
		}
	}
	if o.Channels == src.Channels() {
		return src, nil
	}
	return dataset.Open(path, o)
}

// peers are the ranks of the run, which open a source in shards together.
func (t *run) peers() *dataset.Peers {
	if t.comm.Size() == 1 || !dataset.InShards(t.opts.Data) {
		return nil
	}
	return &dataset.Peers{Rank: t.comm.Rank(), Ranks: t.comm.Size(), Exchange: func(own []byte) ([][]byte, error) {
		return gatherBytes(t.comm, own, pieceBytes)
	}}
}

// ownChannels is the number of channels that the first images have, where it is
// one that cannot be converted to what the source gives: then it is meant.
func ownChannels(src dataset.Source) int {
	const looks = 8
	own := 0
	var img imgcodec.Image
	for i := range min(src.Len(), looks) {
		if err := src.Load(i, &img); err != nil {
			continue
		}
		if img.C == 1 || img.C == 3 || own != 0 && img.C != own {
			return src.Channels()
		}
		own = img.C
	}
	if own == 0 {
		return src.Channels()
	}
	return own
}

// DataOptions are how a recipe reads a part of a source, dataset.Train or
// dataset.Test.
func DataOptions(ctx context.Context, r *config.Recipe, part string) dataset.Options {
	return dataOptions(ctx, r, part)
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
		Decode:     imgcodec.Options{IgnoreOrientation: r.Data.Exif == "ignore", MaxPixels: r.Data.MaxPixels, Deep: r.Data.Depth == 16}}
}

// openData opens the run's source or stream, a source in shards with its peers, and
// returns how many images are an epoch.
func (t *run) openData(ctx context.Context, peers *dataset.Peers) (images int, err error) {
	o := dataOptions(ctx, t.recipe, dataset.Train)
	o.Note, o.Peers = t.opts.Log.Note, peers
	if !dataset.IsStream(t.opts.Data) {
		if t.source, err = openSource(t.opts.Data, o); err != nil {
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
