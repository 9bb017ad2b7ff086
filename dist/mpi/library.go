//go:build linux && cgo

package mpi

import (
	"fmt"
	"os"
	"strings"
)

// candidates are the names under which the dynamic loader may know a library.
func candidates(want Library) []string {
	if path := os.Getenv(LibraryVariable); path != "" {
		return []string{path}
	}
	open := []string{"libmpi.so.40", "libmpi.so.80", "libmpi.so.20"}
	mpich := []string{"libmpich.so.12", "libmpi.so.12"}
	switch want {
	case OpenMPI:
		return open
	case MPICH:
		return mpich
	}
	return append(open, mpich...)
}

// none is the error of a machine on which none of the candidates opens; tried is what
// the loader said of each.
func none(want Library, tried []string) error {
	install := "apt-get install openmpi-bin (Debian, Ubuntu), dnf install openmpi (Fedora, RHEL), or `module load openmpi`"
	if want == MPICH {
		install = "apt-get install mpich (Debian, Ubuntu), dnf install mpich (Fedora, RHEL), or `module load mpich`"
	}
	return fmt.Errorf("%w, or the dynamic loader does not find it: %s; or name the file by %s (%s)", ErrNone, install, LibraryVariable, strings.Join(tried, "; "))
}

// quiet keeps a library from handling signals that belong to Go's runtime. (Open MPI
// leaves handlers alone that are there already.) A user's own setting stays.
func quiet() {
	if _, set := os.LookupEnv("UCX_HANDLE_ERRORS"); !set {
		_ = os.Setenv("UCX_HANDLE_ERRORS", "none")
	}
}
