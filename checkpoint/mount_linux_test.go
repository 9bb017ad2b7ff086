package checkpoint

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
)

// mount mounts a tmpfs of 256 KiB, or skips the test.
func mount(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=256k"); err != nil {
		t.Skipf("a tmpfs cannot be mounted here: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func TestFullDisk(t *testing.T) {
	run := mount(t)
	mustWrite(t, run, 1, 1)
	_, err := Write(run, snapshot(2, 60_000), 1)
	checkFull(t, run, fmt.Sprint(DiskFull(err), " ", err))
	// The run goes on, and the next checkpoint finds room.
	mustWrite(t, run, 3, 1)
	if l := resumable(t, run, 3); l.Step != 3 {
		t.Errorf("step %d", l.Step)
	}
}

func TestReadOnlyFileSystem(t *testing.T) {
	run := mount(t)
	mustWrite(t, run, 1, 1)
	if err := syscall.Mount("tmpfs", run, "tmpfs", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err != nil {
		t.Skipf("it cannot be made read-only: %v", err)
	}
	if err := Prepare(run); err == nil || !strings.Contains(err.Error(), "choose another directory") {
		t.Errorf("Prepare: %v", err)
	}
	if _, err := Write(run, snapshot(2, 10), 1); err == nil || !strings.Contains(err.Error(), "make the run directory writable") {
		t.Errorf("Write: %v", err)
	}
	resumable(t, run, 1)
}
