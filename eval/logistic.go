package eval

import (
	"context"
	"errors"
	"math"
	"slices"

	"gonum.org/v1/gonum/optimize"
)

// logistic fits multinomial logistic regressions with a squared penalty by L-BFGS to
// the optimum, one for each c, on features brought to mean 0 and deviation 1: it
// minimises the sum of the cross-entropies + |w|²/(2c), the bias free, as scikit-learn
// does. Each starts where the one before ended, in rising order of c.
func logistic(ctx context.Context, ref Set, cs []float64, classes int, gemm Gemm, fitted func(c float64, h *head) error) error {
	if len(cs) == 0 {
		return nil
	}
	r := newRegression(ctx, ref, classes, gemm)
	x := make([]float64, classes*(ref.Dim+1))
	cs = slices.Clone(cs)
	slices.Sort(cs)
	for _, c := range cs {
		r.penalty = 1 / (c * float64(ref.Len()))
		result, err := optimize.Minimize(optimize.Problem{Func: r.loss, Grad: r.gradient}, x, &optimize.Settings{
			GradientThreshold: 1e-6, MajorIterations: 1000,
			Converger: &optimize.FunctionConverge{Relative: 1e-9, Iterations: 10},
		}, &optimize.LBFGS{Store: 10})
		if r.err != nil {
			return r.err
		}
		// Near the optimum the loss, whose products are float32, no longer falls
		// measurably; the line search then gives up, with the best place in result.
		if err != nil && (result == nil || result.Stats.MajorIterations == 0) {
			return err
		}
		copy(x, result.X)
		if err := fitted(c, r.head(x)); err != nil {
			return err
		}
	}
	return nil
}

// stripes is how many parts the references are summed up in: a fixed number, so that
// the sums do not depend on the number of processors.
const stripes = 16

// regression is the loss of a logistic regression. Its arguments are the weights
// [classes, dim] of standardised features, then the biases. Features are left as
// they are: the weights are scaled instead.
type regression struct {
	ctx       context.Context
	ref       Set
	classes   int
	gemm      Gemm
	mean, inv []float64 // of the features; the inverse deviation
	penalty   float64
	parts     []stripe
	at        []float64 // where grad and value are valid
	grad      []float64
	value     float64
	err       error
}

// stripe is a part's sums and buffers.
type stripe struct {
	from, to int
	loss     float64
	w, b     []float64
	g, err   []float32
}

func newRegression(ctx context.Context, ref Set, classes int, gemm Gemm) *regression {
	n, dim := ref.Len(), ref.Dim
	r := &regression{ctx: ctx, ref: ref, classes: classes, gemm: gemm, mean: make([]float64, dim), inv: make([]float64, dim)}
	for i := range n {
		for j, v := range ref.Row(i) {
			r.mean[j] += float64(v) / float64(n)
		}
	}
	for i := range n {
		for j, v := range ref.Row(i) {
			d := float64(v) - r.mean[j]
			r.inv[j] += d * d / float64(n)
		}
	}
	for j, v := range r.inv {
		if r.inv[j] = 1 / math.Sqrt(v); v == 0 {
			r.inv[j] = 1 // a constant feature: its weight stays 0
		}
	}
	for i := range stripes {
		p := stripe{from: n * i / stripes, to: n * (i + 1) / stripes, w: make([]float64, classes*dim), b: make([]float64, classes),
			g: make([]float32, classes*dim), err: make([]float32, headBlock*classes)}
		if p.from < p.to {
			r.parts = append(r.parts, p)
		}
	}
	return r
}

// head is the classifier of features as they are.
func (r *regression) head(x []float64) *head {
	dim := r.ref.Dim
	h := &head{classes: r.classes, dim: dim, w: make([]float32, r.classes*dim), b: make([]float32, r.classes)}
	for c := range r.classes {
		b := x[r.classes*dim+c]
		for j := range dim {
			w := x[c*dim+j] * r.inv[j]
			h.w[c*dim+j] = float32(w)
			b -= w * r.mean[j]
		}
		h.b[c] = float32(b)
	}
	return h
}

func (r *regression) loss(x []float64) float64 {
	r.compute(x)
	return r.value
}

func (r *regression) gradient(grad, x []float64) {
	r.compute(x)
	copy(grad, r.grad)
}

// compute fills value and grad for x, once. After an error the loss is not a number,
// which ends the search.
func (r *regression) compute(x []float64) {
	if r.err == nil && r.grad != nil && slices.Equal(x, r.at[:len(x)]) && r.at[len(x)] == r.penalty {
		return
	}
	dim, n := r.ref.Dim, float64(r.ref.Len())
	h := r.head(x)
	err := parallel(len(r.parts), func(_, i int) error { return errors.Join(r.ctx.Err(), r.parts[i].sum(r.ref, h, r.gemm)) })
	r.at = append(append(r.at[:0], x...), r.penalty)
	if r.grad == nil {
		r.grad = make([]float64, len(x))
	}
	if err != nil {
		r.err, r.value = err, math.NaN()
		return
	}
	clear(r.grad)
	r.value = 0
	w, b := r.grad[:r.classes*dim], r.grad[r.classes*dim:]
	for _, p := range r.parts {
		r.value += p.loss / n
		for i, g := range p.w {
			w[i] += g / n
		}
		for c, g := range p.b {
			b[c] += g / n
		}
	}
	for c := range r.classes {
		for j := range dim {
			i := c*dim + j
			w[i] = (w[i]-r.mean[j]*b[c])*r.inv[j] + r.penalty*x[i]
			r.value += r.penalty * x[i] * x[i] / 2
		}
	}
}

// sum adds up cross-entropy and gradient of the part's rows.
func (p *stripe) sum(ref Set, h *head, gemm Gemm) error {
	clear(p.w)
	clear(p.b)
	p.loss = 0
	for from := p.from; from < p.to; from += headBlock {
		n := min(headBlock, p.to-from)
		x := ref.Features[from*ref.Dim:]
		if err := gemm(false, true, n, h.classes, ref.Dim, x, ref.Dim, h.w, ref.Dim, 0, p.err, h.classes); err != nil {
			return err
		}
		for i := range n {
			row := p.err[i*h.classes:][:h.classes]
			p.loss += softmaxGradient(row, h.b, ref.Labels[from+i], 1)
			for c, e := range row {
				p.b[c] += float64(e)
			}
		}
		if err := gemm(true, false, h.classes, ref.Dim, n, p.err, h.classes, x, ref.Dim, 0, p.g, ref.Dim); err != nil {
			return err
		}
		for i, g := range p.g {
			p.w[i] += float64(g)
		}
	}
	return nil
}
