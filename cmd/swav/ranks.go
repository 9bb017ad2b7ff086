package main

import (
	"fmt"
	"path/filepath"

	"swav/config"
	"swav/dataset"
	"swav/internal/numa"
	"swav/train"
)

// within decides how many ranks train within this process, and puts each on processors
// that lie together: as many as asked for, or one for each NUMA node of the machine,
// where batch and data can be divided.
func within(o *train.Options, m numa.Machine, note func(string)) {
	if o.Ranks == 0 {
		o.Ranks = nodeRanks(o, m)
		if o.Ranks > 1 {
			note(fmt.Sprintf("%v: one rank on each node; --ranks 1 trains as one", m))
		}
	}
	if n := o.Ranks; n > 1 {
		o.Place = func(rank int) (int, error) { return numa.Settle(rank, n) }
	}
}

// nodeRanks is the number of ranks that suits machine, recipe and data.
func nodeRanks(o *train.Options, m numa.Machine) int {
	n := m.Ranks()
	if n == 1 {
		return 1
	}
	r := o.Recipe
	if r == nil {
		var err error
		if r, err = config.Load(filepath.Join(o.Dir, "recipe.toml")); err != nil {
			return 1 // whoever resumes the run says what is wrong
		}
	}
	// What DeepCluster-v2 learns depends on the number of ranks, which is then the user's
	// to choose.
	if r.Train.Batch/r.Train.Accumulate%n != 0 || r.Clustering() || dataset.IsStream(o.Data) {
		return 1
	}
	return n
}
