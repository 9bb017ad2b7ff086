package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"swav/dist/join"
	"swav/dist/launch"
	"swav/dist/mpi"
	"swav/dist/watch"
	"swav/train"
)

// joined runs a command as one rank of the group whose launcher has started this
// process; without a launcher, with nil.
func joined(ctx context.Context, run func(g *join.Group) error) error {
	g, err := openGroup(ctx)
	var lost *watch.Lost
	if errors.As(err, &lost) && lost.Aborted { // another was through already, and says what stopped it
		time.Sleep(partingTime)
		return errNotPassed
	}
	if err != nil {
		return err
	}
	if g == nil {
		return run(nil)
	}
	err = run(g)
	if err != nil && !errors.Is(err, errNotPassed) && !errors.Is(err, context.Canceled) {
		g.Abort(err)
		return parting(g, err)
	}
	return errors.Join(err, g.Close())
}

// partingTime is how long a rank stays after a failure, so that the one that speaks can:
// launchers end all ranks as soon as one has ended badly.
const partingTime = 3 * time.Second

// parting leaves a failed group: one rank says what has happened, in one line.
func parting(g *join.Group, err error) error {
	why := g.Why()
	switch {
	case !g.Speaks():
		time.Sleep(partingTime)
		_ = g.Close()
		return errNotPassed
	case why != nil && !errors.Is(why, err): // another rank's reason
		err = hint(why, "all ranks have ended; the newest checkpoint goes on, on any number of ranks: swav train --resume=auto …")
	}
	_ = g.Close()
	return err
}

// openGroup joins the group of a launcher, nil if there is none.
func openGroup(ctx context.Context) (*join.Group, error) {
	w, err := launch.Detect(os.Getenv)
	if err != nil {
		return nil, usageError{err}
	}
	if w.Size == 1 {
		return nil, nil
	}
	switch library(w) {
	case mpi.OpenMPI:
		return join.MPI(ctx, mpi.OpenMPI, join.Options{})
	case mpi.MPICH:
		return join.MPI(ctx, mpi.MPICH, join.Options{})
	}
	if w.Master == "" || w.Port == 0 {
		return nil, hint(fmt.Errorf("%v, which does not say where the ranks meet", w), "set MASTER_ADDR and MASTER_PORT to a free port of rank 0's host, or start the ranks by mpirun -n %d swav …", w.Size)
	}
	if w.Rank == 0 {
		fmt.Fprintf(os.Stderr, "swav: %v: waiting for all ranks at port %d\n", w, w.Port)
	}
	return join.Variables(ctx, w.Master, w.Port, w.Rank, w.Size, join.Options{})
}

// library is the MPI that a launcher speaks to, Any if it speaks to none.
func library(w launch.World) mpi.Library {
	switch w.Kind {
	case launch.OpenMPI:
		return mpi.OpenMPI
	case launch.Hydra:
		return mpi.MPICH
	case launch.Slurm: // by srun's --mpi
		switch {
		case os.Getenv("PMIX_RANK") != "":
			return mpi.OpenMPI
		case os.Getenv("PMI_RANK") != "" || os.Getenv("PMI_FD") != "":
			return mpi.MPICH
		}
	}
	return mpi.Any
}

// otherRank trains as a rank that is told by rank 0 what to train.
func otherRank(ctx context.Context, g *join.Group, w io.Writer) error {
	_, err := train.Run(ctx, train.Options{Comm: g, Place: g.Place, Log: train.Quiet(func(id string, err error) {
		fmt.Fprintf(w, "swav: rank %d skips %s: %v\n", g.Rank(), id, err)
	})})
	if errors.Is(err, train.ErrInterrupted) {
		return context.Canceled
	}
	return err
}
