package optest

import (
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"

	"swav/dist"
	"swav/op"
	"swav/op/ref"
)

func TestEveryOperatorHasCases(t *testing.T) {
	if faults := uncovered(operators(), examples); len(faults) > 0 {
		t.Error(faults)
	}
	names := operators()
	for _, want := range []string{"Alloc", "BatchNormBackward", "Conv.BackwardWeights", "LARC"} {
		if !slices.Contains(names, want) {
			t.Errorf("%s is not among the operators %v", want, names)
		}
	}
	if want := reflect.TypeFor[op.Backend]().NumMethod() + reflect.TypeFor[op.Conv]().NumMethod(); len(names) != want {
		t.Errorf("%d operators, want %d", len(names), want)
	}
}

func TestAnOperatorWithoutCasesIsAFault(t *testing.T) {
	faults := uncovered([]string{"Add", "Scale", "Sub"}, map[string][]example{"Add": {{"one", nil}}, "Scale": {}, "Mul": {{"one", nil}}})
	want := []string{"cases for Mul, which is no operator", "operator Scale has no case", "operator Sub has no case"}
	if !slices.Equal(faults, want) {
		t.Errorf("%q, want %q", faults, want)
	}
}

func TestEveryBoundHasItsReasonAndUse(t *testing.T) {
	names := operators()
	for name, b := range bounds {
		if !slices.Contains(names, name) {
			t.Errorf("bound for %s, which is no operator", name)
		}
		if b.why == "" || b.fp32 < 0 || b.bf16 < 0 || b.fp32 > 1e-3 || b.bf16 > 1.0/64 {
			t.Errorf("%s: %+v", name, b)
		}
	}
}

func TestNaNNeverPasses(t *testing.T) {
	nan, inf := math.NaN(), math.Inf(1)
	for _, c := range []struct {
		got, want float64
		nan, pass bool
	}{
		{1, 1.05, false, true}, {1, 2, false, false},
		{nan, 1, false, false}, {nan, 1, true, false}, {1, nan, false, false}, {1, nan, true, false},
		{nan, nan, false, false}, {nan, nan, true, true},
		{inf, 1, false, false}, {inf, inf, false, true}, {inf, -inf, false, false},
	} {
		if within(c.got, c.want, 0.1, 1, c.nan) != c.pass {
			t.Errorf("got %v, want %v (NaN expected: %v): pass is not %v", c.got, c.want, c.nan, c.pass)
		}
	}
	if got := rms([]float64{nan, 3, inf, -3}); got != math.Sqrt(18.0/4) {
		t.Errorf("infinity or NaN sets the scale: %v", got)
	}
	if within(1, inf, 0.1, 1, false) {
		t.Error("1 passes for infinity")
	}
}

// The types below are the reference backend with one fault each.
type (
	addsBeyond    struct{ op.Backend }
	addsToInput   struct{ op.Backend }
	addsZeroFirst struct{ op.Backend }
	addsByCall    struct {
		op.Backend
		calls *int
	}
	zeroesAllButOne    struct{ op.Backend }
	truncates          struct{ op.Backend }
	acceptsAll         struct{ op.Backend }
	oneNaN             struct{ op.Backend }
	scalesNothing      struct{ op.Backend }
	linearTF32         struct{ op.Backend }
	dirtyMemory        struct{ op.Backend }
	momentsBiased      struct{ op.Backend }
	reluHidesNaN       struct{ op.Backend }
	sumsOverwrite      struct{ op.Backend }
	forgetsResidual    struct{ op.Backend }
	countsOneMore      struct{ op.Backend }
	poolPadsWithZero   struct{ op.Backend }
	poolLastOfEquals   struct{ op.Backend }
	normalizeStraight  struct{ op.Backend }
	alone              struct{ op.Backend }
	anotherIteration   struct{ op.Backend }
	hotterGradient     struct{ op.Backend }
	predictsUnlabelled struct{ op.Backend }
	larcDecaysZero     struct{ op.Backend }
	larcUnclipped      struct{ op.Backend }
	larcThawed         struct{ op.Backend }
	adamUncorrected    struct{ op.Backend }
	averages           struct{ op.Backend }
	singlePrecisionSum struct{ op.Backend }
	lastFailure        struct {
		op.Backend
		err *error
	}
	convs struct {
		op.Backend
		wrap func(op.Conv) op.Conv
	}
	packsOnce struct {
		op.Conv
		packed *bool
	}
	convOverwrites  struct{ op.Conv }
	convAccumulates struct{ op.Conv }
	convMisses      struct{ op.Conv }
)

