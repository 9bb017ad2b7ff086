package checkpoint

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

type testState struct {
	Epoch int
	Note  string
}

// snapshot is a snapshot that its step determines, so that a reader can tell a
// whole one from a mixture.
func snapshot(step, size int) Snapshot {
	data := make([]float32, size)
	for i := range data {
		data[i] = float32(step) + float32(i)/float32(size)
	}
	return Snapshot{
		Step:      step,
		Model:     []Tensor{{"bn1.num", []int{}, []float32{float32(step)}}, {"conv1.weight", []int{size}, data}},
		Optimizer: []Tensor{{"momentum", []int{1, size}, slices.Clone(data)}, {"queue", []int{0, 4}, []float32{}}},
		State:     testState{step / 10, "<&>\u2028 \"x\""},
	}
}

func checkLoaded(t *testing.T, l *Loaded) {
	t.Helper()
	want := snapshot(l.Step, len(l.Model[1].Data))
	if !cmp.Equal(want.Model, l.Model) {
		t.Errorf("step %d: the model is not the one written", l.Step)
	}
	if !cmp.Equal(want.Optimizer, l.Optimizer) {
		t.Errorf("step %d: the optimizer is not the one written", l.Step)
	}
	var s testState
	if err := l.DecodeState(&s); err != nil || s != want.State {
		t.Errorf("state %+v, %v; want %+v", s, err, want.State)
	}
}

func mustWrite(t *testing.T, run string, step, keep int) string {
	t.Helper()
	path, err := Write(run, snapshot(step, 300), keep)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// tempDir is in memory where it can be: the tests sync often.
func tempDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "swav-checkpoint-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func names(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out
}

func TestWriteRead(t *testing.T) {
	run := filepath.Join(tempDir(t), "a", "run")
	path := mustWrite(t, run, 123, 3)
	if want := filepath.Join(run, "checkpoints", "step-0000123"); path != want {
		t.Errorf("path %s, want %s", path, want)
	}
	if got := names(t, path); !slices.Equal(got, []string{"model.safetensors", "optimizer.safetensors", "state.json"}) {
		t.Errorf("files %v", got)
	}
	if target, err := os.Readlink(filepath.Join(run, "latest")); err != nil || target != "checkpoints/step-0000123" {
		t.Errorf("latest -> %s, %v", target, err)
	}
	for _, p := range []string{path, filepath.Join(run, "latest")} {
		l, err := Read(p)
		if err != nil {
			t.Fatal(err)
		}
		checkLoaded(t, l)
	}
	if err := os.Remove(filepath.Join(path, optimizerFile)); err != nil {
		t.Fatal(err)
	}
	l, err := ReadModel(path)
	if err != nil || l.Optimizer != nil || len(l.Model) != 2 {
		t.Errorf("model only: %+v, %v", l, err)
	}
}

// A checkpoint depends on the snapshot alone.
func TestWriteIsDeterministic(t *testing.T) {
	a, b := mustWrite(t, tempDir(t), 5, 0), mustWrite(t, tempDir(t), 5, 0)
	for _, f := range names(t, a) {
		x, err1 := os.ReadFile(filepath.Join(a, f))
		y, err2 := os.ReadFile(filepath.Join(b, f))
		if err := errors.Join(err1, err2); err != nil || !bytes.Equal(x, y) {
			t.Errorf("%s differs, %v", f, err)
		}
	}
}

func TestRoundTrip(t *testing.T) {
	run := tempDir(t)
	rapid.Check(t, func(t *rapid.T) {
		draw := func(label string) (ts []Tensor) {
			n := rapid.IntRange(0, 4).Draw(t, label)
			for i := range n {
				shape := rapid.SliceOfN(rapid.IntRange(0, 4), 0, 3).Draw(t, "shape")
				size := 1
				for _, d := range shape {
					size *= d
				}
				ts = append(ts, Tensor{fmt.Sprint(label, i), shape, rapid.SliceOfN(rapid.Float32(), size, size).Draw(t, "data")})
			}
			return ts
		}
		s := Snapshot{Step: rapid.IntRange(0, 1e9).Draw(t, "step"), Model: draw("model"), Optimizer: draw("optimizer"), State: rapid.String().Draw(t, "state")}
		path, err := Write(run, s, 1)
		if err != nil {
			t.Fatal(err)
		}
		l, err := Read(path)
		if err != nil {
			t.Fatal(err)
		}
		var state string
		if err := l.DecodeState(&state); err != nil || state != s.State || l.Step != s.Step {
			t.Fatalf("state %q of step %d, %v", state, l.Step, err)
		}
		sorted := func(ts []Tensor) string {
			out := slices.Clone(ts) // empty tensors have no place of their own in the file
			slices.SortFunc(out, func(a, b Tensor) int { return strings.Compare(a.Name, b.Name) })
			return fmt.Sprintf("%v", out)
		}
		if sorted(l.Model) != sorted(s.Model) || sorted(l.Optimizer) != sorted(s.Optimizer) {
			t.Fatalf("read %v %v, wrote %v %v", l.Model, l.Optimizer, s.Model, s.Optimizer)
		}
	})
}

