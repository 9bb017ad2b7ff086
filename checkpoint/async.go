package checkpoint

import (
	"encoding/json"
	"fmt"
)

// Writer writes checkpoints beside the compute, one at a time. Its methods are
// called from one goroutine.
type Writer struct {
	// Written, if not nil, is called after each checkpoint that is whole on disk, from
	// the goroutine that wrote it.
	Written func()

	run    string
	keep   int
	result chan error // of the write under way; nil when there is none
}

// NewWriter writes into the run directory and keeps the keep newest checkpoints
// (0: all).
func NewWriter(run string, keep int) *Writer { return &Writer{run: run, keep: keep} }

// Save starts to write s and returns. The buffers of its tensors belong to the
// Writer from then on; State is encoded before Save returns. If the write before
// is not finished, Save waits for it. The error is that write's, or says that
// State cannot be encoded; only in the latter case is s not written.
func (w *Writer) Save(s Snapshot) error {
	state, err := json.Marshal(s.State)
	if err != nil {
		return fmt.Errorf("write checkpoint of step %d: state: %w", s.Step, err)
	}
	err = w.Wait()
	result := make(chan error, 1)
	w.result = result
	go func() {
		_, err := write(w.run, s, state, w.keep)
		if err == nil && w.Written != nil {
			w.Written()
		}
		result <- err
	}()
	return err
}

// Wait waits for the write under way and returns its error, once.
func (w *Writer) Wait() error {
	if w.result == nil {
		return nil
	}
	err := <-w.result
	w.result = nil
	return err
}

// Close is Wait, for the end of a run.
func (w *Writer) Close() error { return w.Wait() }