func (b addsBeyond) Add(dst, x, y op.Tensor) {
	b.Backend.Add(dst, x, y)
	dst.Offset += dst.Bytes()
	dst.Shape = []int{1}
	b.Write(dst, []float32{5})
}

func (b addsToInput) Add(dst, x, y op.Tensor) {
	b.Backend.Add(dst, x, y)
	b.Backend.Add(x, x, x)
}

func (b addsZeroFirst) Add(dst, x, y op.Tensor) {
	b.Zero(dst)
	b.Backend.Add(dst, x, y)
}

func (b addsByCall) Add(dst, x, y op.Tensor) {
	b.Backend.Add(dst, x, y)
	if *b.calls++; *b.calls%7 == 0 {
		b.Zero(dst)
	}
}

func (b zeroesAllButOne) Zero(dst op.Tensor) {
	if n := dst.Elems(); n > 1 {
		b.Backend.Zero(dst.Part(0, n-1))
	}
}

func (b truncates) Copy(dst, src op.Tensor) {
	if dst.DType == op.BFloat16 && src.DType == op.Float32 {
		x := make([]float32, src.Elems())
		b.Read(x, src)
		for i, v := range x {
			x[i] = math.Float32frombits(math.Float32bits(v) &^ 0xffff)
		}
		b.Write(dst, x)
		return
	}
	b.Backend.Copy(dst, src)
}

func (b acceptsAll) NormalizeRows(w op.Tensor) {
	if w.DType == op.Float32 {
		b.Backend.NormalizeRows(w)
	}
}

func (b oneNaN) AvgPool(y, x op.Tensor) {
	b.Backend.AvgPool(y, x)
	b.Write(y.Part(y.Elems()-1, 1), []float32{float32(math.NaN())})
}

func (b scalesNothing) Scale(op.Tensor, float64) {}

func (b linearTF32) Linear(y, x, w, bias op.Tensor) {
	v := make([]float32, x.Elems())
	b.Read(v, x)
	short := append([]float32(nil), v...)
	for i, f := range v {
		short[i] = math.Float32frombits(math.Float32bits(f) &^ 0x1fff)
	}
	b.Write(x, short)
	b.Backend.Linear(y, x, w, bias)
	b.Write(x, v)
}

func (b dirtyMemory) Alloc(n int64) (op.Memory, error) {
	m, err := b.Backend.Alloc(n)
	if err == nil && n >= 4 {
		b.Write(op.Tensor{Mem: m, Shape: []int{1}}, []float32{1})
	}
	return m, err
}

func (b momentsBiased) BatchNormMoments(moments, mean, variance, sums op.Tensor, count int, eps, momentum float64) {
	old, now := make([]float32, variance.Elems()), make([]float32, variance.Elems())
	b.Read(old, variance)
	b.Backend.BatchNormMoments(moments, mean, variance, sums, count, eps, momentum)
	b.Read(now, variance)
	for i := range now {
		kept := (1 - float32(momentum)) * old[i]
		now[i] = kept + (now[i]-kept)*float32(max(1, count-1))/float32(count)
	}
	b.Write(variance, now)
}

