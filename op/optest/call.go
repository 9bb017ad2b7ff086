package optest

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"swav/internal/hostmem"
	"swav/op"
)

// role is what a call does with an operand.
type role uint8

const (
	input   role = iota // must stay as it is
	output              // overwritten: holds rubbish before
	updated             // read and written
)

// operand is one tensor of a call: its contents before, and after the call what
// the backend under test and the reference made of it.
type operand struct {
	name  string
	dtype op.DType
	shape []int
	init  []float64
	role  role

	over  *operand  // on the backend under test, in this operand's memory
	truth []float64 // if set, backend and reference must give exactly this
	scale float64   // least size of the terms behind an element; see bounds
	loose float64   // if set, bound of the backend under test instead; see fastBound
	nan   bool      // NaN is right where the reference has it
	taint bool      // with nan: NaN may reach other elements too

	got, want []float64
}

// call is one call of one operator, or a short chain of them.
type call struct {
	c        *check
	operands []*operand
}

func (c *check) call() *call { return &call{c: c} }

func (k *call) add(o *operand) *operand {
	k.operands = append(k.operands, o)
	return o
}

// in is an input of the given contents, rounded to its type.
func (k *call) in(name string, d op.DType, x []float64, shape ...int) *operand {
	if len(x) != product(shape...) {
		k.c.fatalf("%s: %d values for shape %v", name, len(x), shape)
	}
	return k.add(&operand{name: name, dtype: d, shape: shape, init: round(d, x)})
}

// out is an output; it must be overwritten wholly.
func (k *call) out(name string, d op.DType, shape ...int) *operand {
	rubbish := slices.Repeat([]float64{math.NaN()}, product(shape...))
	if d == op.Uint8 {
		rubbish = slices.Repeat([]float64{203}, product(shape...))
	}
	return k.add(&operand{name: name, dtype: d, shape: shape, init: rubbish, role: output})
}

// outOver is an output that the backend under test writes over an input, where
// the contract allows it; the reference has it apart.
func (k *call) outOver(name string, in *operand) *operand {
	o := k.out(name, in.dtype, in.shape...)
	o.over = in
	return o
}

// update is an operand that is read and written.
func (k *call) update(name string, d op.DType, x []float64, shape ...int) *operand {
	o := k.in(name, d, x, shape...)
	o.role = updated
	return o
}

// round rounds to what Write can bring to the device, which is at most float32.
func round(d op.DType, x []float64) []float64 {
	y := make([]float64, len(x))
	for i, v := range x {
		y[i] = float64(float32(v))
		if d == op.BFloat16 {
			y[i] = float64(hostmem.FromBFloat16(hostmem.ToBFloat16(float32(v))))
		}
	}
	return y
}

// side is a backend with the operands of a call in its memory.
type side struct {
	op.Backend
	c      *check
	places map[*operand]place
}

// place is an operand between its guards.
type place struct {
	mem      op.Memory
	whole, t op.Tensor
	lead     int // guard elements before t
}

// at is the operand's tensor; absent for nil.
func (s *side) at(o *operand) op.Tensor {
	if o == nil {
		return op.Tensor{}
	}
	return s.places[o].t
}

// conv compiles a convolution, which the case closes.
func (s *side) conv(p op.ConvParams) op.Conv {
	v, err := s.NewConv(p)
	if err != nil {
		s.c.fatalf("compile %+v: %v", p, err)
	}
	return v
}

// guardBytes stand on either side of every operand.
const guardBytes = 64

// guard is the i-th guard value: NaN, which spoils whatever reads it, in turn
// with a number, which shows who adds to it.
func guard(d op.DType, i int) float64 {
	switch {
	case d == op.Uint8:
		return 201
	case i%2 == 0:
		return math.NaN()
	}
	return 77
}

// put allocates the operands on b and writes their contents. Every second one
// starts one element beyond an aligned place.
func (k *call) put(b op.Backend, share bool) *side {
	s := &side{Backend: b, c: k.c, places: map[*operand]place{}}
	for i, o := range k.operands {
		if share && o.over != nil {
			s.places[o] = s.places[o.over]
			continue
		}
		n := len(o.init)
		g := guardBytes / o.dtype.Size()
		lead := g + i%2
		contents := make([]float32, lead+n+g)
		for j := range contents {
			contents[j] = float32(guard(o.dtype, j))
		}
		for j, v := range o.init {
			contents[lead+j] = float32(v)
		}
		mem, err := b.Alloc(int64(len(contents)) * int64(o.dtype.Size()))
		if err != nil {
			k.c.fatalf("memory for %s: %v", o.name, err)
		}
		whole := op.Tensor{Mem: mem, Shape: []int{len(contents)}, DType: o.dtype}
		b.Write(whole, contents)
		s.places[o] = place{mem: mem, whole: whole, t: whole.Part(lead, o.shape...), lead: lead}
	}
	return s
}

