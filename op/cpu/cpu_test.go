//go:build cgo

package cpu

import (
	"testing"

	"swav/op"
	"swav/op/optest"
)

// Every instruction set that this processor has passes the suite, on one thread
// and on several.
func TestBackend(t *testing.T) {
	for _, o := range []Options{{Threads: 3}, {Threads: 1, ISA: "avx512"}, {Threads: 2, ISA: "avx2"}, {Threads: 1, ISA: "base"}} {
		name := o.ISA
		if name == "" {
			name = "best"
		}
		t.Run(name, func(t *testing.T) {
			b, err := New(o)
			if err != nil {
				t.Skip(err)
			}
			b.Close()
			optest.Run(t, func(t *testing.T) op.Backend {
				b, err := New(o)
				if err != nil {
					t.Fatal(err)
				}
				return b
			})
		})
	}
}

// Whoever limits the library's instruction set limits ours.
func TestKernelsObeyTheLibrarysLimit(t *testing.T) {
	for limit, want := range map[string]string{"": "", "ALL": "", "AVX512_CORE_BF16": "", "avx2": "avx2", "AVX2_VNNI": "avx2", "AVX512_CORE": "avx512", "SSE41": "base"} {
		if got := allowed(limit); got != want {
			t.Errorf("limit %q: kernels %q, want %q", limit, got, want)
		}
	}
}

func TestTilesAllowed(t *testing.T) {
	for limit, want := range map[string]bool{
		"": true, "default": true, "ALL": true, "AVX512_CORE_AMX": true, "avx512_core_amx_fp16": true, "AVX512_CORE_BF16": false, "AVX2": false, "SSE41": false,
	} {
		if got := tilesAllowed(limit); got != want {
			t.Errorf("%q: %v, want %v", limit, got, want)
		}
	}
}
