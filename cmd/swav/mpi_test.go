//go:build linux && cgo

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"swav/checkpoint"
	"swav/internal/runtest"
	"swav/runlog"
)

// asCommand makes this test binary the command swav, for launchers.
const asCommand = "SWAV_TEST_AS_COMMAND"

func TestMain(m *testing.M) {
	if os.Getenv(asCommand) != "" {
		tuneOpenMP()
		os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

// mpirun is the command that starts swav on a number of ranks by Open MPI.
func mpirun(t *testing.T, ctx context.Context, ranks int, args ...string) (*exec.Cmd, *bytes.Buffer) {
	t.Helper()
	path, err := exec.LookPath("mpirun.openmpi")
	if err != nil {
		t.Skip("there is no mpirun.openmpi: make test-mpi installs it")
	}
	cmd := exec.CommandContext(ctx, path, append([]string{"--oversubscribe", "--allow-run-as-root", "-n", strconv.Itoa(ranks), os.Args[0]}, args...)...)
	cmd.Env = append(os.Environ(), asCommand+"=1", "OMPI_ALLOW_RUN_AS_ROOT=1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1", "OMP_NUM_THREADS=1")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 20 * time.Second
	return cmd, &out
}

// process runs swav in a process of its own.
func process(t *testing.T, args ...string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], args...)
	cmd.Env = append(os.Environ(), asCommand+"=1")
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// metricsOf are a run's metrics without what depends on the machine.
func metricsOf(t *testing.T, run string) []runlog.Metric {
	t.Helper()
	ms, err := runlog.ReadMetrics(run)
	if err != nil {
		t.Fatal(err)
	}
	for i := range ms {
		ms[i].Time = runlog.Timing{}
	}
	return ms
}

// fashion is where Debian's package puts Fashion-MNIST.
const fashion = "/usr/share/datasets/fashion-mnist"

// mpiData is a few drawn pictures and a recipe of so many steps for them.
func mpiData(t *testing.T, steps int) []string {
	t.Helper()
	dir := t.TempDir()
	if err := runtest.WritePhotos(dir, 60); err != nil {
		t.Fatal(err)
	}
	recipe := filepath.Join(t.TempDir(), "tiny.toml")
	if err := os.WriteFile(recipe, []byte(runtest.Recipe), 0o644); err != nil {
		t.Fatal(err)
	}
	return []string{"--data", dir, "--recipe", recipe, "--set", "train.batch_size=12", "--set", "swav.queue=24", "--set", "swav.queue_start=10 steps",
		"--set", fmt.Sprintf("train.steps=%d", steps), "--set", "train.checkpoint_every=5 steps", "--set", "train.log_every=1"}
}

// Two ranks of mpirun do what two ranks within a process do, to the bit: a sum of two is
// the same whoever makes it.
func TestMPIRunEqualsRanksWithinAProcess(t *testing.T) {
	if _, err := os.Stat(fashion); err != nil {
		t.Skip("there is no Fashion-MNIST: make test-mpi installs it")
	}
	data := []string{"--data", fashion, "--recipe", "fashion-mnist", "--set", "train.epochs=0", "--set", "train.steps=40",
		"--set", "eval.references=1000", "--set", "eval.queries=200", "--set", "eval.baselines=false"}
	inside, outside := filepath.Join(t.TempDir(), "inside"), filepath.Join(t.TempDir(), "outside")
	cmd, out := mpirun(t, t.Context(), 2, append([]string{"train", "--run", outside}, data...)...)
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if text, err := process(t, append([]string{"train", "--ranks", "2", "--run", inside}, data...)...); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	a, b := metricsOf(t, inside), metricsOf(t, outside)
	if len(a) != 40 || !reflect.DeepEqual(a, b) {
		t.Errorf("%d and %d steps; the last are\n%+v\n%+v", len(a), len(b), a[len(a)-1], b[len(b)-1])
	}
	if strings.Count(out.String(), "done in") != 1 {
		t.Errorf("not one rank alone speaks:\n%s", out)
	}
}

func TestMPITraces(t *testing.T) {
	shared := os.Getenv("SWAV_SHARED")
	if shared == "" {
		shared = filepath.Join("..", "..", "..", "shared")
	}
	traces, _ := filepath.Glob(filepath.Join(shared, "golden", "resnet18*"))
	if len(traces) == 0 {
		t.Skipf("no reference traces in %s", shared)
	}
	for _, ranks := range []int{2, 3} {
		cmd, out := mpirun(t, t.Context(), ranks, append([]string{"verify"}, traces...)...)
		if err := cmd.Run(); err != nil || strings.Count(out.String(), ": pass\n") != len(traces) {
			t.Errorf("%d ranks: %v\n%s", ranks, err, out)
		}
	}
}

// Ranks that know each other by torchrun's variables alone.
func TestMPIByVariables(t *testing.T) {
	if _, err := exec.LookPath("mpirun.mpich"); err != nil {
		t.Skip("there is no MPICH: make test-mpi installs it")
	}
	l, err := net.Listen("tcp", "localhost:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	run := filepath.Join(t.TempDir(), "run")
	args := append([]string{"train", "--run", run}, mpiData(t, 20)...)
	var outs [2][]byte
	var errs [2]error
	var wg sync.WaitGroup
	for r := range outs {
		wg.Go(func() {
			cmd := exec.CommandContext(t.Context(), os.Args[0], args...)
			cmd.Env = append(os.Environ(), asCommand+"=1", fmt.Sprintf("RANK=%d", r), "WORLD_SIZE=2", fmt.Sprintf("LOCAL_RANK=%d", r), "MASTER_ADDR=localhost", fmt.Sprintf("MASTER_PORT=%d", port))
			outs[r], errs[r] = cmd.CombinedOutput()
		})
	}
	wg.Wait()
	if err := errors.Join(errs[:]...); err != nil || len(metricsOf(t, run)) != 20 || !strings.Contains(string(outs[0]), "done in") || len(outs[1]) > 0 {
		t.Errorf("%v\n%s\n%s", err, outs[0], outs[1])
	}
}

// A signal to mpirun saves the run. It passes SIGUSR1 on; at SIGTERM it would kill its ranks
// a second later, which is too soon for a busy machine.
func TestMPIInterrupt(t *testing.T) {
	run := filepath.Join(t.TempDir(), "run")
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	cmd, out := mpirun(t, ctx, 2, append([]string{"train", "--run", run}, mpiData(t, 100000)...)...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	until(t, 60*time.Second, func() bool { return steps(run) > 3 })
	if err := cmd.Process.Signal(syscall.SIGUSR1); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	if !strings.Contains(out.String(), "swav: interrupted; go on with: swav train --resume") {
		t.Errorf("not saved:\n%s", out)
	}
	n := len(metricsOf(t, run))
	latest, err := checkpoint.Latest(run)
	if err != nil || !strings.HasSuffix(latest, fmt.Sprintf("%07d", n)) {
		t.Errorf("%d steps, the newest checkpoint is %s, %v", n, latest, err)
	}
}

// times is how often a test is done, by the environment: make test-mpi kills 20 times, make
// soak 80 times, and stops ranks and cuts cables 10 times each.
func times(variable string, otherwise int) int {
	if n, err := strconv.Atoi(os.Getenv(variable)); err == nil {
		return n
	}
	return otherwise
}

var lostLine = regexp.MustCompile(`(?m)^swav: error: rank (\d) \(host \S+, process (\d+)\) (.+)$`)

// A rank that is killed at a random moment ends the run within 30 s, with one line that
// names it; the newest checkpoint goes on with one rank less, and the run is in the end
// what it would have been.
func TestMPIKilledRank(t *testing.T) {
	const total, ranks = 250, 3
	data := mpiData(t, total)
	whole := filepath.Join(t.TempDir(), "whole")
	if text, err := process(t, append([]string{"train", "--run", whole}, data...)...); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	want := metricsOf(t, whole)
	for i := range times("SWAV_TEST_KILLS", 1) {
		t.Run(strconv.Itoa(i), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(uint64(i), uint64(time.Now().UnixNano())))
			run := filepath.Join(t.TempDir(), "run")
			cmd, out := mpirun(t, t.Context(), ranks, append([]string{"train", "--resume=auto", "--run", run}, data...)...)
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			at, victim := 6+rng.IntN(total-60), rng.IntN(ranks)
			until(t, 60*time.Second, func() bool { return steps(run) >= at })
			pids := children(t, cmd.Process.Pid)
			if len(pids) != ranks {
				t.Fatalf("%d processes of %d ranks", len(pids), ranks)
			}
			time.Sleep(time.Duration(rng.IntN(30)) * time.Millisecond)
			killed := time.Now()
			_ = syscall.Kill(pids[victim], syscall.SIGKILL)
			err := cmd.Wait()
			took := time.Since(killed)
			lines := lostLine.FindAllStringSubmatch(out.String(), -1)
			if err == nil || took > 30*time.Second || len(lines) != 1 || lines[0][2] != strconv.Itoa(pids[victim]) {
				t.Fatalf("after %v: %v, lines %q for process %d\n%s", took, err, lines, pids[victim], out)
			}
			cmd, out = mpirun(t, t.Context(), ranks-1, append([]string{"train", "--resume=auto", "--run", run}, data...)...)
			if err := cmd.Run(); err != nil {
				t.Fatalf("resumed: %v\n%s", err, out)
			}
			got := metricsOf(t, run)
			if len(got) != total {
				t.Fatalf("%d steps of %d", len(got), total)
			}
			for s := range got {
				// Another number of ranks rounds otherwise; other images would show at once.
				if got[s].Step != s || math.Abs(float64(got[s].Loss-want[s].Loss)) > 1e-3*float64(want[s].Loss) {
					t.Fatalf("step %d: %d, loss %v, want %v (killed at %d)", s, got[s].Step, got[s].Loss, want[s].Loss, at)
				}
			}
			t.Logf("rank %d killed at step %d: ended after %v", victim, at, took.Round(time.Millisecond))
		})
	}
}

// A rank that stops, as on a machine that hangs, is named after the patience of package
// watch.
func TestMPIStoppedRank(t *testing.T) {
	n := times("SWAV_TEST_STOPS", 0)
	if n == 0 {
		t.Skip("takes 20 s; SWAV_TEST_STOPS=1 does it once")
	}
	for i := range n {
		t.Run(strconv.Itoa(i), testStoppedRank)
	}
}

func testStoppedRank(t *testing.T) {
	run := filepath.Join(t.TempDir(), "run")
	cmd, out := mpirun(t, t.Context(), 3, append([]string{"train", "--run", run}, mpiData(t, 100000)...)...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	until(t, 60*time.Second, func() bool { return steps(run) >= 6 })
	pids := children(t, cmd.Process.Pid)
	victim := rand.IntN(len(pids))
	_ = syscall.Kill(pids[victim], syscall.SIGSTOP)
	began := time.Now()
	err := cmd.Wait()
	lines := lostLine.FindAllStringSubmatch(out.String(), -1)
	if took := time.Since(began); err == nil || took > 30*time.Second || len(lines) != 1 || lines[0][2] != strconv.Itoa(pids[victim]) || !strings.Contains(lines[0][3], "silent") {
		t.Errorf("after %v: %v, lines %q\n%s", took, err, lines, out)
	}
}

// Two hosts, made of network namespaces, whose cable is cut: both sides end and name the
// other.
func TestMPICutOff(t *testing.T) {
	n := times("SWAV_TEST_STOPS", 0)
	if n == 0 {
		t.Skip("takes 20 s; SWAV_TEST_STOPS=1 does it once")
	}
	for i := range n {
		t.Run(strconv.Itoa(i), testCutOff)
	}
}

func testCutOff(t *testing.T) {
	if _, err := exec.LookPath("mpirun.mpich"); err != nil {
		t.Skip("there is no MPICH: make test-mpi installs it")
	}
	host := func(i int) string { return fmt.Sprintf("swavtest%d", i) }
	ip := func(args string) error { return exec.Command("ip", strings.Fields(args)...).Run() }
	clean := func() {
		for i := range 2 {
			_ = ip("netns del " + host(i))
		}
	}
	clean()
	t.Cleanup(clean)
	for _, args := range []string{"netns add " + host(0), "netns add " + host(1), "link add veth0 netns " + host(0) + " type veth peer name veth1 netns " + host(1)} {
		if err := ip(args); err != nil {
			t.Skipf("no network namespaces (ip %s: %v): they take root and iproute2", args, err)
		}
	}
	for i := range 2 {
		for _, args := range []string{fmt.Sprintf("addr add 10.231.7.%d/24 dev veth%d", i+1, i), fmt.Sprintf("link set veth%d up", i), "link set lo up"} {
			if err := ip("-n " + host(i) + " " + args); err != nil {
				t.Fatalf("ip %s: %v", args, err)
			}
		}
	}
	run := filepath.Join(t.TempDir(), "run")
	args := append([]string{os.Args[0], "train", "--run", run}, mpiData(t, 1000000)...)
	var outs [2]bytes.Buffer
	var cmds [2]*exec.Cmd
	for r := range cmds {
		cmds[r] = exec.CommandContext(t.Context(), "ip", append([]string{"netns", "exec", host(r), "unshare", "--uts", "sh", "-c", "hostname " + host(r) + ` && exec "$0" "$@"`}, args...)...)
		cmds[r].Env = append(os.Environ(), asCommand+"=1", fmt.Sprintf("RANK=%d", r), "WORLD_SIZE=2", "LOCAL_RANK=0", "MASTER_ADDR=10.231.7.1", "MASTER_PORT=29533")
		cmds[r].Stdout, cmds[r].Stderr = &outs[r], &outs[r]
		if err := cmds[r].Start(); err != nil {
			t.Fatal(err)
		}
	}
	until(t, 60*time.Second, func() bool { return steps(run) >= 6 })
	if err := ip("-n " + host(0) + " link set veth0 down"); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	for r, cmd := range cmds {
		err := cmd.Wait()
		lines := lostLine.FindAllStringSubmatch(outs[r].String(), -1)
		if took := time.Since(began); err == nil || took > 30*time.Second || len(lines) != 1 || lines[0][1] != strconv.Itoa(1-r) || !strings.Contains(lines[0][3], "silent") {
			t.Errorf("rank %d after %v: %v, lines %q\n%s", r, took, err, lines, &outs[r])
		}
	}
}

// What is wrong with the command is said once.
func TestMPIUsageErrorIsSaidOnce(t *testing.T) {
	for args, want := range map[string]string{
		"train --run " + t.TempDir() + " --recipe nosuch --data /nowhere": "nosuch",
		"train": "no run directory",
	} {
		cmd, out := mpirun(t, t.Context(), 3, strings.Fields(args)...)
		if err := cmd.Run(); err == nil || strings.Count(out.String(), "swav: error: ") != 1 || !strings.Contains(out.String(), want) {
			t.Errorf("%s: %v\n%s", args, err, out)
		}
	}
}

// steps is how many steps a run has written metrics of.
func steps(run string) int {
	ms, err := runlog.ReadMetrics(run)
	if err != nil {
		return 0
	}
	return len(ms)
}

func until(t *testing.T, patience time.Duration, there func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !there(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("waited in vain")
		}
	}
}

// children are the processes that mpirun has started, in rank order.
func children(t *testing.T, parent int) []int {
	t.Helper()
	var pids []int
	dirs, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, d := range dirs {
		stat, err := os.ReadFile(d)
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
			continue
		}
		_, rest, _ := strings.Cut(string(stat), ") ")
		if f := strings.Fields(rest); len(f) > 1 && f[1] == strconv.Itoa(parent) {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(d)))
			pids = append(pids, pid)
		}
	}
	return pids
}
