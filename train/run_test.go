package train

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"swav/checkpoint"
	"swav/config"
	"swav/eval"
	"swav/internal/hostmem"
	"swav/runlog"
)

// tinyRecipe is a run of a few seconds on any backend: a queue that fills
// within it, frozen prototypes that thaw, two crop groups, and epochs that end
// in the middle.
const tinyRecipe = `
[[crops]]
count = 2
size = 12
min_scale = 0.3
max_scale = 1
[[crops]]
count = 1
size = 8
min_scale = 0.2
max_scale = 0.5
[augment]
blur = 0.5
[model]
arch = ""
block = "basic"
layers = [1, 1]
width = 0.125
stem = "small"
hidden = 16
feature_dim = 8
prototypes = 6
[swav]
freeze_prototypes = "2 steps"
queue = 12
queue_start = "1 steps"
[optim]
kind = "larc"
lr = 0.3
final_lr = 0
warmup = "2 steps"
[train]
epochs = 0
steps = 7
batch_size = 6
precision = "fp32"
checkpoint_every = "3 steps"
log_every = 1
seed = 5
[eval]
holdout = 0.3
`

func recipe(t *testing.T, set ...string) *config.Recipe {
	t.Helper()
	r, err := config.Parse([]byte(tinyRecipe), "tiny")
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range set {
		if err := r.Set(s); err != nil {
			t.Fatal(err)
		}
	}
	return r
}

