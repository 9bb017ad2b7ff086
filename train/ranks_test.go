package train

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"swav/dataset"
	"swav/dist"
	"swav/runlog"
)

// closeRuns compares runs that may round differently: metrics to 1e-5, weights to 1e-4.
func closeRuns(t *testing.T, want, got string) {
	t.Helper()
	a, b := deterministic(t, want), deterministic(t, got)
	if len(a) != len(b) {
		t.Fatalf("%d steps of metrics against %d", len(a), len(b))
	}
	for i := range a {
		x, y := a[i], b[i]
		if x.Step != y.Step || x.Epoch != y.Epoch || x.Queue != y.Queue ||
			math.Abs(float64(x.Loss-y.Loss)) > 1e-5 || math.Abs(float64(x.GradNorm-y.GradNorm)) > 1e-5*math.Abs(float64(x.GradNorm)) {
			t.Errorf("step %d: loss %v, |g| %v, queue %d; want %v, %v, %d", i, y.Loss, y.GradNorm, y.Queue, x.Loss, x.GradNorm, x.Queue)
		}
	}
	x, y := finalTensors(t, want), finalTensors(t, got)
	if len(x) != len(y) {
		t.Errorf("%d tensors against %d", len(x), len(y))
	}
	for name, data := range x {
		// The gradient of a bias before a batch norm is 0 but for rounding.
		if strings.Contains(name, "projection_head.0.bias") || name == "projection_head.1.running_mean" {
			continue
		}
		if len(y[name]) != len(data) {
			t.Errorf("%s: %d elements, want %d", name, len(y[name]), len(data))
			continue
		}
		for i := range data {
			if d := math.Abs(float64(data[i] - y[name][i])); !(d <= 1e-4*max(1, math.Abs(float64(data[i])))) {
				t.Errorf("%s differs at element %d: %v, want %v", name, i, y[name][i], data[i])
				break
			}
		}
	}
}

// Any number of ranks trains what one rank with their batches together trains, and goes
// on where another number of ranks stopped.
func TestRanksTrainWhatOneTrains(t *testing.T) {
	data := photos(t, 20)
	pattern := shards(t, 20)
	server := httptest.NewServer(http.FileServer(http.Dir(filepath.Dir(pattern))))
	defer server.Close()
	remote := server.URL + "/" + filepath.Base(pattern)
	for name, set := range map[string][]string{
		"larc with queue":             nil,
		"adamw, no queue":             {"optim.kind=adamw", "optim.lr=0.001", "swav.queue=0"},
		"accumulated":                 {"train.batch_size=12", "train.accumulate=2"},
		"evaluated between":           {"eval.every=2 steps", "eval.k=3"},
		"many buckets":                {"optim.warmup=1 steps"},
		"accumulated in many buckets": {"train.batch_size=12", "train.accumulate=2", "optim.warmup=1 steps"},
		"shards":                      nil,
		"shards, few lanes":           {"data.lanes=3", "train.batch_size=12", "train.accumulate=2"},
	} {
		t.Run(name, func(t *testing.T) {
			data := data
			if strings.HasPrefix(name, "shards") {
				t.Setenv("XDG_CACHE_HOME", t.TempDir())
				data = remote
			}
			if strings.Contains(name, "buckets") {
				defer func(n int) { bucketElems = n }(bucketElems)
				bucketElems = 100
			}
			one := t.TempDir()
			if _, _, err := execute(context.Background(), Options{Recipe: recipe(t, set...), Data: data, Dir: one}); err != nil {
				t.Fatal(err)
			}
			for _, ranks := range []int{2, 3} {
				dir := t.TempDir()
				out, screen, err := execute(context.Background(), Options{Recipe: recipe(t, set...), Data: data, Dir: dir, Ranks: ranks})
				if err != nil || out == nil || out.KNN == nil {
					t.Fatalf("%d ranks: outcome %v, %v\n%s", ranks, out, err, screen)
				}
				closeRuns(t, one, dir)
				ms, err := runlog.ReadMetrics(dir)
				if err != nil || len(ms[0].Time.Waits) != ranks {
					t.Errorf("%d ranks: waits %v, %v", ranks, ms[0].Time.Waits, err)
				}
			}
			// On 3 ranks, then 1, then 2.
			dir := t.TempDir()
			o := Options{Recipe: recipe(t, set...), Data: data, Dir: dir, Ranks: 3, Stop: 2}
			for _, next := range []struct{ ranks, stop int }{{1, 4}, {2, 0}} {
				if _, _, err := execute(context.Background(), o); !errors.Is(err, ErrInterrupted) {
					t.Fatalf("stopped at step %d: %v", o.Stop, err)
				}
				o = Options{Dir: dir, Resume: true, Ranks: next.ranks, Stop: next.stop}
			}
			if _, _, err := execute(context.Background(), o); err != nil {
				t.Fatal(err)
			}
			closeRuns(t, one, dir)
		})
	}
}

