package runlog

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"sync"
)

// Skips appends to skipped.jsonl: images that could not be read, and why. An
// image is noted once, also over several sessions of a run. The file is made with
// the first skip. Methods may be called from several goroutines.
type Skips struct {
	mu    sync.Mutex
	path  string
	f     *os.File
	known map[string]bool
	count int
}

// skipped is a line of skipped.jsonl.
type skipped struct {
	Image string `json:"image"`
	Error string `json:"error"`
}

// maxSkips bounds how much of an existing file is read.
const maxSkips = 256 << 20

// NewSkips writes into a run directory.
func NewSkips(dir string) *Skips {
	return &Skips{path: filepath.Join(dir, "skipped.jsonl"), known: map[string]bool{}}
}

// Add notes an image. Errors of writing are of no concern to training and
// dropped.
func (s *Skips) Add(id string, reason error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.count++
	if s.f == nil && s.open() != nil || s.known[id] {
		return
	}
	s.known[id] = true
	line, err := json.Marshal(skipped{id, reason.Error()})
	if err == nil {
		_, _ = s.f.Write(append(line, '\n'))
	}
}

// open reads which images earlier sessions noted and takes away a last line that a
// kill has torn.
func (s *Skips) open() error {
	f, err := os.OpenFile(s.path, os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	text, err := io.ReadAll(io.LimitReader(f, maxSkips))
	if err == nil && len(text) < maxSkips {
		whole := bytes.LastIndexByte(text, '\n') + 1
		err = f.Truncate(int64(whole))
		for line := range bytes.Lines(text[:whole]) {
			var k skipped
			if json.Unmarshal(line, &k) == nil {
				s.known[k.Image] = true
			}
		}
	}
	if err != nil {
		f.Close()
		return err
	}
	s.f = f
	return nil
}

// Count is the number of calls of Add in this session.
func (s *Skips) Count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.count
}

// Close closes the file.
func (s *Skips) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.f == nil {
		return nil
	}
	return s.f.Close()
}
