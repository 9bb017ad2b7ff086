package main

import (
	"testing"

	"swav/config"
	"swav/internal/numa"
	"swav/train"
)

func TestRanksWithinAProcess(t *testing.T) {
	node := numa.Node{Cores: [][]int{{0}, {1}, {2}, {3}}}
	one, two := numa.Machine{Nodes: []numa.Node{node}}, numa.Machine{Nodes: []numa.Node{node, node}}
	for name, c := range map[string]struct {
		machine numa.Machine
		asked   int
		data    string
		set     []string
		want    int
	}{
		"one node":              {one, 0, "photos", nil, 1},
		"two nodes":             {two, 0, "photos", nil, 2},
		"as asked for":          {two, 3, "photos", nil, 3},
		"one, as asked for":     {two, 1, "photos", nil, 1},
		"batch does not divide": {two, 0, "photos", []string{"train.batch_size=63"}, 1},
		"stream":                {two, 0, "-", nil, 1},
		"method of its own":     {two, 0, "photos", []string{"train.method=deepclusterv2"}, 1},
	} {
		r, err := config.Load("fashion-mnist")
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range c.set {
			if err := r.Set(s); err != nil {
				t.Fatal(err)
			}
		}
		o := train.Options{Recipe: r, Data: c.data, Ranks: c.asked}
		notes := 0
		within(&o, c.machine, func(string) { notes++ })
		if o.Ranks != c.want || (o.Place != nil) != (c.want > 1) || notes > 0 != (c.asked == 0 && c.want > 1) {
			t.Errorf("%s: %d ranks, want %d; %d notes", name, o.Ranks, c.want, notes)
		}
	}
	// A run that is not there is not this function's to complain of.
	o := train.Options{Dir: t.TempDir(), Resume: true}
	if within(&o, two, func(string) {}); o.Ranks != 1 {
		t.Errorf("%d ranks without a recipe", o.Ranks)
	}
}
