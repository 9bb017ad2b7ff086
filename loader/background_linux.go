package loader

import (
	"runtime"

	"golang.org/x/sys/unix"
)

// niceness of worker threads: on a shared core the compute threads get about
// nine times the time.
const niceness = 10

// background puts the calling goroutine on a thread of its own with a lower
// priority. Where the system refuses, it runs at the usual one.
func background() {
	runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
	_ = unix.Setpriority(unix.PRIO_PROCESS, unix.Gettid(), niceness)
}
