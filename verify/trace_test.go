package verify

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"swav/op"
	"swav/op/ref"
	"swav/train"
)

// traces are the reference cases, or a skip that says why there are none.
func traces(t *testing.T) []string {
	t.Helper()
	shared := os.Getenv("SWAV_SHARED")
	if shared == "" {
		shared = filepath.Join("..", "..", "shared")
	}
	found, _ := filepath.Glob(filepath.Join(shared, "golden", "resnet*"))
	if len(found) == 0 {
		if os.Getenv("CI") == "true" {
			t.Fatalf("no reference traces in %s", shared)
		}
		t.Skipf("no reference traces in %s; SWAV_SHARED names another folder", shared)
	}
	return found
}

func backends(t *testing.T) map[string]func() (op.Backend, error) {
	bs := map[string]func() (op.Backend, error){"ref": func() (op.Backend, error) { return ref.New(), nil }}
	if b, err := train.NewBackend("cpu", 0); err == nil {
		b.Close()
		bs["cpu"] = func() (op.Backend, error) { return train.NewBackend("cpu", 0) }
	} else {
		t.Logf("without the cpu backend: %v", err)
	}
	return bs
}

func TestTracesPass(t *testing.T) {
	for _, dir := range traces(t) {
		for name, b := range backends(t) {
			t.Run(filepath.Base(dir)+"/"+name, func(t *testing.T) {
				if testing.Short() && name == "ref" && strings.Contains(dir, "50") {
					t.Skip("slow on the reference backend")
				}
				r, err := Trace(dir, Options{NewBackend: b, Precision: op.Float32})
				if err != nil {
					t.Fatal(err)
				}
				if len(r.Quantities) < 10 {
					t.Errorf("only %d quantities compared", len(r.Quantities))
				}
				for _, q := range r.Quantities {
					if !q.Pass {
						t.Errorf("step %d %s: deviation %.2g at %s, limit %.2g", q.Step, q.Kind, q.Deviation, q.Worst, q.Limit)
					}
				}
			})
		}
	}
}

// A bf16 run meets its rule where the engine may compute so small a case in
// float64, as it does in training.
func TestBFloat16TracesPass(t *testing.T) {
	b, ok := backends(t)["cpu"]
	if !ok {
		t.Skip("without the cpu backend")
	}
	for _, dir := range traces(t) {
		r, err := Trace(dir, Options{NewBackend: b, Precision: op.BFloat16})
		if err != nil {
			t.Fatal(err)
		}
		if !r.Pass || r.Computed != op.Float64 {
			t.Errorf("%s, computed in %v: %+v", r.Case, r.Computed, r.Quantities)
		}
	}
}

// What float32 and bfloat16 kernels make of cases this small is bounded by
// ReLUs that open on one side and not on the other (docs/numerics.md): the loss
// agrees, and gradients point the same way.
func TestTracesWithoutWideningAgreeInLossAndDirection(t *testing.T) {
	b, ok := backends(t)["cpu"]
	if !ok {
		t.Skip("without the cpu backend")
	}
	for _, dir := range traces(t) {
		for _, p := range []op.DType{op.Float32, op.BFloat16} {
			r, err := Trace(dir, Options{NewBackend: b, Precision: p, NoWidening: true})
			if err != nil {
				t.Fatal(err)
			}
			if r.Computed != p {
				t.Errorf("%s: computed in %v, want %v", r.Case, r.Computed, p)
			}
			for _, q := range r.Quantities {
				limit := q.Limit
				switch {
				case p == op.BFloat16 && q.Kind != "loss":
					limit = 0.25 // 1 - cosine
				case p == op.Float32 && q.Step == 0 && q.Kind == "grad":
					limit = 0.1
				case p == op.Float32 && q.Step > 0:
					limit = 0.2
				}
				if !(q.Deviation <= limit) {
					t.Errorf("%s in %v: step %d %s: deviation %.2g at %s, limit %.2g", r.Case, p, q.Step, q.Kind, q.Deviation, q.Worst, limit)
				}
			}
		}
	}
}

// A replay with another learning rate, or of another network, must not pass.
func TestTraceNoticesWhatIsWrong(t *testing.T) {
	from := traces(t)[0]
	for _, dir := range traces(t) {
		if strings.HasSuffix(dir, "small") {
			from = dir
		}
	}
	text, err := os.ReadFile(filepath.Join(from, "case.json"))
	if err != nil {
		t.Fatal(err)
	}
	tensors, err := filepath.Abs(filepath.Join(from, "tensors.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		old, new string
		fails    string // a kind that fails; "" for an error
	}{
		"learning rate":  {`"lr": [`, `"lr": [0.05,`, "param"},
		"epsilon":        {`"epsilon": 0.05`, `"epsilon": 0.06`, "codes"},
		"temperature":    {`"temperature": 0.1`, `"temperature": 0.11`, "loss"},
		"momentum":       {`"momentum": 0.9`, `"momentum": 0.8`, "momentum"},
		"hidden":         {`"hidden": 64`, `"hidden": 32`, ""},
		"format":         {`"format": 1`, `"format": 2`, ""},
		"assignment":     {`"hard_assignment": false`, `"hard_assignment": true`, "codes"},
		"too many ranks": {`"ranks": 1`, `"ranks": 2`, ""},
	} {
		changed := strings.Replace(string(text), tc.old, tc.new, 1)
		if changed == string(text) {
			t.Fatalf("%s: case.json has no %q", name, tc.old)
		}
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "case.json"), []byte(changed), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(tensors, filepath.Join(dir, "tensors.safetensors")); err != nil {
			t.Fatal(err)
		}
		b := backends(t)["ref"]
		if c, ok := backends(t)["cpu"]; ok {
			b = c
		}
		r, err := Trace(dir, Options{NewBackend: b, Precision: op.Float32})
		if tc.fails == "" {
			if err == nil {
				t.Errorf("%s: no error", name)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		failed := false
		for _, q := range r.Quantities {
			failed = failed || q.Kind == tc.fails && !q.Pass
		}
		if !failed || r.Pass {
			t.Errorf("%s: %s passes", name, tc.fails)
		}
	}
}

// A case of one rank is what several ranks do that share its batch.
func TestRanksShareATrace(t *testing.T) {
	b := backends(t)["cpu"]
	if b == nil {
		b = backends(t)["ref"]
	}
	for _, dir := range traces(t) {
		for _, ranks := range []int{2, 3, 4} {
			t.Run(fmt.Sprintf("%s/%d", filepath.Base(dir), ranks), func(t *testing.T) {
				r, err := Trace(dir, Options{NewBackend: b, Precision: op.Float32, Ranks: ranks})
				var unfit *Unfit
				if errors.As(err, &unfit) {
					t.Skip(unfit)
				}
				if err != nil {
					t.Fatal(err)
				}
				for _, q := range r.Quantities {
					if !q.Pass {
						t.Errorf("step %d %s: deviation %.2g at %s, limit %.2g", q.Step, q.Kind, q.Deviation, q.Worst, q.Limit)
					}
				}
			})
		}
	}
}
