package hostmem

import (
	"math"
	"strings"
	"testing"
	"unsafe"

	"pgregory.net/rapid"

	"swav/op"
)

func TestAllocIsZeroedAndAligned(t *testing.T) {
	for _, n := range []int64{0, 1, 63, 4096, 3 << 20} {
		for name, m := range map[string]*Memory{"heap": onHeap(n), "system": mustAlloc(t, n)} {
			if m.Len() != n {
				t.Errorf("%s: %d bytes, want %d", name, m.Len(), n)
			}
			if n == 0 {
				continue
			}
			v := Uint8(op.Tensor{Mem: m, Shape: []int{int(n)}, DType: op.Uint8})
			if uintptr(unsafe.Pointer(&v[0]))%Alignment != 0 {
				t.Errorf("%s: %d bytes not aligned", name, n)
			}
			for _, x := range v {
				if x != 0 {
					t.Fatalf("%s: memory is not zeroed", name)
				}
			}
			m.Free()
			m.Free()
		}
	}
}

func mustAlloc(t *testing.T, n int64) *Memory {
	t.Helper()
	m, err := Alloc(n)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestAllocRefusesWhatIsNotThere(t *testing.T) {
	if _, ok := Available(); !ok {
		t.Skip("this system does not tell how much memory is available")
	}
	_, err := Alloc(1 << 60)
	if err == nil || !strings.Contains(err.Error(), "smaller batch") {
		t.Errorf("error %v, want advice", err)
	}
	if _, err := Alloc(-1); err == nil {
		t.Error("negative size: no error")
	}
}

func TestViewsStayInsideTheirMemory(t *testing.T) {
	m := mustAlloc(t, 64)
	for name, bad := range map[string]op.Tensor{
		"too long":  {Mem: m, Shape: []int{17}, DType: op.Float32},
		"behind":    {Mem: m, Offset: 64, Shape: []int{1}, DType: op.Float32},
		"before":    {Mem: m, Offset: -4, Shape: []int{1}, DType: op.Float32},
		"unaligned": {Mem: m, Offset: 2, Shape: []int{1}, DType: op.Float32},
		"type":      {Mem: m, Shape: []int{1}, DType: op.BFloat16},
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			Float32(bad)
		}()
	}
	if Float32(op.Tensor{}) != nil {
		t.Error("absent tensor has a view")
	}
}

func TestBFloat16(t *testing.T) {
	for in, want := range map[float32]float32{
		1: 1, -2.5: -2.5, 256: 256, 257: 256, 259: 260,
		1 + 1.0/256: 1, 1 + 3.0/256: 1 + 2.0/128,
		float32(math.Inf(-1)): float32(math.Inf(-1)), math.MaxFloat32: float32(math.Inf(1)),
	} {
		if got := FromBFloat16(ToBFloat16(in)); got != want {
			t.Errorf("%v rounds to %v, want %v", in, got, want)
		}
	}
	if got := FromBFloat16(ToBFloat16(float32(math.NaN()))); got == got {
		t.Errorf("NaN rounds to %v", got)
	}
	rapid.Check(t, func(t *rapid.T) {
		x := rapid.Float32().Draw(t, "x")
		y := FromBFloat16(ToBFloat16(x))
		if ToBFloat16(y) != ToBFloat16(x) {
			t.Fatalf("%v: rounding twice differs", x)
		}
		if d := math.Abs(float64(x) - float64(y)); d > math.Abs(float64(x))/256+1e-38 && !math.IsInf(float64(y), 0) {
			t.Fatalf("%v rounds to %v", x, y)
		}
	})
}
