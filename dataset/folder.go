package dataset

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strconv"
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
// where there are two or more. A file list is the same with labels of its own.
type folder struct {
	root    string
	split   string
	list    string   // the file that names the images; empty for a tree
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
	f := &folder{root: path, opts: o, view: fileChannels(o)}
	sub, err := splitFolder(path, o.Split)
	if err != nil {
		return nil, err
	}
	if sub != "" {
		f.root, f.split = filepath.Join(path, sub), o.Split
	} else if o.Split == Test {
		return nil, fmt.Errorf("%w: an image folder has test images only in a sub-folder test or val beside train", ErrNoSplit)
	}
	real, err := filepath.EvalSymlinks(f.root)
	if err != nil {
		return nil, err
	}
	if real, err = filepath.Abs(real); err != nil {
		return nil, err
	}
	w := newWalker(real, o)
	if err := w.walk("", real); err != nil {
		return nil, err
	}
	w.save()
	if f.files, f.other = w.files, w.other; len(f.files) == 0 {
		return nil, f.emptyError(w.unread)
	}
	sort.Strings(f.files)
	f.classes, f.labels = pathLabels(f.files)
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

// pathLabels takes labels from the first level at which paths differ: folders
// around everything are no classes. Classes are sorted by name, as torchvision's
// are; without two or more there are none.
func pathLabels(files []string) (classes []string, labels []int32) {
	first, last := slices.Min(files), slices.Max(files)
	common := 0 // the first and the last share what all share
	for common < min(len(first), len(last)) && first[common] == last[common] {
		common++
	}
	prefix := strings.LastIndexByte(first[:common], '/') + 1
	names := make([]string, len(files))
	for i, file := range files {
		if class, _, nested := strings.Cut(file[prefix:], "/"); nested {
			names[i] = class
		}
	}
	classes, labels = namedLabels(names, false)
	if len(classes) < 2 {
		return nil, nil
	}
	return classes, labels
}

// namedLabels numbers the classes of images; an empty name is no label. Classes
// are sorted by name, or by value where byValue and all are whole numbers. Without
// a name there are no labels at all.
func namedLabels(names []string, byValue bool) (classes []string, labels []int32) {
	index := map[string]int32{}
	numbers := byValue
	for _, name := range names {
		if _, known := index[name]; name != "" && !known {
			index[name] = 0
			classes = append(classes, name)
			_, err := strconv.Atoi(name)
			numbers = numbers && err == nil
		}
	}
	if len(classes) == 0 {
		return nil, nil
	}
	sort.Slice(classes, func(i, j int) bool {
		if numbers {
			a, _ := strconv.Atoi(classes[i])
			b, _ := strconv.Atoi(classes[j])
			if a != b {
				return a < b
			}
		}
		return classes[i] < classes[j]
	})
	for i, class := range classes {
		index[class] = int32(i)
	}
	labels = make([]int32, len(names))
	for i, name := range names {
		labels[i] = -1
		if name != "" {
			labels[i] = index[name]
		}
	}
	return classes, labels
}

func (f *folder) Name() string {
	if f.list != "" {
		return "list:" + f.list
	}
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
func (f *folder) Path(i int) string {
	name := filepath.FromSlash(f.files[i])
	if filepath.IsAbs(name) { // of a list
		return name
	}
	return filepath.Join(f.root, name)
}

func (f *folder) Load(i int, dst *imgcodec.Image) error { return load(f, i, dst) }

// Decode decodes a file that Encoded has read.
func (f *folder) Decode(i int, file []byte, dst *imgcodec.Image) error {
	return decode(f, i, file, dst, f.opts.Decode)
}

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
