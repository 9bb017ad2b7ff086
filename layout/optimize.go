package layout

import (
	"context"
	"math/rand/v2"
)

// Settings of the original: rows that are pushed away for each edge that pulls, the
// largest step along an axis.
const (
	negatives = 5
	largest   = 4
)

// optimize moves the rows so that 1/(1+d^2) comes near the edges' weights: each
// edge pulls its ends together as often as its weight says, and each end is pushed
// from some rows that are drawn from all. Steps shrink to nothing over the epochs.
// One goroutine does it, so that the outcome hangs on the seed alone.
func (g *graph) optimize(ctx context.Context, coords []float64, epochs int, seed uint64, progress func(done int)) error {
	rng := rand.New(rand.NewPCG(seed, 0x1a7))
	heaviest := float32(0)
	for _, w := range g.weight {
		heaviest = max(heaviest, w)
	}
	if heaviest == 0 {
		return nil
	}
	// due is how much of an edge's next turn has come up.
	due := make([]float32, len(g.weight))
	for epoch := range epochs {
		if err := ctx.Err(); err != nil {
			return err
		}
		step := 1 - float64(epoch)/float64(epochs)
		for e, w := range g.weight {
			due[e] += w / heaviest
			if due[e] < 1 {
				continue
			}
			due[e]--
			turn(coords, int(g.a[e]), int(g.b[e]), g.rows, rng, step)
			turn(coords, int(g.b[e]), int(g.a[e]), g.rows, rng, step)
		}
		progress(epoch + 1)
	}
	return nil
}

// turn is an edge's turn as seen from one of its ends.
func turn(coords []float64, end, other, rows int, rng *rand.Rand, step float64) {
	p := coords[2*end:][:2:2]
	pull(p, coords[2*other:][:2:2], step)
	for range negatives {
		if r := rng.IntN(rows); r != end {
			push(p, coords[2*r:][:2:2], step)
		}
	}
}

// pull moves two rows towards each other, by the gradient of log 1/(1+d^2).
func pull(a, b []float64, step float64) {
	dx, dy := a[0]-b[0], a[1]-b[1]
	f := -2 / (1 + dx*dx + dy*dy)
	dx, dy = step*clip(f*dx), step*clip(f*dy)
	a[0] += dx
	a[1] += dy
	b[0] -= dx
	b[1] -= dy
}

// push moves a from b, by the gradient of log(1 - 1/(1+d^2)), which has no bound at
// d = 0 without the small number.
func push(a, b []float64, step float64) {
	dx, dy := a[0]-b[0], a[1]-b[1]
	d2 := dx*dx + dy*dy
	f := 2 / ((1e-3 + d2) * (1 + d2))
	a[0] += step * clip(f*dx)
	a[1] += step * clip(f*dy)
}

func clip(v float64) float64 { return max(-largest, min(largest, v)) }
