package train

import (
	"fmt"

	"swav/op"
	"swav/op/cpu"
	"swav/op/ref"
)

// NewBackend starts a backend by name: cpu, ref, or auto for the fastest that
// this build has. threads 0 means all processors. Call it on the thread that
// computes (OnThread).
func NewBackend(name string, threads int) (op.Backend, error) {
	switch name {
	case "ref":
		return ref.New(), nil
	case "cpu":
		return cpu.New(cpu.Options{Threads: threads})
	case "auto", "":
		if b, err := cpu.New(cpu.Options{Threads: threads}); err == nil {
			return b, nil
		}
		return ref.New(), nil
	}
	return nil, fmt.Errorf("backend %q: want cpu, ref or auto", name)
}
