package config

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

var compareDurations = cmp.Comparer(func(a, b Duration) bool { return a == b })

func mustLoad(t testing.TB, name string) *Recipe {
	t.Helper()
	r, err := Load(name)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// equal compares recipes apart from the name they were loaded under. An empty
// list is the same as none.
func equal(a, b *Recipe) string {
	x, y := *a, *b
	x.Name, y.Name = "", ""
	empty := cmp.FilterValues(func(a, b []int) bool { return len(a) == 0 && len(b) == 0 }, cmp.Ignore())
	return cmp.Diff(x, y, compareDurations, empty)
}

func TestEveryKeyIsDescribed(t *testing.T) {
	seen := map[string]bool{}
	for _, k := range Keys() {
		if k.Doc == "" || strings.Contains(k.Doc, "\n") {
			t.Errorf("%s: documentation %q", k.Name, k.Doc)
		}
		if k.Type == "" || k.Default == "" {
			t.Errorf("%s: type %q, default %q", k.Name, k.Type, k.Default)
		}
		if seen[k.Name] {
			t.Errorf("%s stands twice", k.Name)
		}
		seen[k.Name] = true
	}
	// Every number has limits: no recipe can ask for a negative size.
	for _, s := range schema {
		for _, f := range s.fields {
			if k := f.typ.Kind(); k != reflect.Bool && k != reflect.String && f.typ != durationType && f.limits == nil {
				t.Errorf("%s.%s has no range", s.name, f.name)
			}
		}
	}
}

func TestBuiltInRecipes(t *testing.T) {
	for _, name := range Names() {
		r := mustLoad(t, name)
		if r.Name != name {
			t.Errorf("%s is loaded as %s", name, r.Name)
		}
		d, err := Describe(name)
		if err != nil {
			t.Fatal(err)
		}
		if d.Summary == "" || d.Time == "" || d.Result == "" || !strings.Contains(d.Command, "swav train --recipe "+name+" ") {
			t.Errorf("%s: header is incomplete: %+v", name, d)
		}
		if diff := equal(r, roundTrip(t, r)); diff != "" {
			t.Errorf("%s: encoded and read back:\n%s", name, diff)
		}
	}
}

func roundTrip(t rapid.TB, r *Recipe) *Recipe {
	t.Helper()
	var b bytes.Buffer
	if err := r.Encode(&b); err != nil {
		t.Fatal(err)
	}
	back, err := Parse(b.Bytes(), "encoded.toml")
	if err != nil {
		t.Fatalf("%v\n%s", err, b.String())
	}
	return back
}

func TestNamesInAnyCase(t *testing.T) {
	for _, name := range []string{"Fashion-MNIST", "fashion_mnist"} {
		if r := mustLoad(t, name); r.Name != "fashion-mnist" {
			t.Errorf("%s is %s", name, r.Name)
		}
	}
}

func TestEncodeIsReadBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := Default()
		r.Optim.LR = rapid.Float64Range(1e-9, 1000).Draw(t, "lr")
		r.Optim.FinalLR = r.Optim.LR * rapid.Float64Range(0, 1).Draw(t, "final")
		r.SwAV.Epsilon = rapid.Float64Range(1e-3, 10).Draw(t, "epsilon")
		r.Train.Seed = rapid.Uint64Range(0, 1<<63-1).Draw(t, "seed")
		r.SwAV.FreezePrototypes = Epochs(rapid.Float64Range(0, 1e9).Draw(t, "freeze"))
		r.SwAV.QueueStart = Steps(rapid.IntRange(0, 1e9).Draw(t, "queue"))
		r.SwAV.Hard = rapid.Bool().Draw(t, "hard")
		r.Data.Split = rapid.StringOf(rapid.RuneFrom([]rune(`ab"\#=[]'é語`))).Draw(t, "split")
		r.Augment.Mean = rapid.SliceOfN(rapid.Float64Range(-1, 1), 3, 3).Draw(t, "mean")
		if err := r.Validate(); err != nil {
			t.Fatal(err)
		}
		if diff := equal(r, roundTrip(t, r)); diff != "" {
			t.Fatal(diff)
		}
	})
}

