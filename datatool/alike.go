package datatool

import (
	"cmp"
	"math"
	"math/bits"
	"slices"

	"swav/augment"
	"swav/imgcodec"
)

// A look is an image in few shades, and its dHash: of 9 x 8 of them, a bit for
// each two neighbours in a row, set where it gets darker. Resizing, compression
// and small changes of colour leave most bits as they are.
type look struct {
	shades   [fine * hashW * fine * hashH]byte
	mean     float64
	contrast float64 // the mean distance of the shades from their mean
	hash     uint64
}

// hashW and hashH are the grid of the hash; that of the shades is finer.
const hashW, hashH, fine = 9, 8, 2

// look shrinks the image that the worker has read.
func (w *worker) look() look {
	var l look
	m := &w.small
	augment.Resize(m, &w.img, fine*hashW, fine*hashH, &w.scratch)
	most := 255
	if m.IsDeep() { // of which a part may be used
		most = max(1, int(slices.Max(m.Deep)))
	}
	for i := range l.shades {
		l.shades[i] = byte(luma(m, i*m.C) * 255 / most)
	}
	n := float64(len(l.shades))
	for _, v := range l.shades {
		l.mean += float64(v) / n
	}
	for _, v := range l.shades {
		l.contrast += math.Abs(float64(v)-l.mean) / n
	}
	for y := range hashH {
		last := 0
		for x := range hashW {
			sum := 0
			for i := range fine * fine {
				sum += int(l.shades[(y*fine+i/fine)*fine*hashW+x*fine+i%fine])
			}
			if x > 0 {
				l.hash <<= 1
				if sum < last {
					l.hash |= 1
				}
			}
			last = sum
		}
	}
	return l
}

// luma is how bright the pixel is whose samples begin at a place: of RGB by ITU-R
// 601, of other channels their mean.
func luma(m *imgcodec.Image, at int) int {
	value := func(i int) int {
		if m.IsDeep() {
			return int(m.Deep[at+i])
		}
		return int(m.Pix[at+i])
	}
	switch m.C {
	case 1:
		return value(0)
	case 3:
		return (299*value(0) + 587*value(1) + 114*value(2)) / 1000
	}
	sum := 0
	for i := range m.C {
		sum += value(i)
	}
	return sum / m.C
}

// Two images look alike when their hashes differ in few bits and, as simple images
// have like hashes by chance, their shades are near too, once brightness and
// contrast are taken out of them.
const (
	nearBits  = 10
	nearShare = 0.07 // mean difference, of the mean distance of an image's shades from their mean
	flat      = 2    // images of less contrast have nothing to compare
)

func (l *look) near(other *look) bool {
	if bits.OnesCount64(l.hash^other.hash) > nearBits {
		return false
	}
	if l.contrast < flat || other.contrast < flat {
		return max(l.contrast, other.contrast) < flat && math.Abs(l.mean-other.mean) < 1
	}
	a, b := 1/l.contrast, 1/other.contrast
	sum := 0.0
	for i, v := range l.shades {
		sum += math.Abs((float64(v)-l.mean)*a - (float64(other.shades[i])-other.mean)*b)
	}
	return sum <= nearShare*float64(len(l.shades))
}

// window bounds how many neighbours in a bucket an image is compared with. Buckets
// are smaller unless thousands of images are alike; then some pairs are missed.
const window = 256

// alike groups looks that are near, directly or through others. Only images that
// have one of the four quarters of their hashes in common are compared: all that
// differ in three bits do, and many of the others.
func alike(looks []look) [][]int {
	group := make([]int, len(looks)) // of a forest
	for i := range group {
		group[i] = i
	}
	root := func(i int) int {
		for group[i] != i {
			group[i] = group[group[i]]
			i = group[i]
		}
		return i
	}
	order := make([]int, len(looks))
	for quarter := range 4 {
		key := func(i int) uint64 { return bits.RotateLeft64(looks[i].hash, 16*quarter) }
		for i := range order {
			order[i] = i
		}
		slices.SortFunc(order, func(a, b int) int { return cmp.Or(cmp.Compare(key(a), key(b)), cmp.Compare(a, b)) })
		for i, a := range order {
			for _, b := range order[i+1 : min(i+1+window, len(order))] {
				if key(a)>>48 != key(b)>>48 {
					break
				}
				if looks[a].near(&looks[b]) {
					x, y := root(a), root(b)
					group[max(x, y)] = min(x, y)
				}
			}
		}
	}
	members := map[int][]int{}
	for i := range looks {
		members[root(i)] = append(members[root(i)], i)
	}
	var out [][]int
	for i := range looks {
		if len(members[i]) > 1 {
			out = append(out, members[i])
		}
	}
	return out
}
