package index

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"swav/imgcodec"
	"swav/internal/runtest"
	"swav/interop"
	"swav/train"
)

// named is a source of nothing but names and labels.
type named struct{ labels []int }

func (s named) Name() string                    { return "named" }
func (s named) Len() int                        { return len(s.labels) }
func (s named) Channels() int                   { return 3 }
func (s named) Classes() []string               { return []string{"a", "b", "c"} }
func (s named) Label(i int) int                 { return s.labels[i] }
func (s named) ID(i int) string                 { return fmt.Sprint(i) }
func (s named) Load(int, *imgcodec.Image) error { return errors.New("no pixels") }

// opened is an index of a run's images and what was noted on the way.
func opened(t *testing.T, run, data, dir string) (*Index, string) {
	t.Helper()
	tr, err := train.OpenRun(run)
	if err != nil {
		t.Fatal(err)
	}
	src, err := tr.Data(context.Background(), data, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	var notes []string
	x, err := Open(context.Background(), tr, src, Options{Dir: dir, Note: func(s string) { notes = append(notes, s) }})
	if err != nil {
		t.Fatal(err)
	}
	return x, strings.Join(notes, "\n")
}

func same(a, b *Index) string {
	return cmp.Diff([]any{a.Image, a.Dim, a.Features, a.Prototypes, a.Prototype, a.Score}, []any{b.Image, b.Dim, b.Features, b.Prototypes, b.Prototype, b.Score})
}

func TestOpenComputesOnceAndSeesChanges(t *testing.T) {
	data := runtest.Photos(t, 12)
	run := runtest.Run(t, data)
	dir := Dir(run)
	first, notes := opened(t, run, data, dir)
	if first.Len() != 12 || first.Dim == 0 || first.Prototypes != runtest.Prototypes || !strings.Contains(notes, "12 images") {
		t.Fatalf("%d rows of %d, %d prototypes; notes: %s", first.Len(), first.Dim, first.Prototypes, notes)
	}
	for i := range first.Len() {
		if n := norm(first.Features[i*first.Dim : (i+1)*first.Dim]); math.Abs(n-1) > 1e-6 {
			t.Errorf("row %d has length %v", i, n)
		}
	}
	again, notes := opened(t, run, data, dir)
	if notes != "" {
		t.Errorf("computed again: %s", notes)
	}
	if d := same(first, again); d != "" {
		t.Errorf("what was kept differs:\n%s", d)
	}
	without, _ := opened(t, run, data, "")
	if d := same(first, without); d != "" {
		t.Errorf("without a cache it differs:\n%s", d)
	}

	// A changed file, then a new one.
	if err := os.Chtimes(filepath.Join(data, "stripes", "00.png"), time.Time{}, time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	if _, notes = opened(t, run, data, dir); !strings.Contains(notes, "12 images") {
		t.Errorf("a changed file went unnoticed: %q", notes)
	}
	if err := os.WriteFile(filepath.Join(data, "bands", "new.png"), runtest.Photo(t, 20), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, notes = opened(t, run, data, dir); !strings.Contains(notes, "13 images") {
		t.Errorf("a new file went unnoticed: %q", notes)
	}
}

func norm(row []float32) float64 {
	sum := 0.0
	for _, v := range row {
		sum += float64(v) * float64(v)
	}
	return math.Sqrt(sum)
}

func TestOpenLeavesOutTheUnreadable(t *testing.T) {
	data := runtest.Photos(t, 12)
	run := runtest.Run(t, data)
	if err := os.WriteFile(filepath.Join(data, "bands", "broken.png"), []byte("none"), 0o644); err != nil {
		t.Fatal(err)
	}
	x, _ := opened(t, run, data, "")
	if x.Len() != 12 || x.Source.Len() != 13 {
		t.Fatalf("%d rows of %d images", x.Len(), x.Source.Len())
	}
	for i := range x.Len() {
		if x.ID(i) == "bands/broken.png" {
			t.Error("the broken image has a row")
		}
		if got := x.Class(i); !strings.HasPrefix(x.ID(i), got+"/") {
			t.Errorf("%s is of class %s", x.ID(i), got)
		}
	}
}

func TestDamagedIndexIsMadeAnew(t *testing.T) {
	data := runtest.Photos(t, 12)
	run := runtest.Run(t, data)
	dir := Dir(run)
	whole, _ := opened(t, run, data, dir)
	kept, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(kept) != 1 {
		t.Fatal(kept, err)
	}
	good, err := os.ReadFile(kept[0])
	if err != nil {
		t.Fatal(err)
	}
	for name, bad := range map[string][]byte{
		"empty": {}, "text": []byte("hello"), "half": good[:len(good)/2],
		"too many": patched(t, good, func(v []interop.Tensor) { v[0].Data.([]int64)[0] = 99 }),
		"negative": patched(t, good, func(v []interop.Tensor) { v[1].Data.([]int64)[3] = -1 }),
		"infinite": patched(t, good, func(v []interop.Tensor) { v[2].Data.([]float32)[3] = float32(math.Inf(1)) }),
		"not a number": patched(t, good, func(v []interop.Tensor) {
			v[3].Data.([]float32)[3] = float32(math.NaN())
		}),
	} {
		if err := os.WriteFile(kept[0], bad, 0o644); err != nil {
			t.Fatal(err)
		}
		x, notes := opened(t, run, data, dir)
		if !strings.Contains(notes, "anew") || !strings.Contains(notes, kept[0]) {
			t.Errorf("%s: noted %q", name, notes)
		}
		if d := same(whole, x); d != "" {
			t.Errorf("%s: differs:\n%s", name, d)
		}
	}
	if _, notes := opened(t, run, data, dir); notes != "" {
		t.Errorf("not repaired: %s", notes)
	}
}

// patched rewrites an index file.
func patched(t *testing.T, file []byte, change func([]interop.Tensor)) []byte {
	t.Helper()
	f, err := interop.ReadSafetensors(bytes.NewReader(file), int64(len(file)))
	if err != nil {
		t.Fatal(err)
	}
	image, _ := f.Int64("image")
	prototype, _ := f.Int64("prototype")
	score, _ := f.Float32("score")
	features, err := f.Float32("features")
	if err != nil {
		t.Fatal(err)
	}
	n := len(image)
	all := []interop.Tensor{{Name: "image", Shape: []int{n}, Data: image}, {Name: "prototype", Shape: []int{n}, Data: prototype},
		{Name: "score", Shape: []int{n}, Data: score}, {Name: "features", Shape: []int{n, len(features) / n}, Data: features}}
	change(all)
	var b bytes.Buffer
	if err := interop.WriteSafetensors(&b, all, nil); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestIndexThatCannotBeKept(t *testing.T) {
	data := runtest.Photos(t, 12)
	run := runtest.Run(t, data)
	blocked := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(blocked, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	x, notes := opened(t, run, data, filepath.Join(blocked, "index"))
	if x.Len() != 12 || !strings.Contains(notes, "not kept") {
		t.Errorf("%d rows, noted %q", x.Len(), notes)
	}
}

func TestDir(t *testing.T) {
	run := t.TempDir()
	checkpoint := filepath.Join(run, "checkpoints", "step-1")
	if err := os.MkdirAll(checkpoint, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(checkpoint, "state.json"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	want := filepath.Join(run, "index")
	for _, path := range []string{run, checkpoint} {
		if got := Dir(path); got != want {
			t.Errorf("Dir(%s) = %s, want %s", path, got, want)
		}
	}
}

// FuzzRead feeds files to the reader: it must refuse them, or give rows that can be
// used.
func FuzzRead(f *testing.F) {
	n := 3
	var b bytes.Buffer
	err := interop.WriteSafetensors(&b, []interop.Tensor{
		{Name: "image", Shape: []int{n}, Data: []int64{0, 2, 3}}, {Name: "prototype", Shape: []int{n}, Data: []int64{1, 0, 1}},
		{Name: "score", Shape: []int{n}, Data: []float32{0.5, 0.25, 1}}, {Name: "features", Shape: []int{n, 2}, Data: []float32{1, 0, 0, 2, 3, 4}}}, nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Add(b.Bytes()[:b.Len()-4])
	f.Add([]byte{})
	f.Add(append(binary.LittleEndian.AppendUint64(nil, 2), "{}"...))
	f.Fuzz(func(t *testing.T, file []byte) {
		s, err := interop.ReadSafetensors(bytes.NewReader(file), int64(len(file)))
		if err != nil {
			return
		}
		x := &Index{Source: named{make([]int, 4)}, Prototypes: 2}
		if x.decode(s) != nil {
			return
		}
		if x.Len() == 0 || len(x.Features) != x.Len()*x.Dim || len(x.Score) != x.Len() || len(x.Prototype) != x.Len() {
			t.Fatalf("%d rows of %d, %d features", x.Len(), x.Dim, len(x.Features))
		}
		hits, err := x.Nearest(context.Background(), x.Features[:x.Dim], 2)
		if err != nil || len(hits) != 1 {
			t.Fatalf("%v, %v", hits, err)
		}
		for i := range x.Len() {
			_, _ = x.ID(i), x.Class(i)
		}
	})
}

func TestVotes(t *testing.T) {
	x := &Index{Source: named{[]int{0, 1, 1, -1, 2}}, Image: []int{0, 1, 2, 3, 4}}
	votes := x.Votes([]Hit{{3, 0.95}, {0, 0.9}, {1, 0.85}, {2, 0.85}})
	a, b := 1.0, 2*math.Exp(-0.05/VoteTemperature)
	want := []Vote{{0, a / (a + b)}, {1, b / (a + b)}}
	slices.SortFunc(want, func(p, q Vote) int { return int(math.Copysign(1, q.Share-p.Share)) })
	if len(votes) != 2 || votes[0].Class != want[0].Class || math.Abs(votes[0].Share-want[0].Share) > 1e-5 || math.Abs(votes[1].Share-want[1].Share) > 1e-5 {
		t.Errorf("votes %v, want %v", votes, want)
	}
	for name, hits := range map[string][]Hit{"no hits": nil, "no labels": {{3, 1}}} {
		if v := x.Votes(hits); len(v) != 0 {
			t.Errorf("%s: %v", name, v)
		}
	}
}
