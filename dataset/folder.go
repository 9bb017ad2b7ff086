package dataset

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sort"
	"strings"

	"swav/imgcodec"
)

// imageSuffixes are the file names that a folder takes for images.
var imageSuffixes = map[string]bool{
	".jpg": true, ".jpeg": true, ".jpe": true, ".jfif": true, ".png": true, ".webp": true,
	".gif": true, ".bmp": true, ".tif": true, ".tiff": true, ".npy": true,
}

// otherSuffixes are images of formats that are not read; they are counted for
// messages.
var otherSuffixes = map[string]bool{
	".tga": true, ".heic": true, ".heif": true, ".avif": true, ".jp2": true, ".jxl": true, ".ppm": true, ".pgm": true,
}

// splitFolders name the sub-folders that are splits, not classes, where
// training and test images lie side by side.
var splitFolders = map[string][]string{
	Train: {"train", "training"},
	Test:  {"test", "testing", "val", "valid", "validation"},
}

// folder is a tree of image files. Labels are the first level of sub-folders
// where there are two or more.
type folder struct {
	root    string
	split   string
	files   []string // relative to root, with forward slashes, sorted
	labels  []int32  // nil without labels
	classes []string
	view    int
	opts    Options
	other   int // images of formats that are not read
}

func openFolder(path string, o Options) (Source, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		return nil, errors.New("not a folder")
	}
	f := &folder{root: path, opts: o, view: 3}
	if o.Channels != 0 {
		f.view = o.Channels
	}
	sub, err := splitFolder(path, o.Split)
	if err != nil {
		return nil, err
	}
	if sub != "" {
		f.root, f.split = filepath.Join(path, sub), o.Split
	} else if o.Split == Test {
		return nil, fmt.Errorf("%w: an image folder has test images only in a sub-folder test or val beside train", ErrNoSplit)
	}
	w := walker{seen: map[string]bool{}, folder: f}
	real, err := filepath.EvalSymlinks(f.root)
	if err != nil {
		return nil, err
	}
	if real, err = filepath.Abs(real); err != nil {
		return nil, err
	}
	if err := w.walk("", real); err != nil {
		return nil, err
	}
	if len(f.files) == 0 {
		return nil, f.emptyError(w.unread)
	}
	sort.Strings(f.files)
	f.label()
	return f, nil
}

// splitFolder names the sub-folder of a split where root holds both kinds.
func splitFolder(root, split string) (string, error) {
	find := func(split string) string {
		for _, name := range splitFolders[split] {
			if info, err := os.Stat(filepath.Join(root, name)); err == nil && info.IsDir() {
				return name
			}
		}
		return ""
	}
	train, test := find(Train), find(Test)
	if train == "" || test == "" {
		return "", nil
	}
	return find(split), nil
}

func (f *folder) emptyError(unread []string) error {
	msg := fmt.Sprintf("no images in %s: looked for files named *.jpg, *.png and so on (%s) in it and its sub-folders", f.root, imgcodec.Formats)
	if f.other > 0 {
		msg += fmt.Sprintf("; %d images of other formats are there, convert them first", f.other)
	}
	if len(unread) > 0 {
		msg += fmt.Sprintf("; %d folders could not be read, first %s", len(unread), unread[0])
	}
	return errors.New(msg)
}

// walker collects image files, follows links, and enters each real directory
// once, so that links in a circle come to an end.
type walker struct {
	folder *folder
	seen   map[string]bool // real paths of the directories entered
	unread []string        // directories that could not be listed
	depth  int
}

// maxDepth bounds recursion on trees made to hurt.
const maxDepth = 200

func (w *walker) walk(rel, real string) error {
	if w.seen[real] || w.depth > maxDepth {
		return nil
	}
	w.seen[real] = true
	w.depth++
	defer func() { w.depth-- }()
	entries, err := os.ReadDir(real) // sorted by name
	if err != nil {
		if rel == "" {
			return err
		}
		w.unread = append(w.unread, rel)
		return nil
	}
	for _, e := range entries {
		name := e.Name()
		if strings.HasPrefix(name, ".") {
			continue
		}
		path, target, mode := name, filepath.Join(real, name), e.Type()
		if rel != "" {
			path = rel + "/" + name
		}
		if mode&os.ModeSymlink != 0 {
			if target, err = filepath.EvalSymlinks(target); err != nil {
				continue // dangling
			}
			info, err := os.Stat(target)
			if err != nil {
				continue
			}
			mode = info.Mode().Type()
		}
		switch {
		case mode.IsDir():
			if err := w.walk(path, target); err != nil {
				return err
			}
		case !mode.IsRegular():
		case imageSuffixes[strings.ToLower(filepath.Ext(name))]:
			w.folder.files = append(w.folder.files, path)
		case otherSuffixes[strings.ToLower(filepath.Ext(name))]:
			w.folder.other++
		}
	}
	return nil
}

// label sets labels from the first level at which paths differ: folders around
// everything are no classes. Classes are sorted by name, as torchvision's are.
func (f *folder) label() {
	first, last := f.files[0], f.files[len(f.files)-1]
	common := 0 // sorted, so the first and the last share what all share
	for common < min(len(first), len(last)) && first[common] == last[common] {
		common++
	}
	prefix := strings.LastIndexByte(first[:common], '/') + 1
	index := map[string]int32{}
	for _, file := range f.files {
		if class, _, nested := strings.Cut(file[prefix:], "/"); nested {
			index[class] = 0
		}
	}
	if len(index) < 2 {
		return
	}
	for class := range index {
		f.classes = append(f.classes, class)
	}
	sort.Strings(f.classes)
	for i, class := range f.classes {
		index[class] = int32(i)
	}
	f.labels = make([]int32, len(f.files))
	for i, file := range f.files {
		f.labels[i] = -1
		if class, _, nested := strings.Cut(file[prefix:], "/"); nested {
			f.labels[i] = index[class]
		}
	}
}

func (f *folder) Name() string {
	if f.split != "" {
		return fmt.Sprintf("folder:%s (%s)", f.root, f.split)
	}
	return "folder:" + f.root
}
func (f *folder) Len() int          { return len(f.files) }
func (f *folder) Channels() int     { return f.view }
func (f *folder) Classes() []string { return f.classes }
func (f *folder) Label(i int) int {
	if f.labels == nil {
		return -1
	}
	return int(f.labels[i])
}
func (f *folder) ID(i int) string { return f.files[i] }

// Path is the file of image i.
func (f *folder) Path(i int) string { return filepath.Join(f.root, filepath.FromSlash(f.files[i])) }

func (f *folder) Load(i int, dst *imgcodec.Image) error { return load(f, i, dst, f.opts.Decode) }

// Encoded reads the file of image i.
func (f *folder) Encoded(i int, buf *[]byte) error {
	if err := readFile(buf, f.Path(i), f.opts.MaxFileBytes); err != nil {
		return fmt.Errorf("%s: %w", f.files[i], err)
	}
	return nil
}

// readFile reads a file into *buf and reuses its memory.
func readFile(buf *[]byte, path string, limit int64) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return errors.New("not a regular file")
	}
	if info.Size() > limit {
		return fmt.Errorf("%w: file of %d bytes, the limit is %d", imgcodec.ErrTooLarge, info.Size(), limit)
	}
	if int64(cap(*buf)) < info.Size() {
		*buf = make([]byte, info.Size())
	}
	*buf = (*buf)[:info.Size()]
	_, err = io.ReadFull(file, *buf)
	return err
}
