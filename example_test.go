package swav_test

import (
	"fmt"

	"swav"
	"swav/dist"
)

// Four samples, all of them nearest to the first of two prototypes. Sinkhorn
// assigns them so that both prototypes are used alike.
func ExampleSinkhorn() {
	scores := []float32{
		0.9, 0.1,
		0.8, 0.3,
		0.7, 0.5,
		0.6, 0.5,
	}
	const rows, k = 4, 2
	codes := make([]float32, len(scores))
	err := swav.Sinkhorn(codes, scores, rows, k, swav.SinkhornOptions{Epsilon: 0.05, Iterations: 3}, dist.Solo())
	if err != nil {
		fmt.Println(err)
		return
	}
	var use [k]float32
	for r := range rows {
		row := codes[r*k:][:k]
		fmt.Printf("%.2f\n", row)
		for j, q := range row {
			use[j] += q
		}
	}
	fmt.Printf("used %.1f and %.1f times\n", use[0], use[1])
	// Output:
	// [1.00 0.00]
	// [0.93 0.07]
	// [0.03 0.97]
	// [0.00 1.00]
	// used 2.0 and 2.0 times
}

// Two views of two images. The codes of view 0 are what view 1 should have
// predicted; the gradient pushes its scores there.
func ExampleLoss() {
	const views, batch, k = 2, 2, 3
	scores := []float32{
		0.8, 0.1, 0.2, // view 0
		0.1, 0.7, 0.1,
		0.5, 0.4, 0.3, // view 1
		0.3, 0.4, 0.2,
	}
	codes := [][]float32{{
		1, 0, 0,
		0, 1, 0,
	}}
	gradient := make([]float32, len(scores))
	loss := swav.Loss(scores, codes, views, batch, k, []int{0}, 0.1, gradient)
	fmt.Printf("loss %.3f\n", loss)
	fmt.Printf("of view 0 %.2f\n", gradient[:batch*k])
	fmt.Printf("of view 1 %.2f\n", gradient[batch*k:])
	// Output:
	// loss 0.408
	// of view 0 [0.00 0.00 0.00 0.00 0.00 0.00]
	// of view 1 [-1.67 1.22 0.45 1.22 -1.67 0.45]
}

// A batch of two images is too small to be spread over three prototypes: the
// queue adds samples that went before.
func ExampleQueue() {
	q := swav.NewQueue(4, 2)
	for _, batch := range [][]float32{{1, 0, 0, 1}, {0, -1, -1, 0}} {
		q.Push(batch)
		fmt.Println(q.Full(), q.Rows())
	}
	// Output:
	// false [1 0 0 1 0 0 0 0]
	// true [0 -1 -1 0 1 0 0 1]
}
