package op

import (
	"fmt"
	"strings"
	"testing"
)

type memory int64

func (m memory) Len() int64 { return int64(m) }

// tensor makes a tensor of ample memory.
func tensor(d DType, shape ...int) Tensor {
	return Tensor{Mem: memory(1 << 30), Shape: shape, DType: d}
}

// checks are right calls, each with what may be put into one operand's place to
// make it wrong. set[i] is operand i.
var checks = []struct {
	name     string
	call     func(t []Tensor)
	operands []Tensor
	optional []int // operands that may be absent
}{
	{"read", func(t []Tensor) { CheckHost("read", t[0], 6) }, []Tensor{tensor(Float32, 2, 3)}, nil},
	{"copy", func(t []Tensor) { CheckCopy(t[0], t[1]) }, []Tensor{tensor(Float32, 2, 3), tensor(BFloat16, 2, 3)}, nil},
	{"add", func(t []Tensor) { CheckAdd(t[0], t[1], t[2]) }, []Tensor{tensor(BFloat16, 2, 3), tensor(BFloat16, 2, 3), tensor(BFloat16, 2, 3)}, nil},
	{"sum of squares", func(t []Tensor) { CheckSumSquares(t[0], t[1]) }, []Tensor{tensor(Float64, 1), tensor(Float32, 5)}, []int{}},
	{"convolution weights", func(t []Tensor) { CheckConvWeights(stem, t[0]) }, []Tensor{tensor(Float32, 8, 3, 7, 7)}, nil},
	{"convolution", func(t []Tensor) { CheckConv(stem, "forward", t[0], t[1]) }, []Tensor{tensor(BFloat16, 2, 9, 12, 3), tensor(BFloat16, 2, 5, 6, 8)}, nil},
	{"sums", func(t []Tensor) { CheckSums(t[0], t[1]) }, []Tensor{tensor(Float64, 2, 3), tensor(Float32, 4, 3)}, nil},
	{"moments", func(t []Tensor) { CheckMoments(t[0], t[1], t[2]) }, []Tensor{tensor(Float32, 2, 3), tensor(Float32, 3), tensor(Float32, 3)}, nil},
	{"totals", func(t []Tensor) { CheckTotals(t[0], t[1], 1) }, []Tensor{tensor(Float64, 2, 3), tensor(Float32, 2, 3)}, nil},
	{"batch norm", func(t []Tensor) { CheckNormApply(t[0], t[1], t[2], t[3], t[4], t[5]) },
		[]Tensor{tensor(Float32, 2, 2, 2, 3), tensor(Float32, 2, 2, 2, 3), tensor(Float32, 2, 3), tensor(Float32, 3), tensor(Float32, 3), tensor(Float32, 2, 2, 2, 3)}, []int{5}},
	{"batch norm backward", func(t []Tensor) { CheckNormBackward(t[0], t[1], t[2], t[3], t[4], t[5], true) },
		[]Tensor{tensor(Float32, 4, 3), tensor(Float32, 4, 3), tensor(Float32, 4, 3), tensor(Float32, 4, 3), tensor(Float32, 2, 3), tensor(Float64, 2, 3)}, []int{2}},
	{"batch norm parameter gradients", func(t []Tensor) { CheckNormParamGrads(t[0], t[1], t[2]) },
		[]Tensor{tensor(Float32, 3), tensor(Float32, 3), tensor(BFloat16, 4, 3)}, nil},
	{"batch norm input gradients", func(t []Tensor) { CheckNormInputGrads(t[0], t[1], t[2], t[3], 4) },
		[]Tensor{tensor(BFloat16, 4, 3), tensor(BFloat16, 4, 3), tensor(BFloat16, 4, 3), tensor(Float32, 3)}, []int{1}},
	{"max pooling", func(t []Tensor) { CheckMaxPool(t[0], t[1], t[2], PoolParams{3, 2, 1}) },
		[]Tensor{tensor(BFloat16, 1, 3, 4, 2), tensor(Uint8, 1, 3, 4, 2), tensor(BFloat16, 1, 6, 7, 2)}, []int{1}},
	{"max pooling backward", func(t []Tensor) { CheckMaxPoolBackward(t[0], t[1], t[2], PoolParams{3, 2, 1}) },
		[]Tensor{tensor(BFloat16, 1, 6, 7, 2), tensor(BFloat16, 1, 3, 4, 2), tensor(Uint8, 1, 3, 4, 2)}, nil},
	{"average pooling", func(t []Tensor) { CheckAvgPool(t[0], t[1]) }, []Tensor{tensor(Float32, 2, 5), tensor(BFloat16, 2, 3, 3, 5)}, nil},
	{"linear", func(t []Tensor) { CheckLinear(t[0], t[1], t[2], t[3]) },
		[]Tensor{tensor(Float32, 4, 3), tensor(Float32, 4, 5), tensor(Float32, 3, 5), tensor(Float32, 3)}, []int{3}},
	{"normalize", func(t []Tensor) { CheckNormalize(t[0], t[1], t[2], t[3]) },
		[]Tensor{tensor(Float32, 4, 3), tensor(Float32, 4), tensor(Float32, 4, 3), tensor(Float32, 4, 3)}, nil},
	{"sinkhorn", func(t []Tensor) { CheckSinkhorn(t[0], t[1], SinkhornParams{Epsilon: 1, Iterations: 1}) },
		[]Tensor{tensor(Float32, 4, 3), tensor(Float32, 4, 3)}, nil},
	{"swapped prediction", func(t []Tensor) {
		CheckSwapLoss(t[0], t[1], t[2], t[3:], LossParams{Views: 3, Batch: 2, Assign: firstCrop, Temperature: 1})
	}, []Tensor{tensor(Float64, 1), tensor(Float32, 6, 5), tensor(Float32, 6, 5), tensor(Float32, 2, 5)}, nil},
	{"prediction of clusters", func(t []Tensor) {
		CheckClusterLoss(t[0], t[1], t[2], t[3], ClusterLossParams{Views: 3, Batch: 2, Heads: twoHeads, Temperature: 1})
	}, []Tensor{tensor(Float64, 1), tensor(Float32, 6, 5), tensor(Float32, 6, 5), tensor(Float32, 2, 2)}, nil},
	{"optimizer", func(t []Tensor) { CheckOptimizer(t[0], t[1], t[2], t[3], segments) },
		[]Tensor{tensor(Float32, 7), tensor(Float32, 7), tensor(Float32, 7), tensor(Float32, 7)}, nil},
}

