package swav_test

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"swav"
	"swav/dist"
	"swav/interop"
)

// The reference traces hold scores beside the codes and losses that they lead
// to: the method alone, without network or optimizer. Scores are rounded to
// float32 there, which codes magnify by 1/epsilon.
func TestReferenceTraces(t *testing.T) {
	shared := os.Getenv("SWAV_SHARED")
	if shared == "" {
		shared = filepath.Join("..", "shared")
	}
	dirs, _ := filepath.Glob(filepath.Join(shared, "golden", "*", "case.json"))
	if len(dirs) == 0 {
		if os.Getenv("CI") == "true" {
			t.Fatalf("no reference traces in %s", shared)
		}
		t.Skipf("no reference traces in %s; SWAV_SHARED names another folder", shared)
	}
	replayed := 0
	for _, path := range dirs {
		var c struct {
			Name           string
			Steps, Ranks   int
			Temperature    float64
			Epsilon        float64
			Iterations     int   `json:"sinkhorn_iterations"`
			CropsForAssign []int `json:"crops_for_assign"`
			Hard           bool  `json:"hard_assignment"`
			Batch          int   `json:"batch_per_rank"`
			Queue          struct {
				Length int `json:"length_per_rank"`
				Start  int `json:"start_step"`
			}
			Arch  struct{ Prototypes int }
			Crops []struct{ Count int }
		}
		data, err := os.ReadFile(path)
		if err == nil {
			err = json.Unmarshal(data, &c)
		}
		if err != nil {
			t.Fatal(err)
		}
		steps := c.Steps
		if c.Queue.Length > 0 { // a full queue's scores are not in the trace
			steps = min(steps, c.Queue.Start+c.Queue.Length/c.Batch)
		}
		replayed += steps
		s, err := interop.OpenSafetensors(filepath.Join(filepath.Dir(path), "tensors.safetensors"))
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		tensor := func(format string, a ...any) []float32 {
			x, err := s.Float32(fmt.Sprintf(format, a...))
			if err != nil {
				t.Error(err)
			}
			return x
		}
		views, n, k := 0, c.Batch, c.Arch.Prototypes
		for _, g := range c.Crops {
			views += g.Count
		}
		for step := range steps {
			losses := tensor("expect/%d/loss", step)
			var wg sync.WaitGroup
			for r, comm := range dist.Local(c.Ranks) {
				wg.Go(func() {
					scores := tensor("expect/%d/scores/%d", step, r)
					var codes [][]float32
					for _, crop := range c.CropsForAssign {
						want := tensor("expect/%d/codes/%d/%d", step, r, crop)
						got := make([]float32, n*k)
						o := swav.SinkhornOptions{Epsilon: c.Epsilon, Iterations: c.Iterations, Hard: c.Hard}
						if err := swav.Sinkhorn(got, scores[crop*n*k:][:n*k], n, k, o, comm); err != nil {
							t.Error(err)
							comm.Abort(err)
							return
						}
						if d := deviation(got, want); d > 1e-5 {
							t.Errorf("%s: step %d, rank %d, crop %d: codes deviate by %g", c.Name, step, r, crop, d)
						}
						codes = append(codes, got)
					}
					loss := swav.Loss(scores, codes, views, n, k, c.CropsForAssign, c.Temperature, make([]float32, len(scores)))
					if math.Abs(loss-float64(losses[r])) > 1e-5 {
						t.Errorf("%s: step %d, rank %d: loss %v, want %v", c.Name, step, r, loss, losses[r])
					}
				})
			}
			wg.Wait()
		}
	}
	if replayed == 0 {
		t.Errorf("none of %d traces has a step without a full queue", len(dirs))
	}
}

// deviation is rms(got - want) / rms(want).
func deviation(got, want []float32) float64 {
	if len(got) != len(want) {
		return math.Inf(1)
	}
	var off, size float64
	for i := range got {
		d := float64(got[i]) - float64(want[i])
		off += d * d
		size += float64(want[i]) * float64(want[i])
	}
	return math.Sqrt(off / size)
}
