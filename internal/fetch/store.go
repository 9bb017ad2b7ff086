package fetch

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"
)

// Store is a folder of files that can be made again, such as fetched objects.
// Together they stay within Max bytes: those that were not used for longest go
// first. Several processes may share a folder.
type Store struct {
	Dir string
	Max int64

	flight singleflight.Group
	mu     sync.Mutex
	used   map[string]time.Time // when a file's time of use was last written
}

const (
	tmpPrefix = ".tmp-"
	tmpAge    = 24 * time.Hour // after which nobody writes a file any more
	useTick   = time.Minute    // of the time of use
)

// Open opens the file of a key. Where it is not there, fill writes it; callers
// that come meanwhile wait for it. The file can be read to its end even if it
// goes from the store meanwhile.
func (s *Store) Open(key string, fill func(w io.Writer) error) (*os.File, error) {
	sum := sha256.Sum256([]byte(key))
	path := filepath.Join(s.Dir, hex.EncodeToString(sum[:16]))
	for {
		f, err := os.Open(path)
		if err == nil {
			s.touch(path)
			return f, nil
		}
		if !os.IsNotExist(err) {
			return nil, err
		}
		if _, err, _ := s.flight.Do(path, func() (any, error) { return nil, s.make(path, fill) }); err != nil {
			return nil, err
		}
	}
}

// touch notes that a file is in use. The time is for the choice of what goes
// only, so errors are no matter.
func (s *Store) touch(path string) {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	if now.Sub(s.used[path]) < useTick {
		return
	}
	if s.used == nil {
		s.used = map[string]time.Time{}
	}
	s.used[path] = now
	_ = os.Chtimes(path, now, now)
}

func (s *Store) make(path string, fill func(w io.Writer) error) error {
	if err := os.MkdirAll(s.Dir, 0o755); err != nil {
		return err
	}
	f, err := os.CreateTemp(s.Dir, tmpPrefix+"*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	err = fill(&bounded{f, s})
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	s.evict(path)
	return nil
}

// evict removes files until the rest is within the bound; keep stays.
func (s *Store) evict(keep string) {
	entries, err := os.ReadDir(s.Dir)
	if err != nil {
		return
	}
	type file struct {
		path string
		size int64
		used time.Time
	}
	var files []file
	var total int64
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || !info.Mode().IsRegular() {
			continue
		}
		f := file{filepath.Join(s.Dir, e.Name()), info.Size(), info.ModTime()}
		if strings.HasPrefix(e.Name(), tmpPrefix) {
			if time.Since(f.used) > tmpAge {
				_ = os.Remove(f.path)
			}
			continue
		}
		total += f.size
		files = append(files, f)
	}
	slices.SortFunc(files, func(a, b file) int { return cmp.Or(a.used.Compare(b.used), cmp.Compare(a.path, b.path)) })
	for _, f := range files {
		if total <= s.Max {
			return
		}
		if f.path != keep && os.Remove(f.path) == nil {
			total -= f.size
		}
	}
}

// bounded is a file that does not outgrow the store.
type bounded struct {
	f *os.File
	s *Store
}

func (b *bounded) Write(p []byte) (int, error) {
	at, err := b.f.Seek(0, io.SeekCurrent)
	if err != nil {
		return 0, err
	}
	if at+int64(len(p)) > b.s.Max {
		return 0, fmt.Errorf("one file alone is larger than the %d bytes that the cache %s may take: allow more", b.s.Max, b.s.Dir)
	}
	return b.f.Write(p)
}
