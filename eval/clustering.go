package eval

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
)

// ClusterOptions are the settings of the protocol cluster.
type ClusterOptions struct {
	K      int // clusters of k-means; 0: as many as there are classes
	Sample int // images whose silhouette is computed, drawn at random; 0: none
	Seed   uint64
}

// DefaultCluster is k-means with as many clusters as classes, and the silhouette of
// 10,000 images.
func DefaultCluster() ClusterOptions { return ClusterOptions{Sample: 10000} }

// Clustering compares clusters of the images of a set with their labels: the given
// assignment to prototypes, where there is one, and k-means on the features.
func Clustering(ctx context.Context, set Set, assign []int, prototypes int, c ClusterOptions, o Options) (*ClusterReport, error) {
	if o.Classes == 0 {
		o.Classes = classesOf(set.Labels)
	}
	if err := set.check("query", o.Classes); err != nil {
		return nil, fmt.Errorf("cluster: %w", err)
	}
	if c.K == 0 {
		c.K = min(o.Classes, set.Len())
	}
	report := &ClusterReport{}
	add := func(name string, assign []int, k int) error {
		a, err := Agree(assign, k, set.Labels)
		if err != nil {
			return err
		}
		row := newClusterRow(name, a)
		if c.Sample > 0 {
			s, err := sampledSilhouette(ctx, set, assign, c, o.Gemm)
			switch {
			case ctx.Err() != nil:
				return ctx.Err()
			case err == nil:
				row.Silhouette = &s
			case !errors.Is(err, errNoSilhouette):
				return err
			}
		}
		report.Rows = append(report.Rows, row)
		return nil
	}
	if assign != nil {
		if err := add("prototypes", assign, prototypes); err != nil {
			return nil, fmt.Errorf("cluster: %w", err)
		}
	}
	means, err := KMeans(ctx, set, KMeansOptions{K: c.K, Seed: c.Seed}, o)
	if err == nil {
		err = add("k-means", means, c.K)
	}
	if err != nil {
		return nil, fmt.Errorf("cluster: %w", err)
	}
	return report, nil
}

// sampledSilhouette is the silhouette of a random part of the images.
func sampledSilhouette(ctx context.Context, set Set, assign []int, c ClusterOptions, gemm Gemm) (float64, error) {
	index := rand.New(rand.NewPCG(c.Seed, 0x5110)).Perm(set.Len())
	index = index[:min(c.Sample, len(index))]
	slices.Sort(index)
	part := make([]int, len(index))
	for i, n := range index {
		part[i] = assign[n]
	}
	return Silhouette(ctx, set.unit(index), part, Options{Gemm: gemm})
}
