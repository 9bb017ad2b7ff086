package dataset

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// CIFAR's binary batches: records of one label byte (CIFAR-10) or two (CIFAR-100:
// coarse and fine, the fine one is used), then 32 x 32 pixels, all of red, of
// green, of blue.

type cifarKind struct {
	labelBytes int
	files      map[string][]string
	classes    string // file with a class name a line
	folder     string // name inside the archive
}

var cifarKinds = []cifarKind{
	{
		labelBytes: 1, classes: "batches.meta.txt", folder: "cifar-10-batches-bin",
		files: map[string][]string{
			Train: {"data_batch_1.bin", "data_batch_2.bin", "data_batch_3.bin", "data_batch_4.bin", "data_batch_5.bin"},
			Test:  {"test_batch.bin"},
		},
	},
	{
		labelBytes: 2, classes: "fine_label_names.txt", folder: "cifar-100-binary",
		files: map[string][]string{Train: {"train.bin"}, Test: {"test.bin"}},
	},
}

// cifarAt finds the kind whose files lie in dir or in the archive's folder in it.
func cifarAt(dir string) (cifarKind, string, bool) {
	for _, k := range cifarKinds {
		for _, d := range []string{dir, filepath.Join(dir, k.folder)} {
			for _, files := range k.files {
				for _, f := range files {
					if exists(d, f) {
						return k, d, true
					}
				}
			}
		}
	}
	return cifarKind{}, "", false
}

func detectCIFAR(path string, isDir bool) bool {
	if !isDir {
		return false
	}
	_, _, ok := cifarAt(path)
	return ok
}

const cifarSide, cifarPixels = 32, 32 * 32

func openCIFAR(path string, o Options) (Source, error) {
	kind, dir, ok := cifarAt(path)
	if !ok {
		return nil, fmt.Errorf("no data_batch_1.bin, test_batch.bin, train.bin or test.bin in it")
	}
	m := &memory{w: cifarSide, h: cifarSide, c: 3, split: o.Split,
		name: fmt.Sprintf("cifar:%s (%s)", path, o.Split)}
	var err error
	if m.view, err = viewChannels(o, 3); err != nil {
		return nil, err
	}
	top := 0
	for _, name := range kind.files[o.Split] {
		data, err := readBatch(filepath.Join(dir, name), o.MaxDataBytes-int64(len(m.pix)))
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		record := kind.labelBytes + 3*cifarPixels
		if len(data) == 0 || len(data)%record != 0 {
			return nil, fmt.Errorf("%s: %d bytes, want a multiple of %d (truncated, or another format)", name, len(data), record)
		}
		at := len(m.pix)
		m.pix = append(m.pix, make([]byte, len(data)/record*3*cifarPixels)...)
		for ; len(data) > 0; data = data[record:] {
			label := data[kind.labelBytes-1]
			top = max(top, int(label))
			m.labels = append(m.labels, label)
			r, g, b := data[kind.labelBytes:], data[kind.labelBytes+cifarPixels:], data[kind.labelBytes+2*cifarPixels:]
			for i := range cifarPixels {
				m.pix[at], m.pix[at+1], m.pix[at+2] = r[i], g[i], b[i]
				at += 3
			}
		}
	}
	if len(m.pix) == 0 {
		return nil, fmt.Errorf("%w: none of %s is there", ErrNoSplit, strings.Join(kind.files[o.Split], ", "))
	}
	m.classes = classNames(filepath.Join(dir, kind.classes), top+1)
	return m, nil
}

func readBatch(path string, limit int64) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Size() > limit {
		return nil, fmt.Errorf("%s: %d bytes, more than the %d allowed", filepath.Base(path), info.Size(), limit)
	}
	return os.ReadFile(path)
}

// classNames reads at least n names, one a line; where that fails, numbers serve.
func classNames(path string, n int) []string {
	var names []string
	if info, err := os.Stat(path); err == nil && info.Size() < 1<<16 {
		if text, err := os.ReadFile(path); err == nil {
			names = strings.Fields(string(text))
		}
	}
	if len(names) < n {
		names = names[:0]
		for i := range n {
			names = append(names, strconv.Itoa(i))
		}
	}
	return names
}
