package interop

import (
	"encoding/binary"
	"math"
)

// DType is an element type by its safetensors name.
type DType string

// The element types that safetensors files hold in whole bytes.
const (
	F64    DType = "F64"
	F32    DType = "F32"
	F16    DType = "F16"
	BF16   DType = "BF16"
	F8E4M3 DType = "F8_E4M3"
	F8E5M2 DType = "F8_E5M2"
	I64    DType = "I64"
	I32    DType = "I32"
	I16    DType = "I16"
	I8     DType = "I8"
	U64    DType = "U64"
	U32    DType = "U32"
	U16    DType = "U16"
	U8     DType = "U8"
	Bool   DType = "BOOL"
)

// Size is the number of bytes of an element, 0 for an unknown type.
func (d DType) Size() int {
	switch d {
	case F64, I64, U64:
		return 8
	case F32, I32, U32:
		return 4
	case F16, BF16, I16, U16:
		return 2
	case F8E4M3, F8E5M2, I8, U8, Bool:
		return 1
	}
	return 0
}

// float tells whether elements are floating point numbers that are read.
func (d DType) float() bool { return d == F32 || d == F64 || d == F16 || d == BF16 }

// appendFloat32 appends little-endian elements of a floating point type, whole
// ones, as float32.
func appendFloat32(x []float32, d DType, b []byte) []float32 {
	switch le := binary.LittleEndian; d {
	case F32:
		for ; len(b) > 0; b = b[4:] {
			x = append(x, math.Float32frombits(le.Uint32(b)))
		}
	case F64:
		for ; len(b) > 0; b = b[8:] {
			x = append(x, float32(math.Float64frombits(le.Uint64(b))))
		}
	case F16:
		for ; len(b) > 0; b = b[2:] {
			x = append(x, fromFloat16(le.Uint16(b)))
		}
	case BF16:
		for ; len(b) > 0; b = b[2:] {
			x = append(x, fromBFloat16(le.Uint16(b)))
		}
	}
	return x
}

// fromFloat16 widens an IEEE 754 half.
func fromFloat16(h uint16) float32 {
	sign := uint32(h&0x8000) << 16
	exp, frac := int(h>>10&0x1f), uint32(h&0x3ff)
	switch exp {
	case 0: // zero or subnormal: frac 2^-24
		v := float32(frac) * 0x1p-24
		return math.Float32frombits(sign | math.Float32bits(v))
	case 0x1f: // infinity or NaN
		return math.Float32frombits(sign | 0x7f800000 | frac<<13)
	}
	return math.Float32frombits(sign | uint32(exp-15+127)<<23 | frac<<13)
}

// fromBFloat16 widens a bfloat16, the upper half of a float32.
func fromBFloat16(h uint16) float32 { return math.Float32frombits(uint32(h) << 16) }
