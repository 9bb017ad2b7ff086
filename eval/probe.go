package eval

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
)

// ProbeOptions are the settings of the few-shot probe.
type ProbeOptions struct {
	Shots []int // images a class
	Draws int   // for each number of shots
	C     float64
	Seed  uint64
}

// DefaultProbe is 1, 5 and 10 images a class, 10 draws of each.
func DefaultProbe() ProbeOptions { return ProbeOptions{Shots: []int{1, 5, 10}, Draws: 10, C: 1} }

// Probe learns classes from a few references each, drawn at random, and classifies the
// queries: by a logistic regression on features of unit length, and by the nearest
// mean of a class. Classes with fewer references give all they have.
func Probe(ctx context.Context, ref, query Set, p ProbeOptions, o Options) (*ProbeReport, error) {
	if o.Classes == 0 {
		o.Classes = classesOf(ref.Labels, query.Labels)
	}
	if err := checkSets(ref, query, o.Classes); err != nil {
		return nil, fmt.Errorf("probe: %w", err)
	}
	if p.Draws < 1 || !(p.C > 0) || len(p.Shots) == 0 {
		return nil, fmt.Errorf("probe: %d draws of %v images a class, C %v: want at least one, above 0", p.Draws, p.Shots, p.C)
	}
	gemm := o.Gemm.orDefault()
	bar := newProgress(o.Progress, len(p.Shots)*p.Draws)
	queries := query.unit(nil)
	report := &ProbeReport{}
	for _, shots := range p.Shots {
		if shots < 1 {
			return nil, fmt.Errorf("probe: %d images a class", shots)
		}
		logit, mean := make([]float64, p.Draws), make([]float64, p.Draws)
		for d := range p.Draws {
			few := ref.unit(drawShots(ref.Labels, o.Classes, shots, rand.New(rand.NewPCG(p.Seed, uint64(d)))))
			var err error
			if mean[d], _, err = classMeans(few, o.Classes).accuracy(queries, gemm); err != nil {
				return nil, fmt.Errorf("probe: %w", err)
			}
			err = logistic(ctx, few, []float64{p.C}, o.Classes, gemm, func(_ float64, h *head) error {
				logit[d], _, err = h.accuracy(queries, gemm)
				return err
			})
			if err != nil {
				return nil, fmt.Errorf("probe: %w", err)
			}
			bar.add(1)
		}
		report.Rows = append(report.Rows, newProbeRow(shots, p.Draws, "logistic", logit), newProbeRow(shots, p.Draws, "class mean", mean))
	}
	return report, nil
}

// drawShots picks shots rows of every class, or all it has.
func drawShots(labels []int, classes, shots int, rng *rand.Rand) []int {
	left := make([]int, classes)
	for c := range left {
		left[c] = shots
	}
	var rows []int
	for _, i := range rng.Perm(len(labels)) {
		if c := labels[i]; left[c] > 0 {
			left[c]--
			rows = append(rows, i)
		}
	}
	return rows
}

// unit is the rows of an index, nil for all, brought to unit length.
func (s Set) unit(index []int) Set {
	n := len(index)
	if index == nil {
		n = s.Len()
	}
	out := Set{Dim: s.Dim, Features: make([]float32, n*s.Dim), Labels: make([]int, n)}
	for i := range n {
		at := i
		if index != nil {
			at = index[i]
		}
		out.Labels[i] = s.Labels[at]
		row := s.Row(at)
		inv := 0.0
		if sum := dot(row, row); sum > 0 {
			inv = 1 / math.Sqrt(sum)
		}
		for j, x := range row {
			out.Features[i*s.Dim+j] = float32(float64(x) * inv)
		}
	}
	return out
}

// classMeans is the classifier by the most similar mean of a class (cosine).
func classMeans(set Set, classes int) *head {
	h := &head{classes: classes, dim: set.Dim, w: make([]float32, classes*set.Dim), b: make([]float32, classes)}
	seen := make([]bool, classes)
	for i, c := range set.Labels {
		seen[c] = true
		for j, x := range set.Row(i) {
			h.w[c*set.Dim+j] += x
		}
	}
	copy(h.w, Set{Dim: set.Dim, Features: h.w, Labels: make([]int, classes)}.unit(nil).Features)
	for c, s := range seen {
		if !s {
			h.b[c] = -2 // below every cosine: never chosen
		}
	}
	return h
}

func newProbeRow(shots, draws int, classifier string, accuracy []float64) ProbeRow {
	r := ProbeRow{Shots: shots, Draws: draws, Classifier: classifier}
	for _, a := range accuracy {
		r.Top1 += percent(a) / float64(draws)
	}
	if draws > 1 {
		for _, a := range accuracy {
			d := percent(a) - r.Top1
			r.Deviation += d * d / float64(draws-1)
		}
		r.Deviation = math.Sqrt(r.Deviation)
	}
	return r
}
