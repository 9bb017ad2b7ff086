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

// settings of libraries that they read from the environment. A user's own stays.
var settings = map[string]string{
	// UCX leaves signals alone that belong to Go's runtime. (Open MPI leaves handlers alone
	// that are there already.)
	"UCX_HANDLE_ERRORS": "none",
	// Open MPI 4's MPI_Iallreduce in place, at any size and on any number of ranks, sums all
	// at one rank and sends the result to the others: twice the bytes of a link between two
	// ranks, and log2 N times as many between N. Rabenseifner's algorithm (3) sends 2 (N-1)/N
	// of them. Measured, 26 MB between two ranks at 1 Gbit/s: 427 and 220 ms.
	"OMPI_MCA_coll_libnbc_iallreduce_algorithm": "3",
	// With one connection a small sum that a rank waits for queues behind megabytes of
	// gradients. Measured, ResNet-50 at batch 2 a rank over 1 Gbit/s, time beside own work
	// in three rounds each: 1 connection 0.9 to 1.2 s, 2: 0.7 to 1.0, 4: 0.7 to 0.8. (Open
	// MPI 4.1.4 hangs with more than 4.) Short buffers keep what a small sum queues behind
	// short: batch 4 a rank 74 and 80% efficiency with the system's buffers and with these,
	// 68% with 32 KB. Four of 128 KB fill 10 Gbit/s up to 0.4 ms of delay.
	"OMPI_MCA_btl_tcp_links":  "4",
	"OMPI_MCA_btl_tcp_sndbuf": "131072",
	"OMPI_MCA_btl_tcp_rcvbuf": "131072",
}

func set() {
	for name, value := range settings {
		if _, there := os.LookupEnv(name); !there {
			_ = os.Setenv(name, value)
		}
	}
}
