package eval

import (
	"bytes"
	"context"
	"encoding/json"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// The sweep finds what scikit-learn's best regression finds, on any number of
// processors.
func TestLinear(t *testing.T) {
	g, ref, query := readGolden(t)
	l := DefaultLinear()
	l.Epochs, l.Batch = 60, 32
	var told [2]int
	r, err := Linear(context.Background(), ref, query, l, Options{Progress: func(done, total int) { told = [2]int{done, total} }})
	if err != nil {
		t.Fatal(err)
	}
	if told[0] != told[1] || told[0] == 0 {
		t.Errorf("progress ended at %v", told)
	}
	if want := len(l.LR)*len(l.WeightDecay) + len(l.C); len(r.Rows) != want {
		t.Fatalf("%d rows, want %d", len(r.Rows), want)
	}
	best := 0.0
	for _, x := range g.Logistic {
		best = max(best, 100*x.Accuracy)
	}
	// 90 queries: two of them are 2.2 points.
	if got := r.Best().Top1; got < best-2.3 {
		t.Errorf("best %v, scikit-learn %v", got, best)
	}
	old := runtime.GOMAXPROCS(4)
	again, err := Linear(context.Background(), ref, query, l, Options{})
	runtime.GOMAXPROCS(old)
	if err != nil || !reflect.DeepEqual(again, r) {
		t.Errorf("on 4 processors %+v, %v; before %+v", again, err, r)
	}
	for _, bad := range []LinearOptions{{}, {C: []float64{-1}, Epochs: 1, Batch: 1}, {C: []float64{1}}, {LR: []float64{1}, WeightDecay: []float64{0}, Epochs: 1, Batch: 1, Momentum: 1}} {
		if _, err := Linear(context.Background(), ref, query, bad, Options{}); err == nil {
			t.Errorf("%+v: no error", bad)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Linear(ctx, ref, query, l, Options{}); err == nil {
		t.Error("cancelled, but no error")
	}
}

// blobs are classes far apart.
func blobs(n, classes int) Set {
	rng := rand.New(rand.NewPCG(9, 9))
	s := Set{Dim: classes, Features: make([]float32, n*classes), Labels: make([]int, n)}
	for i := range n {
		s.Labels[i] = rng.IntN(classes)
		for j := range classes {
			s.Features[i*classes+j] = float32(0.05 * rng.NormFloat64())
		}
		s.Features[i*classes+s.Labels[i]] += 1 + float32(i%3) // length does not count
	}
	return s
}

func TestClusteringOfBlobs(t *testing.T) {
	set := blobs(2100, 5)
	r, err := Clustering(context.Background(), set, set.Labels, 5, DefaultCluster(), Options{})
	if err != nil || len(r.Rows) != 2 {
		t.Fatal(r, err)
	}
	for _, row := range r.Rows {
		if row.NMI < 0.999 || row.ARI < 0.999 || row.Hungarian < 99.99 || *row.Silhouette < 0.8 || row.Used != 5 {
			t.Errorf("%+v of clear clusters", row)
		}
	}
	first, err := KMeans(context.Background(), set, KMeansOptions{K: 12, Seed: 3}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	old := runtime.GOMAXPROCS(4)
	second, err := KMeans(context.Background(), set, KMeansOptions{K: 12, Seed: 3}, Options{})
	runtime.GOMAXPROCS(old)
	if err != nil || !reflect.DeepEqual(first, second) {
		t.Errorf("another clustering on 4 processors, %v", err)
	}
	// Fewer different rows than clusters: some stay empty, none is out of range.
	same := Set{Dim: 1, Features: []float32{1, 1, 1, 0}, Labels: []int{0, 0, 1, 1}}
	got, err := KMeans(context.Background(), same, KMeansOptions{K: 4}, Options{})
	if err != nil || got[0] != got[1] || got[1] != got[2] || got[3] == got[0] {
		t.Errorf("%v, %v", got, err)
	}
	if _, err := KMeans(context.Background(), same, KMeansOptions{K: 5}, Options{}); err == nil {
		t.Error("5 clusters of 4 images")
	}
}

// The assignment problem against trying all permutations.
func TestBestMatch(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rows, cols := rapid.IntRange(1, 5).Draw(t, "rows"), rapid.IntRange(1, 5).Draw(t, "cols")
		table := rapid.SliceOfN(rapid.IntRange(0, 9), rows*cols, rows*cols).Draw(t, "table")
		var best func(row int, used int) int
		best = func(row, used int) int {
			if row == rows {
				return 0
			}
			most := best(row+1, used)
			for c := range cols {
				if used>>c&1 == 0 {
					most = max(most, table[row*cols+c]+best(row+1, used|1<<c))
				}
			}
			return most
		}
		if got, want := bestMatch(table, rows, cols), best(0, 0); got != want {
			t.Fatalf("%d, want %d", got, want)
		}
	})
}

func TestProbe(t *testing.T) {
	r, err := Probe(context.Background(), blobs(400, 6), blobs(300, 6), DefaultProbe(), Options{})
	if err != nil || len(r.Rows) != 6 {
		t.Fatal(r, err)
	}
	for _, row := range r.Rows {
		if row.Top1 < 99.9 || row.Deviation > 0.5 {
			t.Errorf("%+v of clear classes", row)
		}
	}
	rows := drawShots([]int{0, 1, 0, 1, 0, 2}, 3, 2, rand.New(rand.NewPCG(1, 1)))
	if len(rows) != 5 {
		t.Errorf("rows %v: want two of classes 0 and 1, the one of class 2", rows)
	}
}

// Features that are all alike find nothing better than chance.
func TestRetrievalOfACollapse(t *testing.T) {
	set := Set{Dim: 2, Features: []float32{1, 1, 2, 2, 3, 3, 4, 4}, Labels: []int{0, 0, 0, 1}}
	r, err := Retrieval(context.Background(), set, Set{2, []float32{1, 1, 5, 5, 1, 0}, []int{1, 1, 2}}, Options{})
	if err != nil || r.MAP != 25 || r.Recall["1"] != 0 || r.Recall["5"] != 100 || r.WithoutReferences != 1 {
		t.Errorf("%+v, %v", r, err)
	}
}

func writeSet(t *testing.T, path string, set Set, classes []string) {
	t.Helper()
	w, err := CreateFeatures(path, set.Len(), set.Dim, classes)
	if err != nil {
		t.Fatal(err)
	}
	var rows []Row
	for i, l := range set.Labels {
		rows = append(rows, Row{ID: strings.Repeat("x,\"", i%2) + ".png", Label: l})
	}
	if err := w.Append(set.Features, rows); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestFeatureFiles(t *testing.T) {
	dir := t.TempDir()
	ref := Set{2, []float32{1, 2, 3, 4, 5, 6}, []int{1, -1, 0}}
	query := Set{2, []float32{7, 8}, []int{0}}
	for _, ext := range []string{".npy", ".safetensors"} {
		writeSet(t, filepath.Join(dir, "a"+ext), ref, []string{"cat", "dog"})
		writeSet(t, filepath.Join(dir, "b"+ext), query, []string{"dog"}) // another numbering
		a, err := OpenFeatures(filepath.Join(dir, "a"+ext))
		if err != nil {
			t.Fatal(err)
		}
		b, err := OpenFeatures(filepath.Join(dir, "b"+ext))
		if err != nil {
			t.Fatal(err)
		}
		r, q, classes, err := LabelledSets(a, b)
		want := Set{2, []float32{1, 2, 5, 6}, []int{1, 0}}
		if err != nil || !reflect.DeepEqual(r, want) || !reflect.DeepEqual(q, Set{2, []float32{7, 8}, []int{1}}) || !reflect.DeepEqual(classes, []string{"cat", "dog"}) {
			t.Errorf("%s: %v, %v, %v, %v", ext, r, q, classes, err)
		}
		if err := a.Close(); err != nil {
			t.Error(err)
		}
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestFeatureFilesThatAreOff(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a.npy")
	set := Set{2, []float32{1, 2, 3, 4}, []int{0, 1}}
	index := filepath.Join(dir, "a.csv")
	for _, c := range []struct {
		want   string
		damage func() error
	}{
		{"cut off", func() error { return os.Truncate(path, 130) }},
		{"EOF", func() error { return os.Truncate(path, 20) }},
		{"not an npy file", func() error { return os.WriteFile(path, []byte("row,id,label\n1,2,3\n"), 0o644) }},
		{"names 1 of 2 rows", func() error { return os.WriteFile(index, []byte("row,id,label\n0,a,b\n"), 0o644) }},
		{"more than 2 rows", func() error { return os.WriteFile(index, []byte("row,id,label\n0,a,b\n1,a,b\n2,a,b\n"), 0o644) }},
		{"want row,id,label", func() error { return os.WriteFile(index, []byte("a,b,c\n0,a,b\n"), 0o644) }},
		{"where 1 belongs", func() error { return os.WriteFile(index, []byte("row,id,label\n0,a,b\n0,a,b\n"), 0o644) }},
		{"names 0 of 2 rows", func() error { return os.WriteFile(index, nil, 0o644) }},
	} {
		writeSet(t, path, set, []string{"x", "y"})
		if err := c.damage(); err != nil {
			t.Fatal(err)
		}
		if f, err := OpenFeatures(path); err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "a.npy") {
			t.Errorf("%v, %v: want %q", f, err, c.want)
		}
	}
	writeSet(t, path, set, nil)
	if err := os.Remove(index); err != nil {
		t.Fatal(err)
	}
	f, err := OpenFeatures(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, _, _, err := LabelledSets(f, nil); err == nil || !strings.Contains(err.Error(), "no row has a label") {
		t.Errorf("error %v", err)
	}
	if _, err := OpenFeatures(filepath.Join(dir, "a.txt")); err == nil {
		t.Error("a .txt was opened")
	}
}

func TestReport(t *testing.T) {
	results := []Result{{Top1: 0.5, Top5: 1}, {Top1: 0.25, Top5: 0.75}}
	r := &Report{Protocol: "knn", Source: "r", References: 4, Queries: 2, Features: 3, Classes: 2, Holdout: true,
		Result: NewKNNReport([]Rule{{K: 1, Temperature: 0.07}, {K: 9, Uniform: true}}, results)}
	var b bytes.Buffer
	if err := r.Write(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"4 references, 2 queries held out", "50.00 %", "plain", "kNN 50.00 % (k 1, weighted votes)"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("lacks %q:\n%s", want, b.String())
		}
	}
	path, err := r.Save(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var back struct {
		Protocol string
		Result   struct{ Rows []KNNRow }
	}
	if err := json.Unmarshal(text, &back); err != nil || back.Protocol != "knn" || len(back.Result.Rows) != 2 || back.Result.Rows[1].Top5 != 75 {
		t.Errorf("%+v, %v", back, err)
	}
}

// Batches that the caller brings are learnt from as those of Linear are.
func TestLinearTrainer(t *testing.T) {
	rng := rand.New(rand.NewPCG(11, 12))
	ref, query := random(rng, 50, 6, 3), random(rng, 40, 6, 3)
	l := LinearOptions{LR: []float64{0.1, 1}, WeightDecay: []float64{0, 1e-3}, Epochs: 5, Batch: 16, Momentum: 0.9, Seed: 4}
	want, err := Linear(context.Background(), ref, query, l, Options{Classes: 3})
	if err != nil {
		t.Fatal(err)
	}
	trainer, err := NewLinearTrainer(6, l, Options{Classes: 3})
	if err != nil {
		t.Fatal(err)
	}
	order := rand.New(rand.NewPCG(4, 0xba7c4))
	for epoch := range l.Epochs {
		perm := order.Perm(ref.Len())
		for from := 0; from < len(perm); from += l.Batch {
			var x []float32
			var labels []int
			for _, i := range perm[from:min(from+l.Batch, len(perm))] {
				x, labels = append(x, ref.Row(i)...), append(labels, ref.Labels[i])
			}
			if err := trainer.Step(x, labels, epoch); err != nil {
				t.Fatal(err)
			}
		}
	}
	got, err := trainer.Report(query)
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, want %+v; %v", got, want, err)
	}
	for what, err := range map[string]error{
		"too many rows":         trainer.Step(make([]float32, 17*6), make([]int, 17), 0),
		"an unknown class":      trainer.Step(make([]float32, 6), []int{3}, 0),
		"a torn row":            trainer.Step(make([]float32, 7), []int{1}, 0),
		"a number that is none": trainer.Step([]float32{0, 0, float32(math.NaN()), 0, 0, 0}, []int{1}, 0),
	} {
		if err == nil {
			t.Errorf("%s: no error", what)
		}
	}
}
