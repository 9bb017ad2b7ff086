//go:build unix

package main

import (
	"os"
	"syscall"
)

// stopSignals end a command in order: a run saves and leaves. SLURM sends SIGUSR1 where
// a script asks for it some time before the limit (--signal=USR1@120).
var stopSignals = []os.Signal{os.Interrupt, syscall.SIGTERM, syscall.SIGUSR1}
