//go:build cgo

package cpu

import "swav/internal/hostmem"

// packing is a convolution's weights in the layout of its kernels, for the
// forward pass and for backward data. Convolutions of one layer may share it.
type packing struct {
	forward  *hostmem.Memory
	back     *hostmem.Memory // nil where it is not needed
	borrowed bool            // it belongs to another convolution
}

// newPacking makes room: bytes for forward, and back if it is not 0.
func newPacking(forward, back int64) (p packing, err error) {
	if p.forward, err = hostmem.Alloc(forward); err == nil && back != 0 {
		p.back, err = hostmem.Alloc(back)
	}
	return p, err
}

func (p *packing) free() {
	for _, m := range []*hostmem.Memory{p.forward, p.back} {
		if m != nil && !p.borrowed {
			m.Free()
		}
	}
	*p = packing{}
}

// borrow takes another convolution's in the place of its own.
func (p *packing) borrow(from packing) {
	p.free()
	*p = packing{from.forward, from.back, true}
}
