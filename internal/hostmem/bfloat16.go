package hostmem

import "math"

// ToBFloat16 rounds to the nearest bfloat16, ties to even; NaN stays NaN.
func ToBFloat16(x float32) uint16 {
	b := math.Float32bits(x)
	if x != x {
		return uint16(b>>16) | 0x40
	}
	return uint16((b + 0x7fff + b>>16&1) >> 16)
}

// FromBFloat16 is exact.
func FromBFloat16(x uint16) float32 { return math.Float32frombits(uint32(x) << 16) }

// RoundSlice converts src to bfloat16.
func RoundSlice(dst []uint16, src []float32) {
	for i, x := range src {
		dst[i] = ToBFloat16(x)
	}
}

// WidenSlice converts src to float32.
func WidenSlice(dst []float32, src []uint16) {
	for i, x := range src {
		dst[i] = FromBFloat16(x)
	}
}
