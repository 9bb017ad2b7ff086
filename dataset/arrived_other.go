//go:build !linux

package dataset

import "os"

// arrived is when a file was last written, in nanoseconds.
func arrived(info os.FileInfo) int64 { return info.ModTime().UnixNano() }
