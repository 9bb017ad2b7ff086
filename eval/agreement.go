package eval

import (
	"fmt"
	"math"
)

// Agreement compares a clustering with labels. NMI and ARI are scikit-learn's
// normalized_mutual_info_score and adjusted_rand_score.
type Agreement struct {
	Clusters   int     // that are used
	Purity     float64 // share of images whose label is their cluster's most frequent
	NMI        float64 // mutual information over the mean of the entropies, 0 to 1
	ARI        float64 // share of pairs on which both agree, above chance: 0 by chance, 1 at best
	Hungarian  float64 // share of images that are right when each cluster stands for at most one class, chosen for the most
	Perplexity float64 // exp of the entropy of the clusters' sizes
}

// maxAssign bounds the table of the Hungarian method: 8,192 clusters of 8,192 classes.
const maxAssign = 1 << 26

// Agree compares the assignment of images to k clusters with their labels, none
// negative.
func Agree(assign []int, k int, labels []int) (Agreement, error) {
	c, err := Summarize(assign, k, labels)
	if err != nil {
		return Agreement{}, err
	}
	if len(labels) == 0 {
		return Agreement{}, fmt.Errorf("clusters: no labels to compare with")
	}
	a := Agreement{Clusters: c.Used, Purity: c.Purity, NMI: c.NMI, Perplexity: c.Perplexity}
	classes := classesOf(labels)
	if k > maxAssign/classes {
		return Agreement{}, fmt.Errorf("clusters: %d clusters by %d classes are too many to match", k, classes)
	}
	table := make([]int, k*classes)
	for i, p := range assign {
		if labels[i] < 0 {
			return Agreement{}, fmt.Errorf("clusters: image %d has no label", i)
		}
		table[p*classes+labels[i]]++
	}
	a.ARI = adjustedRand(table, classes, len(labels))
	a.Hungarian = float64(bestMatch(table, k, classes)) / float64(len(labels))
	return a, nil
}

// adjustedRand is of a table [clusters, classes] of n images (Hubert and Arabie 1985).
// Pairs are counted in float64, exactly up to 90 million images.
func adjustedRand(table []int, classes, n int) float64 {
	pairs := func(n int) float64 { return float64(n) * float64(n-1) / 2 }
	byClass := make([]int, classes)
	var both, clusters, labels float64
	for from := 0; from < len(table); from += classes {
		size := 0
		for c, x := range table[from : from+classes] {
			both += pairs(x)
			size += x
			byClass[c] += x
		}
		clusters += pairs(size)
	}
	for _, x := range byClass {
		labels += pairs(x)
	}
	chance := 0.0
	if n > 1 {
		chance = clusters * labels / pairs(n)
	}
	most := (clusters + labels) / 2
	if most == chance {
		return 1 // both are one cluster, or all images are alone in both
	}
	return (both - chance) / (most - chance)
}

// bestMatch is the most images of a table [rows, cols] that a one-to-one choice of
// columns for rows can hold: the assignment problem, by shortest augmenting paths with
// potentials (Kuhn 1955; Jonker and Volgenant 1987).
func bestMatch(table []int, rows, cols int) int {
	byRow, byCol := cols, 1
	if rows > cols {
		// As many augmentations as the smaller side has.
		byRow, byCol = byCol, byRow
		rows, cols = cols, rows
	}
	value := func(i, j int) int { return table[i*byRow+j*byCol] }
	// Rows and columns count from 1; column 0 is where an augmentation starts.
	u, v := make([]int, rows+1), make([]int, cols+1)
	owner, back := make([]int, cols+1), make([]int, cols+1)
	least, seen := make([]int, cols+1), make([]bool, cols+1)
	for i := 1; i <= rows; i++ {
		owner[0] = i
		for j := range least {
			least[j], seen[j] = math.MaxInt, false
		}
		j := 0
		for owner[j] != 0 {
			seen[j] = true
			delta, next := math.MaxInt, 0
			for c := 1; c <= cols; c++ {
				if seen[c] {
					continue
				}
				if cost := -value(owner[j]-1, c-1) - u[owner[j]] - v[c]; cost < least[c] {
					least[c], back[c] = cost, j
				}
				if least[c] < delta {
					delta, next = least[c], c
				}
			}
			for c := range seen {
				if seen[c] {
					u[owner[c]] += delta
					v[c] -= delta
				} else if least[c] != math.MaxInt {
					least[c] -= delta
				}
			}
			j = next
		}
		for j != 0 {
			owner[j] = owner[back[j]]
			j = back[j]
		}
	}
	total := 0
	for c := 1; c <= cols; c++ {
		if owner[c] != 0 {
			total += value(owner[c]-1, c-1)
		}
	}
	return total
}
