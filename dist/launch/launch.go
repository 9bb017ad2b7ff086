// Package launch finds out what started this process: which launcher, as which of
// how many ranks, and where rank 0 is. It reads environment variables and nothing
// else; what is made of them is the caller's.
package launch

import (
	"fmt"
	"strconv"
)

// Kind is a way to start ranks.
type Kind string

// The launchers.
const (
	Alone      Kind = ""           // none: a single process
	OpenMPI    Kind = "Open MPI"   // mpirun of Open MPI
	Hydra      Kind = "MPICH"      // mpirun of MPICH and Intel MPI
	Slurm      Kind = "SLURM"      // srun
	Torchrun   Kind = "torchrun"   // torchrun's variables, whoever sets them
	Kubernetes Kind = "Kubernetes" // a Job with completionMode: Indexed
)

// World is this process's place among those that were started together.
type World struct {
	Kind Kind
	Rank int // from 0
	Size int // 1 when alone

	// The place among the ranks on this host. LocalSize is 0 where the launcher
	// does not tell.
	LocalRank, LocalSize int

	Master string // the host of rank 0; "": not told
	Port   int    // a port there for the ranks to meet; 0: not told
	Job    string // the scheduler's number or name of the job; "": none
}

// String is one line for a log.
func (w World) String() string {
	if w.Kind == Alone {
		return "one process, no launcher"
	}
	s := fmt.Sprintf("rank %d of %d, started by %s", w.Rank, w.Size, w.Kind)
	if w.Job != "" {
		s += ", job " + w.Job
	}
	return s
}

const (
	maxRanks = 1 << 20
	// torchPort is where PyTorch's jobs meet when nobody says otherwise.
	torchPort = 29500
)

// Detect reads the launcher's variables by env, which is os.Getenv; an empty value
// counts as none. Variables that cannot be true are an error that names them: the
// wrong number of ranks would train something else than what was asked for.
//
// Launchers nest, and the inner one counts: mpirun and torchrun in an allocation of
// SLURM, whose variables are there too. In a batch script without srun, SLURM has
// started one process.
func Detect(env func(string) string) (World, error) {
	e := reader{env: env}
	var w World
	switch {
	case e.has("OMPI_COMM_WORLD_RANK"):
		w = e.mpirun(OpenMPI, "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_SIZE")
	case e.has("PMI_RANK") && (e.has("MPI_LOCALRANKID") || !e.step()):
		w = e.mpirun(Hydra, "PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID", "MPI_LOCALNRANKS")
	case e.has("RANK"):
		w = e.torchrun()
	case e.step():
		w = e.slurm()
	case e.has("JOB_COMPLETION_INDEX") && (e.has("SWAV_RANKS") || e.has("WORLD_SIZE")):
		w = e.kubernetes()
	default:
		w = World{Kind: Alone, Size: 1}
		if size := "WORLD_SIZE"; e.has(size) && e.number(size, "", 1, maxRanks) > 1 {
			e.fail("WORLD_SIZE is %s but RANK is not set: set both, or neither for one process", e.env(size))
		}
	}
	if w.Job == "" {
		w.Job = e.env("SLURM_JOB_ID")
	}
	if e.err != nil {
		return World{}, e.err
	}
	return w, nil
}

// reader reads variables and keeps the first mistake.
type reader struct {
	env func(string) string
	err error
}

func (e *reader) has(name string) bool { return e.env(name) != "" }

func (e *reader) fail(format string, args ...any) {
	if e.err == nil {
		e.err = fmt.Errorf(format, args...)
	}
}

// number reads a variable that must be there, from low to high. cure says what to
// do about it.
func (e *reader) number(name, cure string, low, high int) int {
	if cure == "" {
		cure = "correct it, or unset it"
	}
	s := e.env(name)
	if s == "" {
		e.fail("%s is not set: %s", name, cure)
		return low
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < low || n > high {
		e.fail("%s is %.40q, not a number from %d to %d: %s", name, s, low, high, cure)
		return low
	}
	return n
}

// place reads a rank and the size that it must be below.
func (e *reader) place(rank, size, cure string) (int, int) {
	n := e.number(size, cure, 1, maxRanks)
	r := e.number(rank, cure, 0, maxRanks)
	if r >= n {
		e.fail("%s is %d but %s is %d: ranks count from 0, so the highest is %d: %s", rank, r, size, n, n-1, cure)
	}
	return r, n
}

// mpirun reads the variables that an MPI launcher sets for each of its processes.
func (e *reader) mpirun(kind Kind, rank, size, localRank, localSize string) World {
	cure := "mpirun sets it; unset " + rank + " to run without mpirun"
	w := World{Kind: kind}
	w.Rank, w.Size = e.place(rank, size, cure)
	e.local(&w, localRank, localSize, cure)
	return w
}

// local reads the place on this host, where the launcher tells it.
func (e *reader) local(w *World, rank, size, cure string) {
	if e.has(rank) && e.has(size) {
		w.LocalRank, w.LocalSize = e.place(rank, size, cure)
		if w.LocalSize > w.Size {
			e.fail("%s is %d with %d ranks in all: %s", size, w.LocalSize, w.Size, cure)
		}
	}
}

func (e *reader) torchrun() World {
	w := World{Kind: Torchrun, Job: e.env("TORCHELASTIC_RUN_ID")}
	const cure = "set RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT, or none of them for one process"
	w.Rank, w.Size = e.place("RANK", "WORLD_SIZE", cure)
	e.local(&w, "LOCAL_RANK", "LOCAL_WORLD_SIZE", cure)
	e.meeting(&w, cure, 0)
	return w
}

// kubernetes reads what an indexed Job tells its pods. How many there are it does
// not tell: the Job's template must.
func (e *reader) kubernetes() World {
	const cure = "the Job's template sets SWAV_RANKS to its completions and MASTER_ADDR to the name of the pod of index 0"
	size := "SWAV_RANKS"
	if !e.has(size) {
		size = "WORLD_SIZE"
	}
	w := World{Kind: Kubernetes, Job: e.env("JOB_NAME")}
	w.Rank, w.Size = e.place("JOB_COMPLETION_INDEX", size, cure)
	e.meeting(&w, cure, torchPort)
	return w
}

// meeting reads where the ranks find rank 0. Without a default, the port must be
// given.
func (e *reader) meeting(w *World, cure string, port int) {
	w.Master, w.Port = e.env("MASTER_ADDR"), port
	if e.has("MASTER_PORT") || (port == 0 && w.Size > 1) {
		w.Port = e.number("MASTER_PORT", cure, 1, 65535)
	}
	if w.Master == "" && w.Size > 1 {
		e.fail("MASTER_ADDR is not set: %s", cure)
	}
}
