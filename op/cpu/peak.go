//go:build cgo

package cpu

// #include "peak.h"
import "C"

import "swav/op"

var _ op.Peaker = (*Backend)(nil)

// Peak measures what the processor does at most on the backend's threads; it
// takes about a second.
func (b *Backend) Peak() op.Peak {
	return op.Peak{
		FP32:      float64(C.swav_peak_fp32(b.threads)),
		BF16:      float64(C.swav_peak_bf16(b.threads)),
		Bandwidth: float64(C.swav_peak_bandwidth(b.threads)),
	}
}