func TestKeep(t *testing.T) {
	for _, c := range []struct {
		name  string
		steps []int
		keep  int
		want  []int
	}{
		{"all", []int{1, 2, 3, 4}, 0, []int{1, 2, 3, 4}},
		{"two", []int{1, 2, 3, 4}, 2, []int{3, 4}},
		{"one", []int{1, 2, 3}, 1, []int{3}},
		{"later ones of a run set back stay", []int{1, 2, 10, 3, 4}, 2, []int{3, 4, 10}},
		{"same step again", []int{1, 2, 2}, 2, []int{1, 2}},
	} {
		t.Run(c.name, func(t *testing.T) {
			run := tempDir(t)
			for _, s := range c.steps {
				mustWrite(t, run, s, c.keep)
			}
			var want []string
			for _, s := range c.want {
				want = append(want, stepName(s))
			}
			if got := names(t, filepath.Join(run, dirName)); !slices.Equal(got, want) {
				t.Errorf("kept %v, want %v", got, want)
			}
			last, err := Latest(run)
			if want := stepName(c.steps[len(c.steps)-1]); err != nil || filepath.Base(last) != want {
				t.Errorf("latest %s, %v; want %s", last, err, want)
			}
		})
	}
}

// A broken checkpoint must not count as one of those kept.
func TestKeepCountsWholeOnes(t *testing.T) {
	run := tempDir(t)
	mustWrite(t, run, 1, 2)
	broken := mustWrite(t, run, 2, 2)
	if err := os.Truncate(filepath.Join(broken, modelFile), 10); err != nil {
		t.Fatal(err)
	}
	mustWrite(t, run, 3, 2)
	if _, err := Read(filepath.Join(run, dirName, stepName(1))); err != nil {
		t.Errorf("the second whole checkpoint is gone: %v", err)
	}
	mustWrite(t, run, 4, 2)
	if got := names(t, filepath.Join(run, dirName)); !slices.Equal(got, []string{stepName(3), stepName(4)}) {
		t.Errorf("kept %v", got)
	}
}

func TestNoCheckpoint(t *testing.T) {
	run := tempDir(t)
	if _, err := Latest(run); !errors.Is(err, ErrNone) {
		t.Errorf("Latest: %v", err)
	}
	if err := Prepare(run); err != nil {
		t.Fatal(err)
	}
	if _, err := Resume(run, nil); !errors.Is(err, ErrNone) {
		t.Errorf("Resume: %v", err)
	}
}

func TestLatestFallsBack(t *testing.T) {
	for _, c := range []struct {
		name string
		harm func(run string) error
		want int
	}{
		{"missing link", func(run string) error { return os.Remove(filepath.Join(run, latestName)) }, 3},
		{"dangling link", func(run string) error { return relink(run, "checkpoints/step-0000002.gone") }, 3},
		{"link to nothing of ours", func(run string) error { return relink(run, "/") }, 3},
		{"link set back by hand", func(run string) error { return relink(run, "checkpoints/step-0000002") }, 2},
		{"set back to one that is gone", func(run string) error {
			return errors.Join(relink(run, "checkpoints/step-0000002"), os.RemoveAll(filepath.Join(run, dirName, stepName(2))))
		}, 1},
		{"newest without state", func(run string) error { return os.Remove(filepath.Join(run, dirName, stepName(3), stateFile)) }, 2},
		{"newest torn", func(run string) error {
			return os.Truncate(filepath.Join(run, dirName, stepName(3), optimizerFile), 100)
		}, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			run := tempDir(t)
			for s := range 3 {
				mustWrite(t, run, s+1, 0)
			}
			if err := c.harm(run); err != nil {
				t.Fatal(err)
			}
			path, err := Latest(run)
			if err != nil || filepath.Base(path) != stepName(c.want) {
				t.Errorf("Latest: %s, %v; want %s", path, err, stepName(c.want))
			}
			l, err := Resume(run, nil)
			if err != nil || l.Step != c.want {
				t.Fatalf("Resume: %+v, %v; want step %d", l, err, c.want)
			}
			checkLoaded(t, l)
			// The run can write again, whatever latest is now.
			mustWrite(t, run, 4, 2)
			if l, err := Resume(run, nil); err != nil || l.Step != 4 {
				t.Errorf("after another write: %+v, %v", l, err)
			}
		})
	}
}

