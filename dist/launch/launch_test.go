package launch

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// variables reads "NAME=value NAME=value".
func variables(s string) func(string) string {
	all := map[string]string{}
	for _, f := range strings.Fields(s) {
		name, value, _ := strings.Cut(f, "=")
		all[name] = value
	}
	return func(name string) string { return all[name] }
}

const (
	ompi  = "OMPI_COMM_WORLD_RANK=3 OMPI_COMM_WORLD_SIZE=8 OMPI_COMM_WORLD_LOCAL_RANK=1 OMPI_COMM_WORLD_LOCAL_SIZE=2 "
	hydra = "PMI_RANK=2 PMI_SIZE=4 MPI_LOCALRANKID=0 MPI_LOCALNRANKS=2 "
	// srun -n 23 on three nodes, its 21st task.
	srun = "SLURM_JOB_ID=77 SLURM_STEP_ID=1 SLURM_PROCID=20 SLURM_NTASKS=23 SLURM_STEP_NUM_TASKS=23 SLURM_LOCALID=0 SLURM_NODEID=2 " +
		"SLURM_TASKS_PER_NODE=10(x2),3 SLURM_STEP_TASKS_PER_NODE=10(x2),3 SLURM_NODELIST=node[01-03] SLURM_JOB_NODELIST=node[01-03] SLURM_STEP_NODELIST=node[01-03] "
	batch = "SLURM_JOB_ID=77 SLURM_PROCID=0 SLURM_NTASKS=23 SLURM_LOCALID=0 SLURM_NODEID=0 SLURM_TASKS_PER_NODE=10(x2),3 SLURM_NODELIST=node[01-03] "
	torch = "RANK=5 WORLD_SIZE=8 LOCAL_RANK=1 LOCAL_WORLD_SIZE=4 MASTER_ADDR=10.0.0.1 MASTER_PORT=29400 TORCHELASTIC_RUN_ID=none "
)

