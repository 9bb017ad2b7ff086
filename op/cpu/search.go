//go:build cgo

package cpu

// #include <stdlib.h>
// #include "call.h"
import "C"

import (
	"fmt"
	"os"
	"sync"
	"unsafe"
)

// Scanner is the inner loop of a search for nearest neighbours. It computes on the
// calling thread and keeps nothing: goroutines may each scan a part. The zero Scanner
// uses the best instruction set that there is, or that ONEDNN_MAX_CPU_ISA allows.
type Scanner struct{ k *C.swav_kernels }

var bestKernels = sync.OnceValue(func() *C.swav_kernels {
	if k := kernelsFor(allowed(os.Getenv("ONEDNN_MAX_CPU_ISA"))); k != nil {
		return k
	}
	return kernelsFor("")
})

// kernelsFor is the table of an instruction set, "" for the best; nil where it cannot
// run.
func kernelsFor(isa string) *C.swav_kernels {
	name := C.CString(isa)
	defer C.free(unsafe.Pointer(name))
	return C.swav_choose_kernels(name)
}

func (s Scanner) kernels() *C.swav_kernels {
	if s.k != nil {
		return s.k
	}
	return bestKernels()
}

// Tile is how many queries, and how many references, are packed together.
func (s Scanner) Tile() (queries, refs int) {
	k := s.kernels()
	return int(k.search_queries), int(k.search_refs)
}

// Above finds the references whose product with a query is above the query's
// bound. The m queries lie in tiles [k][queries], the n references in tiles
// [k][refs], the last tile of each filled up. For query i it writes the numbers of
// the references in rising order to index[i*n:], the products to sims[i*n:], and
// how many there are to counts[i].
func (s Scanner) Above(queries []float32, m int, refs []float32, n, k int, bounds []float32, index []uint32, sims []float32, counts []int32) {
	if m == 0 || n == 0 {
		return
	}
	s.check(len(queries), m, len(refs), n, k, bounds, index, sims, counts)
	C.k_search_above(s.kernels(), floats(queries), C.int64_t(m), floats(refs), C.int64_t(n), C.int64_t(k), floats(bounds),
		(*C.uint32_t)(unsafe.Pointer(&index[0])), floats(sims), (*C.int32_t)(unsafe.Pointer(&counts[0])))
}

// HasBF16 tells whether there is an AboveBF16.
func (s Scanner) HasBF16() bool { return C.k_search_has_bf16(s.kernels()) != 0 }

// AboveBF16 is Above for rows of pairs of bfloat16, the first of a pair in the low
// half. Products are summed in float32, where an addition may round twice; what is
// below float32's least normal number counts as zero.
func (s Scanner) AboveBF16(queries []uint32, m int, refs []uint32, n, pairs int, bounds []float32, index []uint32, sims []float32, counts []int32) {
	if m == 0 || n == 0 {
		return
	}
	s.check(len(queries), m, len(refs), n, pairs, bounds, index, sims, counts)
	if !s.HasBF16() {
		panic("cpu: scan in bfloat16: these kernels have none")
	}
	C.k_search_above_bf16(s.kernels(), (*C.uint32_t)(unsafe.Pointer(&queries[0])), C.int64_t(m), (*C.uint32_t)(unsafe.Pointer(&refs[0])), C.int64_t(n), C.int64_t(pairs),
		floats(bounds), (*C.uint32_t)(unsafe.Pointer(&index[0])), floats(sims), (*C.int32_t)(unsafe.Pointer(&counts[0])))
}

// check panics where a slice of a scan is too short.
func (s Scanner) check(queries, m, refs, n, k int, bounds []float32, index []uint32, sims []float32, counts []int32) {
	tq, tr := s.Tile()
	if k < 1 || queries < (m+tq-1)/tq*tq*k || refs < (n+tr-1)/tr*tr*k || len(bounds) < m || len(index) < m*n || len(sims) < m*n || len(counts) < m {
		panic(fmt.Sprintf("cpu: scan of %d queries and %d references of %d: slices of %d, %d, %d, %d, %d and %d are too short",
			m, n, k, queries, refs, len(bounds), len(index), len(sims), len(counts)))
	}
}

// Dots computes dst[i], the product of query with row index[i] of rows, whose rows
// are as long as query, in float64: eight sums, of every eighth product, added up in
// pairs.
func (s Scanner) Dots(dst []float64, query, rows []float32, index []uint32) {
	if len(index) == 0 {
		return
	}
	k := len(query)
	if k == 0 || len(dst) < len(index) {
		panic(fmt.Sprintf("cpu: %d products of rows of %d into %d", len(index), k, len(dst)))
	}
	for _, i := range index {
		if int(i) >= len(rows)/k {
			panic(fmt.Sprintf("cpu: row %d of %d", i, len(rows)/k))
		}
	}
	C.k_search_dots(s.kernels(), (*C.double)(&dst[0]), floats(query), floats(rows), C.int64_t(k), (*C.uint32_t)(unsafe.Pointer(&index[0])), C.int64_t(len(index)))
}
