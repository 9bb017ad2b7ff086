package swav

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func TestQueueKeepsTheNewestFirst(t *testing.T) {
	q := NewQueue(4, 2)
	for i, want := range []struct {
		push   []float32
		rows   []float32
		filled int
	}{
		{[]float32{1, 1, 2, 2}, []float32{1, 1, 2, 2, 0, 0, 0, 0}, 2},
		{[]float32{3, 3, 4, 4}, []float32{3, 3, 4, 4, 1, 1, 2, 2}, 4},
		{[]float32{5, 5, 6, 6}, []float32{5, 5, 6, 6, 3, 3, 4, 4}, 4},
		{nil, []float32{5, 5, 6, 6, 3, 3, 4, 4}, 4},
	} {
		if full := q.Filled() == 4; q.Full() != full {
			t.Errorf("before push %d: full %v with %d rows", i, q.Full(), q.Filled())
		}
		q.Push(want.push)
		if !slices.Equal(q.Rows(), want.rows) || q.Filled() != want.filled {
			t.Errorf("after push %d: %v, %d filled", i, q.Rows(), q.Filled())
		}
	}
	restored := NewQueue(4, 2)
	if err := restored.Restore(q.Rows()); err != nil || !restored.Full() || !slices.Equal(restored.Rows(), q.Rows()) {
		t.Error(err, restored.Rows())
	}
	if err := NewQueue(6, 2).Restore(q.Rows()); err == nil {
		t.Error("rows of a queue of another length are accepted")
	}
}

// Whatever is pushed: the queue is the newest rows, newest batch first.
func TestQueueIsTheHeadOfAllPushes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		length, dim := rapid.IntRange(0, 9).Draw(t, "length"), rapid.IntRange(1, 3).Draw(t, "dim")
		q := NewQueue(length, dim)
		all := make([]float32, length*dim)
		n := 0
		for _, rows := range rapid.SliceOfN(rapid.IntRange(0, 12), 0, 6).Draw(t, "pushes") {
			batch := make([]float32, rows*dim)
			for i := range batch {
				batch[i] = float32(len(all) + i)
			}
			q.Push(batch)
			all = append(slices.Clone(batch), all...)
			n += rows
		}
		if !slices.Equal(q.Rows(), all[:length*dim]) {
			t.Fatalf("%v, want %v", q.Rows(), all[:length*dim])
		}
		if q.Filled() != min(n, length) || q.Full() != (length > 0 && n >= length) {
			t.Fatalf("%d filled, full %v, after %d rows", q.Filled(), q.Full(), n)
		}
	})
}

func TestQueueLengthIsWholeBatchesOfAllRanks(t *testing.T) {
	for _, c := range []struct{ length, batch, ranks, want int }{
		{3840, 64, 4, 960}, {3840, 256, 1, 3840}, {3900, 256, 1, 3840}, {1000, 64, 3, 320}, {100, 64, 2, 0}, {0, 8, 2, 0},
	} {
		if got := QueueLength(c.length, c.batch, c.ranks); got != c.want {
			t.Errorf("QueueLength(%d, %d, %d) = %d, want %d", c.length, c.batch, c.ranks, got, c.want)
		}
	}
}
