package optest

import (
	"math"
	"slices"

	"swav/dist"
	"swav/op"
)

// problems are rows and prototypes of assignment problems.
var problems = [][2]int{{1, 1}, {1, 5}, {4, 3}, {17, 30}, {64, 10}, {33, 257}}

// scores are cosines, as prototypes give them.
func (c *check) scores(n int) []float64 {
	x := make([]float64, n)
	for i := range x {
		x[i] = 2*c.rng.Float64() - 1
	}
	return x
}

// scaled is the paper's equation 5 as it stands: columns and rows of
// exp(scores/epsilon) divided by their sums in turn, in float64.
func scaled(scores []float64, rows, k int, epsilon float64, iterations int) []float64 {
	q := make([]float64, len(scores))
	for i, s := range scores {
		q[i] = math.Exp((s - 1) / epsilon)
	}
	for range iterations {
		for j := range k {
			var sum float64
			for r := range rows {
				sum += q[r*k+j]
			}
			for r := range rows {
				q[r*k+j] /= sum * float64(k)
			}
		}
		for r := range rows {
			row := q[r*k:][:k]
			var sum float64
			for _, v := range row {
				sum += v
			}
			for j := range row {
				row[j] /= sum
			}
		}
	}
	return q
}

func (c *check) sinkhorn(rows, k int, scores []float64, p op.SinkhornParams) *operand {
	call := c.call()
	in := call.in("scores", op.Float32, scores, rows, k)
	codes := call.out("codes", op.Float32, rows, k)
	call.run(func(s *side) { s.Sinkhorn(s.at(codes), s.at(in), p, dist.Solo()) })
	return codes
}

var methodExamples = map[string][]example{
	"Sinkhorn": {
		{"the paper's equation 5", func(c *check) {
			for _, size := range problems {
				for _, iterations := range []int{1, 3, 10} {
					rows, k := size[0], size[1]
					scores := round(op.Float32, c.scores(rows*k))
					codes := c.sinkhorn(rows, k, scores, op.SinkhornParams{Epsilon: 0.05, Iterations: iterations})
					truth := scaled(scores, rows, k, 0.05, iterations)
					c.compare("codes", codes.got, truth, c.bound(), codes)
				}
			}
		}},
		{"rows sum to one for every epsilon", func(c *check) {
			for _, size := range problems {
				for _, epsilon := range []float64{1e-3, 0.01, 0.05, 1, 100} {
					rows, k := size[0], size[1]
					codes := c.sinkhorn(rows, k, c.scores(rows*k), op.SinkhornParams{Epsilon: epsilon, Iterations: 3})
					for r := range rows {
						var sum float64
						for _, v := range codes.got[r*k:][:k] {
							sum += v
						}
						if !(math.Abs(sum-1) < 1e-5) {
							c.errorf("%d x %d, epsilon %v: row %d sums to %v", rows, k, epsilon, r, sum)
							break
						}
					}
				}
			}
		}},
		{"large scores", func(c *check) {
			scores := c.normal(17 * 30)
			for i := range scores {
				scores[i] *= 50
			}
			c.sinkhorn(17, 30, scores, op.SinkhornParams{Epsilon: 1, Iterations: 3})
		}},
		{"hard codes", func(c *check) {
			for _, size := range problems {
				rows, k := size[0], size[1]
				if rows == 1 && k > 1 {
					continue // one sample belongs to all prototypes alike
				}
				scores := c.scores(rows * k)
				soft := c.sinkhorn(rows, k, scores, op.SinkhornParams{Epsilon: 0.05, Iterations: 3})
				hard := c.sinkhorn(rows, k, scores, op.SinkhornParams{Epsilon: 0.05, Iterations: 3, Hard: true})
				for r := range rows {
					var ones, others int
					for j, v := range hard.got[r*k:][:k] {
						switch {
						case v == 1 && soft.got[r*k+j] == slices.Max(soft.got[r*k:][:k]):
							ones++
						case v != 0:
							others++
						}
					}
					if ones != 1 || others != 0 {
						c.errorf("%d x %d: row %d is %v where the soft codes are %v", rows, k, r, hard.got[r*k:][:k], soft.got[r*k:][:k])
						break
					}
				}
			}
		}},
		{"stops at a tolerance", func(c *check) {
			scores := c.scores(17 * 30)
			loose := c.sinkhorn(17, 30, scores, op.SinkhornParams{Epsilon: 0.05, Iterations: 1000, Tolerance: 1e-7})
			var columns [30]float64
			for i, v := range loose.got {
				columns[i%30] += v / 17
			}
			for j, v := range columns {
				if !(math.Abs(v-1.0/30) < 1e-5) {
					c.errorf("prototype %d has a share of %v, want 1/30", j, v)
				}
			}
			c.sinkhorn(17, 30, scores, op.SinkhornParams{Epsilon: 0.05, Iterations: 50, Tolerance: 0.1})
		}},
	},
	"SwapLoss": {
		{"the paper's equation 2", func(c *check) {
			for _, p := range lossProblems {
				for _, k := range []int{1, 3, 33} {
					l := c.lossCall(p, k)
					l.run(l.swapLoss)
					truth := l.formula(l.scores.init)
					if !(math.Abs(l.loss.got[0]-truth) <= 4e-6*(1+math.Abs(truth))) {
						c.errorf("%+v, %d prototypes: loss %v, want %v", p, k, l.loss.got[0], truth)
					}
				}
			}
		}},
		{"equal scores cost ln K", func(c *check) {
			l := c.lossCall(lossProblems[1], 30)
			for i := range l.scores.init {
				l.scores.init[i] = 0.25
			}
			l.run(l.swapLoss)
			if want := math.Log(30); !(math.Abs(l.loss.got[0]-want) < 1e-5) {
				c.errorf("loss %v, want ln 30 = %v", l.loss.got[0], want)
			}
		}},
		{"finite differences", func(c *check) {
			for _, p := range lossProblems {
				l := c.lossCall(p, 7)
				l.alone(l.swapLoss)
				c.slope("scores", l.scores.init, l.dscores.got, l.formula)
			}
		}},
	},
}

