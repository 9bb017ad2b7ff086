package config

import (
	"fmt"
	"slices"
)

// Resolved are the lengths of a recipe in steps and rows, for a given data set
// and number of ranks.
type Resolved struct {
	StepsPerEpoch    int // images left over at the end of an epoch are not used in it
	Steps            int // of the whole run
	Warmup           int
	FreezePrototypes int // prototypes move from this step on
	QueueStart       int // first step that fills the queue
	QueueLength      int // all ranks together: a multiple of the part of a batch that is pushed at once
	CheckpointEvery  int // 0: at the end only
	Images           int // of the data set
	RankBatch        int // images of one rank, of one accumulated part
	NormRanks        int // ranks that share batch-norm statistics: neighbours, in groups
	BankRows         int // DeepCluster-v2: images of an epoch that one rank's memory bank keeps; 0 with SwAV
}

// Resolve turns durations into steps for a data set of the given number of
// images and this number of ranks, and checks that the recipe fits both.
func (r *Recipe) Resolve(images, ranks int) (Resolved, error) {
	t := r.Train
	if err := r.Validate(); err != nil {
		return Resolved{}, err
	}
	refuse := func(key, text string, args ...any) (Resolved, error) {
		return Resolved{}, &Error{Key: key, Msg: key + ": " + fmt.Sprintf(text, args...)}
	}
	part := t.Batch / t.Accumulate
	switch {
	case images < 2:
		return refuse("train.batch_size", "%d image(s): learning by comparison takes at least 2, sensibly some hundreds", images)
	case images < t.Batch:
		return refuse("train.batch_size", "%d images are fewer than a batch of %d: use more images, or --set train.batch_size=%d", images, t.Batch, smallerBatch(images, ranks*t.Accumulate))
	case part < ranks:
		return refuse("train.batch_size", "a batch of %d (in %d part(s)) is smaller than the %d ranks: raise it to a multiple of %d, or start fewer ranks", t.Batch, t.Accumulate, ranks, ranks*t.Accumulate)
	case part%ranks != 0:
		return refuse("train.batch_size", "a batch of %d (in %d part(s)) does not divide among %d ranks: use a multiple of %d", t.Batch, t.Accumulate, ranks, ranks*t.Accumulate)
	}
	normRanks, err := r.NormRanks(ranks)
	if err != nil {
		return Resolved{}, err
	}
	out := Resolved{NormRanks: normRanks, Images: images, StepsPerEpoch: images / t.Batch, Steps: t.Steps, RankBatch: part / ranks}
	if t.Epochs > 0 {
		out.Steps = Epochs(t.Epochs).Resolve(out.StepsPerEpoch)
	}
	out.Warmup = r.Optim.Warmup.Resolve(out.StepsPerEpoch)
	out.FreezePrototypes = r.SwAV.FreezePrototypes.Resolve(out.StepsPerEpoch)
	out.QueueStart = r.SwAV.QueueStart.Resolve(out.StepsPerEpoch)
	out.QueueLength = r.SwAV.Queue - r.SwAV.Queue%part
	if r.Clustering() {
		// Prototypes are centroids and never move by gradients.
		out.FreezePrototypes, out.QueueStart, out.QueueLength = 0, 0, 0
		out.BankRows = out.StepsPerEpoch * t.Accumulate * out.RankBatch
	}
	if out.CheckpointEvery = r.Train.CheckpointEvery.Resolve(out.StepsPerEpoch); !r.Train.CheckpointEvery.IsZero() {
		out.CheckpointEvery = max(1, out.CheckpointEvery)
	}
	if k := r.mostClusters(); r.Clustering() && k > out.BankRows {
		return refuse("deepcluster.prototypes", "%d clusters begin as so many images, and a rank sees %d in an epoch: use fewer clusters, such as --set deepcluster.prototypes=%d, or more images", k, out.BankRows, max(2, out.BankRows/10))
	}
	switch {
	case out.Steps < 1:
		return refuse("train.epochs", "%g epochs of %d steps are not one step: lengthen the run", t.Epochs, out.StepsPerEpoch)
	case out.Warmup > out.Steps:
		return refuse("optim.warmup", "%s are %d steps, longer than the run of %d: shorten it", r.Optim.Warmup, out.Warmup, out.Steps)
	}
	return out, nil
}

// mostClusters is the number of clusters of the largest head.
func (r *Recipe) mostClusters() int {
	if len(r.DeepCluster.Prototypes) > 0 {
		return slices.Max(r.DeepCluster.Prototypes)
	}
	return r.Model.Prototypes
}

// StreamImages is how many images of a stream count as an epoch.
func (r *Recipe) StreamImages() (int, error) {
	switch {
	case r.Clustering():
		return 0, &Error{Key: "train.method", Msg: "train.method: deepclusterv2 clusters the images of an epoch and predicts their clusters when they come again, and a stream's do not: use --set train.method=swav, or data that can be read again (a folder, a list, shards)"}
	case r.Data.EpochImages > 0:
		return r.Data.EpochImages, nil
	case r.Train.Steps > 0:
		return r.Train.Steps * r.Train.Batch, nil
	}
	return 0, &Error{Key: "train.epochs", Msg: "train.epochs: a stream has no epochs: say the length by --set train.steps=10000 --set train.epochs=0, or how many images count as one by --set data.epoch_images=50000"}
}

// smallerBatch is a batch that images fill a few times, as a multiple of unit
// where possible.
func smallerBatch(images, unit int) int {
	return max(2, unit, images/4/unit*unit)
}
