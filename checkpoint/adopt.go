package checkpoint

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// Adopt takes a checkpoint's folder that was brought from elsewhere into a run, after it
// has been found whole, and makes latest name it. dir lies on the run's file system and
// is renamed.
func Adopt(run, dir string) error {
	l, err := Read(dir)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(run, dirName), 0o777); err != nil {
		return fmt.Errorf("checkpoint of step %d: %w", l.Step, err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		return err
	}
	path := filepath.Join(run, dirName, stepName(l.Step))
	if err := replace(dir, path); err != nil {
		return explain(path, err)
	}
	return errors.Join(syncDir(filepath.Join(run, dirName)), point(run, stepName(l.Step)))
}