// A recipe's own name must not break out of the comment that it stands in.
func TestEncodeHostileName(t *testing.T) {
	r := Default()
	r.Name = "x\n[evil]\ny = 1"
	roundTrip(t, r)
}

func TestParseRefuses(t *testing.T) {
	for _, c := range []struct{ name, in, want string }{
		{"unknown key", "[optim]\nlr = 1\n  learning_rate = 2\n", `my.toml:3:3: unknown key "optim.learning_rate": the nearest is optim.lr`},
		{"misspelt key", "[data]\nchanels = 3\n", `my.toml:2:1: unknown key "data.chanels": the nearest is data.channels`},
		{"part of a name", "[swav]\nfreze = 3\n", `my.toml:2:1: unknown key "swav.freze": the nearest is swav.freeze_prototypes`},
		{"wrong section", "[swav]\nlr = 1\n", `my.toml:2:1: unknown key "swav.lr": the nearest is optim.lr`},
		{"no section", "lr = 1\n", `my.toml:1:1: unknown key "lr": the nearest is optim.lr`},
		{"unknown section", "\n[modle]\nwith = 1\n", `my.toml:2:2: unknown section [modle]: the nearest is [model]`},
		{"unknown section's keys", "\n[modle]\nwith = 1\n", `my.toml:3:1: unknown key "modle.with": the nearest is model.width`},
		{"dotted key", "optim.rl = 1\n", `unknown key "optim.rl": the nearest is optim.lr`},
		{"inline table", "optim = { lr = 1, rl = 2 }\n", `my.toml:1:19: unknown key "optim.rl": the nearest is optim.lr`},
		{"syntax", "[optim]\nlr = = 1\n", "my.toml:2:"},
		{"twice", "[optim]\nlr = 1\nlr = 2\n", "my.toml:3:1: "},
		{"text for a number", "[optim]\nlr = \"fast\"\n", `my.toml:2:1: optim.lr = "fast": want a number above 0`},
		{"number for text", "[optim]\nkind = 3\n", `my.toml:2:1: optim.kind = 3: want larc, sgd or adamw`},
		{"number out of range", "[swav]\nepsilon = 0\n", `my.toml:2:1: swav.epsilon = 0: want a number from 0.001 to 10`},
		{"not a number", "[optim]\nlr = nan\n", `my.toml:2:1: optim.lr = NaN: want a number above 0`},
		{"infinite", "[optim]\nlr = inf\n", `my.toml:2:1: optim.lr = +Inf: want a number`},
		{"fraction for a whole number", "[train]\nbatch_size = 1.5\n", `my.toml:2:1: train.batch_size = 1.5: want a whole number`},
		{"huge whole number", "[train]\nbatch_size = 9223372036854775807\n", `want a whole number from 1 to`},
		{"word of a list", "[optim]\nkind = \"lars\"\n", `optim.kind = "lars": want larc, sgd or adamw (larc (the paper's, for large batches), sgd or adamw (small data)); the nearest is larc`},
		{"duration", "[optim]\nwarmup = \"3 weeks\"\n", `my.toml:2:1: optim.warmup = "3 weeks": want a duration such as "10 epochs" or "313 steps"`},
		{"date", "[optim]\nwarmup = 2020-01-01\n", `my.toml:2:1: optim.warmup = 2020-01-01: want a duration`},
		{"key for a section", "optim = 3\n", `my.toml:1:1: optim is a section: write [optim]`},
		{"one crop table", "[crops]\ncount = 2\n", `my.toml:1:2: crops: write each group under [[crops]]`},
		{"incomplete crops", "[[crops]]\ncount = 2\nsize = 32\nmin_scale = 0.1\n", `my.toml:1:3: crops[0] lacks max_scale (largest share)`},
		{"second crops", "[[crops]]\ncount = 2\nsize = 32\nmin_scale = 0.1\nmax_scale = 1\n[[crops]]\ncount = 0\n", `my.toml:7:1: crops[1].count = 0: want a whole number from 1 to 64`},
		{"control character", "[data]\nsplit = \"a\\u0007\"\n", `data.split = "a\a": want a text`},
		{"long", "[optim]\nlr = 1 # " + strings.Repeat("x", maxFile), "not a recipe"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Parse([]byte(c.in), "my.toml")
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v\nwant it to contain\n%s", err, c.want)
			}
		})
	}
}

