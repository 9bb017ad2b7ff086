//go:build !linux

package numa

import "runtime"

// Usable is the processors that this process may run on.
func Usable() []int {
	all := make([]int, runtime.NumCPU())
	for i := range all {
		all[i] = i
	}
	return all
}

// Pin does nothing here: the system gives no such promise, and needs none.
func Pin([]int) error { return nil }
