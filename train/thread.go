package train

import (
	"os"
	"runtime"
)

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

// Room has the scheduler run goroutines beside the threads of so many ranks within this
// process; back ends that. A rank returns to Go after each operator, hundreds of times a
// step, and with as few Ps as ranks finds all of them taken by what was started meanwhile:
// on two processors steps of two ranks took a tenth longer.
func Room(ranks int) (back func()) {
	const each = 4 // two gave half of the gain
	before := runtime.GOMAXPROCS(0)
	if os.Getenv("GOMAXPROCS") != "" || before >= each*ranks {
		return func() {}
	}
	runtime.GOMAXPROCS(each * ranks)
	return func() { runtime.GOMAXPROCS(before) }
}