func TestDetect(t *testing.T) {
	openMPI := World{Kind: OpenMPI, Rank: 3, Size: 8, LocalRank: 1, LocalSize: 2}
	inJob := func(w World) World { w.Job = "77"; return w }
	slurm := World{Kind: Slurm, Rank: 20, Size: 23, LocalSize: 3, Master: "node01", Port: 12000 + 77*31 + 1, Job: "77"}
	for name, c := range map[string]struct {
		env  string
		want World
	}{
		"nothing":                   {"HOME=/root", World{Size: 1}},
		"mpirun":                    {ompi, openMPI},
		"mpirun in a batch script":  {ompi + batch, inJob(openMPI)},
		"mpirun by srun's daemons":  {ompi + srun, inJob(openMPI)},
		"mpirun with torch's":       {ompi + torch, openMPI},
		"mpirun, no local place":    {"OMPI_COMM_WORLD_RANK=0 OMPI_COMM_WORLD_SIZE=2", World{Kind: OpenMPI, Size: 2}},
		"MPICH":                     {hydra, World{Kind: Hydra, Rank: 2, Size: 4, LocalSize: 2}},
		"MPICH by srun's daemons":   {hydra + srun, World{Kind: Hydra, Rank: 2, Size: 4, LocalSize: 2, Job: "77"}},
		"PMI alone":                 {"PMI_RANK=1 PMI_SIZE=2", World{Kind: Hydra, Rank: 1, Size: 2}},
		"srun":                      {srun, slurm},
		"srun with PMI2":            {srun + "PMI_RANK=20 PMI_SIZE=23", slurm},
		"srun with torch's address": {srun + "MASTER_ADDR=head MASTER_PORT=29500 WORLD_SIZE=23", func() World { w := slurm; w.Master, w.Port = "head", 29500; return w }()},
		"srun, second node": {strings.NewReplacer("PROCID=20", "PROCID=19", "LOCALID=0", "LOCALID=9", "NODEID=2", "NODEID=1").Replace(srun),
			func() World { w := slurm; w.Rank, w.LocalRank, w.LocalSize = 19, 9, 10; return w }()},
		// The step is smaller than the job, and SLURM_TASKS_PER_NODE may be the job's.
		"srun of a part": {"SLURM_JOB_ID=77 SLURM_STEP_ID=0 SLURM_PROCID=1 SLURM_NTASKS=8 SLURM_STEP_NUM_TASKS=2 SLURM_LOCALID=0 SLURM_NODEID=1 " +
			"SLURM_TASKS_PER_NODE=4(x2) SLURM_STEP_TASKS_PER_NODE=1(x2) SLURM_NODELIST=a[1-4] SLURM_STEP_NODELIST=a[3-4]",
			World{Kind: Slurm, Rank: 1, Size: 2, LocalSize: 1, Master: "a3", Port: 12000 + 77*31, Job: "77"}},
		"srun, few variables":      {"SLURM_STEP_ID=0 SLURM_PROCID=1 SLURM_NTASKS=2", World{Kind: Slurm, Rank: 1, Size: 2}},
		"srun, only a node's":      {"SLURM_STEP_ID=0 SLURM_PROCID=1 SLURM_NTASKS=4 SLURM_LOCALID=1 SLURM_NTASKS_PER_NODE=2", World{Kind: Slurm, Rank: 1, Size: 4, LocalRank: 1, LocalSize: 2}},
		"batch script":             {batch, World{Size: 1, Job: "77"}},
		"shell of salloc":          {batch + "SLURM_STEP_ID=4294967290", World{Size: 1, Job: "77"}},
		"batch script as step":     {batch + "SLURM_STEP_ID=4294967291", World{Size: 1, Job: "77"}},
		"torchrun":                 {torch, World{Kind: Torchrun, Rank: 5, Size: 8, LocalRank: 1, LocalSize: 4, Master: "10.0.0.1", Port: 29400, Job: "none"}},
		"torchrun by srun":         {torch + srun, World{Kind: Torchrun, Rank: 5, Size: 8, LocalRank: 1, LocalSize: 4, Master: "10.0.0.1", Port: 29400, Job: "none"}},
		"torch's, one rank":        {"RANK=0 WORLD_SIZE=1", World{Kind: Torchrun, Size: 1}},
		"one of one, no rank":      {"WORLD_SIZE=1", World{Size: 1}},
		"indexed Job":              {"JOB_COMPLETION_INDEX=1 SWAV_RANKS=4 MASTER_ADDR=swav-0.swav", World{Kind: Kubernetes, Rank: 1, Size: 4, Master: "swav-0.swav", Port: 29500}},
		"indexed Job, torch's":     {"JOB_COMPLETION_INDEX=1 WORLD_SIZE=4 MASTER_ADDR=swav-0.swav MASTER_PORT=3000 JOB_NAME=swav", World{Kind: Kubernetes, Rank: 1, Size: 4, Master: "swav-0.swav", Port: 3000, Job: "swav"}},
		"indexed Job of its own":   {"JOB_COMPLETION_INDEX=7", World{Size: 1}},
		"indexed Job, one":         {"JOB_COMPLETION_INDEX=0 SWAV_RANKS=1", World{Kind: Kubernetes, Size: 1, Port: 29500}},
		"Kubeflow's PyTorchJob":    {"RANK=1 WORLD_SIZE=2 MASTER_ADDR=m MASTER_PORT=23456 JOB_COMPLETION_INDEX=0", World{Kind: Torchrun, Rank: 1, Size: 2, Master: "m", Port: 23456}},
		"empty values are no ones": {"RANK= WORLD_SIZE= OMPI_COMM_WORLD_RANK= SLURM_STEP_ID=", World{Size: 1}},
	} {
		got, err := Detect(variables(c.env))
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if d := cmp.Diff(c.want, got); d != "" {
			t.Errorf("%s: %s", name, d)
		}
	}
}

