package checkpoint

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sync/errgroup"

	"swav/interop"
)

// before is called ahead of everything that changes the disk; tests end the
// process there.
var before = func(op string) {}

// Write saves s in the run directory and then removes all but the keep newest
// checkpoints (0 keeps all). It returns the checkpoint's path. On an error the
// checkpoints from before are untouched and latest still names one of them; the
// run may go on. DiskFull tells errors for want of space.
func Write(run string, s Snapshot, keep int) (path string, err error) {
	state, err := json.Marshal(s.State)
	if err != nil {
		return "", fmt.Errorf("write checkpoint of step %d: state: %w", s.Step, err)
	}
	return write(run, s, state, keep)
}

func write(run string, s Snapshot, state json.RawMessage, keep int) (string, error) {
	if s.Step < 0 {
		panic(fmt.Sprintf("checkpoint: step %d", s.Step))
	}
	dir := filepath.Join(run, dirName)
	path := filepath.Join(dir, stepName(s.Step))
	if err := place(run, dir, path, s, state); err != nil {
		return "", explain(path, err)
	}
	if err := point(run, stepName(s.Step)); err != nil {
		return path, explain(path, fmt.Errorf("written, but %s does not name it: %w", filepath.Join(run, latestName), err))
	}
	if err := prune(dir, s.Step, keep); err != nil {
		return path, fmt.Errorf("checkpoint %s is written, but older ones could not be removed: %w", path, err)
	}
	return path, nil
}

// explain adds to an error what the reader may do about it.
func explain(path string, err error) error {
	err = fmt.Errorf("write checkpoint %s: %w", path, err)
	switch {
	case DiskFull(err):
		return fmt.Errorf("%w: free some space on that disk or keep fewer checkpoints; those from before are intact", err)
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		return fmt.Errorf("%w: make the run directory writable; checkpoints from before are intact", err)
	}
	return err
}

// DiskFull tells whether err comes from a full disk, a spent quota or a limit of
// the file size.
func DiskFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || errors.Is(err, syscall.EFBIG)
}

// place writes the checkpoint under a temporary name and renames it to path.
func place(run, dir, path string, s Snapshot, state json.RawMessage) error {
	before("mkdir")
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return err
	}
	if err := sweep(dir); err != nil {
		return err
	}
	before("mkdir temporary")
	tmp := filepath.Join(dir, tmpPrefix+filepath.Base(path))
	if err := os.Mkdir(tmp, 0o777); err != nil {
		return err
	}
	err := fill(tmp, s, state)
	if err == nil {
		err = replace(tmp, path)
	}
	if err != nil {
		// Gives the space back at once; what cannot be removed is swept next time.
		os.RemoveAll(tmp)
		return err
	}
	return errors.Join(syncDir(dir), syncDir(run))
}

// shardBytes is the size from which on the optimizer's tensors are written as several
// files, by at most so many writers; tests change it.
var shardBytes = 1 << 30

const writers = 8

// shard divides tensors, in their order, into files of about shardBytes.
func shard(tensors []Tensor) [][]Tensor {
	shards := [][]Tensor{nil}
	size := 0
	for _, t := range tensors {
		if n := 4 * len(t.Data); size > 0 && size+n > shardBytes {
			shards, size = append(shards, nil), 0
		}
		size += 4 * len(t.Data)
		shards[len(shards)-1] = append(shards[len(shards)-1], t)
	}
	return shards
}

// shardName is the i-th of n files, counted from 1.
func shardName(i, n int) string {
	if n == 1 {
		return optimizerFile
	}
	return fmt.Sprintf("optimizer-%05d-of-%05d.safetensors", i, n)
}

// fill writes the files into dir, state.json last, and syncs all.
func fill(dir string, s Snapshot, state json.RawMessage) error {
	m := manifest{Format: formatVersion, Step: s.Step, State: state}
	shards := shard(s.Optimizer)
	m.Files = make([]fileSum, 1+len(shards))
	var g errgroup.Group
	g.SetLimit(min(len(shards), writers)) // one by one, unless it is much
	for i := range m.Files {
		name, tensors := modelFile, s.Model
		if i > 0 {
			name, tensors = shardName(i, len(shards)), shards[i-1]
		}
		g.Go(func() error {
			sum, err := writeTensors(filepath.Join(dir, name), tensors)
			if err == nil {
				m.Files[i] = fileSum{name, sum.size, sum.hex()}
			}
			return err
		})
	}
	err := g.Wait()
	if err != nil {
		return err
	}
	if m.Sum, err = m.sum(); err != nil {
		return err
	}
	text, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	if len(text) > maxState {
		return fmt.Errorf("state of %d bytes, at most %d are read back: large things belong into tensors", len(text), maxState)
	}
	err = createSynced(filepath.Join(dir, stateFile), func(w io.Writer) error {
		_, err := w.Write(append(text, '\n'))
		return err
	})
	return errors.Join(err, syncDir(dir))
}

// summing counts and hashes what goes through it. Writes are in pieces, so that
// a test can stop between them.
type summing struct {
	w    io.Writer
	h    hash.Hash
	size int64
}