func (b reluHidesNaN) BatchNormApply(y, x, moments, gamma, beta, residual op.Tensor, relu bool) {
	b.Backend.BatchNormApply(y, x, moments, gamma, beta, residual, relu)
	if relu {
		v := make([]float32, y.Elems())
		b.Read(v, y)
		for i := range v {
			if !(v[i] > 0) {
				v[i] = 0
			}
		}
		b.Write(y, v)
	}
}

func (b sumsOverwrite) BatchNormBackwardSums(sums, dgamma, dbeta, dy, dy2, y, x, moments op.Tensor, relu bool) {
	b.Zero(dgamma)
	b.Backend.BatchNormBackwardSums(sums, dgamma, dbeta, dy, dy2, y, x, moments, relu)
}

func (b forgetsResidual) BatchNormBackward(dx, _, dy, dy2, y, x, moments, gamma, sums op.Tensor, count int, relu bool) {
	b.Backend.BatchNormBackward(dx, op.Tensor{}, dy, dy2, y, x, moments, gamma, sums, count, relu)
}

func (b countsOneMore) BatchNormBackward(dx, dr, dy, dy2, y, x, moments, gamma, sums op.Tensor, count int, relu bool) {
	b.Backend.BatchNormBackward(dx, dr, dy, dy2, y, x, moments, gamma, sums, count+1, relu)
}

func (b poolPadsWithZero) MaxPool(y, index, x op.Tensor, p op.PoolParams) {
	b.Backend.MaxPool(y, index, x, p)
	if p.Pad > 0 {
		v := make([]float32, y.Elems())
		b.Read(v, y)
		v[0] = max(v[0], 0)
		b.Write(y, v)
	}
}

func (b poolLastOfEquals) MaxPool(y, index, x op.Tensor, p op.PoolParams) {
	b.Backend.MaxPool(y, index, x, p)
	n := x.Elems()
	v := make([]float32, n)
	b.Read(v, x)
	if !index.Present() || p.Kernel != 2 || p.Pad != 0 {
		return
	}
	won := make([]float32, index.Elems())
	b.Read(won, index)
	for i := range y.Shape[2] * y.Cols() { // the first row of windows
		left := i/y.Cols()*p.Stride*x.Cols() + i%y.Cols()
		if won[i] == 0 && v[left] == v[left+x.Cols()] {
			won[i] = 1
		}
	}
	b.Write(index, won)
}

func (b normalizeStraight) L2NormalizeBackward(dx, dy, y, norms op.Tensor) {
	b.Backend.Zero(dx)
	zero := dx
	b.Backend.L2NormalizeBackward(dx, dy, zero, norms)
}

func (b alone) Sinkhorn(codes, scores op.Tensor, p op.SinkhornParams, _ dist.Comm) {
	b.Backend.Sinkhorn(codes, scores, p, dist.Solo())
}

func (b anotherIteration) Sinkhorn(codes, scores op.Tensor, p op.SinkhornParams, c dist.Comm) {
	p.Iterations++
	b.Backend.Sinkhorn(codes, scores, p, c)
}

func (b hotterGradient) SwapLoss(loss, dscores, scores op.Tensor, codes []op.Tensor, p op.LossParams) {
	b.Backend.SwapLoss(loss, dscores, scores, codes, p)
	b.Scale(dscores, 1.01)
}

func (b predictsUnlabelled) ClusterLoss(loss, dscores, scores, labels op.Tensor, p op.ClusterLossParams) {
	l := make([]float32, labels.Elems())
	b.Read(l, labels)
	for i := range l {
		l[i] = max(l[i], 0)
	}
	b.Write(labels, l)
	b.Backend.ClusterLoss(loss, dscores, scores, labels, p)
}

func (b larcDecaysZero) LARC(w, m, g op.Tensor, segments []op.Segment, p op.LARCParams) {
	list := slices.Clone(segments)
	for i, s := range list {
		v := make([]float32, s.Len)
		b.Read(v, g.Part(s.Offset, s.Len))
		zero := true
		for _, x := range v {
			zero = zero && x == 0
		}
		list[i].Adapt = s.Adapt && !zero // plain SGD decays
	}
	b.Backend.LARC(w, m, g, list, p)
}

