package hostmem

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// hugePage is the size from which transparent huge pages are asked for.
const hugePage = 2 << 20

// alloc maps anonymous memory: zeroed by the kernel, unknown to Go's garbage
// collector, and in huge pages where the kernel grants them.
func alloc(bytes int64) (*Memory, error) {
	if bytes == 0 {
		return &Memory{}, nil
	}
	if int64(int(bytes)) != bytes {
		return nil, fmt.Errorf("allocate %s: more than an address can reach", size(bytes))
	}
	b, err := unix.Mmap(-1, 0, int(bytes), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return nil, fmt.Errorf("allocate %s: %w", size(bytes), err)
	}
	if bytes >= hugePage {
		_ = unix.Madvise(b, unix.MADV_HUGEPAGE) // advice only
	}
	m := &Memory{b: b, free: func() { _ = unix.Munmap(b) }}
	runtime.SetFinalizer(m, (*Memory).Free)
	return m, nil
}

// Available is the memory that can be had without swapping: the smaller of what
// the system and this process's control group have left.
func Available() (bytes int64, ok bool) {
	data, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0, false
	}
	kb, ok := field(string(data), "MemAvailable:")
	if !ok {
		return 0, false
	}
	if left, limited := leftInGroup("/sys/fs/cgroup"); limited {
		return min(kb<<10, left), true
	}
	return kb << 10, true
}

// leftInGroup is what a control group (version 2) still grants. Its use counts
// cached files, which the kernel drops when memory is asked for.
func leftInGroup(dir string) (bytes int64, limited bool) {
	limit, err1 := readNumber(dir + "/memory.max")
	used, err2 := readNumber(dir + "/memory.current")
	if err1 != nil || err2 != nil {
		return 0, false
	}
	if stat, err := os.ReadFile(dir + "/memory.stat"); err == nil {
		active, _ := field(string(stat), "active_file")
		inactive, _ := field(string(stat), "inactive_file")
		used -= active + inactive
	}
	return max(0, limit-max(0, used)), true
}

// field is the number behind a name at the head of a line.
func field(text, name string) (int64, bool) {
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) >= 2 && f[0] == name {
			n, err := strconv.ParseInt(f[1], 10, 64)
			return n, err == nil
		}
	}
	return 0, false
}

func readNumber(path string) (int64, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(strings.TrimSpace(string(data)), 10, 64)
}