var clusterExamples = map[string][]example{
	"ClusterLoss": {
		{"the formula", func(c *check) {
			for _, p := range clusterProblems {
				l := c.clusterCall(p)
				l.run(l.clusterLoss)
				truth := l.formula(l.scores.init)
				if !(math.Abs(l.loss.got[0]-truth) <= 4e-6*(1+math.Abs(truth))) {
					c.errorf("%+v: loss %v, want %v", p, l.loss.got[0], truth)
				}
			}
		}},
		{"equal scores cost ln K", func(c *check) {
			l := c.clusterCall(clusterProblems[1])
			for i := range l.scores.init {
				l.scores.init[i] = -0.25
			}
			l.run(l.clusterLoss)
			if want := (math.Log(30) + math.Log(7)) / 2; !(math.Abs(l.loss.got[0]-want) < 1e-5) {
				c.errorf("loss %v, want %v", l.loss.got[0], want)
			}
		}},
		{"no labels, no loss", func(c *check) {
			l := c.clusterCall(clusterProblems[2])
			for i := range l.labels.init {
				l.labels.init[i] = -1
			}
			l.run(l.clusterLoss)
			if l.loss.got[0] != 0 || slices.ContainsFunc(l.dscores.got, func(g float64) bool { return g != 0 }) {
				c.errorf("loss %v, gradient %v", l.loss.got[0], l.dscores.got)
			}
		}},
		{"finite differences", func(c *check) {
			for _, p := range clusterProblems {
				l := c.clusterCall(p)
				l.alone(l.clusterLoss)
				c.slope("scores", l.scores.init, l.dscores.got, l.formula)
			}
		}},
	},
}

var clusterProblems = []op.ClusterLossParams{
	{Views: 1, Batch: 1, Heads: []int{3}, Temperature: 0.1},
	{Views: 2, Batch: 5, Heads: []int{30, 7}, Temperature: 0.1},
	{Views: 6, Batch: 9, Heads: []int{17, 1, 33}, Temperature: 0.07},
	{Views: 3, Batch: 4, Heads: []int{300}, Temperature: 1},
}

