package optest

import (
	"errors"
	"fmt"
	"math"
	"runtime"
	"strings"
	"sync"

	"swav/dist"
	"swav/op"
)

// ranks runs f once a rank, each with a backend of its own on a thread of its
// own. A rank that fails takes the others along.
func (c *check) ranks(n int, f func(c *check, comm dist.Comm)) {
	var wg sync.WaitGroup
	checks := make([]*check, n)
	for rank, comm := range dist.Local(n) {
		wg.Go(func() {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			r := newCheck(c.op, fmt.Sprintf("%s, rank %d", c.name, rank), c.another(), c.another)
			checks[rank] = r
			r.guarded(func() { f(r, comm) })
			if len(r.failures) > 0 {
				comm.Abort(errors.New("the case has failed"))
			}
			if err := r.b.Close(); err != nil {
				r.errorf("close: %v", err)
			}
		})
	}
	wg.Wait()
	for _, r := range checks {
		c.failures = append(c.failures, r.failures...)
	}
}

// half are the rows of one of two ranks.
func half(x []float64, rank int) []float64 {
	n := len(x) / 2
	return x[rank*n:][:n]
}

// normRun is a batch norm, forward and backward, as the engine composes it.
type normRun struct {
	y, dx, dgamma, dbeta, moments, mean, variance []float64
}

type normInputs struct{ x, dy, gamma, beta []float64 }

func (c *check) normRun(in normInputs, d op.DType, count int, comm dist.Comm) normRun {
	const channels = 5
	k := c.call()
	rows := len(in.x) / channels
	x, dy := k.in("x", d, in.x, rows, channels), k.in("dy", d, in.dy, rows, channels)
	gamma, beta := k.in("gamma", op.Float32, in.gamma, channels), k.in("beta", op.Float32, in.beta, channels)
	zeros := make([]float64, channels)
	dgamma, dbeta := k.update("dgamma", op.Float32, zeros, channels), k.update("dbeta", op.Float32, zeros, channels)
	mean, variance := k.update("running mean", op.Float32, zeros, channels), k.update("running variance", op.Float32, zeros, channels)
	sums, moments := k.out("sums", op.Float64, 2, channels), k.out("moments", d.Statistics(), 2, channels)
	y, dx := k.out("y", d, rows, channels), k.out("dx", d, rows, channels)
	k.alone(func(s *side) {
		s.BatchNormSums(s.at(sums), s.at(x))
		s.AllReduce(s.at(sums), comm)
		s.BatchNormMoments(s.at(moments), s.at(mean), s.at(variance), s.at(sums), count, 1e-5, 0.1)
		s.BatchNormApply(s.at(y), s.at(x), s.at(moments), s.at(gamma), s.at(beta), op.Tensor{}, true)
		s.BatchNormBackwardSums(s.at(sums), s.at(dgamma), s.at(dbeta), s.at(dy), op.Tensor{}, s.at(y), s.at(x), s.at(moments), true)
		s.AllReduce(s.at(sums), comm)
		s.BatchNormBackward(s.at(dx), op.Tensor{}, s.at(dy), op.Tensor{}, s.at(y), s.at(x), s.at(moments), s.at(gamma), s.at(sums), count, true)
		s.AllReduce(s.at(dgamma), comm)
		s.AllReduce(s.at(dbeta), comm)
	})
	return normRun{y: y.got, dx: dx.got, dgamma: dgamma.got, dbeta: dbeta.got, moments: moments.got, mean: mean.got, variance: variance.got}
}

// aborted is a rank of a group that another rank has left with this message.
func aborted(message string) dist.Comm {
	comms := dist.Local(2)
	comms[1].Abort(errors.New(message))
	return comms[0]
}

