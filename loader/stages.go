package loader

import (
	"context"
	"fmt"
	"time"

	"swav/augment"
	"swav/dataset"
)

// Stages says where one worker's time goes: sums over images.
type Stages struct {
	Images     int
	Decode     time.Duration // reading included
	Crop       time.Duration // crop, resize and flip
	Colour     time.Duration // jitter and grayscale
	Blur       time.Duration
	Normalise  time.Duration
	Other      time.Duration // drawing parameters, and the clock itself
	Unreadable int           // images that were left out
}

// MeasureStages makes the views of the first n images of epoch 0, as a worker
// does, and reads the clock between the stages. It begins again at the first
// image where the source has fewer.
func MeasureStages(ctx context.Context, src dataset.Source, r augment.Recipe, seed uint64, n int) (Stages, error) {
	var s Stages
	if err := r.Validate(); err != nil {
		return s, err
	}
	if src.Len() == 0 {
		return s, fmt.Errorf("%s has no images", src.Name())
	}
	m := newMaker(&r, augment.NewNormalizer(r.Mean, r.Std))
	views := make([][]float32, r.Views())
	v := 0
	for _, g := range r.Groups {
		for range g.Count {
			views[v] = make([]float32, g.Size*g.Size*r.Channels())
			v++
		}
	}
	last := time.Now()
	lap := func(d *time.Duration) {
		now := time.Now()
		*d += now.Sub(last)
		last = now
	}
	m.scratch.OnStage = func(stage augment.Stage, _ []byte, _ int) {
		switch stage {
		case augment.Cropped:
			lap(&s.Crop)
		case augment.Blurred:
			lap(&s.Blur)
		default:
			lap(&s.Colour)
		}
	}
	var bad error
	parts, err := partitionOf(src, &Config{Ranks: 1})
	if err != nil {
		return s, err
	}
	order := epochOrder(seed, 0, parts)
	one := []int{0}
	for i := 0; i < n; i++ {
		if err := ctx.Err(); err != nil {
			return s, err
		}
		order.take(i%src.Len(), 0, 1, one, nil)
		at := one[0]
		m.begin(augment.Key{Seed: seed, Epoch: i / src.Len(), Sample: dataset.Key(src.ID(at))})
		lap(&s.Other)
		err := read(src, at, &m.img, m.norm)
		lap(&s.Decode)
		if err != nil {
			s.Unreadable++
			bad = err
			continue
		}
		s.Images++
		m.draw(m.img.W, m.img.H)
		for v, dst := range views {
			lap(&s.Other)
			m.view(dst, v)
			lap(&s.Normalise)
		}
	}
	if s.Images == 0 {
		return s, fmt.Errorf("%s: none of %d images can be read, such as: %w", src.Name(), s.Unreadable, bad)
	}
	return s, nil
}
