package loader

import (
	"context"
	"errors"
	"slices"
	"testing"

	"swav/augment"
	"swav/imgcodec"
)

func evalConfig(index ...int) EvalConfig {
	r := augment.Original()
	return EvalConfig{Index: index, Size: 6, Batch: 4, Mean: r.Mean, Std: r.Std, Workers: 3}
}

func TestEvalKeepsOrderAndLeavesOutTheUnreadable(t *testing.T) {
	src := newFake(20, 2, 5, 6, 7, 8, 9, 10, 11)
	c := evalConfig(19, 0, 2, 1, 5, 6, 7, 8, 9, 10, 11, 3, 3, 4)
	var told []string
	c.OnSkip = func(id string, err error) { told = append(told, id) }
	it, err := NewEval(src, c)
	if err != nil {
		t.Fatal(err)
	}
	defer it.Close()
	var index []int
	for {
		b, err := it.Next(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		if b == nil {
			break
		}
		if len(b.Indices) == 0 || len(b.Pixels) != len(b.Indices)*6*6*3 {
			t.Fatalf("%d images, %d pixels", len(b.Indices), len(b.Pixels))
		}
		for i, n := range b.Indices {
			var img imgcodec.Image
			if err := src.Load(n, &img); err != nil {
				t.Fatal(err)
			}
			want := make([]float32, 6*6*3)
			augment.Center(want, &img, 6, 6, augment.NewNormalizer(c.Mean, c.Std), new(augment.Scratch))
			if !slices.Equal(b.Pixels[i*6*6*3:][:6*6*3], want) {
				t.Errorf("image %d has other pixels", n)
			}
		}
		index = append(index, b.Indices...)
	}
	if want := []int{19, 0, 1, 3, 3, 4}; !slices.Equal(index, want) {
		t.Errorf("images %v, want %v", index, want)
	}
	if len(told) != 8 {
		t.Errorf("told of %v", told)
	}
	if b, err := it.Next(context.Background()); b != nil || err != nil {
		t.Errorf("after the end: %v, %v", b, err)
	}
}

func TestEvalEnds(t *testing.T) {
	it, err := NewEval(newFake(20), evalConfig())
	if err != nil {
		t.Fatal(err)
	}
	if b, err := it.Next(context.Background()); b != nil || err != nil {
		t.Errorf("of no images: %v, %v", b, err)
	}
	it.Close()

	src := &gate{newFake(20), make(chan struct{})}
	if it, err = NewEval(src, evalConfig(1, 2, 3)); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := it.Next(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	close(src.open)
	it.Close()
	if b, err := it.Next(context.Background()); b != nil || err != nil {
		t.Errorf("after Close: %v, %v", b, err)
	}
	it.Close()
}

func TestNewEvalRefuses(t *testing.T) {
	for name, change := range map[string]func(c *EvalConfig){
		"no size":       func(c *EvalConfig) { c.Size = 0 },
		"no batch":      func(c *EvalConfig) { c.Batch = 0 },
		"no channels":   func(c *EvalConfig) { c.Mean = nil },
		"deviations":    func(c *EvalConfig) { c.Std = c.Std[:1] },
		"image beyond":  func(c *EvalConfig) { c.Index = []int{20} },
		"image of none": func(c *EvalConfig) { c.Index = []int{-1} },
	} {
		c := evalConfig(1)
		change(&c)
		if _, err := NewEval(newFake(20), c); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