func (b larcUnclipped) LARC(w, m, g op.Tensor, segments []op.Segment, p op.LARCParams) {
	p.Clip = false
	b.Backend.LARC(w, m, g, segments, p)
}

func (b larcThawed) LARC(w, m, g op.Tensor, segments []op.Segment, p op.LARCParams) {
	b.Backend.LARC(w, m, g, segments, p)
	if n := w.Elems(); n > 100 {
		b.Scale(w.Part(3, 1), 1+1e-6)
	}
}

func (b adamUncorrected) AdamW(w, m, v, g op.Tensor, segments []op.Segment, p op.AdamWParams) {
	p.Step++
	b.Backend.AdamW(w, m, v, g, segments, p)
}

func (b averages) AllReduce(x op.Tensor, c dist.Comm) {
	b.Backend.AllReduce(x, c)
	if x.DType == op.Float32 {
		b.Scale(x, 1/float64(c.Size()))
	}
}

func (b singlePrecisionSum) AllReduce(x op.Tensor, c dist.Comm) {
	b.Backend.AllReduce(x, c)
	v := make([]float32, x.Elems())
	b.Read(v, x)
	b.Write(x, v)
}

func (b lastFailure) AllReduce(x op.Tensor, c dist.Comm) {
	b.Backend.AllReduce(x, c)
	if err := b.Backend.Sync(); err != nil {
		*b.err = err
	}
}

func (b lastFailure) Sync() error {
	err := *b.err
	*b.err = nil
	return err
}

func (b convs) NewConv(p op.ConvParams) (op.Conv, error) {
	c, err := b.Backend.NewConv(p)
	if err != nil {
		return nil, err
	}
	return b.wrap(c), nil
}

func (c packsOnce) SetWeights(w op.Tensor) {
	if !*c.packed {
		c.Conv.SetWeights(w)
	}
	*c.packed = true
}

func (c convOverwrites) BackwardWeights(dw, x, dy op.Tensor) {
	zero(dw)
	c.Conv.BackwardWeights(dw, x, dy)
}

func (c convAccumulates) BackwardData(dx, dy op.Tensor) {
	old := ref.New()
	before := make([]float32, dx.Elems())
	old.Read(before, dx)
	c.Conv.BackwardData(dx, dy)
	after := make([]float32, dx.Elems())
	old.Read(after, dx)
	for i := range after {
		after[i] += before[i]
	}
	old.Write(dx, after)
}

func (c convMisses) Forward(y, x op.Tensor) {
	c.Conv.Forward(y, x)
	if n := y.Cols(); n%16 != 0 {
		zero(y.Part(y.Elems()-1, 1)) // the last channel of the last pixel
	}
}

// zero clears a tensor in host memory.
func zero(t op.Tensor) { ref.New().Zero(t) }

