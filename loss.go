package swav

import (
	"fmt"
	"math"
)

// Loss is the swapped prediction over many crops (paper equation 2 and section
// 3.2): the mean over the assignment crops of the mean over all other crops of
// the batch mean of the cross-entropy between the assignment crop's code and
// the softmax of the other crop's scores over temperature.
//
// scores is [views*batch, k], crop-major: all images of crop 0, then of crop 1.
// codes[i], [batch, k], belongs to crop assign[i]; codes are constants. Loss
// overwrites dscores, shaped like scores, with the gradient, in closed form
//
//	d loss / d score(v, b) = sum over i of (softmax - codes_i) / (temperature batch (views-1) len(assign))
//
// over the assignment crops i other than v. Scores all alike give a loss of ln k
// whatever the codes.
func Loss(scores []float32, codes [][]float32, views, batch, k int, assign []int, temperature float64, dscores []float32) float64 {
	checkMatrix("Loss", "scores", scores, views*batch, k)
	checkMatrix("Loss", "dscores", dscores, views*batch, k)
	if views < 2 || len(assign) == 0 || len(codes) != len(assign) || !(temperature > 0) {
		panic(fmt.Sprintf("swav: Loss of %d views, %d assignment crops, %d codes, temperature %v", views, len(assign), len(codes), temperature))
	}
	for i, a := range assign {
		if a < 0 || a >= views {
			panic(fmt.Sprintf("swav: Loss: assignment crop %d of %d views", a, views))
		}
		checkMatrix("Loss", "codes", codes[i], batch, k)
	}
	weight := 1 / (float64(batch) * float64(views-1) * float64(len(assign)))
	p := make([]float64, k)
	var loss float64
	for v := range views {
		for b := range batch {
			at := (v*batch + b) * k
			logNorm := softmax(p, scores[at:][:k], temperature)
			// A code's row sums to 1 up to rounding; the gradient of the
			// cross-entropy weighs the softmax by that sum.
			grad := dscores[at:][:k]
			clear(grad)
			var mass float64
			for i, a := range assign {
				if a == v {
					continue
				}
				for j, q := range codes[i][b*k:][:k] {
					loss -= weight * float64(q) * (float64(scores[at+j])/temperature - logNorm)
					mass += float64(q)
					grad[j] -= q
				}
			}
			for j := range grad {
				grad[j] = float32((mass*p[j] + float64(grad[j])) * weight / temperature)
			}
		}
	}
	return loss
}

// softmax fills p with the softmax of scores/temperature and returns the
// logarithm of its divisor, so that log p = scores/temperature - logNorm.
func softmax(p []float64, scores []float32, temperature float64) (logNorm float64) {
	top := math.Inf(-1)
	for _, s := range scores {
		top = max(top, float64(s)/temperature)
	}
	var sum float64
	for j, s := range scores {
		p[j] = math.Exp(float64(s)/temperature - top)
		sum += p[j]
	}
	for j := range p {
		p[j] /= sum
	}
	return top + math.Log(sum)
}

// ClusterLoss is DeepCluster-v2's prediction: the mean over the heads of the
// mean, over all views of all images that have a label, of the cross-entropy
// between the label and the softmax of the view's scores over temperature.
//
// scores is [views*batch, k], crop-major as in Loss. Heads lie side by side in
// its columns: the first heads[0] are head 0's, and so on, k in all. labels[h][b]
// is image b's cluster, from 0 to heads[h]-1, which all of its views predict;
// an image with a negative label does not count (the original's ignore_index).
// A head without labels costs nothing.
//
// ClusterLoss overwrites dscores, shaped like scores, with the gradient: in a
// head of n labelled images
//
//	d loss / d score(v, b) = (softmax - label) / (temperature views n len(heads))
func ClusterLoss(scores []float32, labels [][]int32, views, batch int, heads []int, temperature float64, dscores []float32) float64 {
	var k int
	for _, n := range heads {
		k += n
	}
	checkMatrix("ClusterLoss", "scores", scores, views*batch, k)
	checkMatrix("ClusterLoss", "dscores", dscores, views*batch, k)
	if views < 1 || len(labels) != len(heads) || !(temperature > 0) {
		panic(fmt.Sprintf("swav: ClusterLoss of %d views, %d heads with labels of %d, temperature %v", views, len(heads), len(labels), temperature))
	}
	clear(dscores)
	var loss float64
	from := 0
	for h, n := range heads {
		labelled := 0
		for b, l := range labels[h][:batch] {
			if int(l) >= n {
				panic(fmt.Sprintf("swav: ClusterLoss: image %d has label %d of %d in head %d", b, l, n, h))
			}
			if l >= 0 {
				labelled++
			}
		}
		weight := 1 / (float64(views) * float64(labelled) * float64(len(heads)))
		p := make([]float64, n)
		for r := range views * batch {
			label := labels[h][r%batch]
			if label < 0 {
				continue
			}
			row, grad := scores[r*k+from:][:n], dscores[r*k+from:][:n]
			logNorm := softmax(p, row, temperature)
			loss -= weight * (float64(row[label])/temperature - logNorm)
			for j := range grad {
				g := p[j]
				if j == int(label) {
					g--
				}
				grad[j] = float32(g * weight / temperature)
			}
		}
		from += n
	}
	return loss
}
