package join

import (
	"context"

	"swav/dist/mpi"
)

// MPI joins the group of a launcher that MPI knows, such as mpirun. library is the one
// that the launcher belongs to.
func MPI(ctx context.Context, library mpi.Library, o Options) (*Group, error) {
	w, err := mpi.Open(library)
	if err != nil {
		return nil, err
	}
	return group(ctx, w, o)
}
