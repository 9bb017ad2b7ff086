//go:build unix && (amd64 || arm64 || riscv64)

package eval

import (
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// mapFloats maps n little-endian float32 of a file, from offset on, into memory: they
// are read when looked at, and their pages are the system's to drop again. It returns
// nil where the file cannot be mapped.
func mapFloats(f *os.File, offset, n int) (data []float32, unmap func() error) {
	if offset%4 != 0 || n == 0 {
		return nil, nil
	}
	b, err := unix.Mmap(int(f.Fd()), 0, offset+4*n, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return nil, nil
	}
	return unsafe.Slice((*float32)(unsafe.Pointer(&b[offset])), n), func() error { return unix.Munmap(b) }
}