func TestParseReportsAllMistakesInOrder(t *testing.T) {
	_, err := Parse([]byte("[optim]\nlrr = 1\nlr = -1\n[train]\nbatch = 3\n"), "my.toml")
	lines := strings.Split(fmt.Sprint(err), "\n")
	if len(lines) != 3 {
		t.Fatal(err)
	}
	for i, prefix := range []string{"my.toml:2:1:", "my.toml:3:1:", "my.toml:5:1:"} {
		if !strings.HasPrefix(lines[i], prefix) {
			t.Errorf("line %d is %q", i, lines[i])
		}
	}
}

func TestAlternativeKeysReplaceEachOther(t *testing.T) {
	r, err := Parse([]byte("[train]\nsteps = 7\n[model]\nblock = \"basic\"\nlayers = [1, 1]\n"), "my.toml")
	if err != nil {
		t.Fatal(err)
	}
	if r.Train.Epochs != 0 || r.Train.Steps != 7 || r.Model.Arch != "" {
		t.Errorf("file: %+v %+v", r.Train, r.Model)
	}
	for _, s := range []string{"train.epochs=2.5", "model.arch=resnet18"} {
		if err := r.Set(s); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.Validate(); err != nil {
		t.Error(err)
	}
	if r.Train.Epochs != 2.5 || r.Train.Steps != 0 || r.Model.Block != "" || r.Model.Layers != nil {
		t.Errorf("set: %+v %+v", r.Train, r.Model)
	}
	if _, err := Parse([]byte("[train]\nsteps = 7\nepochs = 2\n"), "my.toml"); err == nil {
		t.Error("steps and epochs at once are accepted")
	}
}

func TestSet(t *testing.T) {
	r := Default()
	for _, s := range []string{
		"optim.lr=.25", "optim.kind=adamw", "optim.warmup=10 epochs", "swav.freeze_prototypes=313", `swav.queue_start="2 epochs"`,
		"swav.assign=1,0", "augment.mean=[0.5]", "augment.std=0.25", "swav.hard=true", "data.split=it's",
		"crops=2x64@0.14-1, 6x32@0.05-0.14", "crops[1].count=4", "train.seed = 9223372036854775807",
	} {
		if err := r.Set(s); err != nil {
			t.Errorf("%s: %v", s, err)
		}
	}
	want := Default()
	want.Optim.LR, want.Optim.Kind, want.Optim.Warmup = 0.25, "adamw", Epochs(10)
	want.SwAV.FreezePrototypes, want.SwAV.QueueStart, want.SwAV.Assign, want.SwAV.Hard = Steps(313), Epochs(2), []int{1, 0}, true
	want.Augment.Mean, want.Augment.Std, want.Data.Split = []float64{0.5}, []float64{0.25}, "it's"
	want.Crops = []Crop{{2, 64, 0.14, 1}, {4, 32, 0.05, 0.14}}
	want.Train.Seed = 1<<63 - 1
	if diff := equal(want, r); diff != "" {
		t.Error(diff)
	}
}

func TestSetRefuses(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"optim.lr", "want KEY=VALUE"},
		{"=3", "want KEY=VALUE"},
		{"optim.learning_rate=1", "the nearest is optim.lr"},
		{"batch=64", "the nearest is train.batch_size"},
		{"optim.lr=fast", "want a number"},
		{"optim.lr=1e999", "want a number"},
		{"optim.lr=", "want a number"},
		{"optim.lr=1\nx=2", "want a number"},
		{"swav.hard=yes", "want a true or false"},
		{"swav.assign=a", "want a list of whole numbers"},
		{"swav.assign=[[1]]", "want a list of whole numbers"},
		{"swav.queue=-1", "from 0 to"},
		{"train.seed=-1", "from 0 to"},
		{"data.split=\xff", "want a text"},
		{"crops.size=3", "crops[0].size for the first"},
		{"crops[2].size=3", "groups 0 to 1"},
		{"crops[x].size=3", "groups 0 to 1"},
		{"optim[0].lr=3", "the nearest is optim.lr"},
		{"crops=2x224", "write COUNTxSIZE@MIN-MAX"},
		{"crops=", "write COUNTxSIZE@MIN-MAX"},
		{"crops=2x0@0.1-1", "crops[0].size = 0"},
		{"crops=2x32@0.1-2", "crops[0].max_scale = 2"},
	} {
		r := Default()
		err := r.Set(c.in)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: %v, want it to contain %q", c.in, err, c.want)
		}
		if diff := equal(r, Default()); diff != "" {
			t.Errorf("%q was refused, but changed the recipe:\n%s", c.in, diff)
		}
	}
}

