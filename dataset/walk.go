package dataset

import (
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// walker collects image files, follows links, and enters each real directory
// once, so that links in a circle come to an end. It knows from an earlier walk
// what directories held that have not changed since.
type walker struct {
	files  []string // relative to the root, with forward slashes
	other  int      // images of formats that are not read
	unread []string // directories that could not be listed

	seen   map[string]bool // real paths of the directories entered
	depth  int
	index  treeIndex // of the earlier walk, then of this one
	old    int       // directories of the earlier walk that were taken as they are
	path   string    // of the index; empty where none is kept
	root   string
	before int // directories in the earlier walk's index
	worth  int // files from which an index is kept
}

// maxDepth bounds recursion on trees made to hurt.
const maxDepth = 200

// treeIndex is what is kept of a walk.
type treeIndex struct {
	Root     string
	Suffixes []string // that were taken for images
	Dirs     map[string]listing
}

// listing is what a directory holds.
type listing struct {
	Modified int64 // of the directory, in nanoseconds
	Files    []string
	Dirs     []string // also links to directories
	Other    int
}

// keptFrom is the number of files from which an index is worth a file.
const keptFrom = 10_000

// settled is the age from which a directory's time of change tells changes apart:
// file systems' clocks tick as slowly as every two seconds.
const settled = 2 * time.Second

func newWalker(root string, o Options) *walker {
	w := &walker{root: root, worth: keptFrom, seen: map[string]bool{}, index: treeIndex{Dirs: map[string]listing{}}}
	if dir, err := o.cacheDir("index"); err == nil {
		sum := sha256.Sum256([]byte(root))
		w.path = filepath.Join(dir, "tree-"+hex.EncodeToString(sum[:12])+".gob")
		var index treeIndex
		if readCache(w.path, &index) == nil && index.Root == root && slices.Equal(index.Suffixes, suffixes()) && index.Dirs != nil {
			w.index, w.before = index, len(index.Dirs)
		}
	}
	return w
}

func suffixes() []string { return slices.Sorted(maps.Keys(imageSuffixes)) }

// walk enters the directory real under the name rel.
func (w *walker) walk(rel, real string) error {
	if w.seen[real] || w.depth > maxDepth {
		return nil
	}
	w.seen[real] = true
	w.depth++
	defer func() { w.depth-- }()
	l, err := w.list(real)
	if err != nil {
		if rel == "" {
			return err
		}
		w.unread = append(w.unread, rel)
		return nil
	}
	prefix := ""
	if rel != "" {
		prefix = rel + "/"
	}
	for _, name := range l.Files {
		w.files = append(w.files, prefix+name)
	}
	w.other += l.Other
	for _, name := range l.Dirs {
		target, err := filepath.EvalSymlinks(filepath.Join(real, name))
		if err != nil {
			continue
		}
		if err := w.walk(prefix+name, target); err != nil {
			return err
		}
	}
	return nil
}

// list is what a directory holds, from the index where it is as it was.
func (w *walker) list(real string) (listing, error) {
	info, err := os.Stat(real)
	if err != nil {
		return listing{}, err
	}
	modified := info.ModTime()
	if l, ok := w.index.Dirs[real]; ok && l.Modified == modified.UnixNano() {
		w.old++
		return l, nil
	}
	l := listing{}
	if time.Since(modified) > settled {
		l.Modified = modified.UnixNano()
	}
	entries, err := os.ReadDir(real) // sorted by name
	if err != nil {
		return listing{}, err
	}
	for _, e := range entries {
		name := e.Name()
		if strings.HasPrefix(name, ".") {
			continue
		}
		mode := e.Type()
		if mode&os.ModeSymlink != 0 {
			info, err := os.Stat(filepath.Join(real, name))
			if err != nil {
				continue // dangling
			}
			mode = info.Mode().Type()
		}
		switch suffix := strings.ToLower(filepath.Ext(name)); {
		case mode.IsDir():
			l.Dirs = append(l.Dirs, name)
		case !mode.IsRegular():
		case imageSuffixes[suffix]:
			l.Files = append(l.Files, name)
		case otherSuffixes[suffix]:
			l.Other++
		}
	}
	w.index.Dirs[real] = l
	return l, nil
}

// save keeps the index for the next walk, where it is worth it and has changed.
// Without it that walk takes longer, so errors are no matter.
func (w *walker) save() {
	if w.path == "" || len(w.files) < w.worth || w.old == len(w.seen) && w.before == len(w.seen) {
		return
	}
	maps.DeleteFunc(w.index.Dirs, func(dir string, _ listing) bool { return !w.seen[dir] })
	w.index.Root, w.index.Suffixes = w.root, suffixes()
	_ = writeCache(w.path, &w.index)
}
