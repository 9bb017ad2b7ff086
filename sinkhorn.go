package swav

import (
	"errors"
	"fmt"
	"math"

	"swav/dist"
)

// SinkhornOptions are the parameters of the assignment.
type SinkhornOptions struct {
	Epsilon    float64 // > 0: the smaller, the sharper the codes; 0.05 in the paper
	Iterations int     // >= 1; 3 in the paper
	Tolerance  float64 // > 0: stop early when the prototypes' marginal error falls below (0 to 2)
	Hard       bool    // round to one-hot codes at the end (paper section 4.3: soft is better)
}

// Sinkhorn overwrites codes with the assignment of samples to prototypes that
// maximises Tr(Q scoresᵀ) + epsilon H(Q) with all prototypes used equally (paper
// equation 3, solved by equation 5). Both matrices are [rows, k]: this rank's
// samples; the equal use is over the samples of all ranks of c.
//
// From Q = exp(scores/epsilon), each iteration divides every prototype's column
// by its sum over all ranks and by k, then every sample's row by its sum. It
// ends on the samples, so each row of codes sums to 1 while the prototypes are
// balanced only approximately.
//
// The iteration runs on logarithms, log Q = scores/epsilon + u + v, so that no
// epsilon over- or underflows. Ranks meet twice an iteration in k numbers: the
// maximum and the sum of a log-sum-exp.
//
// An error comes from c, or tells of scores that are not finite; every rank then
// gets one. codes may be scores.
func Sinkhorn(codes, scores []float32, rows, k int, o SinkhornOptions, c dist.Comm) error {
	checkMatrix("Sinkhorn", "scores", scores, rows, k)
	checkMatrix("Sinkhorn", "codes", codes, rows, k)
	if !(o.Epsilon > 0) || o.Iterations < 1 {
		panic(fmt.Sprintf("swav: Sinkhorn with epsilon %v and %d iterations", o.Epsilon, o.Iterations))
	}
	var (
		logits, bad = toLogits(scores, k, o.Epsilon)
		u           = make([]float64, k)    // of the prototypes
		v           = make([]float64, rows) // of the samples
		top         = make([]float64, k)
		sum         = make([]float64, k)
		logK        = math.Log(float64(k))
		total       = []float64{float64(rows)} // samples of all ranks
	)
	if o.Tolerance > 0 {
		if err := c.AllReduce64(total, dist.Sum); err != nil {
			return err
		}
	}
	for it := range o.Iterations {
		// Prototypes: u = -log k - log of the sum over all samples of exp(logit + v).
		columnMax(top, logits, v, bad != nil)
		if err := c.AllReduce64(top, dist.Max); err != nil {
			return err
		}
		if math.IsInf(top[0], 1) {
			if bad != nil {
				return bad
			}
			return errors.New("sinkhorn: scores of another rank are not finite")
		}
		clear(sum)
		for i := range rows {
			for j, x := range logits[i*k:][:k] {
				sum[j] += math.Exp(x + v[i] - top[j])
			}
		}
		if err := c.AllReduce64(sum, dist.Sum); err != nil {
			return err
		}
		if it > 0 && marginalError(u, top, sum, total[0]) < o.Tolerance {
			break
		}
		for j := range u {
			u[j] = -logK - top[j] - math.Log(sum[j])
		}
		// Samples: v = -log of the sum over the prototypes of exp(logit + u). The
		// division by the number of samples is left out: a constant factor of Q
		// cancels in the next step.
		for i := range rows {
			v[i] = -logSumExp(logits[i*k:][:k], u)
		}
	}
	for i := range rows {
		row, logit := codes[i*k:][:k], logits[i*k:][:k]
		best := 0
		for j, x := range logit {
			if x+u[j] > logit[best]+u[best] {
				best = j
			}
			row[j] = float32(math.Exp(x + u[j] + v[i]))
		}
		if o.Hard {
			clear(row)
			row[best] = 1
		}
	}
	return nil
}

// ErrNotFinite says that training has left the finite numbers.
var ErrNotFinite = errors.New("not finite")

// toLogits is scores/epsilon in float64. bad tells of the first that is not
// finite.
func toLogits(scores []float32, k int, epsilon float64) (logits []float64, bad error) {
	logits = make([]float64, len(scores))
	for i, s := range scores {
		logits[i] = float64(s) / epsilon
		if bad == nil && (math.IsNaN(logits[i]) || math.IsInf(logits[i], 0)) {
			bad = fmt.Errorf("sinkhorn: score of sample %d for prototype %d is %v: %w", i/k, i%k, s, ErrNotFinite)
		}
	}
	return logits, bad
}

// columnMax is the largest logit + v of each prototype, -Inf without samples,
// or +Inf throughout if bad: so the other ranks, which wait for a maximum, learn
// of it.
func columnMax(top, logits, v []float64, bad bool) {
	for j := range top {
		top[j] = math.Inf(-1)
		if bad {
			top[j] = math.Inf(1)
		}
	}
	if bad {
		return
	}
	k := len(top)
	for i := range v {
		for j, x := range logits[i*k:][:k] {
			top[j] = max(top[j], x+v[i])
		}
	}
}

// marginalError is the sum over the prototypes of |share of the samples - 1/k|,
// from u of one iteration and the sums that the next one begins with.
func marginalError(u, top, sum []float64, samples float64) float64 {
	var off float64
	for j := range u {
		off += math.Abs(math.Exp(u[j]+top[j])*sum[j]/samples - 1/float64(len(u)))
	}
	return off
}

// logSumExp is log sum exp(x + u).
func logSumExp(x, u []float64) float64 {
	top := math.Inf(-1)
	for j := range x {
		top = max(top, x[j]+u[j])
	}
	var sum float64
	for j := range x {
		sum += math.Exp(x[j] + u[j] - top)
	}
	return top + math.Log(sum)
}

func checkMatrix(who, name string, x []float32, rows, cols int) {
	if rows < 0 || cols < 1 || len(x) != rows*cols {
		panic(fmt.Sprintf("swav: %s: %s has %d elements, want %d x %d", who, name, len(x), rows, cols))
	}
}
