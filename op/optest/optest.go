// Package optest is the suite that every backend passes: each operator of
// op.Backend, forward and backward, against op/ref and against truths that do
// not come from op/ref (values worked out by hand, naive loops over small
// integers, finite differences, adjoints, the papers' formulas).
//
// A backend's own test is one call:
//
//	func TestBackend(t *testing.T) {
//		optest.Run(t, func(t *testing.T) op.Backend { return ref.New() })
//	}
//
// Every case runs its operator twice and wants the same bits; every operand
// lies between guard values, at odd offsets, and inputs must stay as they were.
// How far results may be from op/ref stands in one table (bounds.go). A NaN is
// an error wherever the reference has a number.
//
// Beyond the contracts in package op, the suite fixes two things: an operator
// passes NaN on (max(0, NaN) is NaN, and NaN wins a pooling window), so that a
// run that goes bad shows it; and Write and Read take every element type, uint8
// too.
//
// What does not belong here: speed, and whole networks (package verify).
package optest

import (
	"fmt"
	"hash/fnv"
	"maps"
	"math/rand/v2"
	"reflect"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"testing"

	"swav/op"
	"swav/op/ref"
)

// example is one case of an operator.
type example struct {
	name string
	run  func(c *check)
}

// examples maps every method of op.Backend to its cases, those of op.Conv under
// "Conv.".
var examples = func() map[string][]example {
	all := map[string][]example{}
	for _, part := range []map[string][]example{
		deviceExamples, rankExamples, elementwiseExamples, convExamples, batchNormExamples,
		batchNormBackwardExamples, poolExamples, denseExamples, methodExamples, clusterExamples, optimizerExamples,
	} {
		for name, list := range part {
			all[name] = append(all[name], list...)
		}
	}
	for name, list := range mistakeExamples {
		all[name] = append(all[name], list...)
	}
	return all
}()

// operators lists the methods that a backend must have, by reflection, so that
// a new one cannot be forgotten here.
func operators() []string {
	var names []string
	for m := range reflect.TypeFor[op.Backend]().Methods() {
		names = append(names, m.Name)
	}
	for m := range reflect.TypeFor[op.Conv]().Methods() {
		names = append(names, "Conv."+m.Name)
	}
	return names
}

// uncovered compares the cases with the operators.
func uncovered(operators []string, cases map[string][]example) []string {
	var faults []string
	for _, name := range operators {
		if len(cases[name]) == 0 {
			faults = append(faults, "operator "+name+" has no case")
		}
	}
	for name := range cases {
		if !slices.Contains(operators, name) {
			faults = append(faults, "cases for "+name+", which is no operator")
		}
	}
	slices.Sort(faults)
	return faults
}

// Run runs the suite. newBackend is called several times; the suite closes what
// it returns, and uses each backend from one goroutine locked to its thread.
func Run(t *testing.T, newBackend func(t *testing.T) op.Backend) {
	for _, fault := range uncovered(operators(), examples) {
		t.Error(fault)
	}
	for _, name := range slices.Sorted(maps.Keys(examples)) {
		t.Run(name, func(t *testing.T) {
			for _, failure := range runOperator(name, func() op.Backend { return newBackend(t) }) {
				t.Error(failure)
			}
		})
	}
}

// runOperator runs one operator's cases on one backend and returns what fails.
func runOperator(name string, newBackend func() op.Backend) (failures []string) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	b := newBackend()
	for _, e := range examples[name] {
		c := newCheck(name, e.name, b, newBackend)
		c.guarded(func() { e.run(c) })
		failures = append(failures, c.failures...)
	}
	if err := b.Close(); err != nil {
		failures = append(failures, fmt.Sprintf("close: %v", err))
	}
	return failures
}

// check is what a case works with.
type check struct {
	op, name string
	b        op.Backend // under test
	ref      *ref.Backend
	another  func() op.Backend // of the same kind, for a further rank
	rng      *rand.Rand
	failures []string
}

func newCheck(operator, name string, b op.Backend, another func() op.Backend) *check {
	seed := fnv.New64a()
	_, _ = seed.Write([]byte(operator + "/" + name))
	return &check{op: operator, name: name, b: b, ref: ref.New(), another: another, rng: rand.New(rand.NewPCG(seed.Sum64(), 1))}
}

// stop unwinds a case that cannot go on.
type stop struct{}

// maxFailures keeps one wrong operator from filling the screen.
const maxFailures = 5

func (c *check) errorf(format string, args ...any) {
	if len(c.failures) < maxFailures {
		c.failures = append(c.failures, c.name+": "+fmt.Sprintf(format, args...))
	}
}

func (c *check) fatalf(format string, args ...any) {
	c.errorf(format, args...)
	panic(stop{})
}

// guarded runs f; a panic is a failure of the case, not of the suite.
func (c *check) guarded(f func()) {
	defer func() {
		if r := recover(); r != nil {
			if _, ok := r.(stop); !ok {
				c.errorf("panic: %v%s", r, origin(string(debug.Stack())))
			}
		}
		if err := c.ref.Close(); err != nil {
			c.errorf("close the reference: %v", err)
		}
	}()
	f()
}

// origin is where a stack's panic came from: the frames above the suite.
func origin(stack string) string {
	_, stack, _ = strings.Cut(stack, "panic(")
	var frames strings.Builder
	for i, line := range strings.Split(stack, "\n") {
		if strings.HasPrefix(line, "swav/op/optest.") || i > 20 {
			break
		}
		if i >= 2 { // behind panic's own frame
			frames.WriteString("\n  " + line)
		}
	}
	return frames.String()
}

// precisions are the activation types of the backend under test. Float32 is not
// optional.
func (c *check) precisions() []op.DType {
	types := []op.DType{op.Float32}
	for _, d := range []op.DType{op.BFloat16, op.Float64} {
		if c.b.Supports(d) {
			types = append(types, d)
		}
	}
	return types
}

// normal draws n numbers of unit variance.
func (c *check) normal(n int) []float64 {
	x := make([]float64, n)
	for i := range x {
		x[i] = c.rng.NormFloat64()
	}
	return x
}

// ints draws n integers from lo to hi.
func (c *check) ints(n, lo, hi int) []float64 {
	x := make([]float64, n)
	for i := range x {
		x[i] = float64(lo + c.rng.IntN(hi-lo+1))
	}
	return x
}

// product is the number of elements of a shape.
func product(shape ...int) int {
	n := 1
	for _, d := range shape {
		n *= d
	}
	return n
}
