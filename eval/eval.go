// Package eval measures what features are worth and writes them out: weighted
// k-nearest-neighbour classification, the baselines that it is to be compared
// with, measures of a clustering with and without labels, and the files of
// features and assignments.
//
// It works on matrices that are in memory. How features are computed, and which
// images they belong to, is the caller's; what a person reads about the result is
// written by package runlog.
package eval

import (
	"errors"
	"fmt"
)

// Set is a set of feature vectors, one row an image.
type Set struct {
	Dim      int
	Features []float32 // [n, Dim], row-major; any scale
	Labels   []int     // n class numbers from 0
}

// Len is the number of rows.
func (s Set) Len() int {
	if s.Dim <= 0 {
		return 0
	}
	return len(s.Features) / s.Dim
}

// Row is the features of row i.
func (s Set) Row(i int) []float32 { return s.Features[i*s.Dim:][:s.Dim] }

// check finds what would make a comparison wrong without showing.
func (s Set) check(what string, classes int) error {
	switch n := s.Len(); {
	case s.Dim <= 0 || n == 0:
		return fmt.Errorf("%s set is empty", what)
	case len(s.Features) != n*s.Dim:
		return fmt.Errorf("%s set: %d features are no whole rows of %d", what, len(s.Features), s.Dim)
	case len(s.Labels) != n:
		return fmt.Errorf("%s set: %d labels for %d rows", what, len(s.Labels), n)
	}
	for i, l := range s.Labels {
		if l < 0 || l >= classes {
			return fmt.Errorf("%s set: label %d of row %d, want 0 to %d", what, l, i, classes-1)
		}
	}
	if i := notFinite(s.Features); i >= 0 {
		return fmt.Errorf("%s set: row %d holds %v: the network that made it has diverged", what, i/s.Dim, s.Features[i])
	}
	return nil
}

// notFinite is the first number that is infinite or none, -1 if there is none.
func notFinite(x []float32) int {
	const block = 1 << 16
	parts := make([]int, blocks(len(x), block))
	_ = parallel(len(parts), func(_, b int) error {
		part := x[b*block : min((b+1)*block, len(x))]
		parts[b] = -1
		// x - x is 0 for finite numbers alone. Whole blocks are added up first.
		var a0, a1, a2, a3 float32
		i := 0
		for ; i+4 <= len(part); i += 4 {
			p := (*[4]float32)(part[i:])
			a0, a1, a2, a3 = a0+(p[0]-p[0]), a1+(p[1]-p[1]), a2+(p[2]-p[2]), a3+(p[3]-p[3])
		}
		for ; i < len(part); i++ {
			a0 += part[i] - part[i]
		}
		if a0+a1+a2+a3 == 0 {
			return nil
		}
		for i, v := range part {
			if v-v != 0 {
				parts[b] = b*block + i
				return nil
			}
		}
		return nil
	})
	for _, i := range parts {
		if i >= 0 {
			return i
		}
	}
	return -1
}

// classesOf is one more than the largest label.
func classesOf(sets ...[]int) int {
	n := 0
	for _, labels := range sets {
		for _, l := range labels {
			n = max(n, l+1)
		}
	}
	return n
}

// Majority is the share of query labels that equal the most frequent reference
// label: what a classifier that looks at nothing gets.
func Majority(ref, query []int) (float64, error) {
	if len(ref) == 0 || len(query) == 0 {
		return 0, errors.New("majority of an empty set")
	}
	counts := map[int]int{}
	best := ref[0]
	for _, l := range ref {
		counts[l]++
	}
	for l, n := range counts {
		if n > counts[best] || n == counts[best] && l < best {
			best = l
		}
	}
	hits := 0
	for _, l := range query {
		if l == best {
			hits++
		}
	}
	return float64(hits) / float64(len(query)), nil
}
