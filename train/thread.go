package train

import "runtime"

// OnThread runs f on a goroutine locked to its own operating-system thread and
// waits for it. All compute calls of a rank must come from one such thread: the
// OpenMP runtime behind the CPU backend keeps a pool of workers for each calling
// thread, and a wandering goroutine would start a new one wherever it lands.
func OnThread(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		done <- f()
	}()
	return <-done
}
