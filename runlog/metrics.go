// Package runlog writes what a run leaves behind for people and machines
// besides its checkpoints: metrics.jsonl, files for TensorBoard, the list of
// skipped images, the console's lines, the contact sheet of prototypes and the
// report.
//
// It knows numbers, pictures and file formats, and nothing of how training
// comes by them.
package runlog

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
)

// Number is a float64 whose JSON may also be "NaN", "+Inf" or "-Inf".
type Number float64

// MarshalJSON writes numbers as such, other values as strings.
func (n Number) MarshalJSON() ([]byte, error) {
	f := float64(n)
	switch {
	case math.IsNaN(f):
		return []byte(`"NaN"`), nil
	case math.IsInf(f, 1):
		return []byte(`"+Inf"`), nil
	case math.IsInf(f, -1):
		return []byte(`"-Inf"`), nil
	}
	return json.Marshal(f)
}

// UnmarshalJSON reads what MarshalJSON writes.
func (n *Number) UnmarshalJSON(b []byte) error {
	switch string(b) {
	case `"NaN"`:
		*n = Number(math.NaN())
	case `"+Inf"`:
		*n = Number(math.Inf(1))
	case `"-Inf"`:
		*n = Number(math.Inf(-1))
	default:
		return json.Unmarshal(b, (*float64)(n))
	}
	return nil
}

// Metric is one step of a run: a line of metrics.jsonl. Everything but Time is
// the same to the bit when the run is repeated or interrupted and resumed.
type Metric struct {
	Step     int    `json:"step"` // counted from 0
	Epoch    int    `json:"epoch"`
	Loss     Number `json:"loss"`
	LR       Number `json:"lr"`
	GradNorm Number `json:"grad_norm"`

	LossRatio      Number `json:"loss_ratio"`      // loss / ln K; 1 is chance
	Perplexity     Number `json:"perplexity"`      // prototypes that the codes share out among
	MarginalError  Number `json:"marginal_error"`  // sum |mean code - 1/K|
	CodeEntropy    Number `json:"code_entropy"`    // mean entropy of a code
	EffectiveRank  Number `json:"effective_rank"`  // of the embeddings
	UsedPrototypes int    `json:"used_prototypes"` // nearest to some embedding of the batch
	Queue          int    `json:"queue"`           // rows in the queue

	Clusters []Clusters `json:"clusters,omitempty"` // of each head, where a step begins with a clustering

	Time Timing `json:"time"`
}

// Scalars are the values of a step under the names that TensorBoard and MLflow show
// them by.
func (m *Metric) Scalars() []Scalar {
	all := []Scalar{
		{"train/loss", float64(m.Loss)}, {"train/lr", float64(m.LR)}, {"train/grad_norm", float64(m.GradNorm)},
		{"health/loss_ratio", float64(m.LossRatio)}, {"health/perplexity", float64(m.Perplexity)},
		{"health/marginal_error", float64(m.MarginalError)}, {"health/code_entropy", float64(m.CodeEntropy)},
		{"health/effective_rank", float64(m.EffectiveRank)},
		{"speed/images_per_second", float64(m.Time.ImagesPerSecond)}, {"speed/wait_seconds", m.Time.Wait},
	}
	for h, c := range m.Clusters {
		of := fmt.Sprintf("clusters/head%d/", h)
		all = append(all, Scalar{of + "empty", float64(c.Empty)}, Scalar{of + "largest", float64(c.Largest)})
		if c.Compared > 0 {
			all = append(all, Scalar{of + "moved", float64(c.Moved)}, Scalar{of + "nmi", float64(c.NMI)})
		}
	}
	return all
}

// Clusters are those of one head (swav.Clustering).
type Clusters struct {
	Clusters   int    `json:"clusters"`
	Images     int    `json:"images"` // that are in one
	Empty      int    `json:"empty"`
	Largest    int    `json:"largest"`  // images
	Smallest   int    `json:"smallest"` // images, of those that have any
	Perplexity Number `json:"perplexity"`
	Compared   int    `json:"compared"` // images that were in one before too
	NMI        Number `json:"nmi"`      // of both clusterings of these
	Moved      Number `json:"moved"`    // share of these
}

// Timing is the part of a metric that depends on the machine.
type Timing struct {
	Unix            float64 `json:"unix"`
	ImagesPerSecond Number  `json:"images_per_second"`
	Seconds         float64 `json:"seconds"` // of the step
	Wait            float64 `json:"wait"`    // seconds of it that rank 0 spent waiting for data
	// Waits are those of every rank, where there are several.
	Waits      []float64 `json:"waits,omitempty"`
	Clustering float64   `json:"clustering,omitempty"` // seconds before it
}

// Metrics appends to a metrics.jsonl.
type Metrics struct {
	f    *os.File
	b    bytes.Buffer
	size int64 // of the whole lines
}

// MetricsFile is the name within a run directory.
const MetricsFile = "metrics.jsonl"

// OpenMetrics opens the metrics of a run that goes on at the given step: lines
// of that step and later, written by a session that got further than its last
// checkpoint, are dropped, and so is a last line that a kill has torn.
func OpenMetrics(dir string, step int) (*Metrics, error) {
	path := filepath.Join(dir, MetricsFile)
	keep, err := lengthBefore(path, step)
	if err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	if err = f.Truncate(keep); err == nil {
		_, err = f.Seek(keep, io.SeekStart)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return &Metrics{f: f, size: keep}, nil
}

// lengthBefore is how many bytes of whole lines come before a step.
func lengthBefore(path string, step int) (int64, error) {
	var keep int64
	err := eachLine(path, func(line []byte, m *Metric) bool {
		if m.Step >= step {
			return false
		}
		keep += int64(len(line))
		return true
	})
	return keep, err
}

// maxLine bounds a line of metrics; one takes about 400 bytes.
const maxLine = 64 << 10

// eachLine reads whole lines until f returns false. A torn last line ends the
// file; a line within that is no metric is an error, since dropping what follows
// would lose it.
func eachLine(path string, f func(line []byte, m *Metric) bool) error {
	file, err := os.Open(path)
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		return err
	}
	defer file.Close()
	r := bufio.NewReaderSize(file, maxLine)
	for n := 1; ; n++ {
		line, err := r.ReadSlice('\n')
		if err == io.EOF {
			return nil
		}
		var m Metric
		if err == nil {
			err = json.Unmarshal(line, &m)
		}
		if err != nil {
			return fmt.Errorf("%s, line %d: %w: remove that line, or move the file away", path, n, err)
		}
		if !f(line, &m) {
			return nil
		}
	}
}

// ReadMetrics reads a run's metrics; a torn last line is left out.
func ReadMetrics(dir string) ([]Metric, error) {
	var all []Metric
	err := eachLine(filepath.Join(dir, MetricsFile), func(_ []byte, m *Metric) bool {
		all = append(all, *m)
		return true
	})
	return all, err
}

// Write appends a line, in one write, so that a kill tears the last line at
// most. Where a line cannot be written whole, as on a full disk, the part of it is
// taken back.
func (w *Metrics) Write(m *Metric) error {
	w.b.Reset()
	if err := json.NewEncoder(&w.b).Encode(m); err != nil {
		return err
	}
	n, err := w.f.Write(w.b.Bytes())
	if err != nil {
		if n > 0 && w.f.Truncate(w.size) == nil {
			_, _ = w.f.Seek(w.size, io.SeekStart)
		}
		return fmt.Errorf("%w: with space freed, the run resumes from its last checkpoint", err)
	}
	w.size += int64(n)
	return nil
}

// Close closes the file.
func (w *Metrics) Close() error { return w.f.Close() }
