// Package swav is the method of "Unsupervised Learning of Visual Features by
// Contrasting Cluster Assignments" (Caron et al., NeurIPS 2020) in plain Go, to
// be read beside the paper: the assignment of images to prototypes (Sinkhorn),
// the swapped prediction and its gradient (Loss), the queue of past embeddings
// (Queue), and the signs by which one sees whether training is healthy (Health,
// Alarm). DeepCluster-v2, which the paper compares with, stands beside it: KMeans
// and ClusterLoss.
//
// It is the definition that every backend is tested against. Matrices are
// row-major float32; sums are float64. There are no threads, files or networks
// here; where the method sums over all ranks of a run, the sum goes through
// dist.Comm.
package swav

import "math"

// NormalizeRows divides each row of w [rows, dim] by its L2 norm in place: the
// prototypes stay on the unit sphere (the original normalises them before every
// forward pass). A zero row stays zero.
func NormalizeRows(w []float32, rows, dim int) {
	checkMatrix("NormalizeRows", "w", w, rows, dim)
	for r := range rows {
		row := w[r*dim:][:dim]
		var sum float64
		for _, x := range row {
			sum += float64(x) * float64(x)
		}
		if sum == 0 {
			continue
		}
		inv := 1 / math.Sqrt(sum)
		for i, x := range row {
			row[i] = float32(float64(x) * inv)
		}
	}
}
