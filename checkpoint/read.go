package checkpoint

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"swav/interop"
)

const (
	stepPrefix     = "step-"
	tmpPrefix      = ".tmp-"     // of everything that is not finished or not needed
	replacedSuffix = ".replaced" // of a checkpoint that makes room for its successor
	maxState       = 64 << 20    // bytes of state.json
)

func stepName(step int) string { return fmt.Sprintf("%s%07d", stepPrefix, step) }

// stepOf is the inverse of stepName, for names with replacedSuffix too.
func stepOf(name string) (int, bool) {
	digits, ok := strings.CutPrefix(strings.TrimSuffix(name, replacedSuffix), stepPrefix)
	step, err := strconv.Atoi(digits)
	return step, ok && err == nil && step >= 0
}

type candidate struct {
	name string
	step int
}

// list is every directory of dir that is named like a checkpoint, newest first.
func list(dir string) ([]candidate, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var found []candidate
	for _, e := range entries {
		if step, ok := stepOf(e.Name()); ok && e.IsDir() {
			found = append(found, candidate{e.Name(), step})
		}
	}
	// Of a step's two, the shorter name is the newer.
	slices.SortFunc(found, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(b.step, a.step), cmp.Compare(len(a.name), len(b.name)))
	})
	return found, nil
}

// order is the paths to try on a resume: what latest names, then those before it,
// newest first, then those after it. Later ones exist where somebody set the run
// back by hand, or where the process died before it moved latest.
func order(run string) ([]string, error) {
	dir := filepath.Join(run, dirName)
	found, err := list(dir)
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(found) == 0 {
		return nil, fmt.Errorf("%w in %s", ErrNone, dir)
	}
	if err != nil {
		return nil, fmt.Errorf("look for checkpoints: %w", err)
	}
	if target, err := os.Readlink(filepath.Join(run, latestName)); err == nil {
		if latest, ok := stepOf(filepath.Base(target)); ok {
			slices.SortStableFunc(found, func(a, b candidate) int {
				return cmp.Compare(btoi(a.step > latest), btoi(b.step > latest))
			})
		}
	}
	paths := make([]string, len(found))
	for i, c := range found {
		paths[i] = filepath.Join(dir, c.name)
	}
	return paths, nil
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// Latest returns the path of the checkpoint to resume from: the one that latest
// names, or if that is missing or incomplete, the newest complete one. The error
// is ErrNone if the run has none. Contents are checked by Read.
func Latest(run string) (string, error) {
	paths, err := order(run)
	if err != nil {
		return "", err
	}
	var bad error
	for _, p := range paths {
		if _, err := quick(p); err != nil {
			bad = errors.Join(bad, err)
			continue
		}
		return p, nil
	}
	return "", fmt.Errorf("no whole checkpoint in %s: %w", run, bad)
}

// Resume reads the checkpoint to go on from, as Latest chooses it. One whose
// contents are damaged is passed over for the one before, and warn is told.
// The error is ErrNone if the run has none.
func Resume(run string, warn func(error)) (*Loaded, error) {
	paths, err := order(run)
	if err != nil {
		return nil, err
	}
	var bad error
	for _, p := range paths {
		l, err := Read(p)
		if err == nil {
			if bad != nil && warn != nil {
				warn(fmt.Errorf("%w; going on from %s", bad, p))
			}
			return l, nil
		}
		bad = errors.Join(bad, err)
	}
	return nil, fmt.Errorf("every checkpoint of %s is damaged: %w", run, bad)
}

// Read reads a checkpoint and checks all of it. Path may also be a copy outside
// of any run directory, and a link such as RUN/latest.
func Read(path string) (*Loaded, error) { return read(path, true) }

// ReadModel is Read without the optimizer's file, which need not be there.
func ReadModel(path string) (*Loaded, error) { return read(path, false) }

func read(path string, optimizer bool) (*Loaded, error) {
	m, err := readManifest(path)
	if err != nil {
		return nil, fmt.Errorf("checkpoint %s: %w", path, err)
	}
	l := &Loaded{Path: path, Step: m.Step, State: m.State}
	for _, f := range m.Files {
		if f.Name != modelFile && !optimizer {
			continue
		}
		tensors, err := readTensors(path, f)
		if err != nil {
			return nil, fmt.Errorf("checkpoint %s: %w", path, err)
		}
		if f.Name == modelFile {
			l.Model = tensors
		} else {
			l.Optimizer = append(l.Optimizer, tensors...)
		}
	}
	slices.SortFunc(l.Optimizer, func(a, b Tensor) int { return cmp.Compare(a.Name, b.Name) }) // over all files
	return l, nil
}

// readManifest reads state.json and checks that it is whole and of this format.
func readManifest(path string) (*manifest, error) {
	f, err := os.Open(filepath.Join(path, stateFile))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxState+1))
	if err != nil {
		return nil, err
	}
	if len(text) > maxState {
		return nil, fmt.Errorf("%s is larger than %d bytes", stateFile, maxState)
	}
	var m manifest
	if err := json.Unmarshal(text, &m); err != nil {
		return nil, fmt.Errorf("%s: %w", stateFile, err)
	}
	if m.Format != formatVersion {
		return nil, fmt.Errorf("%s: format %d, this build reads %d", stateFile, m.Format, formatVersion)
	}
	if m.Step < 0 || !m.named() {
		return nil, fmt.Errorf("%s: want a step and the files %s and %s", stateFile, modelFile, optimizerFile)
	}
	if sum, err := m.sum(); err != nil || sum != m.Sum {
		return nil, fmt.Errorf("%s does not match its checksum: it was edited or damaged", stateFile)
	}
	// Without the white space that indenting added.
	var state bytes.Buffer
	if err := json.Compact(&state, m.State); err != nil {
		return nil, fmt.Errorf("%s: state: %w", stateFile, err)
	}
	m.State = state.Bytes()
	return &m, nil
}

