package dist_test

import (
	"errors"
	"strings"
	"sync"
	"testing"

	"swav/dist"
	"swav/dist/disttest"
)

func TestLocal(t *testing.T) {
	disttest.Run(t, func(t *testing.T, n int) []dist.Comm { return dist.Local(n) })
}

func TestSolo(t *testing.T) {
	if err := disttest.Check(dist.Solo()); err != nil {
		t.Error(err)
	}
	c := dist.Solo()
	if err := c.AllGather(make([]float32, 2), make([]float32, 1)); err == nil {
		t.Error("an all-gather of 1 element into 2 is accepted")
	}
	if err := c.Broadcast(nil, 1); err == nil {
		t.Error("a broadcast from rank 1 of 1 is accepted")
	}
	cause := errors.New("disk full")
	c.Abort(cause)
	if err := c.Barrier(); !errors.Is(err, cause) {
		t.Errorf("after an abort: %v", err)
	}
}

// Sums go by rank number, whoever comes first.
func TestLocalSumsInRankOrder(t *testing.T) {
	for range 50 {
		var wg sync.WaitGroup
		values := []float32{1e8, 1, -1e8} // (1e8 + 1) - 1e8 = 0 in float32
		for r, c := range dist.Local(3) {
			wg.Go(func() {
				x := []float32{values[r]}
				if err := c.AllReduce32(x, dist.Sum); err != nil || x[0] != 0 {
					t.Errorf("rank %d: %v, %v", r, x, err)
				}
			})
		}
		wg.Wait()
	}
}

// Ranks that got out of step learn it instead of waiting for each other.
func TestLocalRanksOutOfStep(t *testing.T) {
	comms := dist.Local(2)
	errs := make([]error, 2)
	var wg sync.WaitGroup
	wg.Go(func() { errs[0] = comms[0].Barrier() })
	wg.Go(func() { errs[1] = comms[1].AllReduce64(make([]float64, 1), dist.Max) })
	wg.Wait()
	for r, err := range errs {
		if err == nil || !strings.Contains(err.Error(), "Barrier") || !strings.Contains(err.Error(), "AllReduce64 max") {
			t.Errorf("rank %d: %v", r, err)
		}
	}
}

// Lengths that differ between the ranks are an error on all of them.
func TestLocalLengthsDiffer(t *testing.T) {
	for name, call := range map[string]func(c dist.Comm) error{
		"all-reduce": func(c dist.Comm) error { return c.AllReduce32(make([]float32, 3+c.Rank()), dist.Sum) },
		"all-gather": func(c dist.Comm) error { return c.AllGather(make([]float32, 6), make([]float32, 3+c.Rank())) },
		"broadcast":  func(c dist.Comm) error { return c.Broadcast(make([]float32, 3+c.Rank()), 1) },
	} {
		errs := make([]error, 2)
		var wg sync.WaitGroup
		for r, c := range dist.Local(2) {
			wg.Go(func() { errs[r] = call(c) })
		}
		wg.Wait()
		for r, err := range errs {
			if err == nil || !strings.Contains(err.Error(), "3") || !strings.Contains(err.Error(), "4") {
				t.Errorf("%s, rank %d: %v", name, r, err)
			}
		}
	}
}

func TestLocalSharesNothingBetweenGroups(t *testing.T) {
	a, b := dist.Local(2), dist.Local(2)
	a[0].Abort(errors.New("stop"))
	var wg sync.WaitGroup
	for _, c := range b {
		wg.Go(func() {
			if err := c.Barrier(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}
