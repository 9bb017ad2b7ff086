package swav

import (
	"fmt"
	"math"
	"slices"
)

// Clustering describes clusters of images, and how they differ from those of
// the same images before. Numbers of clusters mean nothing from one clustering
// to the next, so the comparison does not use them.
type Clustering struct {
	Clusters int // K
	Images   int // that are in a cluster
	Empty    int // clusters without images
	// Largest and Smallest are numbers of images; Smallest of the clusters that
	// have any.
	Largest, Smallest int
	// Perplexity is the exponential of the entropy of the sizes: the number of
	// clusters that the images share out among, 1 to K.
	Perplexity float64

	Compared int // images that are in a cluster now and were before
	// NMI is the mutual information of both clusterings over the mean of their
	// entropies, 0 to 1: 1 where they are the same but for the numbers. It rises
	// as training settles (Caron et al. 2018, figure 2b).
	NMI float64
	// Moved is the share of the images that do not come from where most of their
	// cluster's images come from, 0 to 1.
	Moved float64
}

// DescribeClusters describes labels, the cluster of every image, 0 to k-1 or
// negative where it has none, beside the labels before, which may be nil.
func DescribeClusters(labels, before []int32, k int) Clustering {
	if k < 1 || before != nil && len(before) != len(labels) {
		panic(fmt.Sprintf("swav: DescribeClusters of %d images, %d before, %d clusters", len(labels), len(before), k))
	}
	c := Clustering{Clusters: k}
	sizes := make([]int, k)
	for _, l := range labels {
		if l >= 0 {
			sizes[l]++
			c.Images++
		}
	}
	for _, n := range sizes {
		c.Largest = max(c.Largest, n)
		switch {
		case n == 0:
			c.Empty++
		case c.Smallest == 0 || n < c.Smallest:
			c.Smallest = n
		}
	}
	c.Perplexity = math.Exp(entropyOf(sizes, c.Images))
	if before != nil {
		c.compare(labels, before)
	}
	return c
}

// compare fills in what is said beside the clusters before.
func (c *Clustering) compare(labels, before []int32) {
	var most int32
	for _, l := range before {
		most = max(most, l)
	}
	// A dense table would have K² cells, a million images fill far fewer. Sums
	// over a map would depend on its order, so pairs are sorted.
	now, then := make([]int, c.Clusters), make([]int, most+1)
	pairs := make([]int64, 0, len(labels))
	for i, l := range labels {
		if l >= 0 && before[i] >= 0 {
			now[l]++
			then[before[i]]++
			pairs = append(pairs, int64(l)<<32|int64(before[i]))
		}
	}
	if c.Compared = len(pairs); c.Compared == 0 {
		return
	}
	runs, kept := countRuns(pairs)
	joint, a, b := entropyOf(runs, c.Compared), entropyOf(now, c.Compared), entropyOf(then, c.Compared)
	c.Moved = float64(c.Compared-kept) / float64(c.Compared)
	if c.NMI = 1; a+b > 0 {
		c.NMI = min(1, max(0, 2*(a+b-joint)/(a+b)))
	}
}

// countRuns sorts pairs (cluster, cluster before) and returns how often each
// occurs, and the sum over the clusters of their most frequent pair.
func countRuns(pairs []int64) (runs []int, most int) {
	slices.Sort(pairs)
	best := 0 // of the current cluster
	for i := 0; i < len(pairs); {
		n := 1
		for i+n < len(pairs) && pairs[i+n] == pairs[i] {
			n++
		}
		if i > 0 && pairs[i]>>32 != pairs[i-1]>>32 {
			most += best
			best = 0
		}
		best = max(best, n)
		runs = append(runs, n)
		i += n
	}
	return runs, most + best
}

// entropyOf is the entropy of the shares of sizes in their total, in nats.
func entropyOf(sizes []int, total int) float64 {
	var h float64
	for _, n := range sizes {
		if n > 0 {
			h += plogp(float64(n) / float64(total))
		}
	}
	return h
}
