package dataset

import (
	"os"
	"syscall"
)

// arrived is when a file came to its place, in nanoseconds: the time of change
// of its inode, which copying and moving set and which cannot be set back.
func arrived(info os.FileInfo) int64 {
	if s, ok := info.Sys().(*syscall.Stat_t); ok {
		return s.Ctim.Nano()
	}
	return info.ModTime().UnixNano()
}
