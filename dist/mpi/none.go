//go:build !(linux && cgo)

package mpi

import (
	"errors"

	"swav/dist"
)

// World is the group of all ranks of a launcher.
type World struct{ dist.Comm }

// Library, BroadcastText, OnAbort and Fail are there for callers that build either way.
func (*World) Library() string                           { return "" }
func (*World) BroadcastText(string, int) (string, error) { return "", errors.New("no MPI") }
func (*World) OnAbort(func(error))                       {}
func (*World) Fail(error)                                {}

// Open fails: this binary was built without C.
func Open(Library) (*World, error) {
	return nil, errors.New("this binary was built without cgo, which MPI takes: build it by `make build` on Linux, or run one process with --ranks")
}
