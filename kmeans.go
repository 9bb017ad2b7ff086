package swav

import (
	"fmt"
	"math"

	"swav/dist"
)

// KMeansOptions are the parameters of spherical k-means.
type KMeansOptions struct {
	Iterations int // >= 0: moves of the centroids; 10 in DeepCluster-v2
	// Product, if set, computes dst [rows, k] = x [rows, dim] centroidsᵀ for a
	// block of at most KMeansBlock rows; nil is a plain loop. It lets the caller
	// lend a fast backend.
	Product func(dst, x, centroids []float32, rows, k, dim int) error
}

// KMeansBlock is how many rows are compared with the centroids at once.
const KMeansBlock = 1024

// KMeans clusters the rows of x [rows, dim], unit vectors, by their cosine with
// centroids [k, dim], also unit vectors, from which it starts (Dhillon and Modha
// 2001; DeepCluster-v2 starts from random rows). x is this rank's rows of all
// ranks of c; centroids are the same on all of them and stay so.
//
// Each iteration gives every row to the centroid with the largest product, the
// first of equal ones, and then moves every centroid to the mean of its rows of
// all ranks, brought back to unit length. A centroid without rows, or whose rows
// cancel out, stays where it is, as in the original: it may find rows again when
// the others have moved. At the end labels [rows] are the rows' nearest
// centroids.
//
// An error comes from c or Product, or tells of rows that are not finite; every
// rank then gets one.
func KMeans(labels []int32, centroids, x []float32, rows, k, dim int, o KMeansOptions, c dist.Comm) error {
	checkMatrix("KMeans", "x", x, rows, dim)
	checkMatrix("KMeans", "centroids", centroids, k, dim)
	if len(labels) != rows || o.Iterations < 0 {
		panic(fmt.Sprintf("swav: KMeans of %d rows into %d labels, %d iterations", rows, len(labels), o.Iterations))
	}
	product := o.Product
	if product == nil {
		product = products
	}
	scores := make([]float32, min(rows, KMeansBlock)*k)
	sums := make([]float64, k*(dim+1)) // of the rows, and how many they are
	for it := 0; ; it++ {
		if err := nearest(labels, centroids, x, scores, rows, k, dim, product); err != nil {
			c.Abort(err)
			return err
		}
		if it == o.Iterations {
			return nil
		}
		clear(sums)
		for i, label := range labels {
			sum := sums[int(label)*(dim+1):][:dim+1]
			for j, v := range x[i*dim:][:dim] {
				sum[j] += float64(v)
			}
			sum[dim]++
		}
		if err := c.AllReduce64(sums, dist.Sum); err != nil {
			return err
		}
		if err := move(centroids, sums, k, dim); err != nil {
			return err
		}
	}
}

// nearest labels each row with the centroid of the largest product.
func nearest(labels []int32, centroids, x, scores []float32, rows, k, dim int, product func(dst, x, centroids []float32, rows, k, dim int) error) error {
	for from := 0; from < rows; from += KMeansBlock {
		n := min(KMeansBlock, rows-from)
		if err := product(scores[:n*k], x[from*dim:][:n*dim], centroids, n, k, dim); err != nil {
			return err
		}
		for i := range n {
			row := scores[i*k:][:k]
			best := 0
			for j, s := range row {
				if s > row[best] {
					best = j
				}
			}
			labels[from+i] = int32(best)
		}
	}
	return nil
}

// products is Product as a plain loop.
func products(dst, x, centroids []float32, rows, k, dim int) error {
	for i := range rows {
		for j := range k {
			var sum float64
			for d, v := range x[i*dim:][:dim] {
				sum += float64(v) * float64(centroids[j*dim+d])
			}
			dst[i*k+j] = float32(sum)
		}
	}
	return nil
}

// move brings each centroid to the direction of its rows' sum. sums has for each
// centroid dim numbers and the count of its rows.
func move(centroids []float32, sums []float64, k, dim int) error {
	for j := range k {
		sum, count := sums[j*(dim+1):][:dim], sums[j*(dim+1)+dim]
		var square float64
		for _, v := range sum {
			square += v * v
		}
		if math.IsNaN(square) || math.IsInf(square, 0) {
			return fmt.Errorf("k-means: the embeddings of cluster %d of %d: %w", j, k, ErrNotFinite)
		}
		if count == 0 || square == 0 {
			continue
		}
		inv := 1 / math.Sqrt(square)
		for d, v := range sum {
			centroids[j*dim+d] = float32(v * inv)
		}
	}
	return nil
}
