package runlog

// clusterCharts are the curves of the clusters of each epoch (DeepCluster-v2), nil
// where there are none: means or totals over the heads.
func (r *Report) clusterCharts() []Chart {
	nmi := Chart{Title: "Clusters against those of the epoch before", Help: "NMI, 1 where they are the same; rises as training settles"}
	moved := Chart{Title: "Images that moved, %", Help: "that do not come from where most of their cluster comes from", Zero: true}
	empty := Chart{Title: "Empty clusters", Help: "of all heads; many mean that K is too large or the embeddings collapse", Zero: true}
	largest := Chart{Title: "Largest cluster, % of the images", Help: "of any head; near 100 is a collapse", Zero: true}
	for i := range r.Metrics {
		m := &r.Metrics[i]
		if len(m.Clusters) == 0 {
			continue
		}
		var sum, shifted, most float64
		var none, compared int
		for _, c := range m.Clusters {
			sum += float64(c.NMI)
			shifted += 100 * float64(c.Moved)
			none += c.Empty
			compared += c.Compared
			most = max(most, 100*float64(c.Largest)/float64(max(1, c.Images)))
		}
		n := float64(len(m.Clusters))
		empty.X, empty.Y = append(empty.X, m.Step), append(empty.Y, float64(none))
		largest.X, largest.Y = append(largest.X, m.Step), append(largest.Y, most)
		if compared > 0 {
			nmi.X, nmi.Y = append(nmi.X, m.Step), append(nmi.Y, sum/n)
			moved.X, moved.Y = append(moved.X, m.Step), append(moved.Y, shifted/n)
		}
	}
	if empty.X == nil {
		return nil
	}
	return []Chart{nmi, moved, largest, empty}
}