func TestDetectMistakes(t *testing.T) {
	replaced := func(env, from, to string) string {
		if !strings.Contains(env, from) {
			panic(from)
		}
		return strings.ReplaceAll(env, from, to)
	}
	for name, c := range map[string]struct{ env, want string }{
		"mpirun, no size":       {"OMPI_COMM_WORLD_RANK=1", "OMPI_COMM_WORLD_SIZE is not set: mpirun sets it; unset OMPI_COMM_WORLD_RANK"},
		"mpirun, rank too high": {"OMPI_COMM_WORLD_RANK=8 OMPI_COMM_WORLD_SIZE=8", "OMPI_COMM_WORLD_RANK is 8 but OMPI_COMM_WORLD_SIZE is 8: ranks count from 0"},
		"MPICH, no number":      {"PMI_RANK=one PMI_SIZE=8", `PMI_RANK is "one", not a number from 0`},
		"MPICH, negative":       {"PMI_RANK=-1 PMI_SIZE=8", `PMI_RANK is "-1"`},
		"MPICH, local":          {replaced(hydra, "LOCALRANKID=0", "LOCALRANKID=2"), "MPI_LOCALRANKID is 2 but MPI_LOCALNRANKS is 2"},
		"more local than all":   {replaced(hydra, "LOCALNRANKS=2", "LOCALNRANKS=5"), "MPI_LOCALNRANKS is 5 with 4 ranks in all"},
		"srun, no size":         {"SLURM_STEP_ID=0 SLURM_PROCID=0", "SLURM_NTASKS is not set: srun sets it; unset SLURM_STEP_ID"},
		"srun, no rank":         {"SLURM_STEP_ID=0 SLURM_NTASKS=2", "SLURM_PROCID is not set"},
		"srun, step":            {"SLURM_STEP_ID=x SLURM_NTASKS=2 SLURM_PROCID=0", `SLURM_STEP_ID is "x"`},
		"srun, counts":          {replaced(srun, "10(x2),3", "10(x2,3"), `SLURM_STEP_TASKS_PER_NODE: "10(x2,3" is not a list`},
		"srun, counts differ":   {replaced(srun, "10(x2),3", "10(x2),4"), "which makes 24 tasks, not 23"},
		"srun, local":           {replaced(srun, "LOCALID=0", "LOCALID=3"), "SLURM_LOCALID is 3 on node 2, but SLURM_STEP_TASKS_PER_NODE"},
		"srun, no such node":    {replaced(srun, "NODEID=2", "NODEID=3"), "on node 3"},
		"srun, hosts":           {replaced(srun, "node[01-03]", "node[01-03"), `SLURM_STEP_NODELIST: "node[01-03" is not a list of hosts`},
		"torch's, no size":      {"RANK=0", "WORLD_SIZE is not set: set RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT"},
		"torch's, no rank":      {"WORLD_SIZE=2", "WORLD_SIZE is 2 but RANK is not set"},
		"torch's, no address":   {"RANK=0 WORLD_SIZE=2 MASTER_PORT=1", "MASTER_ADDR is not set"},
		"torch's, no port":      {"RANK=0 WORLD_SIZE=2 MASTER_ADDR=a", "MASTER_PORT is not set"},
		"torch's, port":         {replaced(torch, "29400", "70000"), `MASTER_PORT is "70000", not a number from 1 to 65535`},
		"Job, index":            {"JOB_COMPLETION_INDEX=4 SWAV_RANKS=4 MASTER_ADDR=a", "JOB_COMPLETION_INDEX is 4 but SWAV_RANKS is 4"},
		"Job, no address":       {"JOB_COMPLETION_INDEX=1 SWAV_RANKS=4", "MASTER_ADDR is not set: the Job's template sets"},
		"too large":             {"RANK=0 WORLD_SIZE=99999999999999999999", `WORLD_SIZE is "99999999999999999999", not a number from 1`},
	} {
		if w, err := Detect(variables(c.env)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, %+v", name, err, w)
		}
	}
}

func TestString(t *testing.T) {
	for want, w := range map[string]World{
		"one process, no launcher":                   {Size: 1, Job: "7"},
		"rank 3 of 8, started by Open MPI":           {Kind: OpenMPI, Rank: 3, Size: 8},
		"rank 0 of 2, started by SLURM, job 77":      {Kind: Slurm, Size: 2, Job: "77"},
		"rank 0 of 2, started by Kubernetes, job my": {Kind: Kubernetes, Size: 2, Job: "my"},
	} {
		if got := w.String(); got != want {
			t.Errorf("%q instead of %q", got, want)
		}
	}
}
