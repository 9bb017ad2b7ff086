package loader

import (
	"swav/augment"
	"swav/imgcodec"
)

// moments is from how many images the views of a sample come: one, or, of clips,
// one for each view of the first group. The other groups' views take turns.
func (l *Loader) moments() int {
	if l.clips == nil {
		return 1
	}
	return l.c.Recipe.Groups[0].Count
}

// others reads frames of the clip of image n into frames[1:]. One that cannot be
// read is replaced by image n itself, which is in frames[0].
func (l *Loader) others(n int, key augment.Key, frames []imgcodec.Image) error {
	for m := 1; m < len(frames); m++ {
		r := key.Words(augment.PurposeMoment, m)
		near := l.clips.Near(n, l.c.Temporal, uint64(r[0])<<32|uint64(r[1]))
		if near != n {
			err := l.skips.load(near, &frames[m], l.norm)
			if err == nil {
				continue
			}
			if unreachable(err) {
				return err
			}
			if err := l.skips.tooMany(false); err != nil {
				return err
			}
		}
		first := &frames[0]
		frames[m].Reset(first.W, first.H, first.C)
		copy(frames[m].Pix, first.Pix)
	}
	return nil
}
