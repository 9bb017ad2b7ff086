//go:build unix

package checkpoint

import (
	"bufio"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The test binary plays the run that dies: TestMain starts it as child with
// SWAV_TEST_CHILD set.
func TestMain(m *testing.M) {
	mode := os.Getenv("SWAV_TEST_CHILD")
	if mode == "" {
		os.Exit(m.Run())
	}
	run, arg := os.Args[1], os.Args[2]
	n, err := strconv.Atoi(arg)
	if err != nil {
		panic(err)
	}
	switch mode {
	case "endless": // writes step n and on until it is killed
		for step := n; ; step++ {
			childWrite(run, step, 60_000)
		}
	case "stop": // dies ahead of the nth change to the disk
		before = func(string) {
			if n--; n < 0 {
				syscall.Kill(os.Getpid(), syscall.SIGKILL)
				select {}
			}
		}
		childWrite(run, 2, 100)
		childWrite(run, 3, 100)
		childWrite(run, 3, 100) // over the same step again
	case "small-files": // no file beyond n bytes
		signal.Ignore(syscall.SIGXFSZ)
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: uint64(n), Max: uint64(n)}); err != nil {
			panic(err)
		}
		_, err := Write(run, snapshot(2, n), 1)
		fmt.Println(DiskFull(err), err)
	}
}

func childWrite(run string, step, size int) {
	if _, err := Write(run, snapshot(step, size), 2); err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	fmt.Println(step)
}

func child(mode, run string, arg int) *exec.Cmd {
	c := exec.Command(os.Args[0], run, fmt.Sprint(arg))
	c.Env = append(os.Environ(), "SWAV_TEST_CHILD="+mode)
	return c
}

// resumable checks that the run goes on at least from step acked.
func resumable(t *testing.T, run string, acked int) *Loaded {
	t.Helper()
	l, err := Resume(run, func(err error) { t.Errorf("a checkpoint is damaged: %v", err) })
	if err != nil {
		t.Fatal(err)
	}
	checkLoaded(t, l)
	if l.Step < acked {
		t.Fatalf("resumed at step %d, but the write of step %d had returned", l.Step, acked)
	}
	return l
}

// A run killed at random moments resumes each time, from no earlier than the last
// checkpoint that Write reported.
func TestKilledAtRandom(t *testing.T) {
	rounds := 20
	if testing.Short() {
		rounds = 5
	}
	run := tempDir(t)
	mustWrite(t, run, 1, 2)
	step := 1
	for range rounds {
		c := child("endless", run, step+1)
		out, err := c.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		if lines.Scan() { // the first write is done; the kill falls into a later one
			time.AfterFunc(time.Duration(rand.IntN(15_000))*time.Microsecond, func() { c.Process.Kill() })
		}
		acked := lines.Text()
		for lines.Scan() {
			acked = lines.Text()
		}
		c.Process.Kill()
		c.Wait()
		n, err := strconv.Atoi(acked)
		if err != nil {
			t.Fatalf("the run said %q", acked)
		}
		step = resumable(t, run, n).Step
	}
	if err := Prepare(run); err != nil {
		t.Fatal(err)
	}
	for _, n := range names(t, filepath.Join(run, dirName)) {
		if _, ok := stepOf(n); !ok {
			t.Errorf("%s is left over", n)
		}
	}
}

// The same ahead of every single change that Write makes to the disk: creating,
// writing, syncing, renaming, removing.
func TestKilledAtEveryChange(t *testing.T) {
	ended := false
	n := 0
	for ; !ended; n++ {
		if n > 500 {
			t.Fatal("the run does not end")
		}
		run := tempDir(t)
		mustWrite(t, run, 1, 2)
		out, err := child("stop", run, n).Output()
		var exit *exec.ExitError
		if err != nil && (!errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL) {
			t.Fatalf("change %d: %v\n%s", n, err, out)
		}
		ended = err == nil
		acked := 1
		if lines := strings.Fields(string(out)); len(lines) > 0 {
			if acked, err = strconv.Atoi(lines[len(lines)-1]); err != nil {
				t.Fatalf("change %d: %s", n, out)
			}
		}
		l := resumable(t, run, acked)
		// The resumed run can go on writing and leaves no rubbish.
		mustWrite(t, run, l.Step+1, 2)
		if got := names(t, filepath.Join(run, dirName)); len(got) != 2 {
			t.Errorf("change %d: after the resumed run wrote, %v", n, got)
		}
		if t.Failed() {
			t.Fatalf("died ahead of change %d", n)
		}
	}
	if n < 50 {
		t.Errorf("only %d changes were tried", n)
	}
}

func TestFileSizeLimit(t *testing.T) {
	run := tempDir(t)
	mustWrite(t, run, 1, 1)
	out, err := child("small-files", run, 4096).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	checkFull(t, run, string(out))
}

// checkFull checks the outcome "DiskFull(err) err" of a write of step 2 for which
// there was no room.
func checkFull(t *testing.T, run, out string) {
	t.Helper()
	for _, want := range []string{"true write checkpoint", stepName(2), "free some space"} {
		if !strings.Contains(out, want) {
			t.Errorf("%s\nwant %q", out, want)
		}
	}
	if l := resumable(t, run, 1); l.Step != 1 {
		t.Errorf("step %d", l.Step)
	}
	if got := names(t, filepath.Join(run, dirName)); len(got) != 1 {
		t.Errorf("%v are left", got)
	}
}

func TestReadOnlyRunDirectory(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o666); err != nil {
		t.Fatal(err)
	}
	// A file where the directory should be stops every user, root included.
	if err := Prepare(filepath.Join(file, "run")); err == nil || !strings.Contains(err.Error(), "choose another directory") {
		t.Errorf("Prepare: %v", err)
	}
	if _, err := Write(filepath.Join(file, "run"), snapshot(1, 3), 1); err == nil {
		t.Error("Write: no error")
	}
	if os.Getuid() == 0 {
		t.Log("root writes everywhere; the rest needs another user")
		return
	}
	run := tempDir(t)
	if err := os.Chmod(run, 0o555); err != nil {
		t.Fatal(err)
	}
	defer os.Chmod(run, 0o755)
	if err := Prepare(run); err == nil || !strings.Contains(err.Error(), "make it writable") {
		t.Errorf("Prepare: %v", err)
	}
	if _, err := Write(run, snapshot(1, 3), 1); err == nil || !strings.Contains(err.Error(), "make the run directory writable") {
		t.Errorf("Write: %v", err)
	}
}
