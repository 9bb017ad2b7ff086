package dataset

import (
	"fmt"
	"maps"
	"slices"
	"testing"
)

// named is a source of names only.
type named struct {
	Source
	ids []string
}

func (n named) Len() int        { return len(n.ids) }
func (n named) ID(i int) string { return n.ids[i] }

func TestClips(t *testing.T) {
	src := named{ids: []string{"b/f2.jpg", "b/f10.jpg", "b/f1.jpg", "a.tar/clip/000007.png", "a.tar/clip/000100.png", "x/one.jpg", "x/two.jpg", "x/tre3.jpg", "b/f30.jpg"}}
	c := FindClips(src)
	if c.Len() != 3 {
		t.Errorf("%d clips, want 3", c.Len())
	}
	for _, tc := range []struct {
		image int
		span  int64
		want  []string
	}{
		{0, 0, []string{"b/f2.jpg"}},
		{0, 1, []string{"b/f1.jpg", "b/f2.jpg"}},
		{0, 8, []string{"b/f1.jpg", "b/f10.jpg", "b/f2.jpg"}},
		{1, 20, []string{"b/f1.jpg", "b/f10.jpg", "b/f2.jpg", "b/f30.jpg"}},
		{3, 92, []string{"a.tar/clip/000007.png"}},
		{3, 93, []string{"a.tar/clip/000007.png", "a.tar/clip/000100.png"}},
		{5, 1, []string{"x/one.jpg", "x/two.jpg"}}, // by place: tre3, one, two sorted by number, then name
		{6, 100, []string{"x/one.jpg", "x/tre3.jpg", "x/two.jpg"}},
	} {
		got := map[string]bool{}
		for r := range uint64(24) {
			got[src.ids[c.Near(tc.image, tc.span, r)]] = true
		}
		if !slices.Equal(slices.Sorted(maps.Keys(got)), tc.want) {
			t.Errorf("within %d of %s: %v, want %v", tc.span, src.ids[tc.image], got, tc.want)
		}
	}
	// Every frame near is as likely as any other.
	long := named{}
	for i := range 100 {
		long.ids = append(long.ids, fmt.Sprintf("clip/%d.png", i))
	}
	counts := map[int]int{}
	for r := range uint64(1100) {
		counts[FindClips(long).Near(50, 5, r)]++
	}
	for i := 45; i <= 55; i++ {
		if counts[i] != 100 {
			t.Errorf("frame %d: %d of 1100", i, counts[i])
		}
	}
}
