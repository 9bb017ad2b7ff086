//go:build !linux

package hostmem

import "fmt"

// alloc takes Go's heap, which panics where a size is beyond all addresses.
func alloc(bytes int64) (m *Memory, err error) {
	defer func() {
		if r := recover(); r != nil {
			m, err = nil, fmt.Errorf("allocate %s: %v", size(bytes), r)
		}
	}()
	return onHeap(bytes), nil
}

// Available is not known on this system.
func Available() (bytes int64, ok bool) { return 0, false }
