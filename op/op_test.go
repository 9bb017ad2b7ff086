package op

import (
	"slices"
	"strings"
	"testing"
)

func TestTensorViews(t *testing.T) {
	x := tensor(BFloat16, 4, 3, 2)
	x.Offset = 10
	if x.Elems() != 24 || x.Bytes() != 48 || x.Rows() != 12 || x.Cols() != 2 {
		t.Errorf("%v: %d elements, %d bytes, %d rows, %d columns", x, x.Elems(), x.Bytes(), x.Rows(), x.Cols())
	}
	for name, c := range map[string]struct {
		got    Tensor
		offset int64
		shape  []int
	}{
		"slice":       {x.Slice(1, 2), 10 + 12, []int{2, 3, 2}},
		"empty slice": {x.Slice(4, 0), 10 + 48, []int{0, 3, 2}},
		"reshape":     {x.Reshape(12, 2), 10, []int{12, 2}},
		"part":        {x.Part(5, 19), 10 + 10, []int{19}},
	} {
		if c.got.Offset != c.offset || !slices.Equal(c.got.Shape, c.shape) || c.got.DType != BFloat16 {
			t.Errorf("%s: %v at %d, want %v at %d", name, c.got, c.got.Offset, c.shape, c.offset)
		}
	}
	for name, f := range map[string]func(){
		"slice":          func() { x.Slice(3, 2) },
		"negative slice": func() { x.Slice(-1, 2) },
		"reshape":        func() { x.Reshape(5, 5) },
		"part":           func() { x.Part(6, 19) },
		"negative part":  func() { x.Part(-1, 2) },
	} {
		if m := caught(f); !strings.Contains(m, x.String()) {
			t.Errorf("%s beyond the tensor: message %q does not name it", name, m)
		}
	}
	if (Tensor{}).Present() || (Tensor{}).String() != "absent" {
		t.Error("the zero tensor is not absent")
	}
}

func TestTypes(t *testing.T) {
	for d, size := range map[DType]int{Float32: 4, BFloat16: 2, Float64: 8, Uint8: 1} {
		if d.Size() != size {
			t.Errorf("%v has %d bytes, want %d", d, d.Size(), size)
		}
	}
	for _, d := range []DType{Float32, BFloat16} {
		if got, err := ParsePrecision(d.String()); err != nil || got != d {
			t.Errorf("%v reads back as %v, %v", d, got, err)
		}
	}
	if _, err := ParsePrecision("fp16"); err == nil || !strings.Contains(err.Error(), "bf16") {
		t.Errorf("error %v, want the choices", err)
	}
}

func TestConvGeometry(t *testing.T) {
	p := ConvParams{Batch: 2, Height: 224, Width: 96, In: 3, Out: 64, Kernel: 7, Stride: 2, Pad: 3}
	if p.OutHeight() != 112 || p.OutWidth() != 48 {
		t.Errorf("%d x %d", p.OutHeight(), p.OutWidth())
	}
	if want := int64(2 * 112 * 48 * 64 * 3 * 49); p.MACs() != want {
		t.Errorf("%d multiply-accumulates, want %d", p.MACs(), want)
	}
	if q := (PoolParams{Kernel: 3, Stride: 2, Pad: 1}); q.Out(112) != 56 {
		t.Errorf("pooled to %d", q.Out(112))
	}
}