// Groups that share batch norm's statistics train, otherwise than all ranks together or each
// alone, and go on to the bit from a checkpoint.
func TestRanksInGroupsOfBatchNorm(t *testing.T) {
	data := photos(t, 20)
	runs := map[string]string{}
	for _, sync := range []string{"global", "2", "off"} {
		runs[sync] = t.TempDir()
		o := Options{Recipe: recipe(t, "train.batch_size=8", "train.sync_bn="+sync), Data: data, Dir: runs[sync], Ranks: 4}
		if _, screen, err := execute(context.Background(), o); err != nil {
			t.Fatalf("%s: %v\n%s", sync, err, screen)
		}
	}
	losses := map[string]string{}
	for sync, dir := range runs {
		first := fmt.Sprint(deterministic(t, dir)[0].Loss)
		if other, same := losses[first]; same {
			t.Errorf("%s and %s train the same", sync, other)
		}
		losses[first] = sync
	}
	parts := t.TempDir()
	o := Options{Recipe: recipe(t, "train.batch_size=8", "train.sync_bn=2"), Data: data, Dir: parts, Ranks: 4, Stop: 2}
	if _, _, err := execute(context.Background(), o); !errors.Is(err, ErrInterrupted) {
		t.Fatal(err)
	}
	if _, _, err := execute(context.Background(), Options{Dir: parts, Resume: true, Ranks: 4}); err != nil {
		t.Fatal(err)
	}
	sameRuns(t, runs["2"], parts)
	o = Options{Recipe: recipe(t, "train.sync_bn=2"), Data: data, Dir: t.TempDir(), Ranks: 3}
	if _, _, err := execute(context.Background(), o); err == nil || !strings.Contains(err.Error(), "groups of 2 do not divide 3 ranks") {
		t.Errorf("error %v", err)
	}
}

// Gradients in bfloat16 on the wire train nearly the same.
func TestRanksWithHalfTheWire(t *testing.T) {
	data, full, half := photos(t, 20), t.TempDir(), t.TempDir()
	for dir, set := range map[string][]string{full: nil, half: {"train.wire=bf16"}} {
		if _, _, err := execute(context.Background(), Options{Recipe: recipe(t, set...), Data: data, Dir: dir, Ranks: 3}); err != nil {
			t.Fatal(err)
		}
	}
	a, b := deterministic(t, full), deterministic(t, half)
	differ := false
	for i := range a {
		d := math.Abs(float64(a[i].Loss - b[i].Loss))
		if d > 0.02*float64(a[i].Loss) {
			t.Errorf("step %d: loss %v, want about %v", i, b[i].Loss, a[i].Loss)
		}
		differ = differ || d > 0
	}
	if !differ {
		t.Error("the wire makes no difference: is it used?")
	}
}

