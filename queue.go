package swav

import "fmt"

// Queue keeps the newest embeddings of one assignment crop on one rank, so that
// a small batch is assigned together with many earlier samples (paper section
// 4.3). Newest rows come first. Its rows are compared with the current
// prototypes at every step, and take part in the assignment only once the queue
// is Full.
type Queue struct {
	dim  int
	rows []float32 // [length, dim]
}

// QueueLength is the length of each rank's queue, for a queue of length rows
// over all ranks: as in the original, rounded down to whole batches of all
// ranks.
func QueueLength(length, batch, ranks int) int {
	if length < 0 || batch < 1 || ranks < 1 {
		panic(fmt.Sprintf("swav: QueueLength(%d, %d, %d)", length, batch, ranks))
	}
	return length / (batch * ranks) * batch
}

// NewQueue returns an empty queue of length rows.
func NewQueue(length, dim int) *Queue {
	if length < 0 || dim < 1 {
		panic(fmt.Sprintf("swav: NewQueue(%d, %d)", length, dim))
	}
	return &Queue{dim: dim, rows: make([]float32, length*dim)}
}

// Len is the number of rows, filled or not.
func (q *Queue) Len() int { return len(q.rows) / q.dim }

// Full tells whether the queue takes part in the assignment: whether its last
// row, the oldest, is not all zero. A queue of no rows is never full.
func (q *Queue) Full() bool { return q.Len() > 0 && !zero(q.rows[len(q.rows)-q.dim:]) }

// Filled is the number of rows up to the oldest that is not all zero.
func (q *Queue) Filled() int {
	n := q.Len()
	for n > 0 && zero(q.rows[(n-1)*q.dim:][:q.dim]) {
		n--
	}
	return n
}

// Rows is the queue [Len, dim], newest first, zero where not yet filled; it is
// all of the queue's state. It changes with the next Push.
func (q *Queue) Rows() []float32 { return q.rows }

// Push puts a batch [any, dim] in front, its rows in order; the oldest rows fall
// out. Of a batch longer than the queue, the first rows stay.
func (q *Queue) Push(batch []float32) {
	if len(batch)%q.dim != 0 {
		panic(fmt.Sprintf("swav: push of %d elements into a queue of %d x %d", len(batch), q.Len(), q.dim))
	}
	n := min(len(batch), len(q.rows))
	copy(q.rows[n:], q.rows)
	copy(q.rows, batch)
}

// Restore replaces the rows by those of a queue of the same length.
func (q *Queue) Restore(rows []float32) error {
	if len(rows) != len(q.rows) {
		return fmt.Errorf("restore queue: %d elements, the queue is %d x %d", len(rows), q.Len(), q.dim)
	}
	copy(q.rows, rows)
	return nil
}

func zero(x []float32) bool {
	for _, v := range x {
		if v != 0 {
			return false
		}
	}
	return true
}