func relink(run, target string) error {
	link := filepath.Join(run, latestName)
	return errors.Join(os.Remove(link), os.Symlink(target, link))
}

// Whatever byte of a checkpoint changes, reading it says so and Resume takes the
// one before.
func TestDamage(t *testing.T) {
	run := tempDir(t)
	mustWrite(t, run, 1, 0)
	path := mustWrite(t, run, 2, 0)
	rapid.Check(t, func(t *rapid.T) {
		file := filepath.Join(path, rapid.SampledFrom([]string{modelFile, optimizerFile, stateFile}).Draw(t, "file"))
		good, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		defer os.WriteFile(file, good, 0o666)
		bad := bytes.Clone(good)
		at := rapid.IntRange(0, len(good)-1).Draw(t, "at")
		if rapid.Bool().Draw(t, "torn") {
			bad = bad[:at]
		} else {
			bad[at] ^= byte(rapid.IntRange(1, 255).Draw(t, "flip"))
		}
		if err := os.WriteFile(file, bad, 0o666); err != nil {
			t.Fatal(err)
		}
		if l, err := Read(path); err == nil && !sameText(l, 2) {
			t.Fatalf("read as whole: step %d %s", l.Step, l.State)
		} else if err != nil && !strings.Contains(err.Error(), path) {
			t.Fatalf("error does not name the checkpoint: %v", err)
		}
		var warned error
		l, err := Resume(run, func(err error) { warned = err })
		if err != nil {
			t.Fatal(err)
		}
		if l.Step == 1 && (warned == nil || !strings.Contains(warned.Error(), path)) {
			t.Fatalf("took step 1, warning %v", warned)
		}
	})
}

// sameText is true where a changed byte of state.json changed nothing that it says,
// such as the case of a key.
func sameText(l *Loaded, step int) bool {
	want := snapshot(step, 300)
	return l.Step == step && fmt.Sprint(l.Model) == fmt.Sprint(want.Model)
}

func TestAllDamaged(t *testing.T) {
	run := tempDir(t)
	path := mustWrite(t, run, 1, 0)
	if err := os.Truncate(filepath.Join(path, modelFile), 5); err != nil {
		t.Fatal(err)
	}
	_, err := Resume(run, nil)
	if err == nil || errors.Is(err, ErrNone) || !strings.Contains(err.Error(), "model.safetensors has 5 bytes") {
		t.Errorf("Resume: %v", err)
	}
	if _, err = Latest(run); err == nil || errors.Is(err, ErrNone) {
		t.Errorf("Latest: %v", err)
	}
}

func TestStateErrors(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{``, "state.json"},
		{`[]`, "state.json"},
		{`{"format":7}`, "format 7, this build reads 1"},
		{`{"format":1,"step":-1}`, "want a step and the files"},
		{`{"format":1,"step":1,"files":[{"name":"../../x"},{"name":"optimizer.safetensors"}]}`, "want a step and the files"},
		{`{"format":1,"step":1,"files":[{"name":"model.safetensors"},{"name":"optimizer.safetensors"}]}`, "checksum"},
		{`{"format":1,"step":1,"files":[{"name":"model.safetensors"},{"name":"optimizer.safetensors"}],"state":{}}`, "checksum"},
	} {
		dir := tempDir(t)
		if err := os.WriteFile(filepath.Join(dir, stateFile), []byte(c.text), 0o666); err != nil {
			t.Fatal(err)
		}
		if _, err := Read(dir); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want %q", c.text, err, c.want)
		}
	}
}

func TestStateThatCannotBeEncoded(t *testing.T) {
	run := tempDir(t)
	s := snapshot(1, 3)
	s.State = func() {}
	if _, err := Write(run, s, 1); err == nil {
		t.Error("no error")
	}
	w := NewWriter(run, 1)
	if err := w.Save(s); err == nil {
		t.Error("no error from Save")
	}
	if err := w.Close(); err != nil {
		t.Error(err)
	}
}

