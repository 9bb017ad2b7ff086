package eval

import (
	"fmt"
	"math"
	"slices"
)

// Clusters describes an assignment of images to prototypes.
type Clusters struct {
	Counts     []int   // images of each prototype
	Used       int     // prototypes with at least one image
	Perplexity float64 // exp of the entropy of usage: from 1 (all in one) to the number of prototypes (all alike)

	// Over the images that have a label; without any, Labelled is false and the
	// rest zero.
	Labelled bool
	Purity   float64   // share of images whose label is their prototype's most frequent
	NMI      float64   // mutual information of prototype and label over the mean of their entropies, 0 to 1
	Majority []int     // the most frequent label of each prototype, -1 where unused
	Share    []float64 // of that label among the prototype's labelled images
}

// Summarize describes the assignment of images to k prototypes. Labels may be nil;
// negative ones mean that an image has none.
// Purity rises with the number of prototypes whatever the clustering is worth;
// NMI much less so.
func Summarize(assign []int, k int, labels []int) (Clusters, error) {
	if labels != nil && len(labels) != len(assign) {
		return Clusters{}, fmt.Errorf("clusters: %d labels for %d images", len(labels), len(assign))
	}
	c := Clusters{Counts: make([]int, k)}
	for i, p := range assign {
		if p < 0 || p >= k {
			return Clusters{}, fmt.Errorf("clusters: prototype %d of image %d, want 0 to %d", p, i, k-1)
		}
		c.Counts[p]++
	}
	for _, n := range c.Counts {
		if n > 0 {
			c.Used++
		}
	}
	c.Perplexity = math.Exp(entropy(c.Counts, len(assign)))
	var a, l []int // of the labelled images
	for i, label := range labels {
		if label >= 0 {
			a, l = append(a, assign[i]), append(l, label)
		}
	}
	if len(l) > 0 {
		c.label(a, l)
	}
	return c, nil
}

func (c *Clusters) label(assign, labels []int) {
	counts := make([]int, len(c.Counts)) // of labelled images
	byLabel := make([]int, classesOf(labels))
	// Sparse, since prototypes times classes may be millions.
	type cell struct{ prototype, label int }
	joint := map[cell]int{}
	for i, l := range labels {
		joint[cell{assign[i], l}]++
		counts[assign[i]]++
		byLabel[l]++
	}
	c.Labelled = true
	c.Majority = slices.Repeat([]int{-1}, len(c.Counts))
	c.Share = make([]float64, len(c.Counts))
	most := make([]int, len(c.Counts))
	cells := make([]int, 0, len(joint))
	for x, n := range joint {
		cells = append(cells, n)
		if n > most[x.prototype] || n == most[x.prototype] && x.label < c.Majority[x.prototype] {
			most[x.prototype], c.Majority[x.prototype] = n, x.label
		}
	}
	slices.Sort(cells) // a sum of floats in one order, whatever the map's
	pure := 0
	for p, n := range most {
		pure += n
		if n > 0 {
			c.Share[p] = float64(n) / float64(counts[p])
		}
	}
	n := len(assign)
	c.Purity = float64(pure) / float64(n)
	hPrototype, hLabel := entropy(counts, n), entropy(byLabel, n)
	// Two constant labellings agree, though they share no information.
	c.NMI = 1
	if hPrototype+hLabel > 0 {
		mutual := hPrototype + hLabel - entropy(cells, n)
		c.NMI = min(max(2*mutual/(hPrototype+hLabel), 0), 1)
	}
}

// entropy is in nats, of counts that sum to n.
func entropy(counts []int, n int) float64 {
	h := 0.0
	for _, c := range counts {
		if c > 0 {
			p := float64(c) / float64(n)
			h -= p * math.Log(p)
		}
	}
	return h
}

// Nearest returns for each of k prototypes the images that are assigned to it with
// the highest scores, best first, at most m; equal scores in order of images.
func Nearest(assign []int, scores []float32, k, m int) ([][]int, error) {
	if len(assign) != len(scores) {
		return nil, fmt.Errorf("nearest images: %d scores for %d images", len(scores), len(assign))
	}
	near := make([][]int, k)
	for i, p := range assign {
		if p < 0 || p >= k {
			return nil, fmt.Errorf("nearest images: prototype %d of image %d, want 0 to %d", p, i, k-1)
		}
		at := len(near[p])
		for at > 0 && scores[near[p][at-1]] < scores[i] {
			at--
		}
		if at >= m {
			continue
		}
		near[p] = slices.Insert(near[p], at, i)
		near[p] = near[p][:min(len(near[p]), m)]
	}
	return near, nil
}
