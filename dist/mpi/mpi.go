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

import "errors"

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