func TestCropsShortForm(t *testing.T) {
	const text = "2x224@0.14-1,6x96@0.05-0.14"
	crops, err := ParseCrops(text)
	if err != nil || !reflect.DeepEqual(crops, Default().Crops) {
		t.Errorf("%v, %v", crops, err)
	}
	if got := FormatCrops(crops); got != text {
		t.Errorf("written back as %s", got)
	}
}

func TestDuration(t *testing.T) {
	for _, c := range []struct {
		in, out string
		steps   int // at 10 steps an epoch
	}{
		{"10 epochs", "10 epochs", 100}, {"1 epoch", "1 epoch", 10}, {"0.25 epochs", "0.25 epochs", 3},
		{"313 steps", "313 steps", 313}, {"313", "313 steps", 313}, {" 1  STEP ", "1 step", 1}, {"0", "0 steps", 0}, {"-0", "0 steps", 0},
	} {
		d, err := ParseDuration(c.in)
		if err != nil || d.String() != c.out || d.Resolve(10) != c.steps {
			t.Errorf("%q: %v, %d steps, %v", c.in, d, d.Resolve(10), err)
		}
	}
	for _, in := range []string{"", "epochs", "10 weeks", "1.5 steps", "-1", "1e10", "nan", "inf epochs", "1 2 3"} {
		if d, err := ParseDuration(in); err == nil {
			t.Errorf("%q is read as %v", in, d)
		}
	}
}