// quick checks a checkpoint as far as it goes without reading the tensors.
func quick(path string) (*manifest, error) {
	m, err := readManifest(path)
	if err != nil {
		return nil, fmt.Errorf("checkpoint %s: %w", path, err)
	}
	for _, f := range m.Files {
		if err := checkSize(path, f); err != nil {
			return nil, fmt.Errorf("checkpoint %s: %w", path, err)
		}
	}
	return m, nil
}

func checkSize(path string, f fileSum) error {
	info, err := os.Stat(filepath.Join(path, f.Name))
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() || info.Size() != f.Size {
		return fmt.Errorf("%s has %d bytes, %s says %d", f.Name, info.Size(), stateFile, f.Size)
	}
	return nil
}

func readTensors(path string, f fileSum) ([]Tensor, error) {
	if err := checkSize(path, f); err != nil {
		return nil, err
	}
	name := filepath.Join(path, f.Name)
	if err := checkSum(name, f.Sum); err != nil {
		return nil, err
	}
	s, err := interop.OpenSafetensors(name)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	tensors := make([]Tensor, 0, len(s.Names()))
	for _, n := range s.Names() {
		info, _ := s.Info(n)
		if info.DType != interop.F32 {
			return nil, fmt.Errorf("%s: tensor %q is %s, want F32", f.Name, n, info.DType)
		}
		data, err := s.Float32(n)
		if err != nil {
			return nil, err
		}
		tensors = append(tensors, Tensor{n, info.Shape, data})
	}
	return tensors, nil
}

func checkSum(name, want string) error {
	file, err := os.Open(name)
	if err != nil {
		return err
	}
	defer file.Close()
	h := sha256.New()
	if _, err := io.Copy(h, file); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if hex.EncodeToString(h.Sum(nil)) != want {
		return fmt.Errorf("%s does not match its checksum: it was edited or damaged", filepath.Base(name))
	}
	return nil
}
