//go:build !linux

package loader

func background() {}