func TestValidateCrossChecks(t *testing.T) {
	for _, c := range []struct {
		set  []string
		want string // key, then part of the text
	}{
		{[]string{"swav.assign=0,8"}, "swav.assign: view 8: the crops give views 0 to 7"},
		{[]string{"swav.assign=0,0"}, "swav.assign: view 0 stands there twice"},
		{[]string{"swav.assign=[]"}, "swav.assign: no views"},
		{[]string{"crops=1x224@0.1-1", "swav.assign=0"}, "crops: one view"},
		{[]string{"crops=2x224@0.5-0.1"}, "crops[0].min_scale: 0.5 is above"},
		{[]string{"crops=2x224@0.1-1,6x8@0.1-1"}, "crops[1].size: 8 pixels vanish"},
		{[]string{"train.accumulate=3"}, "train.accumulate: a batch of 256 does not divide into 3"},
		{[]string{"train.batch_size=1", "swav.queue=0"}, "train.batch_size: 1 image"},
		{[]string{"swav.queue=100"}, "swav.queue: 100 is less than the 256"},
		{[]string{"model.arch="}, "model.block: empty"},
		{[]string{"model.block=basic"}, "model.layers: 0 stages"},
		{[]string{"model.arch=resnet50w4", "model.width=2"}, "model.width: resnet50w4 times 2 is 8 times"},
		{[]string{"augment.mean=1,2"}, "augment.mean: 2 numbers and 3"},
		{[]string{"model.in_channels=1"}, "augment.mean: 3 numbers for 1 channels"},
		{[]string{"model.in_channels=3", "data.channels=1"}, "model.in_channels: 3, but data.channels = 1"},
		{[]string{"augment.blur_min=3"}, "augment.blur_min: 3 is above"},
		{[]string{"optim.final_lr=1"}, "optim.final_lr: 1 is above optim.lr = 0.6"},
		{[]string{"optim.warmup=201 epochs"}, "optim.warmup: 201 epochs is longer"},
		{[]string{"log.mlflow=localhost:5000"}, "log.mlflow: \"localhost:5000\": want a server's address"},
		{[]string{"train.epochs=0"}, "train.epochs: the run has no length"},
	} {
		r := Default()
		for _, s := range c.set {
			if err := r.Set(s); err != nil {
				t.Fatal(err)
			}
		}
		if err := r.Validate(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v: %v, want %q", c.set, err, c.want)
		}
	}
	r := Default()
	r.Optim.LR = -1 // set by a program, not through Set
	if err := r.Validate(); err == nil || !strings.Contains(err.Error(), "optim.lr = -1: want a number above 0") {
		t.Error(err)
	}
}

func TestCrossCheckInAFileNamesThePlace(t *testing.T) {
	_, err := Parse([]byte("[swav]\nassign = [0, 11]\n"), "my.toml")
	if err == nil || !strings.HasPrefix(err.Error(), "my.toml:2:1: swav.assign: view 11") {
		t.Error(err)
	}
}

func TestResolve(t *testing.T) {
	r := Default()
	got, err := r.Resolve(1281167, 4)
	want := Resolved{Images: 1281167, StepsPerEpoch: 5004, Steps: 1000800, FreezePrototypes: 5005, QueueStart: 75060, QueueLength: 3840, CheckpointEvery: 5004, RankBatch: 64, NormRanks: 4}
	if err != nil || got != want {
		t.Errorf("%+v, %v", got, err)
	}
	r.SwAV.Queue = 4000
	if got, _ := r.Resolve(1281167, 4); got.QueueLength != 3840 {
		t.Errorf("a queue of 4000 rows in batches of 256 becomes %d", got.QueueLength)
	}
	for _, c := range []struct {
		images, ranks int
		set, want     string
	}{
		{100, 1, "train.accumulate=1", "100 images are fewer than a batch of 256: use more images, or --set train.batch_size=25"},
		{0, 1, "train.accumulate=1", "takes at least 2"},
		{1000, 300, "train.accumulate=1", "smaller than the 300 ranks"},
		{1000, 3, "train.accumulate=1", "does not divide among 3 ranks: use a multiple of 3"},
		{1000, 256, "train.accumulate=2", "smaller than the 256 ranks: raise it to a multiple of 512"},
		{1000, 1, "train.epochs=0.01", "not one step"},
		{1000, 1, "optim.warmup=601", "longer than the run of 600"},
	} {
		r := Default()
		if err := r.Set(c.set); err != nil {
			t.Fatal(err)
		}
		if _, err := r.Resolve(c.images, c.ranks); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%d images, %d ranks, %s: %v, want %q", c.images, c.ranks, c.set, err, c.want)
		}
	}
}

func TestArch(t *testing.T) {
	r := Default()
	r.Model.Arch, r.Model.Width = "resnet50w2", 0.5
	a, err := r.Arch(1)
	if err != nil || a.Width != 1 || a.InChannels != 1 || a.OutChannels() != 2048 {
		t.Errorf("%+v, %v", a, err)
	}
	r.Model.InChannels = 3
	if a, _ := r.Arch(1); a.InChannels != 3 {
		t.Errorf("%d channels, although in_channels = 3", a.InChannels)
	}
}

func TestLoadFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "mine.toml")
	if err := os.WriteFile(path, []byte("[optim]\nlr = 0.25\n"), 0o666); err != nil {
		t.Fatal(err)
	}
	if r := mustLoad(t, path); r.Optim.LR != 0.25 || r.Name != path {
		t.Errorf("%s: lr %g", r.Name, r.Optim.LR)
	}
	for name, want := range map[string]string{
		"fashionmnist":                     "the nearest is fashion-mnist",
		filepath.Join(dir, "missing.toml"): "no such file",
		dir:                                "is a directory",
	} {
		if _, err := Load(name); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Whatever stands in a file, it is either refused or gives a recipe that is
// valid and can be written and read back.
func FuzzParse(f *testing.F) {
	for _, name := range Names() {
		data, err := embedded.ReadFile("recipes/" + name + ".toml")
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte("optim = { lr = 1 }\n\"tr\\u0061in\".steps = 3\ncrops = [{count=2,size=32,min_scale=0.1,max_scale=1}]"))
	f.Add([]byte("[[optim]]\n[[optim]]\n[crops.x]\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := Parse(data, "fuzz.toml")
		if err != nil {
			return
		}
		if diff := equal(r, roundTrip(t, r)); diff != "" {
			t.Error(diff)
		}
	})
}

func TestGroupsOfBatchNorm(t *testing.T) {
	for _, c := range []struct {
		sync  string
		ranks int
		want  int
		err   string
	}{
		{"global", 6, 6, ""}, {"off", 6, 1, ""}, {"2", 6, 2, ""}, {"8", 6, 6, ""}, {"8", 64, 8, ""}, {"1", 4, 1, ""},
		{"4", 6, 0, "groups of 4 do not divide 6 ranks"}, {"half", 2, 0, "want global, off"}, {"-1", 2, 0, "want global, off"},
	} {
		r := Default()
		r.Train.SyncBN = c.sync
		got, err := r.NormRanks(c.ranks)
		if got != c.want || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s of %d ranks: %d, %v", c.sync, c.ranks, got, err)
		}
	}
	for _, written := range []string{"8", `"8"`} {
		r, err := Parse([]byte("[train]\nsync_bn = "+written+"\n"), "test")
		if err != nil || r.Train.SyncBN != "8" {
			t.Errorf("sync_bn = %s: %v", written, err)
		}
	}
	for _, bad := range []string{"2.5", "true", "0", "-8"} {
		if _, err := Parse([]byte("[train]\nsync_bn = "+bad+"\n"), "test"); err == nil || !strings.Contains(err.Error(), "train.sync_bn") {
			t.Errorf("sync_bn = %s: error %v", bad, err)
		}
	}
	r := Default()
	r.Train.SyncBN = "8 ranks"
	if err := r.Validate(); err == nil || !strings.Contains(err.Error(), "train.sync_bn") {
		t.Errorf("error %v", err)
	}
}

// What is written as the size of groups is read back from the recipe that a run keeps.
func TestGroupsOfBatchNormAsWritten(t *testing.T) {
	for text, want := range map[string]string{`8`: "8", `"8"`: "8", `"global"`: SyncGlobal, `"off"`: SyncOff} {
		r := Default()
		if err := r.Set("train.sync_bn=" + text); err != nil {
			t.Fatal(err)
		}
		var kept strings.Builder
		if err := r.Encode(&kept); err != nil {
			t.Fatal(err)
		}
		again, err := Parse([]byte(kept.String()), "kept.toml")
		if err != nil || r.Train.SyncBN != want || again.Train.SyncBN != want {
			t.Errorf("%s is %q, then %q, %v", text, r.Train.SyncBN, again.Train.SyncBN, err)
		}
	}
}
