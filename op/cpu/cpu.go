//go:build cgo

// Package cpu implements the operators on the host's processors: convolutions
// and products by oneDNN, everything around them by kernels of its own that are
// compiled for several instruction sets and chosen at run time (kernels.h).
//
// All compute calls of one backend must come from one operating-system thread
// (train.OnThread), which leads the OpenMP pool that oneDNN and the kernels
// share.
//
// What does not belong here: layers, files, flags.
package cpu

/*
#cgo CFLAGS: -O3 -fopenmp -Wall
#cgo LDFLAGS: -ldnnl -fopenmp -lm
#include <stdlib.h>
#include "conv.h"
#include "call.h"
#include "wide.h"
*/
import "C"

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"unsafe"

	xcpu "golang.org/x/sys/cpu"

	"swav/internal/hostmem"
	"swav/op"
)

// Options choose how a backend computes.
type Options struct {
	Threads int    // of the OpenMP pool; 0: all processors
	ISA     string // instruction set of the own kernels, "base", "avx2", "avx512" or "avx512bf16"; "": the best that the processor has and ONEDNN_MAX_CPU_ISA allows
}

// Backend implements op.Backend.
type Backend struct {
	hostmem.Host
	k       *C.swav_kernels
	dnn     *C.swav_dnn
	threads C.int
	wide512 bool            // kernels of 512 bits are wanted
	dot     bool            // and those with bfloat16's dot product
	tiles   bool            // oneDNN multiplies bfloat16 in tiles (AMX)
	scratch *hostmem.Memory // of one operator at a time
	blocks  []*blocks       // of the optimizers' last calls
	parts   [][]float32     // of the last call of vectors
	pair    [2]float64
	ends    [2]C.float
}

var _ op.Backend = (*Backend)(nil)

// New returns a backend; Close gives its memory back.
func New(o Options) (*Backend, error) {
	if o.Threads < 0 || o.Threads > 1024 {
		return nil, fmt.Errorf("cpu: %d threads: want 1 to 1024, or 0 for all processors", o.Threads)
	}
	if o.Threads == 0 {
		o.Threads = runtime.NumCPU()
	}
	if o.ISA == "" {
		o.ISA = allowed(os.Getenv("ONEDNN_MAX_CPU_ISA"))
	}
	k := kernelsFor(o.ISA)
	if k == nil {
		return nil, fmt.Errorf("cpu: kernels for %q: not in this build, or not for this processor; want base, avx2, avx512 or avx512bf16", o.ISA)
	}
	chosen := C.GoString(C.k_isa(k))
	b := &Backend{k: k, threads: C.int(o.Threads), wide512: strings.HasPrefix(chosen, "avx512"), dot: chosen == "avx512bf16",
		tiles: chosen == "avx512bf16" && xcpu.X86.HasAMXBF16 && tilesAllowed(os.Getenv("ONEDNN_MAX_CPU_ISA"))}
	if status := C.swav_dnn_create(&b.dnn, b.threads); status != 0 {
		C.swav_dnn_destroy(b.dnn)
		return nil, fmt.Errorf("cpu: start oneDNN: %w", dnnError(status))
	}
	return b, nil
}

// allowed is the instruction set of our kernels under the variable by which
// oneDNN's users limit the library's.
func allowed(limit string) string {
	switch limit = strings.ToUpper(limit); {
	case limit == "SSE41" || limit == "AVX":
		return "base"
	case strings.HasPrefix(limit, "AVX2"):
		return "avx2"
	case limit == "AVX512_CORE" || limit == "AVX512_CORE_VNNI":
		return "avx512"
	}
	return ""
}

// tilesAllowed tells whether oneDNN may use AMX under that variable.
func tilesAllowed(limit string) bool {
	limit = strings.ToUpper(limit)
	return limit == "" || limit == "ALL" || limit == "DEFAULT" || strings.Contains(limit, "AMX")
}

// dnnError names a oneDNN status.
func dnnError(status C.int) error {
	names := map[C.int]string{1: "out of memory", 2: "invalid arguments", 3: "unimplemented", 4: "iterator ends", 5: "run-time error", 6: "not required"}
	if n, ok := names[status]; ok {
		return fmt.Errorf("oneDNN: %s", n)
	}
	return fmt.Errorf("oneDNN: status %d", int(status))
}

// Name is "cpu".
func (*Backend) Name() string { return "cpu" }

