package dataset

import (
	"cmp"
	"math"
	"path"
	"slices"
	"sort"
	"strconv"
	"strings"
)

// Clips are the images of a source as frames in time: those of one folder, or of
// one shard where that has no folders, are a clip. Frames have the number that
// ends their names, such as 25 in "frame_0025.jpg", or, where some have none, their
// place.
type Clips struct {
	order []int32 // images, clip by clip, in the order of time
	place []int32 // of each image within order
	first []int32 // of each clip within order, and len(order)
	time  []int64 // of each image of order
}

// FindClips arranges the images of a source.
func FindClips(src Source) *Clips {
	n := src.Len()
	c := &Clips{order: make([]int32, n), place: make([]int32, n), time: make([]int64, n)}
	clips, ids := make([]string, n), make([]string, n)
	numbers := make([]int64, n)
	for i := range n {
		c.order[i] = int32(i)
		ids[i] = src.ID(i)
		clips[i] = path.Dir(ids[i])
		numbers[i] = frameNumber(ids[i])
	}
	slices.SortFunc(c.order, func(a, b int32) int {
		return cmp.Or(cmp.Compare(clips[a], clips[b]), cmp.Compare(numbers[a], numbers[b]), cmp.Compare(ids[a], ids[b]), cmp.Compare(a, b))
	})
	for i := 0; i < n; {
		c.first = append(c.first, int32(i))
		end, numbered := i, true
		for ; end < n && clips[c.order[end]] == clips[c.order[i]]; end++ {
			numbered = numbered && numbers[c.order[end]] >= 0
		}
		for k := i; k < end; k++ {
			c.place[c.order[k]] = int32(k)
			c.time[k] = int64(k - i)
			if numbered {
				c.time[k] = numbers[c.order[k]]
			}
		}
		i = end
	}
	c.first = append(c.first, int32(n))
	return c
}

// frameNumber is the number that ends a name without its suffix, -1 for none.
func frameNumber(id string) int64 {
	stem := path.Base(id)
	stem, _, _ = strings.Cut(stem, ".")
	digits := stem[len(strings.TrimRight(stem, "0123456789")):]
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || n > math.MaxInt64/4 {
		return -1
	}
	return n
}

// Near is a frame of image i's clip at most span frames from it, i itself
// included: the one that r chooses, all being as likely.
func (c *Clips) Near(i int, span int64, r uint64) int {
	at := int(c.place[i])
	clip := sort.Search(len(c.first), func(k int) bool { return int(c.first[k]) > at })
	from, to := int(c.first[clip-1]), int(c.first[clip])
	low := from + sort.Search(at-from, func(k int) bool { return c.time[from+k] >= c.time[at]-span })
	high := at + sort.Search(to-at, func(k int) bool { return c.time[at+k] > c.time[at]+span })
	return int(c.order[low+int(r%uint64(high-low))])
}

// Len is the number of clips.
func (c *Clips) Len() int { return len(c.first) - 1 }
