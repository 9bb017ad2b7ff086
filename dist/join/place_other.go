//go:build !linux

package join

import "runtime"

func processors() []int {
	all := make([]int, runtime.NumCPU())
	for i := range all {
		all[i] = i
	}
	return all
}

func pin([]int) error { return nil }
