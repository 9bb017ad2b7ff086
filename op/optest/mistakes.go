package optest

import (
	"swav/dist"
	"swav/op"
)

// one makes the cases of a single mistake.
func one(what string, f func(c *check, k *call)) []example {
	return []example{{"refuses " + what, func(c *check) { f(c, c.call()) }}}
}

// zeros is an input full of zeros.
func (k *call) zeros(name string, d op.DType, shape ...int) *operand {
	return k.in(name, d, make([]float64, product(shape...)), shape...)
}

// mistakeExamples call each operator with shapes or types that do not fit: it
// panics before any work and names what it was given. Which of the many
// mistakes an operator sees is tested with the checks in package op; here one
// shows that the backend asks them.
var mistakeExamples = map[string][]example{
	"Write": one("a wrong length", func(c *check, k *call) {
		x := k.zeros("x", op.Float32, 5)
		k.refused("4 elements", func(s *side) { s.Write(s.at(x), make([]float32, 4)) }, x)
	}),
	"Read": one("a wrong length", func(c *check, k *call) {
		x := k.zeros("x", op.Float32, 5)
		k.refused("6 elements", func(s *side) { s.Read(make([]float32, 6), s.at(x)) }, x)
	}),
	"ReadFloat64": one("a wrong length", func(c *check, k *call) {
		x := k.zeros("x", op.Float64, 5)
		k.refused("6 elements", func(s *side) { s.ReadFloat64(make([]float64, 6), s.at(x)) }, x)
	}),
	"Copy": one("another size", func(c *check, k *call) {
		dst, src := k.zeros("dst", op.Float32, 6), k.zeros("src", op.Float32, 5)
		k.refused("5 elements to 6", func(s *side) { s.Copy(s.at(dst), s.at(src)) }, dst, src)
	}),
	"Add": one("operands of different types", func(c *check, k *call) {
		dst, a, b := k.zeros("dst", op.Float32, 5), k.zeros("a", op.Float32, 5), k.zeros("b", op.BFloat16, 5)
		k.refused("fp32 + bf16", func(s *side) { s.Add(s.at(dst), s.at(a), s.at(b)) }, dst, a, b)
	}),
	"StartAllReduce": one("float64", func(c *check, k *call) {
		x := k.zeros("x", op.Float64, 5)
		k.refused("fp64", func(s *side) { s.StartAllReduce(s.at(x), dist.Solo()) }, x)
	}),
	"Scale": one("bfloat16", func(c *check, k *call) {
		x := k.in("x", op.BFloat16, []float64{1, 2, 3}, 3)
		k.refused("bf16", func(s *side) { s.Scale(s.at(x), 2) }, x)
	}),
	"SumSquares": one("a float32 sum", func(c *check, k *call) {
		dst, x := k.zeros("dst", op.Float32, 1), k.in("x", op.Float32, []float64{1, 2, 3}, 3)
		k.refused("sum in fp32", func(s *side) { s.SumSquares(s.at(dst), s.at(x)) }, dst, x)
	}),
	"Conv.SetWeights": one("another kernel", func(c *check, k *call) {
		w := k.zeros("w", op.Float32, 4, 3, 1, 1)
		k.refused("1x1 weights", func(s *side) {
			conv := s.conv(mistaken)
			defer conv.Close()
			conv.SetWeights(s.at(w))
		}, w)
	}),
	"Conv.Forward":       convMistake("y", func(conv op.Conv, x, y, dw op.Tensor) { conv.Forward(y, x) }),
	"Conv.ForwardFolded": convMistake("y", func(conv op.Conv, x, y, dw op.Tensor) { conv.ForwardFolded(y, x, op.Tensor{}) }),
	"Conv.SetFolded": one("a gamma of other channels", func(c *check, k *call) {
		w, v, gamma := k.zeros("w", op.Float32, 4, 3, 3, 3), k.zeros("variance", op.Float32, 4), k.zeros("gamma", op.Float32, 5)
		k.refused("5 gammas of 4 channels", func(s *side) {
			p := mistaken
			p.Inference, p.Folded = true, true
			conv := s.conv(p)
			defer conv.Close()
			conv.SetFolded(s.at(w), s.at(gamma), s.at(v), s.at(v), s.at(v), 1)
		}, gamma)
	}),
	"Conv.BackwardData":    convMistake("dx", func(conv op.Conv, x, y, dw op.Tensor) { conv.BackwardData(x, y) }),
	"Conv.BackwardWeights": convMistake("dw", func(conv op.Conv, x, y, dw op.Tensor) { conv.BackwardWeights(dw, x, y) }),
	"BatchNormSums": one("float32 sums", func(c *check, k *call) {
		sums, x := k.zeros("sums", op.Float32, 2, 3), k.zeros("x", op.Float32, 4, 3)
		k.refused("sums in fp32", func(s *side) { s.BatchNormSums(s.at(sums), s.at(x)) }, sums, x)
	}),
	"BatchNormMoments": one("too few sums", func(c *check, k *call) {
		sums, moments := k.zeros("sums", op.Float64, 2, 2), k.zeros("moments", op.Float32, 2, 3)
		mean, variance := k.zeros("running mean", op.Float32, 3), k.zeros("running variance", op.Float32, 3)
		k.refused("sums of 2 channels for 3", func(s *side) {
			s.BatchNormMoments(s.at(moments), s.at(mean), s.at(variance), s.at(sums), 4, 1e-5, 0.1)
		}, sums, moments)
	}),
	"BatchNormRunning": one("statistics of other channels", func(c *check, k *call) {
		moments := k.zeros("moments", op.Float32, 2, 3)
		mean, variance := k.zeros("running mean", op.Float32, 3), k.zeros("running variance", op.Float32, 4)
		k.refused("3 means, 4 variances", func(s *side) { s.BatchNormRunning(s.at(moments), s.at(mean), s.at(variance), 1e-5) }, moments, mean, variance)
	}),
	"BatchNormApply": one("a gamma of other channels", func(c *check, k *call) {
		y, x, moments := k.zeros("y", op.Float32, 4, 3), k.zeros("x", op.Float32, 4, 3), k.zeros("moments", op.Float32, 2, 3)
		gamma, beta := k.zeros("gamma", op.Float32, 5), k.zeros("beta", op.Float32, 3)
		k.refused("5 gammas of 3 channels", func(s *side) {
			s.BatchNormApply(s.at(y), s.at(x), s.at(moments), s.at(gamma), s.at(beta), op.Tensor{}, false)
		}, x, gamma)
	}),
	"BatchNormBackwardSums": one("a ReLU without y", func(c *check, k *call) {
		x, dy, moments := k.zeros("x", op.Float32, 4, 3), k.zeros("dy", op.Float32, 4, 3), k.zeros("moments", op.Float32, 2, 3)
		sums, dgamma, dbeta := k.zeros("sums", op.Float64, 2, 3), k.zeros("dgamma", op.Float32, 3), k.zeros("dbeta", op.Float32, 3)
		k.refused("no y", func(s *side) {
			s.BatchNormBackwardSums(s.at(sums), s.at(dgamma), s.at(dbeta), s.at(dy), op.Tensor{}, op.Tensor{}, s.at(x), s.at(moments), true)
		}, x, dy)
	}),
	"BatchNormBackward": one("a dx of another shape", func(c *check, k *call) {
		x, dy, moments := k.zeros("x", op.Float32, 4, 3), k.zeros("dy", op.Float32, 4, 3), k.zeros("moments", op.Float32, 2, 3)
		sums, gamma, dx := k.zeros("sums", op.Float64, 2, 3), k.zeros("gamma", op.Float32, 3), k.zeros("dx", op.Float32, 5, 3)
		k.refused("dx of 5 rows", func(s *side) {
			s.BatchNormBackward(s.at(dx), op.Tensor{}, s.at(dy), op.Tensor{}, op.Tensor{}, s.at(x), s.at(moments), s.at(gamma), s.at(sums), 4, false)
		}, x, dx)
	}),
	"MaxPool": one("an output of another size", func(c *check, k *call) {
		x, y := k.zeros("x", op.Float32, 1, 4, 4, 3), k.zeros("y", op.Float32, 1, 3, 2, 3)
		k.refused("y of 3x2", func(s *side) { s.MaxPool(s.at(y), op.Tensor{}, s.at(x), op.PoolParams{Kernel: 2, Stride: 2}) }, x, y)
	}),
	"MaxPoolBackward": one("no index", func(c *check, k *call) {
		dx, dy := k.zeros("dx", op.Float32, 1, 4, 4, 3), k.zeros("dy", op.Float32, 1, 2, 2, 3)
		k.refused("no index", func(s *side) {
			s.MaxPoolBackward(s.at(dx), s.at(dy), op.Tensor{}, op.PoolParams{Kernel: 2, Stride: 2})
		}, dx, dy)
	}),
	"AvgPool": one("other channels", func(c *check, k *call) {
		y, x := k.zeros("y", op.Float32, 2, 3), k.zeros("x", op.Float32, 2, 2, 2, 4)
		k.refused("3 channels of 4", func(s *side) { s.AvgPool(s.at(y), s.at(x)) }, x, y)
	}),
	"AvgPoolBackward": one("other channels", func(c *check, k *call) {
		dx, dy := k.zeros("dx", op.Float32, 2, 2, 2, 4), k.zeros("dy", op.Float32, 2, 3)
		k.refused("3 channels of 4", func(s *side) { s.AvgPoolBackward(s.at(dx), s.at(dy)) }, dx, dy)
	}),
	"Linear": one("weights the other way round", func(c *check, k *call) {
		y, x, w := k.zeros("y", op.Float32, 2, 3), k.zeros("x", op.Float32, 2, 5), k.zeros("w", op.Float32, 5, 3)
		k.refused("w transposed", func(s *side) { s.Linear(s.at(y), s.at(x), s.at(w), op.Tensor{}) }, y, x, w)
	}),
	"LinearBackwardData": one("other rows", func(c *check, k *call) {
		dx, dy, w := k.zeros("dx", op.Float32, 2, 5), k.zeros("dy", op.Float32, 4, 3), k.zeros("w", op.Float32, 3, 5)
		k.refused("4 rows to 2", func(s *side) { s.LinearBackwardData(s.at(dx), s.at(dy), s.at(w)) }, dx, dy, w)
	}),
	"LinearBackwardWeights": one("a bias of other outputs", func(c *check, k *call) {
		dw, db := k.zeros("dw", op.Float32, 3, 5), k.zeros("db", op.Float32, 4)
		x, dy := k.zeros("x", op.Float32, 2, 5), k.zeros("dy", op.Float32, 2, 3)
		k.refused("4 biases of 3", func(s *side) { s.LinearBackwardWeights(s.at(dw), s.at(db), s.at(x), s.at(dy)) }, dw, db, x, dy)
	}),
	"L2Normalize": one("too few norms", func(c *check, k *call) {
		y, norms, x := k.zeros("y", op.Float32, 4, 3), k.zeros("norms", op.Float32, 3), k.zeros("x", op.Float32, 4, 3)
		k.refused("3 norms of 4 rows", func(s *side) { s.L2Normalize(s.at(y), s.at(norms), s.at(x)) }, y, norms)
	}),
	"L2NormalizeBackward": one("another width", func(c *check, k *call) {
		dx, dy := k.zeros("dx", op.Float32, 4, 3), k.zeros("dy", op.Float32, 4, 2)
		y, norms := k.zeros("y", op.Float32, 4, 3), k.zeros("norms", op.Float32, 4)
		k.refused("dy of 2 columns", func(s *side) { s.L2NormalizeBackward(s.at(dx), s.at(dy), s.at(y), s.at(norms)) }, dy, y)
	}),
	"NormalizeRows": one("bfloat16", func(c *check, k *call) {
		w := k.zeros("w", op.BFloat16, 4, 3)
		k.refused("bf16", func(s *side) { s.NormalizeRows(s.at(w)) }, w)
	}),
	"Sinkhorn": one("codes of other rows", func(c *check, k *call) {
		codes, scores := k.zeros("codes", op.Float32, 3, 4), k.zeros("scores", op.Float32, 4, 4)
		k.refused("3 rows of 4", func(s *side) {
			s.Sinkhorn(s.at(codes), s.at(scores), op.SinkhornParams{Epsilon: 1, Iterations: 1}, dist.Solo())
		}, codes, scores)
	}),
	"SwapLoss": one("codes of other prototypes", func(c *check, k *call) {
		loss, codes := k.zeros("loss", op.Float64, 1), k.zeros("codes", op.Float32, 2, 3)
		dscores, scores := k.zeros("dscores", op.Float32, 4, 5), k.zeros("scores", op.Float32, 4, 5)
		k.refused("3 prototypes of 5", func(s *side) {
			s.SwapLoss(s.at(loss), s.at(dscores), s.at(scores), []op.Tensor{s.at(codes)}, op.LossParams{Views: 2, Batch: 2, Assign: []int{0}, Temperature: 1})
		}, codes, scores)
	}),
	"ClusterLoss": one("labels of other heads", func(c *check, k *call) {
		loss, labels := k.zeros("loss", op.Float64, 1), k.zeros("labels", op.Float32, 1, 2)
		dscores, scores := k.zeros("dscores", op.Float32, 4, 5), k.zeros("scores", op.Float32, 4, 5)
		k.refused("1 head of 2", func(s *side) {
			s.ClusterLoss(s.at(loss), s.at(dscores), s.at(scores), s.at(labels), op.ClusterLossParams{Views: 2, Batch: 2, Heads: []int{2, 3}, Temperature: 1})
		}, labels)
	}),
	"LARC": one("a segment beyond the buffer", func(c *check, k *call) {
		w, m, g := k.zeros("w", op.Float32, 9), k.zeros("m", op.Float32, 9), k.in("g", op.Float32, c.normal(9), 9)
		k.refused("element 9 of 9", func(s *side) {
			s.LARC(s.at(w), s.at(m), s.at(g), []op.Segment{{Offset: 0, Len: 3}, {Offset: 5, Len: 5}}, op.LARCParams{LR: 1})
		})
	}),
	"AdamW": one("moments of another size", func(c *check, k *call) {
		w, m, v, g := k.zeros("w", op.Float32, 9), k.zeros("m", op.Float32, 9), k.zeros("v", op.Float32, 8), k.in("g", op.Float32, c.normal(9), 9)
		k.refused("8 of 9 second moments", func(s *side) {
			s.AdamW(s.at(w), s.at(m), s.at(v), s.at(g), []op.Segment{{Len: 3}}, op.AdamWParams{LR: 1, Eps: 1, Step: 1})
		}, w, v)
	}),
}

var mistaken = op.ConvParams{Batch: 2, Height: 5, Width: 5, In: 3, Out: 4, Kernel: 3, Stride: 1, Pad: 1}

// convMistake calls f with an output of one pixel too few.
func convMistake(out string, f func(conv op.Conv, x, y, dw op.Tensor)) []example {
	return one("an output of another size", func(c *check, k *call) {
		w := k.zeros("w", op.Float32, 4, 3, 3, 3)
		x, y := k.zeros("x", op.Float32, 2, 5, 5, 3), k.zeros("y", op.Float32, 2, 5, 4, 4)
		k.refused(out+" of a smaller convolution", func(s *side) {
			conv := s.conv(mistaken)
			defer conv.Close()
			conv.SetWeights(s.at(w))
			f(conv, s.at(x), s.at(y), s.at(w))
		}, y)
	})
}
