package optest

import (
	"fmt"
	"math"

	"swav/op"
)

// lengths go from one element to more than any threshold for threads.
var lengths = []int{1, 3, 17, 1000, 40003}

// corners are values that conversions get wrong: ties to even both ways, the
// last value before infinity, subnormals, signed zero.
var corners = []float64{
	1 + 1.0/256, 1 + 3.0/256, -1 - 1.0/256, 257, 259, 3.3895e38, 3.3961e38, math.MaxFloat32,
	1e-40, -1e-45, math.Copysign(0, -1), math.Inf(1), math.Inf(-1), 0.1, -65504.5, math.NaN(),
}

var elementwiseExamples = map[string][]example{
	"Zero": {{"every type", func(c *check) {
		for _, d := range []op.DType{op.Float32, op.BFloat16, op.Float64, op.Uint8} {
			for _, n := range lengths {
				k := c.call()
				x := k.out("dst", d, n)
				x.truth = make([]float64, n)
				k.run(func(s *side) { s.Zero(s.at(x)) })
			}
		}
	}}},
	"Copy": {
		{"casts", func(c *check) {
			for _, from := range c.precisions() {
				for _, to := range c.precisions() {
					for _, n := range lengths {
						k := c.call()
						src := k.in("src", from, c.normal(n), n)
						dst := k.out("dst", to, n)
						dst.truth = src.init
						k.run(func(s *side) { s.Copy(s.at(dst), s.at(src)) })
					}
				}
			}
		}},
		{"corners", func(c *check) {
			for _, to := range c.precisions() {
				k := c.call()
				src := k.in("src", op.Float32, corners, 4, 4)
				dst := k.out("dst", to, 4, 4)
				dst.truth, dst.nan = src.init, true
				k.run(func(s *side) { s.Copy(s.at(dst), s.at(src)) })
			}
		}},
		{"nothing", func(c *check) {
			k := c.call()
			src := k.in("src", op.Float32, nil, 0, 3)
			dst := k.out("dst", op.Float32, 0, 3)
			k.run(func(s *side) { s.Copy(s.at(dst), s.at(src)) })
		}},
	},
	"Add": {
		{"apart and in place", func(c *check) {
			for _, d := range c.precisions() {
				for _, n := range lengths {
					for _, place := range []string{"apart", "over a", "over b"} {
						k := c.call()
						a, b := k.in("a", d, c.normal(n), n), k.in("b", d, c.normal(n), n)
						var dst *operand
						switch place {
						case "over a":
							dst = k.outOver("dst", a)
						case "over b":
							dst = k.outOver("dst", b)
						default:
							dst = k.out("dst", d, n)
						}
						dst.truth = make([]float64, n)
						for i := range dst.truth {
							dst.truth[i] = a.init[i] + b.init[i]
						}
						k.run(func(s *side) { s.Add(s.at(dst), s.at(a), s.at(b)) })
					}
				}
			}
		}},
		{"to itself", func(c *check) {
			k := c.call()
			a := k.update("a", op.Float32, []float64{1, -2, 3}, 3)
			a.truth = []float64{2, -4, 6}
			k.run(func(s *side) { s.Add(s.at(a), s.at(a), s.at(a)) })
		}},
		{"NaN", func(c *check) {
			k := c.call()
			a := k.in("a", op.Float32, []float64{1, math.NaN(), 3}, 3)
			b := k.in("b", op.Float32, []float64{math.NaN(), 1, math.Inf(1)}, 3)
			dst := k.out("dst", op.Float32, 3)
			dst.truth, dst.nan = []float64{math.NaN(), math.NaN(), math.Inf(1)}, true
			k.run(func(s *side) { s.Add(s.at(dst), s.at(a), s.at(b)) })
		}},
	},
	"Scale": {
		{"exact", func(c *check) {
			for _, factor := range []float64{0, 1, -0.25, 8} {
				for _, n := range lengths {
					k := c.call()
					x := k.update("x", op.Float32, c.ints(n, -9, 9), n)
					x.truth = make([]float64, n)
					for i, v := range x.init {
						x.truth[i] = v * factor
					}
					k.run(func(s *side) { s.Scale(s.at(x), factor) })
				}
			}
		}},
		{"thirds", func(c *check) {
			k := c.call()
			x := k.update("x", op.Float32, c.normal(1001), 1001)
			k.run(func(s *side) { s.Scale(s.at(x), 1.0/3) })
		}},
	},
	"SumSquares": {
		{"exact", func(c *check) {
			k := c.call()
			x := k.in("x", op.Float32, []float64{1, -2, 3, -4, 5}, 5)
			sum := k.out("dst", op.Float64, 1)
			sum.truth = []float64{55}
			k.run(func(s *side) { s.SumSquares(s.at(sum), s.at(x)) })
		}},
		{"lengths", func(c *check) {
			for _, n := range lengths {
				k := c.call()
				x := k.in("x", op.Float32, c.normal(n), n)
				sum := k.out("dst", op.Float64, 1)
				k.run(func(s *side) { s.SumSquares(s.at(sum), s.at(x)) })
			}
		}},
		// A gradient that explodes must show as a number, not as infinity, and
		// a tiny one must not vanish.
		{"beyond float32", func(c *check) {
			for _, size := range []float64{0x1p80, 0x1p-80} {
				k := c.call()
				x := k.in("x", op.Float32, []float64{size, -size, size, size}, 4)
				sum := k.out("dst", op.Float64, 1)
				k.run(func(s *side) { s.SumSquares(s.at(sum), s.at(x)) })
				if want := 4 * size * size; !(math.Abs(sum.got[0]/want-1) < 1e-6) {
					c.errorf("sum of squares of values of %g is %v, want %v", size, sum.got[0], want)
				}
			}
		}},
	},
}

