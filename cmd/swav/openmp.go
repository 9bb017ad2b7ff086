package main

import (
	"os"
	"syscall"
)

// spinCount is how long (in loop turns, some microseconds) an idle OpenMP
// thread spins before it sleeps. The runtime's default, milliseconds, makes
// training many times slower as soon as anything else wants the processors:
// loader workers, a second run.
const spinCount = "2000"

// tuneOpenMP starts the program again with spinCount, unless the user has set
// the waiting policy: the OpenMP runtime reads its environment before main.
func tuneOpenMP() {
	for _, name := range []string{"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"} {
		if _, set := os.LookupEnv(name); set {
			return
		}
	}
	self, err := os.Executable()
	if err != nil {
		return
	}
	_ = syscall.Exec(self, os.Args, append(os.Environ(), "GOMP_SPINCOUNT="+spinCount)) // returns on failure only
}