// The clusters of DeepCluster-v2 begin as images of rank 0, so that the number of ranks
// matters; a run that is resumed on as many goes on to the bit.
func TestRanksOfDeepCluster(t *testing.T) {
	data := photos(t, 20)
	set := []string{"train.method=deepclusterv2", "deepcluster.prototypes=3,2"}
	whole, parts := t.TempDir(), t.TempDir()
	if _, _, err := execute(context.Background(), Options{Recipe: recipe(t, set...), Data: data, Dir: whole, Ranks: 2}); err != nil {
		t.Fatal(err)
	}
	o := Options{Recipe: recipe(t, set...), Data: data, Dir: parts, Ranks: 2}
	for _, stop := range []int{2, 3, 5} {
		o.Stop = stop
		if _, _, err := execute(context.Background(), o); !errors.Is(err, ErrInterrupted) {
			t.Fatalf("stopped at step %d: %v", stop, err)
		}
		o = Options{Dir: parts, Resume: true, Ranks: 2}
	}
	if _, _, err := execute(context.Background(), o); err != nil {
		t.Fatal(err)
	}
	sameRuns(t, whole, parts)
}

// stopping ends a context at a step, of one rank alone.
type stopping struct {
	Observer
	at   int
	stop context.CancelFunc
}

func (s stopping) Step(r *StepRecord) error {
	if r.Step == s.at {
		s.stop()
	}
	return s.Observer.Step(r)
}

// A signal reaches ranks at different times, or one of them alone: all stop after the
// same step, saved.
func TestRanksAgreeToStop(t *testing.T) {
	data, dir := photos(t, 20), t.TempDir()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	log := NewRunLog(&strings.Builder{}, &strings.Builder{}, dir)
	errs := make([]error, 3)
	var wg sync.WaitGroup
	for r, c := range dist.Local(3) {
		wg.Go(func() {
			o := Options{Recipe: recipe(t), Data: data, Dir: dir, Comm: c, Log: Quiet(log.Skip)}
			its := context.Background()
			if r == 0 {
				o.Log, its = stopping{log, 3, cancel}, ctx
			}
			_, errs[r] = Run(its, o)
		})
	}
	wg.Wait()
	for r, err := range errs {
		if !errors.Is(err, ErrInterrupted) {
			t.Errorf("rank %d: %v", r, err)
		}
	}
	if err := log.Close(); err != nil {
		t.Error(err)
	}
	if n := len(deterministic(t, dir)); n != 4 {
		t.Errorf("%d steps, want 4", n)
	}
	one := t.TempDir()
	if _, _, err := execute(context.Background(), Options{Recipe: recipe(t), Data: data, Dir: one}); err != nil {
		t.Fatal(err)
	}
	if _, _, err := execute(context.Background(), Options{Dir: dir, Resume: true}); err != nil {
		t.Fatal(err)
	}
	closeRuns(t, one, dir)
}

// What is wrong on one rank ends all, and the message is that rank's.
func TestRanksFailTogether(t *testing.T) {
	data := photos(t, 20)
	if _, _, err := execute(context.Background(), Options{Recipe: recipe(t), Data: data, Dir: t.TempDir(), Ranks: 4}); err == nil || !strings.Contains(err.Error(), "divide among 4 ranks") {
		t.Errorf("a batch of 6 on 4 ranks: %v", err)
	}
	if _, _, err := execute(context.Background(), Options{Recipe: recipe(t), Data: dataset.StandardInput, Dir: t.TempDir(), Ranks: 2}); err == nil || !strings.Contains(err.Error(), "cannot feed 2 ranks") {
		t.Errorf("standard input on 2 ranks: %v", err)
	}
	// Rank 1's place fails.
	bad := errors.New("no such processors")
	_, _, err := execute(context.Background(), Options{Recipe: recipe(t), Data: data, Dir: t.TempDir(), Ranks: 2, Place: func(rank int) (int, error) {
		if rank == 1 {
			return 0, bad
		}
		return 1, nil
	}})
	if !errors.Is(err, bad) || !strings.Contains(err.Error(), "rank 1") {
		t.Errorf("error %v", err)
	}
	// Rank 1 cannot go on.
	dir := t.TempDir()
	errs := make([]error, 2)
	var wg sync.WaitGroup
	log := NewRunLog(&strings.Builder{}, &strings.Builder{}, dir)
	for r, c := range dist.Local(2) {
		wg.Go(func() {
			o := Options{Recipe: recipe(t), Data: data, Dir: dir, Comm: c, Log: Quiet(log.Skip)}
			if r == 1 {
				o.Comm = broken{c}
			}
			_, errs[r] = Run(context.Background(), o)
		})
	}
	wg.Wait()
	for r, err := range errs {
		if err == nil || !strings.Contains(err.Error(), "network card gone") {
			t.Errorf("rank %d: %v", r, err)
		}
	}
}

