package loader

import "swav/augment"

// moments is from how many images the views of a sample come: one, or, of clips,
// one for each view of the first group. The other groups' views take turns.
func (l *Loader) moments() int {
	if l.clips == nil {
		return 1
	}
	return l.c.Recipe.Groups[0].Count
}

// others reads frames of the clip of image n into makers[1:]. One that cannot be
// read is replaced by image n itself, which makers[0] has.
func (l *Loader) others(n int, makers []*maker) error {
	first := makers[0]
	for i, m := range makers[1:] {
		m.begin(first.key)
		r := first.key.Words(augment.PurposeMoment, i+1)
		near := l.clips.Near(n, l.c.Temporal, uint64(r[0])<<32|uint64(r[1]))
		if near != n {
			err := l.skips.load(near, &m.img, l.norm)
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
		m.img.Copy(&first.img)
	}
	return nil
}
