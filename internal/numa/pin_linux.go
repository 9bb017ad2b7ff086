package numa

import (
	"errors"
	"fmt"
	"math/bits"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// word is the size of the elements of the kernel's masks. x/sys's own sets end at
// 1,024 processors.
const word = bits.UintSize

// Usable is the processors that this process may run on; none if the kernel does not
// say.
func Usable() []int {
	mask := make([]uint, maxCPU/word)
	n, _, errno := unix.RawSyscall(unix.SYS_SCHED_GETAFFINITY, 0, uintptr(len(mask)*word/8), uintptr(unsafe.Pointer(&mask[0])))
	if errno != 0 {
		return nil
	}
	var all []int
	for i, w := range mask[:int(n)*8/word] {
		for ; w != 0; w &= w - 1 {
			all = append(all, i*word+bits.TrailingZeros(w))
		}
	}
	return all
}

// Pin keeps the calling thread, and threads that it starts from now on, on these
// processors. The caller has locked its goroutine to the thread
// (runtime.LockOSThread); Go's own threads are not affected.
func Pin(cpus []int) error {
	if len(cpus) == 0 {
		return errors.New("keep a thread on no processors")
	}
	mask := make([]uint, maxCPU/word)
	for _, cpu := range cpus {
		if cpu < 0 || cpu >= maxCPU {
			return fmt.Errorf("keep a thread on processor %d: there is none", cpu)
		}
		mask[cpu/word] |= 1 << (cpu % word)
	}
	_, _, errno := unix.RawSyscall(unix.SYS_SCHED_SETAFFINITY, 0, uintptr(len(mask)*word/8), uintptr(unsafe.Pointer(&mask[0])))
	switch errno {
	case 0:
		return nil
	case syscall.EINVAL:
		return fmt.Errorf("keep a thread on processors %v: this process may not use them, or there are none", cpus)
	}
	return fmt.Errorf("keep a thread on processors %v: %w", cpus, errno)
}