func TestFaultyBackendsFail(t *testing.T) {
	for _, m := range []struct {
		operator string
		wrap     func(b op.Backend) op.Backend
		complain string // part of a message
	}{
		{"Add", func(b op.Backend) op.Backend { return addsBeyond{b} }, "outside of its"},
		{"Add", func(b op.Backend) op.Backend { return addsToInput{b} }, "changed"},
		{"Add", func(b op.Backend) op.Backend { return addsZeroFirst{b} }, "want"},
		{"Add", func(b op.Backend) op.Backend { return addsByCall{b, new(int)} }, "of two equal calls"},
		{"Zero", func(b op.Backend) op.Backend { return zeroesAllButOne{b} }, ""},
		{"Copy", func(b op.Backend) op.Backend { return truncates{b} }, "bf16"},
		{"NormalizeRows", func(b op.Backend) op.Backend { return acceptsAll{b} }, "accepted"},
		{"AvgPool", func(b op.Backend) op.Backend { return oneNaN{b} }, "is NaN"},
		{"Scale", func(b op.Backend) op.Backend { return scalesNothing{b} }, ""},
		{"Linear", func(b op.Backend) op.Backend { return linearTF32{b} }, "real numbers"},
		{"Alloc", func(b op.Backend) op.Backend { return dirtyMemory{b} }, "zeroed"},
		{"BatchNormMoments", func(b op.Backend) op.Backend { return momentsBiased{b} }, "running variance"},
		{"BatchNormApply", func(b op.Backend) op.Backend { return reluHidesNaN{b} }, "NaN"},
		{"BatchNormBackwardSums", func(b op.Backend) op.Backend { return sumsOverwrite{b} }, "dgamma"},
		{"BatchNormBackward", func(b op.Backend) op.Backend { return forgetsResidual{b} }, "dresidual"},
		{"BatchNormBackward", func(b op.Backend) op.Backend { return countsOneMore{b} }, "central difference"},
		{"MaxPool", func(b op.Backend) op.Backend { return poolPadsWithZero{b} }, ""},
		{"MaxPool", func(b op.Backend) op.Backend { return poolLastOfEquals{b} }, "index"},
		{"L2NormalizeBackward", func(b op.Backend) op.Backend { return normalizeStraight{b} }, "central difference"},
		{"Sinkhorn", func(b op.Backend) op.Backend { return alone{b} }, "two ranks"},
		{"Sinkhorn", func(b op.Backend) op.Backend { return anotherIteration{b} }, "equation 5"},
		{"SwapLoss", func(b op.Backend) op.Backend { return hotterGradient{b} }, "central difference"},
		{"ClusterLoss", func(b op.Backend) op.Backend { return predictsUnlabelled{b} }, "no labels, no loss"},
		{"LARC", func(b op.Backend) op.Backend { return larcDecaysZero{b} }, "the formula"},
		{"LARC", func(b op.Backend) op.Backend { return larcUnclipped{b} }, "the formula"},
		{"LARC", func(b op.Backend) op.Backend { return larcThawed{b} }, "of no segment"},
		{"AdamW", func(b op.Backend) op.Backend { return adamUncorrected{b} }, "the formula"},
		{"AllReduce", func(b op.Backend) op.Backend { return averages{b} }, "two ranks"},
		{"AllReduce", func(b op.Backend) op.Backend { return singlePrecisionSum{b} }, "2^30"},
		{"Sync", func(b op.Backend) op.Backend { return lastFailure{b, new(error)} }, "first plug"},
		{"Conv.SetWeights", func(b op.Backend) op.Backend {
			return convs{b, func(c op.Conv) op.Conv { return packsOnce{c, new(bool)} }}
		}, "every change counts"},
		{"Conv.BackwardWeights", func(b op.Backend) op.Backend {
			return convs{b, func(c op.Conv) op.Conv { return convOverwrites{c} }}
		}, "dw"},
		{"Conv.BackwardData", func(b op.Backend) op.Backend {
			return convs{b, func(c op.Conv) op.Conv { return convAccumulates{c} }}
		}, "NaN"},
		{"Conv.Forward", func(b op.Backend) op.Backend {
			return convs{b, func(c op.Conv) op.Conv { return convMisses{c} }}
		}, "naive loops"},
	} {
		fault := reflect.TypeOf(m.wrap(ref.New())).Name()
		failures := runOperator(m.operator, func() op.Backend { return m.wrap(ref.New()) })
		if len(failures) == 0 {
			t.Errorf("%s: a backend that %s passes", m.operator, fault)
			continue
		}
		if !strings.Contains(strings.Join(failures, "\n"), m.complain) {
			t.Errorf("%s: of a backend that %s no failure speaks of %q: %q", m.operator, fault, m.complain, failures)
		}
	}
}
