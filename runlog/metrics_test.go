package runlog

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func metric(step int) *Metric {
	return &Metric{Step: step, Epoch: step / 10, Loss: Number(4 / float64(step+3)), LR: 1e-3, Time: Timing{Unix: 1.5, ImagesPerSecond: 100, Seconds: 0.5, Wait: 0.1}}
}

func write(t *testing.T, dir string, from, to int) {
	t.Helper()
	w, err := OpenMetrics(dir, from)
	if err != nil {
		t.Fatal(err)
	}
	for s := from; s < to; s++ {
		if err := w.Write(metric(s)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
}

func file(t *testing.T, dir string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, MetricsFile))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// However far a session got beyond its checkpoint and wherever its last line was
// torn, the resumed run's file is that of an uninterrupted one.
func TestResumedMetricsAreTheSame(t *testing.T) {
	whole := t.TempDir()
	write(t, whole, 0, 12)
	want := file(t, whole)
	rapid.Check(t, func(rt *rapid.T) {
		saved := rapid.IntRange(0, 12).Draw(rt, "saved")
		reached := rapid.IntRange(saved, 12).Draw(rt, "reached")
		dir, err := os.MkdirTemp(whole, "")
		if err != nil {
			rt.Fatal(err)
		}
		write(t, dir, 0, reached)
		text := file(t, dir)
		// A torn line belongs to a step that the checkpoint does not have.
		if reached > saved {
			text = text[:len(text)-rapid.IntRange(0, 100).Draw(rt, "torn")]
		}
		if err := os.WriteFile(filepath.Join(dir, MetricsFile), []byte(text), 0o644); err != nil {
			rt.Fatal(err)
		}
		write(t, dir, saved, 12)
		if got := file(t, dir); got != want {
			rt.Fatalf("resumed\n%s\nwant\n%s", got, want)
		}
	})
}

func TestReadMetrics(t *testing.T) {
	dir := t.TempDir()
	if all, err := ReadMetrics(dir); err != nil || len(all) != 0 {
		t.Errorf("without a file: %v, %v", all, err)
	}
	write(t, dir, 0, 3)
	f, err := os.OpenFile(filepath.Join(dir, MetricsFile), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(f, `{"step":3,"lo`)
	f.Close()
	all, err := ReadMetrics(dir)
	if err != nil || !reflect.DeepEqual(all, []Metric{*metric(0), *metric(1), *metric(2)}) {
		t.Errorf("%+v, %v", all, err)
	}
	for _, bad := range []string{"no metric\n", strings.Repeat("x", 1<<20) + "\n"} {
		if err := os.WriteFile(filepath.Join(dir, MetricsFile), []byte("{}\n"+bad+"{}\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		for _, err := range []error{second(ReadMetrics(dir)), second(OpenMetrics(dir, 5))} {
			if err == nil || !strings.Contains(err.Error(), "line 2") || len(err.Error()) > 1000 {
				t.Errorf("bad second line: %v", err)
			}
		}
	}
}

func second[T any](_ T, err error) error { return err }

// A line that could only be written in part is taken back, so that the run could
// go on.
func TestMetricsOfAFullDisk(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, 0, 2)
	want := file(t, dir)
	w, err := OpenMetrics(dir, 2)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	good := w.f
	// The file of a full disk: every write fails.
	if w.f, err = os.OpenFile("/dev/full", os.O_WRONLY, 0); err != nil {
		t.Skip(err)
	}
	err = w.Write(metric(2))
	w.f.Close()
	w.f = good
	if err == nil || !strings.Contains(err.Error(), "no space left") || !strings.Contains(err.Error(), "resumes from its last checkpoint") {
		t.Errorf("error %v", err)
	}
	if got := file(t, dir); got != want {
		t.Errorf("file %q, want %q", got, want)
	}
	if err := w.Write(metric(2)); err != nil {
		t.Error(err)
	}
	if all, err := ReadMetrics(dir); err != nil || len(all) != 3 {
		t.Errorf("%d metrics, %v", len(all), err)
	}
}

func TestNumber(t *testing.T) {
	for _, c := range []struct {
		n    float64
		text string
	}{
		{1.5, "1.5"}, {math.NaN(), `"NaN"`}, {math.Inf(1), `"+Inf"`}, {math.Inf(-1), `"-Inf"`}, {1.0 / 3, "0.3333333333333333"},
	} {
		text, err := json.Marshal(Number(c.n))
		if err != nil || string(text) != c.text {
			t.Errorf("%v: %s, %v; want %s", c.n, text, err, c.text)
		}
		var back Number
		if err := json.Unmarshal(text, &back); err != nil || math.Float64bits(float64(back)) != math.Float64bits(c.n) {
			t.Errorf("%s: %v, %v", text, back, err)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		n := Number(rapid.Float64().Draw(t, "n"))
		text, err := json.Marshal(n)
		var back Number
		if err = errors.Join(err, json.Unmarshal(text, &back)); err != nil {
			t.Fatal(err)
		}
		if math.Float64bits(float64(back)) != math.Float64bits(float64(n)) && !math.IsNaN(float64(n)) {
			t.Fatalf("%v through %s is %v", n, text, back)
		}
	})
}

func TestSkips(t *testing.T) {
	dir := t.TempDir()
	s := NewSkips(dir)
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	path := filepath.Join(dir, "skipped.jsonl")
	if _, err := os.Stat(path); err == nil {
		t.Error("a file without a skip")
	}
	s.Add("a\n\"b\".jpg", errors.New("torn"))
	s.Add("c.jpg", errors.New("empty"))
	s.Add("c.jpg", errors.New("empty"))
	if s.Count() != 3 {
		t.Errorf("count %d", s.Count())
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	// Killed in the middle of a line, then resumed.
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(f, `{"image":"d.j`)
	f.Close()
	s = NewSkips(dir)
	s.Add("c.jpg", errors.New("empty"))
	s.Add("d.jpg", errors.New("torn"))
	s.Close()
	text, err := os.ReadFile(path)
	want := `{"image":"a\n\"b\".jpg","error":"torn"}
{"image":"c.jpg","error":"empty"}
{"image":"d.jpg","error":"torn"}
`
	if err != nil || string(text) != want {
		t.Errorf("%s, %v; want\n%s", text, err, want)
	}
	// Where it cannot be written, training does not mind.
	s = NewSkips(filepath.Join(path, "x"))
	s.Add("e.jpg", errors.New("torn"))
	if err := s.Close(); err != nil || s.Count() != 1 {
		t.Errorf("%v, count %d", err, s.Count())
	}
}
