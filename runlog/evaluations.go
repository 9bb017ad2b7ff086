package runlog

import (
	"bufio"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
)

// Evaluation is a line of evaluations.jsonl: what a run's features were worth at some
// step.
type Evaluation struct {
	Step     int     `json:"step"` // steps done
	Epoch    int     `json:"epoch"`
	Protocol string  `json:"protocol"`
	Score    Number  `json:"score"`
	Best     bool    `json:"best"` // so far
	Seconds  float64 `json:"seconds"`
}

// EvaluationsFile is the name within a run directory.
const EvaluationsFile = "evaluations.jsonl"

// AppendEvaluation adds a line to a run's evaluations.
func AppendEvaluation(dir string, e Evaluation) error {
	line, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("write %s: %w", EvaluationsFile, err)
	}
	f, err := os.OpenFile(filepath.Join(dir, EvaluationsFile), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(append(line, '\n'))
	return errors.Join(err, f.Close())
}

// ReadEvaluations reads a run's evaluations in order of steps. A run that was killed
// evaluates some steps again: the later line counts. Torn lines are left out.
func ReadEvaluations(dir string) ([]Evaluation, error) {
	f, err := os.Open(filepath.Join(dir, EvaluationsFile))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	byStep := map[int]Evaluation{}
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		var e Evaluation
		if json.Unmarshal(lines.Bytes(), &e) == nil {
			byStep[e.Step] = e
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("read %s: %w", f.Name(), err)
	}
	var all []Evaluation
	for _, e := range byStep {
		all = append(all, e)
	}
	slices.SortFunc(all, func(a, b Evaluation) int { return cmp.Compare(a.Step, b.Step) })
	return all, nil
}