func (s *summing) Write(p []byte) (int, error) {
	before("write")
	n, err := s.w.Write(p)
	s.h.Write(p[:n])
	s.size += int64(n)
	return n, err
}

func (s *summing) hex() string { return hex.EncodeToString(s.h.Sum(nil)) }

func writeTensors(path string, tensors []Tensor) (*summing, error) {
	out := make([]interop.Tensor, len(tensors))
	for i, t := range tensors {
		out[i] = interop.Tensor{Name: t.Name, DType: interop.F32, Shape: t.Shape, Data: t.Data}
	}
	sum := &summing{h: sha256.New()}
	err := createSynced(path, func(w io.Writer) error {
		sum.w = w
		// "format: pt" is what PyTorch-side readers look for.
		return interop.WriteSafetensors(sum, out, map[string]string{"format": "pt"})
	})
	return sum, err
}

// createSynced writes a new file and syncs it.
func createSynced(path string, write func(io.Writer) error) error {
	before("create")
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return err
	}
	err = write(f)
	before("sync")
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// replace renames tmp to path. A checkpoint that is there already, as after a
// resume from an earlier one, steps aside first under a name that readers still
// know (replacedSuffix), so that there is no moment without it.
func replace(tmp, path string) error {
	aside := path + replacedSuffix
	if _, err := os.Lstat(path); err == nil {
		before("remove aside")
		if err := os.RemoveAll(aside); err != nil {
			return err
		}
		before("rename aside")
		if err := os.Rename(path, aside); err != nil {
			return err
		}
	}
	before("rename")
	if err := os.Rename(tmp, path); err != nil {
		return err
	}
	before("remove aside")
	return os.RemoveAll(aside)
}

// point makes RUN/latest name the checkpoint.
func point(run, name string) error {
	latest := filepath.Join(run, latestName)
	if info, err := os.Lstat(latest); err == nil && info.Mode()&fs.ModeSymlink == 0 {
		return errors.New("it is not a symbolic link: move it away")
	}
	tmp := filepath.Join(run, "."+latestName+".tmp")
	before("remove link")
	if err := os.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	before("symlink")
	err := os.Symlink(filepath.Join(dirName, name), tmp)
	if errors.Is(err, errors.ErrUnsupported) || errors.Is(err, syscall.EPERM) {
		return nil // a file system without links; Latest takes the newest there
	}
	if err != nil {
		return err
	}
	before("rename link")
	if err := os.Rename(tmp, latest); err != nil {
		return err
	}
	return syncDir(run)
}

// sweep removes what killed writes left behind.
func sweep(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		whole := strings.TrimSuffix(path, replacedSuffix)
		stale := strings.HasPrefix(e.Name(), tmpPrefix)
		if whole != path {
			_, err := quick(whole)
			stale = err == nil
		}
		if !stale {
			continue
		}
		before("sweep")
		if err := os.RemoveAll(path); err != nil {
			return err
		}
	}
	return nil
}

// prune removes all but the keep newest checkpoints up to step. Later ones, left
// when a run was set back, are not touched until the run reaches their step; a
// broken one goes when all whole ones of its age do.
func prune(dir string, step, keep int) error {
	if keep <= 0 {
		return nil
	}
	found, err := list(dir)
	if err != nil {
		return err
	}
	var failed error
	kept := 0
	for _, c := range found { // newest first
		if c.step > step {
			continue
		}
		path := filepath.Join(dir, c.name)
		if kept < keep {
			if _, err := quick(path); err == nil {
				kept++
			}
			continue
		}
		// Renamed first: half removed, it would look like a broken checkpoint.
		gone := filepath.Join(dir, tmpPrefix+c.name+"-old")
		before("rename old")
		if err := os.Rename(path, gone); err != nil {
			failed = errors.Join(failed, err)
			continue
		}
		before("remove old")
		failed = errors.Join(failed, os.RemoveAll(gone))
	}
	return failed
}

// syncDir makes renames in dir durable. Some network file systems do not sync
// directories; that is not an error of the run.
func syncDir(dir string) error {
	before("sync directory")
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	err = d.Sync()
	if errors.Is(err, syscall.EINVAL) || errors.Is(err, errors.ErrUnsupported) {
		err = nil
	}
	return errors.Join(err, d.Close())
}

// Prepare makes a run directory, or takes an existing one, checks that it can be
// written, and removes what a killed write left behind. It is called before
// anything costly.
func Prepare(run string) error {
	fail := func(err error) error {
		return fmt.Errorf("run directory %s cannot be written: %w: make it writable or choose another directory", run, err)
	}
	dir := filepath.Join(run, dirName)
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return fail(err)
	}
	for _, d := range []string{run, dir} {
		probe, err := os.CreateTemp(d, tmpPrefix+"probe-")
		if err != nil {
			return fail(err)
		}
		_, err = probe.WriteString("x")
		if err := errors.Join(err, probe.Close(), os.Remove(probe.Name())); err != nil {
			return fail(err)
		}
	}
	if err := sweep(dir); err != nil {
		return fail(err)
	}
	return nil
}