func read(b op.Backend, t op.Tensor) []float64 {
	x := make([]float64, t.Elems())
	if t.DType == op.Float64 {
		b.ReadFloat64(x, t)
		return x
	}
	y := make([]float32, t.Elems())
	b.Read(y, t)
	for i, v := range y {
		x[i] = float64(v)
	}
	return x
}

// take reads all operands back, guards included, and frees them. It reports
// guards that changed, and inputs unless an output lies over them.
func (k *call) take(s *side) map[*operand][]float64 {
	found := map[*operand][]float64{}
	written := map[*operand]bool{}
	for _, o := range k.operands {
		if o.over != nil && s.places[o].mem == s.places[o.over].mem {
			written[o.over] = true
		}
	}
	for _, o := range k.operands {
		p := s.places[o]
		whole := read(s.Backend, p.whole)
		n := len(o.init)
		for j, v := range whole {
			if j >= p.lead && j < p.lead+n {
				continue
			}
			if !same(v, guard(o.dtype, j)) {
				k.c.errorf("%s: %s: element %d, outside of its %d elements, is written: %v", s.Name(), o.name, j-p.lead, n, v)
				break
			}
		}
		found[o] = whole[p.lead : p.lead+n]
		if o.role == input && !written[o] {
			for j, v := range found[o] {
				if !same(v, o.init[j]) {
					k.c.errorf("%s: input %s changed: element %d was %v, is %v", s.Name(), o.name, j, o.init[j], v)
					break
				}
			}
		}
	}
	for _, o := range k.operands {
		if o.over == nil || s.places[o].mem != s.places[o.over].mem {
			s.Free(s.places[o].mem)
		}
	}
	return found
}

// same compares bits, but takes any NaN for any other.
func same(a, b float64) bool {
	return math.Float64bits(a) == math.Float64bits(b) || a != a && b != b
}

// on runs f once on a backend and returns the operands' contents.
func (k *call) on(b op.Backend, share bool, f func(s *side)) map[*operand][]float64 {
	s := k.put(b, share)
	f(s)
	if err := b.Sync(); err != nil {
		k.c.fatalf("%s: %v", b.Name(), err)
	}
	return k.take(s)
}

// alone runs f on the backend under test, once, and fills got.
func (k *call) alone(f func(s *side)) {
	found := k.on(k.c.b, true, f)
	for _, o := range k.operands {
		o.got = found[o]
	}
}

// run runs f on the reference once and on the backend under test twice, and
// compares: the two runs in every bit, backend and reference within the
// operator's bound, both with the truth where a case knows it.
func (k *call) run(f func(s *side)) {
	want := k.on(k.c.ref, false, f)
	got := k.on(k.c.b, true, f)
	again := k.on(k.c.b, true, f)
	for _, o := range k.operands {
		if o.role == input {
			continue
		}
		o.got, o.want = got[o], want[o]
		for i := range o.got {
			if !same(o.got[i], again[o][i]) {
				k.c.errorf("%s: element %d of two equal calls is %v, then %v", o.name, i, o.got[i], again[o][i])
				break
			}
		}
		if o.truth != nil {
			truth := o.truth
			if o.dtype != op.Float64 {
				truth = round(o.dtype, o.truth)
			}
			k.c.compare("the reference's "+o.name, o.want, truth, bound{}, o)
			k.c.compare(o.name, o.got, truth, o.bound(bound{}), o)
			continue
		}
		b := k.c.bound()
		if o.dtype == op.Float64 && k.readsFloat64() {
			b = bound{fp32: float64Bound}
		}
		k.c.compare(o.name, o.got, o.want, o.bound(b), o)
	}
}

// bound is b, unless the operand has a bound of its own.
func (o *operand) bound(b bound) bound {
	if o.loose > 0 {
		return bound{fp32: o.loose, bf16: o.loose}
	}
	return b
}

// readsFloat64 tells whether an input of the call is float64, so that float64
// results have nothing to be coarse from.
func (k *call) readsFloat64() bool {
	return slices.ContainsFunc(k.operands, func(o *operand) bool { return o.role == input && o.dtype == op.Float64 })
}

// refused wants f to panic before any work, with a message that names the
// shapes of these operands.
func (k *call) refused(what string, f func(s *side), named ...*operand) {
	for _, o := range k.operands {
		if o.role == output {
			o.init = slices.Repeat([]float64{5}, len(o.init))
		}
		o.role = input // nothing may change
	}
	s := k.put(k.c.b, true)
	message := func() (m string) {
		defer func() {
			if r := recover(); r != nil {
				m = fmt.Sprint(r)
			}
		}()
		f(s)
		return ""
	}()
	if message == "" {
		k.c.errorf("%s is accepted", what)
	}
	for _, o := range named {
		if message != "" && !strings.Contains(message, fmt.Sprint(o.shape)) {
			k.c.errorf("%s: message %q does not name the shape %v of %s", what, message, o.shape, o.name)
		}
	}
	k.take(s)
}