var (
	firstCrop = []int{0}
	twoHeads  = []int{2, 3}
	segments  = []Segment{{Offset: 3, Len: 4}}
)

var stem = ConvParams{Batch: 2, Height: 9, Width: 12, In: 3, Out: 8, Kernel: 7, Stride: 2, Pad: 3, DType: BFloat16}

func caught(f func()) (message string) {
	defer func() {
		if r := recover(); r != nil {
			message = fmt.Sprint(r)
		}
	}()
	f()
	return ""
}

func TestChecksAcceptRightCallsWithoutAllocating(t *testing.T) {
	for _, c := range checks {
		if m := caught(func() { c.call(c.operands) }); m != "" {
			t.Errorf("%s: %s", c.name, m)
			continue
		}
		if n := testing.AllocsPerRun(10, func() { c.call(c.operands) }); n != 0 {
			t.Errorf("%s: %v allocations", c.name, n)
		}
		for _, i := range c.optional {
			ops := append([]Tensor(nil), c.operands...)
			ops[i] = Tensor{}
			if m := caught(func() { c.call(ops) }); m != "" {
				t.Errorf("%s without operand %d: %s", c.name, i, m)
			}
		}
	}
}

// TestChecksRefuseEveryWrongOperand replaces each operand in turn: one more
// element, uint8 or float64 in place of its type, absent.
func TestChecksRefuseEveryWrongOperand(t *testing.T) {
	for _, c := range checks {
		optional := map[int]bool{}
		for _, i := range c.optional {
			optional[i] = true
		}
		for i, right := range c.operands {
			longer := right
			longer.Shape = append([]int(nil), right.Shape...)
			longer.Shape[len(longer.Shape)-1]++
			wrong := map[string]Tensor{"longer": longer}
			if c.name != "read" { // hosts read every type
				other := right
				other.DType = Uint8
				if right.DType == Uint8 {
					other.DType = Float32
				}
				wrong["of another type"] = other
			}
			if !optional[i] {
				wrong["absent"] = Tensor{}
			}
			if c.name == "sum of squares" && i == 1 {
				delete(wrong, "longer") // any size
			}
			for name, bad := range wrong {
				ops := append([]Tensor(nil), c.operands...)
				ops[i] = bad
				m := caught(func() { c.call(ops) })
				if m == "" {
					t.Errorf("%s: operand %d %s is accepted", c.name, i, name)
				} else if !strings.HasPrefix(m, "op: ") || !strings.Contains(m, bad.String()) {
					t.Errorf("%s: operand %d %s: message %q does not name it (%v)", c.name, i, name, m, bad)
				}
			}
		}
	}
}