// photos writes n small pictures in two class folders.
func photos(t *testing.T, n int) string {
	t.Helper()
	dir := t.TempDir()
	for i := range n {
		class := filepath.Join(dir, []string{"stripes", "spots"}[i%2])
		if err := os.MkdirAll(class, 0o755); err != nil {
			t.Fatal(err)
		}
		img := image.NewRGBA(image.Rect(0, 0, 16, 14))
		for p := range 16 * 14 {
			x, y := p%16, p/16
			v := uint8(40 * (x % 3 * (i % 2)) * y % 256)
			img.SetRGBA(x, y, color.RGBA{v, uint8(i * 11), uint8(x * y), 255})
		}
		var b bytes.Buffer
		if err := png.Encode(&b, img); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(class, fmt.Sprintf("%02d.png", i)), b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// execute runs and returns what the console showed.
func execute(ctx context.Context, o Options) (*Outcome, string, error) {
	var screen bytes.Buffer
	log := NewRunLog(&screen, &screen, o.Dir)
	o.Log = log
	out, err := Run(ctx, o)
	log.Ended(err)
	return out, screen.String(), errors.Join(err, log.Close())
}

// deterministic are a run's metrics without their timing.
func deterministic(t *testing.T, dir string) []runlog.Metric {
	t.Helper()
	ms, err := runlog.ReadMetrics(dir)
	if err != nil {
		t.Fatal(err)
	}
	for i := range ms {
		ms[i].Time = runlog.Timing{}
	}
	return ms
}

func finalTensors(t *testing.T, dir string) map[string][]float32 {
	t.Helper()
	path, err := checkpoint.Latest(dir)
	if err != nil {
		t.Fatal(err)
	}
	l, err := checkpoint.Read(path)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string][]float32{}
	for _, x := range append(l.Model, l.Optimizer...) {
		all[x.Name] = x.Data
	}
	return all
}

func sameRuns(t *testing.T, want, got string) {
	t.Helper()
	a, b := deterministic(t, want), deterministic(t, got)
	if len(a) != len(b) {
		t.Fatalf("%d steps of metrics against %d", len(a), len(b))
	}
	for i := range a {
		if !reflect.DeepEqual(a[i], b[i]) {
			t.Errorf("metrics differ:\n%+v\n%+v", a[i], b[i])
		}
	}
	x, y := finalTensors(t, want), finalTensors(t, got)
	for name, data := range x {
		for i := range data {
			if math.Float32bits(data[i]) != math.Float32bits(y[name][i]) {
				t.Fatalf("%s differs at element %d: %v, %v", name, i, data[i], y[name][i])
			}
		}
	}
	if len(x) != len(y) {
		t.Errorf("%d tensors against %d", len(x), len(y))
	}
}

func TestResumedRunEqualsUninterruptedBitForBit(t *testing.T) {
	data := photos(t, 20)
	for name, set := range map[string][]string{
		"larc with queue":                     nil,
		"adamw":                               {"optim.kind=adamw", "optim.lr=0.001", "swav.queue=0"},
		"accumulate, hard":                    {"train.accumulate=2", "swav.hard=true"},
		"deepclusterv2":                       {"train.method=deepclusterv2", "deepcluster.prototypes=4,5,3"},
		"deepclusterv2, one head, accumulate": {"train.method=deepclusterv2", "train.accumulate=2", "optim.kind=adamw", "optim.lr=0.001"},
	} {
		t.Run(name, func(t *testing.T) {
			whole, parts := t.TempDir(), t.TempDir()
			if _, _, err := execute(context.Background(), Options{Recipe: recipe(t, set...), Data: data, Dir: whole}); err != nil {
				t.Fatal(err)
			}
			if n := len(deterministic(t, whole)); n != 7 {
				t.Fatalf("%d steps of metrics, want 7", n)
			}
			// Stopped inside the first and the second epoch (3 steps each), once
			// right at a checkpoint.
			inParts(t, Options{Recipe: recipe(t, set...), Data: data, Dir: parts}, 2, 3, 5)
			sameRuns(t, whole, parts)
		})
	}
}

// inParts does a run that is stopped at some steps and resumed each time.
func inParts(t *testing.T, o Options, stops ...int) {
	t.Helper()
	for _, stop := range stops {
		o.Stop = stop
		if _, _, err := execute(context.Background(), o); !errors.Is(err, ErrInterrupted) {
			t.Fatalf("stopped at step %d: %v", stop, err)
		}
		o = Options{Dir: o.Dir, Resume: true}
	}
	if _, _, err := execute(context.Background(), o); err != nil {
		t.Fatal(err)
	}
}

// shards packs pictures into tar files and names them by a pattern.
func shards(t *testing.T, n int) string {
	t.Helper()
	src, dir := photos(t, n), t.TempDir()
	files, err := filepath.Glob(filepath.Join(src, "*", "*.png"))
	if err != nil {
		t.Fatal(err)
	}
	for s := range 2 {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		for i, name := range files {
			if i%2 != s {
				continue
			}
			data, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			class := filepath.Base(filepath.Dir(name))
			for suffix, content := range map[string][]byte{".png": data, ".cls": []byte(class)} {
				if err := w.WriteHeader(&tar.Header{Name: strings.TrimSuffix(filepath.Base(name), ".png") + suffix, Mode: 0o644, Size: int64(len(content))}); err != nil {
					t.Fatal(err)
				}
				if _, err := w.Write(content); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("d-%d.tar", s)), b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, "d-{0..1}.tar")
}

// A stream that is left in the middle of a block and of a pass goes on as if
// nothing had been.
func TestResumedStreamEqualsUninterrupted(t *testing.T) {
	data := "repeat:" + shards(t, 20)
	for name, set := range map[string][]string{
		"one part":    {"data.shuffle_buffer=12"},
		"accumulated": {"data.shuffle_buffer=18", "train.accumulate=2"},
	} {
		t.Run(name, func(t *testing.T) {
			whole, parts := t.TempDir(), t.TempDir()
			out, screen, err := execute(context.Background(), Options{Recipe: recipe(t, set...), Data: data, Dir: whole})
			if err != nil {
				t.Fatal(err)
			}
			if out.Source.Len() < 12 || out.KNN == nil || !strings.Contains(screen, "images as they come") {
				t.Errorf("evaluated on %d images, kNN %v\n%s", out.Source.Len(), out.KNN, screen)
			}
			inParts(t, Options{Recipe: recipe(t, set...), Data: data, Dir: parts}, 1, 4, 5)
			sameRuns(t, whole, parts)
		})
	}
	// What a trained network says of a stream is what it says of the same images
	// by number.
	dir := t.TempDir()
	if _, _, err := execute(context.Background(), Options{Recipe: recipe(t), Data: strings.TrimPrefix(data, "repeat:"), Dir: dir}); err != nil {
		t.Fatal(err)
	}
	e, err := Embed(context.Background(), EmbedOptions{Run: dir})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]int{}
	for i, r := range e.Rows() {
		want[r.ID] = e.Prototype[i]
	}
	seen, enough := 0, errors.New("enough")
	err = Follow(context.Background(), EmbedOptions{Run: dir, Data: data}, func(rows []eval.Assignment) error {
		for _, r := range rows {
			if p, ok := want[r.ID]; !ok || p != r.Prototype {
				t.Errorf("%s: prototype %d, want %d", r.ID, r.Prototype, p)
			}
		}
		if seen += len(rows); seen >= 30 { // of 20 images
			return enough
		}
		return nil
	})
	if !errors.Is(err, enough) {
		t.Errorf("following a stream: %v", err)
	}
	if _, _, err := execute(context.Background(), Options{Recipe: recipe(t, "train.steps=0", "train.epochs=3"), Data: data, Dir: t.TempDir()}); err == nil || !strings.Contains(err.Error(), "data.epoch_images") {
		t.Errorf("epochs of a stream: %v", err)
	}
}

// A run whose data goes away for good keeps the steps that it has done.
func TestRunIsSavedWhenTheDataGoesAway(t *testing.T) {
	pattern := shards(t, 20)
	files := http.FileServer(http.Dir(filepath.Dir(pattern)))
	dir := t.TempDir()
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	steps := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.URL.Path, "d-1") && r.Header.Get("Range") == "" {
			http.NotFound(w, r) // it was there when it was asked for its size
			return
		}
		files.ServeHTTP(w, r)
	}))
	defer server.Close()
	data := "repeat:" + server.URL + "/d-{0,1}.tar"
	_, _, err := execute(context.Background(), Options{Recipe: recipe(t, "data.shuffle_buffer=6", "train.seed=1"), Data: data, Dir: dir})
	if err == nil || !strings.Contains(err.Error(), "/d-1.tar") {
		t.Fatalf("error %v, want one that names the shard", err)
	}
	if path, lerr := checkpoint.Latest(dir); lerr == nil {
		l, lerr := checkpoint.Read(path)
		if lerr != nil {
			t.Fatal(lerr)
		}
		steps = l.Step
	}
	// Ten images come before the shard that is gone, or none, by the order.
	if ms := deterministic(t, dir); len(ms) != steps {
		t.Errorf("%d steps were done and %d saved", len(ms), steps)
	}
}

