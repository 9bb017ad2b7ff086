//go:build cgo

package cpu

// #include "conv.h"
import "C"

import (
	"fmt"
	"unsafe"
)

// Gemm computes c [m, n] = a b + beta c in float32 on row-major matrices whose rows
// start lda, ldb and ldc apart; ta and tb say that a [m, k] or b [k, n] is stored
// transposed. It needs no backend and computes on the calling thread alone, so that
// goroutines may each have a block of a larger product.
func Gemm(ta, tb bool, m, n, k int, a []float32, lda int, b []float32, ldb int, beta float32, c []float32, ldc int) error {
	if m == 0 || n == 0 {
		return nil
	}
	if k <= 0 || short(a, ta, m, k, lda) || short(b, tb, k, n, ldb) || short(c, false, m, n, ldc) {
		panic(fmt.Sprintf("cpu: product of %dx%d and %dx%d: slices of %d, %d and %d are too short", m, k, k, n, len(a), len(b), len(c)))
	}
	status := C.swav_gemm_alone(flag(ta), flag(tb), C.int64_t(m), C.int64_t(n), C.int64_t(k), floats(a), C.int64_t(lda),
		floats(b), C.int64_t(ldb), C.float(beta), floats(c), C.int64_t(ldc))
	if status != 0 {
		return fmt.Errorf("cpu: product of %dx%d and %dx%d: %w", m, k, k, n, dnnError(status))
	}
	return nil
}

func floats(x []float32) *C.float { return (*C.float)(unsafe.Pointer(unsafe.SliceData(x))) }

// short tells that x does not hold a matrix of rows x cols, stored transposed or
// not, with rows of the given distance.
func short(x []float32, transposed bool, rows, cols, distance int) bool {
	if transposed {
		rows, cols = cols, rows
	}
	return distance < cols || len(x) < (rows-1)*distance+cols
}
