package dataset

import (
	"bufio"
	"encoding/gob"
	"os"
	"path/filepath"
)

// cacheDir is a folder for what can be made again.
func (o Options) cacheDir(name string) (string, error) {
	if o.CacheDir != "" {
		return filepath.Join(o.CacheDir, name), nil
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, "swav", name), nil
}

// readCache reads what writeCache wrote.
func readCache(path string, v any) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return gob.NewDecoder(bufio.NewReaderSize(f, 1<<20)).Decode(v)
}

// writeCache replaces a file as a whole, so that readers beside it see the old
// one or the new one.
func writeCache(path string, v any) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".tmp-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	w := bufio.NewWriterSize(f, 1<<20)
	err = gob.NewEncoder(w).Encode(v)
	if err == nil {
		err = w.Flush()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
