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
