//go:build !cgo

package kernel

func compiled() []Set { return nil }
