//go:build linux && cgo

package mpi_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"swav/dist"
	"swav/dist/disttest"
	"swav/dist/mpi"
)

// partVariable tells the test binary, started by a launcher, which part it plays.
const partVariable = "SWAV_MPI_TEST"

func TestMain(m *testing.M) {
	part := os.Getenv(partVariable)
	if part == "" {
		os.Exit(m.Run())
	}
	if err := play(part); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// play is what one rank does.
func play(part string) error {
	library, part, _ := strings.Cut(part, " ")
	w, err := mpi.Open(mpi.Library(library))
	if err != nil {
		return err
	}
	switch part {
	case "suite":
		if err := disttest.Check(w); err != nil {
			return err
		}
		if text, err := w.BroadcastText(fmt.Sprintf("from %d", w.Rank()), w.Size()-1); err != nil || text != fmt.Sprintf("from %d", w.Size()-1) {
			return fmt.Errorf("text %q, error %v", text, err)
		}
		if w.Rank() == 0 {
			fmt.Printf("%d ranks of %s agree\n", w.Size(), w.Library())
		}
	case "lost":
		// The last rank does not come. The others wait, until they are told.
		if w.Rank() == w.Size()-1 {
			time.Sleep(time.Hour)
		}
		lost := fmt.Errorf("rank %d is lost", w.Size()-1)
		time.AfterFunc(200*time.Millisecond, func() { w.Fail(lost) })
		pending := w.StartAllReduce32(make([]float32, 10), dist.Sum)
		for what, err := range map[string]error{
			"a barrier": w.Barrier(), "a reduction beside it": pending.Wait(), "a later reduction": w.AllReduce64([]float64{1}, dist.Sum),
		} {
			if !errors.Is(err, lost) {
				return fmt.Errorf("%s ended with %v", what, err)
			}
		}
		if w.Rank() == 0 {
			fmt.Println("the others were told")
		}
		return errors.New("a rank was lost") // the launcher ends the rest
	case "abort":
		var told error
		w.OnAbort(func(err error) { told = err })
		cause := errors.New("disk full")
		w.Abort(cause)
		if err := w.Barrier(); !errors.Is(err, cause) || !errors.Is(told, cause) {
			return fmt.Errorf("after an abort: %v, told %v", err, told)
		}
		fmt.Println(told)
		return nil
	}
	return w.Close()
}

// launchers are those of the two libraries.
var launchers = map[mpi.Library][]string{
	mpi.OpenMPI: {"mpirun.openmpi", "--oversubscribe", "--allow-run-as-root", "-n"},
	mpi.MPICH:   {"mpirun.mpich", "-n"},
}

// launch has a number of ranks play a part and returns what they print.
func launch(t *testing.T, library mpi.Library, ranks int, part string) (string, error) {
	t.Helper()
	args := launchers[library]
	path, err := exec.LookPath(args[0])
	if err != nil {
		t.Skipf("there is no %s: make test-mpi installs it", args[0])
	}
	cmd := exec.CommandContext(t.Context(), path, append(args[1:], strconv.Itoa(ranks), os.Args[0])...)
	cmd.Env = append(os.Environ(), partVariable+"="+string(library)+" "+part, "OMPI_ALLOW_RUN_AS_ROOT=1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1", "OMP_NUM_THREADS=1")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err = cmd.Run()
	return out.String(), err
}

func TestSuite(t *testing.T) {
	for library := range launchers {
		for _, ranks := range []int{1, 2, 3} {
			t.Run(fmt.Sprintf("%s/%d", library, ranks), func(t *testing.T) {
				out, err := launch(t, library, ranks, "suite")
				if err != nil || !strings.Contains(out, fmt.Sprintf("%d ranks of ", ranks)) {
					t.Errorf("%v\n%s", err, out)
				}
				t.Log(out)
			})
		}
	}
}

// A rank that is lost ends the calls of all others.
func TestLostRank(t *testing.T) {
	for library := range launchers {
		t.Run(string(library), func(t *testing.T) {
			out, err := launch(t, library, 3, "lost")
			if err == nil || !strings.Contains(out, "the others were told") {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}

func TestAbort(t *testing.T) {
	for library := range launchers {
		t.Run(string(library), func(t *testing.T) {
			out, err := launch(t, library, 1, "abort")
			if !strings.Contains(out, "rank 0 stopped: disk full") { // the launcher may complain of how it ended
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}

func TestNoLibrary(t *testing.T) {
	t.Setenv(mpi.LibraryVariable, "/nowhere/libmpi.so")
	_, err := mpi.Open(mpi.Any)
	if !errors.Is(err, mpi.ErrNone) || !strings.Contains(err.Error(), "/nowhere/libmpi.so") || !strings.Contains(err.Error(), "apt-get install openmpi-bin") {
		t.Errorf("error %v", err)
	}
}
