package dataset

import (
	"cmp"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// watch is the images of a folder in the order in which they arrived, and then
// those that arrive. It looks again and again, which works on every file system,
// network ones included.
type watch struct {
	root   string // real path
	name   string
	view   int
	opts   Options
	mark   Mark
	index  treeIndex
	known  map[string]bool // names that were queued, or came before the mark
	queue  []arrival
	looked time.Time
}

type arrival struct {
	at   int64 // nanoseconds
	name string
}

const (
	lookEvery = time.Second
	// restFor is how long a file must have been left alone until it is whole.
	restFor = time.Second
)

func openWatch(path string, o Options, view int) (Stream, error) {
	info, err := os.Stat(path)
	if err == nil && !info.IsDir() {
		err = errors.New("not a folder")
	}
	if err != nil {
		return nil, err
	}
	real, err := filepath.EvalSymlinks(path)
	if err == nil {
		real, err = filepath.Abs(real)
	}
	if err != nil {
		return nil, err
	}
	return &watch{root: real, name: watchPrefix + path, view: view, opts: o,
		index: treeIndex{Dirs: map[string]listing{}}, known: map[string]bool{}}, nil
}

func (s *watch) Name() string  { return s.name }
func (s *watch) Channels() int { return s.view }
func (s *watch) Mark() Mark    { return s.mark }
func (s *watch) Close() error  { return nil }

// Seek forgets what was looked at; the next look leaves out what arrived before.
func (s *watch) Seek(_ context.Context, to Mark) error {
	s.mark, s.queue = to, nil
	clear(s.known)
	s.looked = time.Time{}
	return nil
}

func (s *watch) Next(ctx context.Context) (*Record, error) {
	for len(s.queue) == 0 {
		if wait := lookEvery - time.Since(s.looked); wait > 0 {
			select {
			case <-time.After(wait):
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
		if err := s.look(); err != nil {
			return nil, err
		}
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	a := s.queue[0]
	s.queue = s.queue[1:]
	s.mark.Time, s.mark.Name = a.at, a.name
	label, _, nested := strings.Cut(a.name, "/")
	if !nested {
		label = ""
	}
	return fileRecord(a.name, filepath.Join(s.root, filepath.FromSlash(a.name)), label, s.opts), nil
}

// look queues what has arrived. Files that are being written wait for the next
// look, and so does what arrived after them, so that the order holds.
func (s *watch) look() error {
	s.looked = time.Now()
	w := &walker{root: s.root, seen: map[string]bool{}, index: s.index}
	if err := w.walk("", s.root); err != nil {
		return err
	}
	var fresh []arrival
	latest := s.looked.Add(-restFor).UnixNano()
	for _, name := range w.files {
		if s.known[name] {
			continue
		}
		info, err := os.Stat(filepath.Join(s.root, filepath.FromSlash(name)))
		if err != nil {
			continue // gone again
		}
		a := arrival{arrived(info), name}
		if a.at > latest {
			continue
		}
		s.known[name] = true
		if compareArrivals(a, arrival{s.mark.Time, s.mark.Name}) > 0 {
			fresh = append(fresh, a)
		}
	}
	slices.SortFunc(fresh, compareArrivals)
	s.queue = fresh
	return nil
}

func compareArrivals(a, b arrival) int {
	return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.name, b.name))
}