// broken is a rank whose sums fail.
type broken struct{ dist.Comm }

func (broken) AllReduce64([]float64, dist.Op) error { return errors.New("network card gone") }

func TestRowsOfRanks(t *testing.T) {
	const unit, dim, pieces = 2, 3, 5
	for _, n := range []int{1, 2, 3} {
		var want []float32
		for i := range n * unit * dim * pieces {
			want = append(want, float32(i))
		}
		var wg sync.WaitGroup
		for _, c := range dist.Local(n) {
			wg.Go(func() {
				own := ownRows(c, want, unit, dim)
				got, err := gatherRows(c, own, unit, dim)
				if err != nil || c.Rank() == 0 && fmt.Sprint(got) != fmt.Sprint(want) || c.Rank() > 0 && got != nil {
					t.Errorf("rank %d of %d: %v, %v", c.Rank(), n, got, err)
				}
			})
		}
		wg.Wait()
	}
}

// Ranks tell each other messages of any length, longer than what is sent at once too.
func TestGatherBytes(t *testing.T) {
	texts := []string{"", "x", "a whole piece", strings.Repeat("longer \xff\x00", 9)}
	var wg sync.WaitGroup
	for _, c := range dist.Local(len(texts)) {
		wg.Go(func() {
			all, err := gatherBytes(c, []byte(texts[c.Rank()]), len(texts[2]))
			if err != nil || len(all) != len(texts) {
				t.Errorf("rank %d: %d messages, %v", c.Rank(), len(all), err)
				return
			}
			for rank, b := range all {
				if string(b) != texts[rank] {
					t.Errorf("rank %d has %q of rank %d, want %q", c.Rank(), b, rank, texts[rank])
				}
			}
		})
	}
	wg.Wait()
}

func TestBroadcastBytes(t *testing.T) {
	for _, text := range []string{"", "x", "odd", "even", strings.Repeat("\xff\x00\x80", 70000)} {
		var wg sync.WaitGroup
		for _, c := range dist.Local(3) {
			wg.Go(func() {
				var mine []byte
				if c.Rank() == 1 {
					mine = []byte(text)
				}
				got, err := dist.BroadcastBytes(c, mine, 1)
				if err != nil || string(got) != text {
					t.Errorf("rank %d: %d bytes, %v", c.Rank(), len(got), err)
				}
			})
		}
		wg.Wait()
	}
}

func TestStallingRankIsNamed(t *testing.T) {
	var screen strings.Builder
	l := &RunLog{console: runlog.NewConsole(&screen, 1000, 0, 1)}
	seconds := func(x ...float64) (all []time.Duration) {
		for _, s := range x {
			all = append(all, time.Duration(s*float64(time.Second)))
		}
		return all
	}
	for _, c := range []struct {
		step  int
		waits []time.Duration
		named string
	}{
		{0, nil, ""}, // a single rank
		{1, seconds(0.1, 0.2, 0.1), ""},
		{2, seconds(3, 3, 2.5), ""}, // all wait: no rank is to blame
		{3, seconds(0.1, 0.1, 3), "rank 2 waited 3s for data in step 3"},
		{4, seconds(0.1, 0.1, 3), ""}, // said already
		{5, seconds(0, 4, 0), "rank 1 waited 4s"},
		{103, seconds(0.1, 0.1, 3), "rank 2"},
	} {
		screen.Reset()
		l.stalled(&StepRecord{Step: c.step, Elapsed: 5 * time.Second, Waits: c.waits})
		if got := screen.String(); c.named == "" && got != "" || !strings.Contains(got, c.named) {
			t.Errorf("step %d: %q, want %q", c.step, got, c.named)
		}
	}
	l.console.Close()
}