func TestRestore(t *testing.T) {
	dst := []Tensor{{"a", []int{2}, make([]float32, 2)}, {"b", nil, make([]float32, 1)}}
	src := []Tensor{{"b", []int{}, []float32{3}}, {"a", []int{2}, []float32{1, 2}}}
	if err := Restore(dst, src); err != nil {
		t.Fatal(err)
	}
	if dst[0].Data[1] != 2 || dst[1].Data[0] != 3 {
		t.Errorf("restored %v", dst)
	}
	for _, c := range []struct {
		name string
		src  []Tensor
		want []string
	}{
		{"shape", []Tensor{{"a", []int{3}, []float32{7, 7, 7}}, {"b", nil, []float32{7}}}, []string{"a is [3] in the checkpoint, [2] in this run", "recipe"}},
		{"missing", []Tensor{{"b", nil, []float32{7}}}, []string{"a [2] is missing"}},
		{"more", append(slices.Clone(src), Tensor{"c", nil, []float32{0}}), []string{"c [] is only in the checkpoint"}},
	} {
		err := Restore(dst, c.src)
		for _, w := range c.want {
			if err == nil || !strings.Contains(err.Error(), w) {
				t.Errorf("%s: %v, want %q", c.name, err, w)
			}
		}
		if dst[0].Data[0] != 1 || dst[1].Data[0] != 3 {
			t.Errorf("%s: changed %v", c.name, dst)
		}
	}
}

func TestLock(t *testing.T) {
	run := tempDir(t)
	release, err := Lock(run)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Lock(run); err == nil || !strings.Contains(err.Error(), fmt.Sprint("process ", os.Getpid())) {
		t.Errorf("second lock: %v", err)
	}
	if err := release(); err != nil {
		t.Fatal(err)
	}
	release, err = Lock(run)
	if err != nil {
		t.Fatal(err)
	}
	release()
}

func TestAsync(t *testing.T) {
	run := tempDir(t)
	w := NewWriter(run, 2)
	state := &testState{Epoch: 0, Note: snapshot(1, 1).State.(testState).Note}
	for step := 1; step <= 5; step++ {
		s := snapshot(step, 5000)
		s.State = state
		if err := w.Save(s); err != nil {
			t.Fatal(err)
		}
		state.Note += "" // State is encoded by now; the race detector sees if not
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if got := names(t, filepath.Join(run, dirName)); !slices.Equal(got, []string{stepName(4), stepName(5)}) {
		t.Errorf("kept %v", got)
	}
	l, err := Resume(run, nil)
	if err != nil {
		t.Fatal(err)
	}
	checkLoaded(t, l)
}

// An error of one write is told by the next call; later writes go on.
func TestAsyncError(t *testing.T) {
	run := tempDir(t)
	blocked := filepath.Join(run, dirName)
	if err := os.WriteFile(blocked, nil, 0o666); err != nil {
		t.Fatal(err)
	}
	w := NewWriter(run, 2)
	if err := w.Save(snapshot(1, 10)); err != nil {
		t.Errorf("first save: %v", err)
	}
	if err := w.Wait(); err == nil {
		t.Error("no error of the first write")
	}
	if err := os.Remove(blocked); err != nil {
		t.Fatal(err)
	}
	if err := w.Save(snapshot(2, 10)); err != nil {
		t.Errorf("second save: %v", err)
	}
	if err := w.Close(); err != nil {
		t.Error(err)
	}
	if l, err := Resume(run, nil); err != nil || l.Step != 2 {
		t.Errorf("%+v, %v", l, err)
	}
}

// Much optimizer state is several files, written at once; it reads back as if it were one.
func TestShards(t *testing.T) {
	defer func(n int) { shardBytes = n }(shardBytes)
	shardBytes = 40
	var s Snapshot
	s.Step, s.State = 3, map[string]int{"a": 1}
	s.Model = []Tensor{{"w", []int{2}, []float32{1, 2}}}
	for i := range 7 {
		x := make([]float32, 2+i*2) // 8 to 56 bytes: two in a file, one in a file, one larger than a file
		for j := range x {
			x[j] = float32(10*i + j)
		}
		s.Optimizer = append(s.Optimizer, Tensor{fmt.Sprintf("m.%d", i), []int{len(x)}, x})
	}
	run := t.TempDir()
	path, err := Write(run, s, 2)
	if err != nil {
		t.Fatal(err)
	}
	files, _ := filepath.Glob(filepath.Join(path, "optimizer-*-of-*.safetensors"))
	if len(files) < 3 {
		t.Errorf("files %v", files)
	}
	l, err := Read(path)
	if err != nil || !cmp.Equal(l.Optimizer, s.Optimizer) || !cmp.Equal(l.Model, s.Model) {
		t.Errorf("%v\n%v\nwant\n%v", err, l, s)
	}
	if err := os.Remove(files[1]); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadModel(path); err != nil {
		t.Errorf("the model alone: %v", err)
	}
	if _, err := Read(path); err == nil || !strings.Contains(err.Error(), filepath.Base(files[1])) {
		t.Errorf("without %s: %v", files[1], err)
	}
	if _, err := Latest(run); err == nil {
		t.Error("a checkpoint without one of its files is whole")
	}
}