type clusterCall struct {
	*call
	p                             op.ClusterLossParams
	k                             int
	loss, dscores, scores, labels *operand
}

// clusterCall labels the images at random, about one in four with none.
func (c *check) clusterCall(p op.ClusterLossParams) *clusterCall {
	l := &clusterCall{call: c.call(), p: p}
	labels := make([]float64, 0, len(p.Heads)*p.Batch)
	for _, k := range p.Heads {
		l.k += k
		for b := range p.Batch {
			label := float64(c.rng.IntN(k))
			if b > 0 && c.rng.IntN(4) == 0 {
				label = -1 - float64(c.rng.IntN(2))*99
			}
			labels = append(labels, label)
		}
	}
	n := p.Views * p.Batch
	l.scores = l.in("scores", op.Float32, c.scores(n*l.k), n, l.k)
	l.labels = l.in("labels", op.Float32, labels, len(p.Heads), p.Batch)
	l.loss, l.dscores = l.out("loss", op.Float64, 1), l.out("dscores", op.Float32, n, l.k)
	l.loss.scale = 1
	return l
}

func (l *clusterCall) clusterLoss(s *side) {
	s.ClusterLoss(s.at(l.loss), s.at(l.dscores), s.at(l.scores), s.at(l.labels), l.p)
}

// formula is the loss straight from its definition.
func (l *clusterCall) formula(scores []float64) float64 {
	p := l.p
	var loss float64
	from := 0
	for h, k := range p.Heads {
		var sum, n float64
		for r := range p.Views * p.Batch {
			label := l.labels.init[h*p.Batch+r%p.Batch]
			if label < 0 {
				continue
			}
			row := scores[r*l.k+from:][:k]
			var norm float64
			for _, s := range row {
				norm += math.Exp(s / p.Temperature)
			}
			sum += math.Log(norm) - row[int(label)]/p.Temperature
			n++
		}
		loss += sum / n
		from += k
	}
	return loss / float64(len(p.Heads))
}

var lossProblems = []op.LossParams{
	{Views: 2, Batch: 1, Assign: []int{0}, Temperature: 0.1},
	{Views: 2, Batch: 5, Assign: []int{0, 1}, Temperature: 0.1},
	{Views: 6, Batch: 9, Assign: []int{0, 1}, Temperature: 0.07},
	{Views: 4, Batch: 3, Assign: []int{3, 1, 0}, Temperature: 1},
}

type lossCall struct {
	*call
	p                     op.LossParams
	k                     int
	loss, dscores, scores *operand
	codes                 []*operand
}

func (c *check) lossCall(p op.LossParams, k int) *lossCall {
	n := p.Views * p.Batch
	l := &lossCall{call: c.call(), p: p, k: k}
	l.scores = l.in("scores", op.Float32, c.scores(n*k), n, k)
	for range p.Assign {
		codes := scaled(c.scores(p.Batch*k), p.Batch, k, 0.2, 3)
		l.codes = append(l.codes, l.in("codes", op.Float32, codes, p.Batch, k))
	}
	l.loss, l.dscores = l.out("loss", op.Float64, 1), l.out("dscores", op.Float32, n, k)
	l.loss.scale = 1
	return l
}

func (l *lossCall) swapLoss(s *side) {
	var codes []op.Tensor
	for _, c := range l.codes {
		codes = append(codes, s.at(c))
	}
	s.SwapLoss(s.at(l.loss), s.at(l.dscores), s.at(l.scores), codes, l.p)
}

// formula is the loss straight from its definition.
func (l *lossCall) formula(scores []float64) float64 {
	p := l.p
	var loss float64
	for i, a := range p.Assign {
		for v := range p.Views {
			if v == a {
				continue
			}
			for b := range p.Batch {
				row := scores[(v*p.Batch+b)*l.k:][:l.k]
				var sum float64
				for _, s := range row {
					sum += math.Exp(s / p.Temperature)
				}
				for j, s := range row {
					loss -= l.codes[i].init[b*l.k+j] * (s/p.Temperature - math.Log(sum))
				}
			}
		}
	}
	return loss / float64(len(p.Assign)*(p.Views-1)*p.Batch)
}
