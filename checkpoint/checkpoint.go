// Package checkpoint keeps the state of a run on disk so that a run can be killed
// at any moment and goes on from where it was.
//
// A checkpoint is a directory:
//
//	RUN/checkpoints/step-0000123/model.safetensors      weights and statistics
//	RUN/checkpoints/step-0000123/optimizer.safetensors  momentum, queue
//	RUN/checkpoints/step-0000123/state.json             position, sizes and checksums
//	RUN/latest -> checkpoints/step-0000123
//
// What would be an optimizer.safetensors of more than a gigabyte is several files,
// optimizer-00001-of-00003.safetensors and so on, written at the same time.
//
// It is written under another name, synced and renamed; only then does latest
// move, and only then do older checkpoints go. What a killed write leaves behind
// is recognised by its name and removed by the next one. Whatever reads a
// checkpoint compares every file with the checksum in state.json, so that torn or
// edited files are found out before they reach the weights; Resume then takes the
// checkpoint before.
//
// One process writes a run at a time (Lock). Which tensors there are and what
// State means is the caller's; how the files look inside is package interop's.
package checkpoint

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// formatVersion is what this build writes and reads.
const formatVersion = 1

// The names within a run directory and within a checkpoint.
const (
	dirName       = "checkpoints"
	latestName    = "latest"
	lockName      = ".lock"
	modelFile     = "model.safetensors"
	optimizerFile = "optimizer.safetensors"
	stateFile     = "state.json"
)

// ErrNone says that a run has no checkpoint yet.
var ErrNone = errors.New("no checkpoint")

// Tensor is a named tensor of float32, row-major.
type Tensor struct {
	Name  string
	Shape []int // empty for a scalar
	Data  []float32
}

// Snapshot is all that a run needs to go on.
type Snapshot struct {
	Step      int      // steps done
	Model     []Tensor // weights and running statistics, torchvision names
	Optimizer []Tensor // moments, queue
	State     any      // anything that encoding/json takes: positions, counters
}

// Loaded is a checkpoint that was read and found whole. Tensors are sorted by name.
type Loaded struct {
	Path      string
	Step      int
	Model     []Tensor
	Optimizer []Tensor // nil after ReadModel
	State     json.RawMessage
}

// DecodeState fills v from State.
func (l *Loaded) DecodeState(v any) error {
	if err := json.Unmarshal(l.State, v); err != nil {
		return fmt.Errorf("checkpoint %s: state: %w", l.Path, err)
	}
	return nil
}

// Restore copies src into the buffers of dst, by name. It changes nothing unless
// both hold the same names and shapes; the error of a checkpoint of another
// architecture names the first differences.
func Restore(dst, src []Tensor) error {
	have := make(map[string]Tensor, len(src))
	for _, t := range src {
		have[t.Name] = t
	}
	var diffs []string
	for _, t := range dst {
		s, ok := have[t.Name]
		delete(have, t.Name)
		switch {
		case !ok:
			diffs = append(diffs, fmt.Sprintf("%s %v is missing in the checkpoint", t.Name, t.Shape))
		case !slices.Equal(s.Shape, t.Shape):
			diffs = append(diffs, fmt.Sprintf("%s is %v in the checkpoint, %v in this run", t.Name, s.Shape, t.Shape))
		case len(s.Data) != len(t.Data):
			panic(fmt.Sprintf("checkpoint: tensor %s %v with buffers of %d and %d elements", t.Name, t.Shape, len(t.Data), len(s.Data)))
		}
	}
	for _, t := range src { // in the order of the file
		if _, left := have[t.Name]; left {
			diffs = append(diffs, fmt.Sprintf("%s %v is only in the checkpoint", t.Name, t.Shape))
		}
	}
	if n := len(diffs); n > 0 {
		more := ""
		if n > 3 {
			more = fmt.Sprintf("; and %d more", n-3)
		}
		return fmt.Errorf("the checkpoint is of another network: %s%s: use the recipe that it was trained with", strings.Join(diffs[:min(n, 3)], "; "), more)
	}
	for _, t := range src {
		have[t.Name] = t
	}
	for _, t := range dst {
		copy(t.Data, have[t.Name].Data)
	}
	return nil
}

// manifest is state.json.
type manifest struct {
	Format int             `json:"format"`
	Step   int             `json:"step"`
	Files  []fileSum       `json:"files"`
	State  json.RawMessage `json:"state"`
	Sum    string          `json:"sha256"` // of all the above, see sum
}

// named tells whether the files are those that a checkpoint has.
func (m *manifest) named() bool {
	for i, f := range m.Files {
		if i == 0 && f.Name != modelFile || i > 0 && f.Name != shardName(i, len(m.Files)-1) {
			return false
		}
	}
	return len(m.Files) > 1
}

type fileSum struct {
	Name string `json:"name"`
	Size int64  `json:"size"`
	Sum  string `json:"sha256"`
}

// sum is the checksum of what m says, whatever the white space.
func (m manifest) sum() (string, error) {
	m.Sum = ""
	text, err := json.Marshal(m)
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:]), err
}