// Describe names the library, the instruction set and the threads.
func (b *Backend) Describe() string {
	return fmt.Sprintf("cpu: oneDNN %s, %s kernels, %d threads", C.GoString(C.swav_dnn_version()), C.GoString(C.k_isa(b.k)), int(b.threads))
}

// Supports tells that all activation types are possible.
func (*Backend) Supports(d op.DType) bool {
	return d == op.Float32 || d == op.BFloat16 || d == op.Float64
}

// Close frees everything.
func (b *Backend) Close() error {
	err := b.Host.Close()
	if b.scratch != nil {
		b.scratch.Free()
		b.scratch = nil
	}
	C.swav_dnn_destroy(b.dnn)
	b.dnn = nil
	return err
}

// temp returns at least n bytes for the operator that is running. It is nil
// after a failure, which has been noted.
func (b *Backend) temp(n int64) *hostmem.Memory {
	if b.scratch == nil || b.scratch.Len() < n {
		m, err := hostmem.Alloc(n)
		if err != nil {
			b.Fail(fmt.Errorf("cpu: scratch memory: %w", err))
			return nil
		}
		if b.scratch != nil {
			b.scratch.Free()
		}
		b.scratch = m
	}
	return b.scratch
}

func bf16(t op.Tensor) C.int { return flag(t.DType == op.BFloat16) }

func ptr(t op.Tensor) unsafe.Pointer { return hostmem.Ptr(t) }
func f32(t op.Tensor) *C.float       { return (*C.float)(hostmem.Ptr(t)) }
func f64(t op.Tensor) *C.double      { return (*C.double)(hostmem.Ptr(t)) }
func rows(t op.Tensor) C.int64_t     { return C.int64_t(t.Rows()) }
func cols(t op.Tensor) C.int64_t     { return C.int64_t(t.Cols()) }

// Write converts src into dst, on all threads where it is large.
func (b *Backend) Write(dst op.Tensor, src []float32) {
	switch {
	case len(src) > 0 && dst.DType == op.Float32:
		op.CheckHost("write", dst, len(src))
		C.k_copy(b.k, ptr(dst), unsafe.Pointer(&src[0]), C.int64_t(dst.Bytes()), b.threads)
	case len(src) > 0 && dst.DType == op.BFloat16:
		op.CheckHost("write", dst, len(src))
		C.k_round(b.k, ptr(dst), unsafe.Pointer(&src[0]), C.int64_t(len(src)), b.threads)
	default:
		b.Host.Write(dst, src)
	}
}

// Zero clears dst.
func (b *Backend) Zero(dst op.Tensor) {
	C.k_copy(b.k, ptr(dst), nil, C.int64_t(dst.Bytes()), b.threads)
}

// Copy converts src to dst.
func (b *Backend) Copy(dst, src op.Tensor) {
	op.CheckCopy(dst, src)
	n := C.int64_t(dst.Elems())
	switch {
	case n == 0:
	case dst.DType == src.DType:
		C.k_copy(b.k, ptr(dst), ptr(src), C.int64_t(dst.Bytes()), b.threads)
	case wide(dst) || wide(src):
		b.wideCopy(dst, src)
	case dst.DType == op.BFloat16:
		C.k_round(b.k, ptr(dst), ptr(src), n, b.threads)
	default:
		C.k_widen(b.k, ptr(dst), ptr(src), n, b.threads)
	}
}

// Add computes dst = x + y.
func (b *Backend) Add(dst, x, y op.Tensor) {
	op.CheckAdd(dst, x, y)
	if wide(dst) {
		C.swav_wide_add(f64(dst), f64(x), f64(y), C.int64_t(dst.Elems()), b.threads)
		return
	}
	C.k_add(b.k, bf16(dst), ptr(dst), ptr(x), ptr(y), C.int64_t(dst.Elems()), b.threads)
}

// Scale multiplies x by s.
func (b *Backend) Scale(x op.Tensor, s float64) {
	op.CheckFloat32("scale", x)
	C.k_scale(b.k, f32(x), C.float(s), C.int64_t(x.Elems()), b.threads)
}

// SumSquares writes the sum of squares of x.
func (b *Backend) SumSquares(dst, x op.Tensor) {
	op.CheckSumSquares(dst, x)
	hostmem.Float64(dst)[0] = float64(C.k_sum_squares(b.k, f32(x), C.int64_t(x.Elems()), b.threads))
}