var rankExamples = map[string][]example{
	"AllReduce": {
		{"one rank", func(c *check) {
			for _, d := range []op.DType{op.Float32, op.Float64} {
				k := c.call()
				x := k.update("x", d, c.normal(17), 17)
				x.truth = x.init
				k.run(func(s *side) { s.AllReduce(s.at(x), dist.Solo()) })
			}
		}},
		{"two ranks", func(c *check) {
			for _, n := range lengths {
				all := [2][]float64{c.ints(n, -1000, 1000), c.ints(n, -1000, 1000)}
				c.ranks(2, func(c *check, comm dist.Comm) {
					for _, d := range []op.DType{op.Float32, op.Float64} {
						k := c.call()
						x := k.update("x", d, all[comm.Rank()], n)
						k.alone(func(s *side) { s.AllReduce(s.at(x), comm) })
						c.compare("sums", x.got, sum(all[0], all[1]), bound{}, x)
					}
				})
			}
		}},
		{"float64 sums stay float64", func(c *check) {
			c.ranks(2, func(c *check, comm dist.Comm) {
				k := c.call()
				x := k.update("x", op.Float64, []float64{[2]float64{1 << 30, 1}[comm.Rank()]}, 1)
				k.alone(func(s *side) { s.AllReduce(s.at(x), comm) })
				if x.got[0] != 1<<30+1 {
					c.errorf("2^30 + 1 is %.1f", x.got[0])
				}
			})
		}},
		{"waits for what was asked before", func(c *check) {
			const n = 40003
			values := c.ints(n, -9, 9)
			c.ranks(2, func(c *check, comm dist.Comm) {
				k := c.call()
				a := k.in("a", op.Float32, values, n)
				y := k.out("y", op.Float32, n)
				k.alone(func(s *side) {
					s.Add(s.at(y), s.at(a), s.at(a))
					s.AllReduce(s.at(y), comm)
					s.Add(s.at(y), s.at(y), s.at(a))
				})
				want := make([]float64, n)
				for i, v := range values {
					want[i] = 5 * v
				}
				c.compare("2 (a + a) + a", y.got, want, bound{}, y)
			})
		}},
		{"batch norm over two ranks is batch norm over both halves", func(c *check) {
			const n = 2 * 18 * 5
			for _, d := range c.precisions() {
				in := normInputs{x: c.normal(n), dy: c.normal(n), gamma: c.normal(5), beta: c.normal(5)}
				whole := c.normRun(in, d, 36, dist.Solo())
				c.ranks(2, func(c *check, comm dist.Comm) {
					rank := comm.Rank()
					part := normInputs{x: half(in.x, rank), dy: half(in.dy, rank), gamma: in.gamma, beta: in.beta}
					got := c.normRun(part, d, 36, comm)
					for _, q := range []struct {
						name      string
						got, want []float64
						d         op.DType
					}{
						{"y", got.y, half(whole.y, rank), d},
						{"dx", got.dx, half(whole.dx, rank), d},
						{"dgamma", got.dgamma, whole.dgamma, op.Float32},
						{"dbeta", got.dbeta, whole.dbeta, op.Float32},
						{"moments", got.moments, whole.moments, d.Statistics()},
						{"running mean", got.mean, whole.mean, op.Float32},
						{"running variance", got.variance, whole.variance, op.Float32},
					} {
						c.compare(q.name, q.got, q.want, bounds["BatchNormBackward"], &operand{dtype: q.d, shape: []int{len(q.got)}, scale: 3})
					}
				})
			}
		}},
	},
	"StartAllReduce": {{"two ranks, beside other operators", func(c *check) {
		const n = 4001
		all := [2][]float64{c.ints(n, -1000, 1000), c.ints(n, -1000, 1000)}
		c.ranks(2, func(c *check, comm dist.Comm) {
			k := c.call()
			x := k.update("x", op.Float32, all[comm.Rank()], n)
			y := k.update("y", op.Float32, all[0], n)
			k.alone(func(s *side) {
				s.Scale(s.at(x), 2)
				h := s.StartAllReduce(s.at(x), comm)
				s.Scale(s.at(y), 3)
				if err := h.Wait(); err != nil {
					c.errorf("%v", err)
				}
				s.Scale(s.at(x), 0.5)
			})
			three := make([]float64, n)
			for i, v := range all[0] {
				three[i] = 3 * v
			}
			c.compare("sums", x.got, sum(all[0], all[1]), bound{}, x)
			c.compare("3 y", y.got, three, bound{}, y)
		})
	}}},
	"Sinkhorn": {{"over two ranks it is the assignment of both halves", func(c *check) {
		const rows, k = 2 * 17, 12
		scores := c.scores(rows * k)
		for _, p := range []op.SinkhornParams{
			{Epsilon: 0.05, Iterations: 3}, {Epsilon: 1e-3, Iterations: 3}, {Epsilon: 0.05, Iterations: 100, Tolerance: 1e-2},
		} {
			whole := c.sinkhorn(rows, k, scores, p)
			c.ranks(2, func(c *check, comm dist.Comm) {
				call := c.call()
				in := call.in("scores", op.Float32, half(scores, comm.Rank()), rows/2, k)
				codes := call.out("codes", op.Float32, rows/2, k)
				call.alone(func(s *side) { s.Sinkhorn(s.at(codes), s.at(in), p, comm) })
				c.compare("codes", codes.got, half(whole.got, comm.Rank()), c.bound(), codes)
			})
		}
	}}},
	"Sync": {
		{"nothing to report", func(c *check) {
			if err := c.b.Sync(); err != nil {
				c.errorf("%v", err)
			}
		}},
		{"the first failure, once", func(c *check) {
			k := c.call()
			x := k.update("x", op.Float32, c.normal(9), 9)
			s := k.put(c.b, false)
			s.AllReduce(s.at(x), aborted("the first plug is pulled"))
			s.AllReduce(s.at(x), aborted("the second plug is pulled"))
			s.Scale(s.at(x), 2) // may compute rubbish
			if err := s.Sync(); err == nil || !strings.Contains(err.Error(), "first plug") {
				c.errorf("error %v, want the first plug", err)
			}
			if err := s.Sync(); err != nil {
				c.errorf("the second Sync reports %v again", err)
			}
			k.take(s)
			k = c.call()
			y := k.update("y", op.Float32, []float64{1, 2}, 2)
			y.truth = []float64{2, 4}
			k.run(func(s *side) { s.Scale(s.at(y), 2) })
		}},
		{"scores that are not finite", func(c *check) {
			for _, bad := range []float64{math.NaN(), math.Inf(1)} {
				k := c.call()
				scores := k.in("scores", op.Float32, []float64{1, bad, 0, 0}, 2, 2)
				codes := k.out("codes", op.Float32, 2, 2)
				s := k.put(c.b, false)
				s.Sinkhorn(s.at(codes), s.at(scores), op.SinkhornParams{Epsilon: 0.05, Iterations: 3}, dist.Solo())
				if err := s.Sync(); err == nil {
					c.errorf("codes of a score of %v: no error", bad)
				}
				k.take(s)
			}
		}},
	},
}