// deviceExamples are memory and transfers; ranks.go has what needs a
// communicator.
var deviceExamples = map[string][]example{
	"Name": {{"is one word", func(c *check) {
		if name := c.b.Name(); name == "" || len(name) > 16 {
			c.errorf("name %q", name)
		}
	}}},
	"Describe": {{"is one line", func(c *check) {
		text := c.b.Describe()
		if text == "" || text != oneLine(text) {
			c.errorf("description %q", text)
		}
	}}},
	"Supports": {{"float32, and activations only", func(c *check) {
		if !c.b.Supports(op.Float32) {
			c.errorf("no float32")
		}
		if c.b.Supports(op.Uint8) {
			c.errorf("uint8 as activations")
		}
	}}},
	"Alloc": {
		{"zeroed, also what was used before", func(c *check) {
			for range 3 {
				for _, n := range []int{1, 63, 5000, 1 << 20} {
					mem, err := c.b.Alloc(int64(4 * n))
					if err != nil {
						c.fatalf("%d bytes: %v", 4*n, err)
					}
					if mem.Len() < int64(4*n) {
						c.errorf("%d bytes of %d", mem.Len(), 4*n)
					}
					t := op.Tensor{Mem: mem, Shape: []int{n}, DType: op.Float32}
					for i, v := range read(c.b, t) {
						if math.Float64bits(v) != 0 {
							c.errorf("element %d of %d is %v", i, n, v)
							break
						}
					}
					full := make([]float32, n)
					for i := range full {
						full[i] = 3
					}
					c.b.Write(t, full)
					c.b.Free(mem)
				}
			}
		}},
		{"refuses what no machine has", func(c *check) {
			const bytes = 1 << 60
			mem, err := c.b.Alloc(bytes)
			if err == nil {
				c.b.Free(mem)
				c.fatalf("2^60 bytes: no error")
			}
			if err := c.b.Sync(); err != nil {
				c.errorf("a refused allocation is a failure of Sync too: %v", err)
			}
		}},
	},
	"Free": {{"leaves other memory alone", func(c *check) {
		a, err1 := c.b.Alloc(4000)
		b, err2 := c.b.Alloc(4000)
		if err1 != nil || err2 != nil {
			c.fatalf("%v, %v", err1, err2)
		}
		t := op.Tensor{Mem: b, Shape: []int{3}, DType: op.Float32}
		c.b.Write(t, []float32{1, 2, 3})
		c.b.Free(a)
		if got := fmt.Sprint(read(c.b, t)); got != "[1 2 3]" {
			c.errorf("other memory is %v", got)
		}
		c.b.Free(b)
	}}},
	"Write": {
		{"converts every type", func(c *check) {
			for _, d := range append(c.precisions(), op.Float64) {
				k := c.call()
				x := k.out("x", d, 4, 4)
				x.truth, x.nan = round(op.Float32, corners), true
				k.run(func(s *side) { s.Write(s.at(x), float32s(corners)) })
			}
			k := c.call()
			x := k.out("x", op.Uint8, 3)
			x.truth = []float64{0, 7, 255}
			k.run(func(s *side) { s.Write(s.at(x), []float32{0, 7, 255}) })
		}},
		{"is done with its source", func(c *check) {
			k := c.call()
			x := k.out("x", op.Float32, 40003)
			x.truth = c.normal(40003)
			k.run(func(s *side) {
				src := float32s(x.truth)
				s.Write(s.at(x), src)
				clear(src)
			})
		}},
	},
	"Read": {{"waits for what was asked before", func(c *check) {
		for _, d := range c.precisions() {
			k := c.call()
			a := k.in("a", d, c.ints(40003, -50, 50), 40003)
			y := k.out("y", d, 40003)
			k.alone(func(s *side) {
				s.Add(s.at(y), s.at(a), s.at(a))
				for i, v := range read(s.Backend, s.at(y)) {
					if v != 2*a.init[i] {
						c.errorf("%v: element %d is %v, want %v", d, i, v, 2*a.init[i])
						break
					}
				}
			})
		}
	}}, {"part of a tensor", func(c *check) {
		k := c.call()
		a := k.in("a", op.Float32, c.ints(24, -50, 50), 4, 3, 2)
		k.alone(func(s *side) {
			got := read(s.Backend, s.at(a).Slice(1, 2))
			if fmt.Sprint(got) != fmt.Sprint(a.init[6:18]) {
				c.errorf("rows 1 and 2 are %v, want %v", got, a.init[6:18])
			}
		})
	}}},
	// That float64 keeps what float32 cannot hold is a case of AllReduce.
	"ReadFloat64": {{"part of a tensor", func(c *check) {
		k := c.call()
		x := k.in("x", op.Float64, corners, 4, 4)
		k.alone(func(s *side) {
			got := read(s.Backend, s.at(x).Slice(1, 3))
			if fmt.Sprint(got) != fmt.Sprint(x.init[4:]) {
				c.errorf("rows 1 to 3 are %v, want %v", got, x.init[4:])
			}
		})
	}}},
	"Close": {{"with memory in use, after other backends of its kind", func(c *check) {
		first, second := c.another(), c.another()
		mem, err := second.Alloc(100)
		if err != nil {
			c.fatalf("%v", err)
		}
		if _, err := first.Alloc(100); err != nil {
			c.fatalf("%v", err)
		}
		if err := first.Close(); err != nil {
			c.errorf("%v", err)
		}
		t := op.Tensor{Mem: mem, Shape: []int{2}, DType: op.Float32}
		second.Write(t, []float32{1, 2})
		if got := fmt.Sprint(read(second, t)); got != "[1 2]" {
			c.errorf("another backend's memory is %v", got)
		}
		if err := second.Close(); err != nil {
			c.errorf("%v", err)
		}
	}}},
}

func oneLine(s string) string {
	for i, r := range s {
		if r == '\n' {
			return s[:i]
		}
	}
	return s
}

func float32s(x []float64) []float32 {
	y := make([]float32, len(x))
	for i, v := range x {
		y[i] = float32(v)
	}
	return y
}
