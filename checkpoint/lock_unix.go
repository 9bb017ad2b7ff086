//go:build unix

package checkpoint

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// Lock claims a run directory for this process until release is called or the
// process ends, however it ends. A second process gets an error.
func Lock(run string) (release func() error, err error) {
	path := filepath.Join(run, lockName)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o666)
	if err != nil {
		return nil, fmt.Errorf("lock run directory: %w", err)
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	switch {
	case errors.Is(err, syscall.EWOULDBLOCK):
		pid, _ := io.ReadAll(io.LimitReader(f, 32))
		f.Close()
		return nil, fmt.Errorf("run directory %s is in use by process %s: wait for it or choose another directory", run, strings.TrimSpace(string(pid)))
	case err != nil:
		// File systems without locks, such as some network ones: nothing to hold.
		f.Close()
		return func() error { return nil }, nil
	}
	// Whose it is, for the message above only; the lock holds without.
	if f.Truncate(0) == nil {
		fmt.Fprintln(f, os.Getpid())
	}
	return f.Close, nil
}