// A run that is killed has written metrics beyond its last checkpoint; they are
// written again, not twice.
func TestKilledRunGoesOnFromItsCheckpoint(t *testing.T) {
	data := photos(t, 20)
	whole, killed := t.TempDir(), t.TempDir()
	if _, _, err := execute(context.Background(), Options{Recipe: recipe(t), Data: data, Dir: whole}); err != nil {
		t.Fatal(err)
	}
	if _, _, err := execute(context.Background(), Options{Recipe: recipe(t), Data: data, Dir: killed, Stop: 5}); !errors.Is(err, ErrInterrupted) {
		t.Fatal(err)
	}
	// As after SIGKILL: the checkpoint of step 5 was never finished.
	if err := os.RemoveAll(filepath.Join(killed, "checkpoints", "step-0000005")); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(filepath.Join(killed, runlog.MetricsFile), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(f, `{"step":5,"epo`)
	f.Close()
	if _, _, err := execute(context.Background(), Options{Dir: killed, Resume: true}); err != nil {
		t.Fatal(err)
	}
	sameRuns(t, whole, killed)
}

func TestWorkersDoNotChangeTheResult(t *testing.T) {
	data := photos(t, 20)
	one, four := t.TempDir(), t.TempDir()
	for dir, n := range map[string]string{one: "1", four: "4"} {
		if _, _, err := execute(context.Background(), Options{Recipe: recipe(t, "data.workers="+n), Data: data, Dir: dir}); err != nil {
			t.Fatal(err)
		}
	}
	sameRuns(t, one, four)
}

func TestRunWritesWhatItPromises(t *testing.T) {
	dir := t.TempDir()
	out, screen, err := execute(context.Background(), Options{Recipe: recipe(t), Data: photos(t, 20), Dir: dir, Notes: []string{"a reason"}})
	if err != nil {
		t.Fatal(err)
	}
	if out.KNN == nil || out.KNN.Queries != 6 || out.KNN.References != 14 || !out.KNN.Holdout {
		t.Errorf("kNN table %+v", out.KNN)
	}
	for _, want := range []string{"step 7/7", "raw pixels", "untrained", "report.html"} {
		if !strings.Contains(screen, want) {
			t.Errorf("console does not show %q:\n%s", want, screen)
		}
	}
	for _, name := range []string{"recipe.toml", "metrics.jsonl", "prototypes.png", "report.html", "latest/model.safetensors", "latest/optimizer.safetensors", "latest/state.json"} {
		if st, err := os.Stat(filepath.Join(dir, name)); err != nil || st.Size() == 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
	if found, _ := filepath.Glob(filepath.Join(dir, "events.out.tfevents.*")); len(found) != 1 {
		t.Errorf("TensorBoard files: %v", found)
	}
	page, err := os.ReadFile(filepath.Join(dir, "report.html"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"data:image/png;base64,", "<polyline", "raw pixels", "freeze_prototypes", "a reason"} {
		if !bytes.Contains(page, []byte(want)) {
			t.Errorf("report lacks %q", want)
		}
	}
	for _, bad := range []string{"http://", "https://", "<script"} {
		if bytes.Contains(page, []byte(bad)) {
			t.Errorf("report holds %q: it must need no network", bad)
		}
	}
	e, err := Embed(context.Background(), EmbedOptions{Run: dir})
	if err != nil {
		t.Fatal(err)
	}
	if len(e.Index) != 20 || len(e.Features) != 20*16 || len(e.Prototype) != 20 {
		t.Errorf("embedded %d images, %d numbers, %d prototypes", len(e.Index), len(e.Features), len(e.Prototype))
	}
}

func TestBadInputGetsAClearErrorAndLosesNothing(t *testing.T) {
	good := photos(t, 20)
	broken := t.TempDir()
	for i := range 20 {
		if err := os.WriteFile(filepath.Join(broken, fmt.Sprintf("%d.jpg", i)), []byte("not a picture"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	file := filepath.Join(t.TempDir(), "a file")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		data, dir string
		set       []string
		want      string // part of the error
	}{
		"empty folder":        {data: t.TempDir(), want: "no images"},
		"missing folder":      {data: filepath.Join(t.TempDir(), "nowhere"), want: "nowhere"},
		"broken files":        {data: broken, want: "cannot be read"},
		"fewer than a batch":  {data: good, set: []string{"train.batch_size=64", "swav.queue=0"}, want: "train.batch_size"},
		"run is a file":       {data: good, dir: file, want: "a file"},
		"run below a file":    {data: good, dir: filepath.Join(file, "run"), want: "a file"},
		"no data":             {want: "--data"},
		"non-finite loss":     {data: good, set: []string{"optim.kind=sgd", "optim.lr=1000", "optim.momentum=0", "optim.weight_decay=10", "train.steps=60"}, want: "not finite"},
		"warm-up too long":    {data: good, set: []string{"optim.warmup=50 steps"}, want: "optim.warmup"},
		"assign out of range": {data: good, set: []string{"swav.assign=[0, 7]"}, want: "swav.assign"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := tc.dir
			if dir == "" {
				dir = t.TempDir()
			}
			_, _, err := execute(context.Background(), Options{Recipe: recipe(t, tc.set...), Data: tc.data, Dir: dir})
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %v, want one with %q", err, tc.want)
			}
		})
	}
}

// A dry run compiles everything, says what it takes, and leaves no trace.
func TestDryRunTellsTheMemoryAndKeepsNothing(t *testing.T) {
	dir := t.TempDir()
	out, screen, err := execute(context.Background(), Options{Recipe: recipe(t), Data: photos(t, 20), Dir: dir, DryRun: true})
	if err != nil || out != nil {
		t.Fatalf("outcome %v, error %v", out, err)
	}
	for _, want := range []string{"MB for intermediates", "MB for weights", "20 images"} {
		if !strings.Contains(screen, want) {
			t.Errorf("%q is not in\n%s", want, screen)
		}
	}
	for _, name := range []string{"metrics.jsonl", "checkpoints/step-*"} {
		if found, _ := filepath.Glob(filepath.Join(dir, name)); len(found) > 0 {
			t.Errorf("%v", found)
		}
	}
}

// A plan that does not fit is refused with the batch that would.
func TestShortageNamesABatchThatFits(t *testing.T) {
	r := recipe(t)
	r.Train.Batch, r.Train.Accumulate = 64, 1
	for _, tc := range []struct {
		need, have int64
		want       string
	}{
		{100, 50, "train.batch_size=28, or --set train.accumulate=4"}, // 3 parts do not divide 64
		{100, 1, "not even a batch of 2"},
	} {
		err := fmt.Errorf("plan: %w", &hostmem.Shortage{Need: tc.need, Have: tc.have})
		if got := fitting(err, r); !strings.Contains(got, tc.want) {
			t.Errorf("%v: %q, want %q", err, got, tc.want)
		}
	}
	if got := fitting(errors.New("anything else"), r); !strings.Contains(got, "train.batch_size") {
		t.Errorf("%q", got)
	}
}

// After a step whose loss is not finite, the run stops and the checkpoint from
// before it is whole and finite.
func TestNonFiniteLossKeepsTheCheckpointBefore(t *testing.T) {
	dir := t.TempDir()
	_, _, err := execute(context.Background(), Options{Recipe: recipe(t, "optim.kind=sgd", "optim.lr=1000", "optim.momentum=0", "optim.weight_decay=10", "train.steps=60", "train.checkpoint_every=1 steps"),
		Data: photos(t, 20), Dir: dir})
	if !errors.Is(err, ErrNonFinite) {
		t.Fatalf("error %v", err)
	}
	for name, x := range finalTensors(t, dir) {
		for _, v := range x {
			if v != v {
				t.Fatalf("%s holds NaN", name)
			}
		}
	}
}

func TestUnreadableImagesAreSkippedAndListed(t *testing.T) {
	data := photos(t, 20)
	if err := os.WriteFile(filepath.Join(data, "spots", "torn.png"), []byte("\x89PNG\r\n\x1a\ntorn"), 0o644); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if _, _, err := execute(context.Background(), Options{Recipe: recipe(t), Data: data, Dir: dir}); err != nil {
		t.Fatal(err)
	}
	list, err := os.ReadFile(filepath.Join(dir, "skipped.jsonl"))
	if err != nil || !bytes.Contains(list, []byte("torn.png")) {
		t.Errorf("skipped.jsonl: %q, %v", list, err)
	}
}

func TestASecondRunDoesNotOverwriteTheFirst(t *testing.T) {
	data, dir := photos(t, 20), t.TempDir()
	if _, _, err := execute(context.Background(), Options{Recipe: recipe(t), Data: data, Dir: dir}); err != nil {
		t.Fatal(err)
	}
	if _, _, err := execute(context.Background(), Options{Recipe: recipe(t), Data: data, Dir: dir}); err == nil || !strings.Contains(err.Error(), "--resume") {
		t.Errorf("error %v, want one that names --resume", err)
	}
	for want, o := range map[string]Options{
		"another network": {Recipe: recipe(t, "model.width=0.25"), Dir: dir, Resume: true},
		"optimizer":       {Recipe: recipe(t, "optim.kind=adamw"), Dir: dir, Resume: true},
		"saw 20 images":   {Data: photos(t, 30), Dir: dir, Resume: true},
	} {
		if _, _, err := execute(context.Background(), o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want one with %q", err, want)
		}
	}
}

func TestInterruptSavesTheLastWholeStep(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	dir := t.TempDir()
	if _, _, err := execute(ctx, Options{Recipe: recipe(t), Data: photos(t, 20), Dir: dir}); !errors.Is(err, ErrInterrupted) {
		t.Fatalf("error %v", err)
	}
	if _, _, err := execute(context.Background(), Options{Dir: dir, Resume: true}); err != nil {
		t.Fatal(err)
	}
	if n := len(deterministic(t, dir)); n != 7 {
		t.Errorf("%d steps of metrics, want 7", n)
	}
}
