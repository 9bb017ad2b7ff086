// Package mpi implements dist.Comm by MPI: Open MPI, or MPICH and the libraries that
// share its ABI (Intel MPI, MVAPICH, Cray MPI). The library is opened at run time, so
// that a binary starts on machines without one.
//
// What belongs here is the way from dist.Comm to MPI's calls, and that a peer that is
// lost ends a call instead of leaving it waiting for ever: every collective is begun
// without blocking and then looked after. Who is lost is found out by package watch;
// which rank this process is, before MPI says so, by package launch.
//
// Sums are made by MPI in an order of its own choice. All ranks get the same bits,
// which the suite checks, as each library adds two at a time and addition commutes;
// another number of ranks, or another library, may round otherwise.
package mpi

import (
	"errors"
	"fmt"
	"os"
	"strings"
)

// Library chooses an MPI library.
type Library string

// The libraries that Open looks for.
const (
	Any     Library = ""
	OpenMPI Library = "openmpi"
	MPICH   Library = "mpich"
)

// LibraryVariable names, in the environment, the file of the library to open, such as
// /opt/mpich/lib/libmpi.so.12, where it is not one of those that are looked for.
const LibraryVariable = "SWAV_MPI_LIBRARY"

// ErrNone tells that there is no MPI library.
var ErrNone = errors.New("there is no MPI library on this machine")

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