func TestChecksRefuseWrongParameters(t *testing.T) {
	f := func(shape ...int) Tensor { return tensor(Float32, shape...) }
	for name, call := range map[string]func(){
		"float32 operand":          func() { CheckFloat32("scale", tensor(BFloat16, 3)) },
		"no rows":                  func() { CheckTotals(tensor(Float64, 2, 3), f(2, 3), 0) },
		"no rows, backward":        func() { CheckNormInputGrads(f(4, 3), Tensor{}, f(4, 3), f(3), 0) },
		"pool of size 0":           func() { CheckMaxPool(f(1, 1, 1, 1), Tensor{}, f(1, 1, 1, 1), PoolParams{0, 1, 0}) },
		"pool with stride 0":       func() { CheckMaxPool(f(1, 1, 1, 1), Tensor{}, f(1, 1, 1, 1), PoolParams{1, 0, 0}) },
		"pool all padding":         func() { CheckMaxPool(f(1, 3, 3, 1), Tensor{}, f(1, 2, 2, 1), PoolParams{2, 2, 2}) },
		"pool larger than image":   func() { CheckMaxPool(f(1, 1, 1, 1), Tensor{}, f(1, 2, 2, 1), PoolParams{3, 2, 0}) },
		"pool index beyond a byte": func() { CheckMaxPool(f(1, 1, 1, 1), Tensor{}, f(1, 17, 17, 1), PoolParams{17, 1, 0}) },
		"epsilon 0":                func() { CheckSinkhorn(f(2, 2), f(2, 2), SinkhornParams{Iterations: 1}) },
		"no iterations":            func() { CheckSinkhorn(f(2, 2), f(2, 2), SinkhornParams{Epsilon: 1}) },
		"one view": func() {
			CheckSwapLoss(tensor(Float64, 1), f(2, 2), f(2, 2), []Tensor{f(2, 2)}, LossParams{1, 2, []int{0}, 1})
		},
		"assigned crop beyond": func() {
			CheckSwapLoss(tensor(Float64, 1), f(4, 2), f(4, 2), []Tensor{f(2, 2)}, LossParams{2, 2, []int{2}, 1})
		},
		"codes for nobody": func() {
			CheckSwapLoss(tensor(Float64, 1), f(4, 2), f(4, 2), []Tensor{f(2, 2), f(2, 2)}, LossParams{2, 2, []int{0}, 1})
		},
		"temperature 0": func() {
			CheckSwapLoss(tensor(Float64, 1), f(4, 2), f(4, 2), []Tensor{f(2, 2)}, LossParams{2, 2, []int{0}, 0})
		},
		"heads of other columns": func() {
			CheckClusterLoss(tensor(Float64, 1), f(4, 5), f(4, 5), f(2, 2), ClusterLossParams{2, 2, []int{2, 2}, 1})
		},
		"head of no clusters": func() {
			CheckClusterLoss(tensor(Float64, 1), f(4, 5), f(4, 5), f(2, 2), ClusterLossParams{2, 2, []int{0, 5}, 1})
		},
		"segment beyond":   func() { CheckOptimizer(f(4), f(4), f(4), f(4), []Segment{{Offset: 3, Len: 2}}) },
		"segment before":   func() { CheckOptimizer(f(4), f(4), f(4), f(4), []Segment{{Offset: -1, Len: 2}}) },
		"segment overflow": func() { CheckOptimizer(f(4), f(4), f(4), f(4), []Segment{{Offset: 1, Len: 1<<63 - 1}}) },
	} {
		if caught(call) == "" {
			t.Errorf("%s is accepted", name)
		}
	}
}

func TestConvValidate(t *testing.T) {
	good := ConvParams{Batch: 1, Height: 1, Width: 1, In: 1, Out: 1, Kernel: 3, Stride: 1, Pad: 1}
	if err := good.Validate(); err != nil {
		t.Error(err)
	}
	for name, change := range map[string]func(p *ConvParams){
		"no images":        func(p *ConvParams) { p.Batch = 0 },
		"no channels":      func(p *ConvParams) { p.In = 0 },
		"no output":        func(p *ConvParams) { p.Out = -1 },
		"no stride":        func(p *ConvParams) { p.Stride = 0 },
		"all padding":      func(p *ConvParams) { p.Pad = 3 },
		"does not fit":     func(p *ConvParams) { p.Pad = 0 },
		"does not fit (2)": func(p *ConvParams) { p.Pad, p.Stride, p.Height, p.Width = 0, 2, 2, 2 },
		"type":             func(p *ConvParams) { p.DType = Uint8 },
	} {
		p := good
		change(&p)
		if p.Validate() == nil {
			t.Errorf("%s: %+v is accepted", name, p)
		}
	}
}
