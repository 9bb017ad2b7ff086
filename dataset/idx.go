package dataset

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// idx is the format of MNIST and its kin: a big-endian header (two zero bytes,
// element type, number of dimensions, the dimensions) and the elements. Images
// have three dimensions (count, rows, columns) of unsigned bytes, labels one.

// idxStems are the beginnings of file names for each split.
var idxStems = map[string][]string{
	Train: {"train"},
	Test:  {"t10k", "test"},
}

// idxNames are the usual spellings after the stem.
var idxNames = [][2]string{
	{"-images-idx3-ubyte", "-labels-idx1-ubyte"},
	{"-images.idx3-ubyte", "-labels.idx1-ubyte"},
}

// findIDX returns the image and label files of a split in dir; labels may be
// empty.
func findIDX(dir, split string) (images, labels string) {
	for _, stem := range idxStems[split] {
		for _, names := range idxNames {
			for _, gz := range []string{"", ".gz"} {
				if !exists(dir, stem+names[0]+gz) {
					continue
				}
				images = filepath.Join(dir, stem+names[0]+gz)
				return images, labelsBeside(images)
			}
		}
	}
	return "", ""
}

// labelsBeside names the label file that belongs to an image file, if there is
// one.
func labelsBeside(images string) string {
	dir, base := filepath.Split(images)
	base = strings.TrimSuffix(base, ".gz")
	for _, names := range idxNames {
		stem, ok := strings.CutSuffix(base, names[0])
		if !ok {
			continue
		}
		for _, gz := range []string{"", ".gz"} {
			if exists(dir, stem+names[1]+gz) {
				return filepath.Join(dir, stem+names[1]+gz)
			}
		}
	}
	return ""
}

func detectIDX(path string, isDir bool) bool {
	if isDir {
		for split := range idxStems {
			if images, _ := findIDX(path, split); images != "" {
				return true
			}
		}
		return false
	}
	base := strings.TrimSuffix(filepath.Base(path), ".gz")
	return strings.HasSuffix(base, "idx3-ubyte")
}

func openIDX(path string, o Options) (Source, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	images, labels := path, ""
	if info.IsDir() {
		if images, labels = findIDX(path, o.Split); images == "" {
			return nil, fmt.Errorf("%w: no %s%s[.gz] among %s", ErrNoSplit,
				idxStems[o.Split][0], idxNames[0][0], strings.Join(head(siblings(path), 8), ", "))
		}
	} else {
		// A file named on its own is a whole source. Its sister of the other split
		// is found by name, so that evaluation works.
		labels = labelsBeside(path)
		if o.Split == Test {
			if images, labels = findIDX(filepath.Dir(path), Test); images == "" {
				return nil, fmt.Errorf("%w: no test images beside it", ErrNoSplit)
			}
		}
	}
	m := &memory{split: o.Split, name: fmt.Sprintf("idx:%s (%s)", path, o.Split)}
	dims, pix, err := readIDX(images, 3, o.MaxDataBytes)
	if err != nil {
		return nil, err
	}
	m.h, m.w, m.c, m.pix = dims[1], dims[2], 1, pix
	if m.view, err = viewChannels(o, 1); err != nil {
		return nil, err
	}
	if labels == "" {
		return m, nil
	}
	ld, values, err := readIDX(labels, 1, o.MaxDataBytes)
	if err != nil {
		return nil, err
	}
	if ld[0] != dims[0] {
		return nil, fmt.Errorf("%d images but %d labels in %s", dims[0], ld[0], labels)
	}
	m.labels = values
	top := 0
	for _, v := range values {
		top = max(top, int(v))
	}
	m.classes = idxClasses(images, top+1)
	return m, nil
}

// fashion are the classes of Fashion-MNIST (Xiao et al. 2017), whose files hold
// only their numbers.
var fashion = []string{"T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot"}

// idxClasses names n classes: by the data set, where the folder says which it
// is, otherwise by number.
func idxClasses(images string, n int) []string {
	if n <= len(fashion) && strings.Contains(strings.ToLower(filepath.Base(filepath.Dir(images))), "fashion") {
		return fashion[:n]
	}
	names := make([]string, n)
	for i := range names {
		names[i] = strconv.Itoa(i)
	}
	return names
}

// readIDX reads a file of wantDims dimensions of unsigned bytes. Memory grows
// with what is really there, not with what the header claims.
func readIDX(path string, wantDims int, maxBytes int64) (dims []int, data []byte, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	dims, data, err = parseIDX(f, strings.HasSuffix(path, ".gz"), wantDims, maxBytes)
	if err != nil {
		err = fmt.Errorf("%s: %w", filepath.Base(path), err)
	}
	return dims, data, err
}

func parseIDX(f io.Reader, zipped bool, wantDims int, maxBytes int64) (dims []int, data []byte, err error) {
	r := io.Reader(bufio.NewReaderSize(f, 1<<16))
	if zipped {
		z, err := gzip.NewReader(r)
		if err != nil {
			return nil, nil, fmt.Errorf("not a gzip file: %w", err)
		}
		r = z
	}
	header := make([]byte, 4+4*wantDims)
	if _, err := io.ReadFull(r, header); err != nil {
		return nil, nil, fmt.Errorf("header: %w", early(err))
	}
	if header[0] != 0 || header[1] != 0 {
		return nil, nil, fmt.Errorf("not an idx file: it starts with % x", header[:4])
	}
	if header[2] != 0x08 {
		return nil, nil, fmt.Errorf("elements of type 0x%02x, only unsigned bytes (0x08) are read", header[2])
	}
	if int(header[3]) != wantDims {
		return nil, nil, fmt.Errorf("%d dimensions, want %d", header[3], wantDims)
	}
	total := int64(1)
	for i := range wantDims {
		d := int64(binary.BigEndian.Uint32(header[4+4*i:]))
		if d == 0 {
			return nil, nil, fmt.Errorf("dimension %d is 0", i)
		}
		if d > maxBytes/total {
			return nil, nil, fmt.Errorf("header claims more than the %d bytes allowed", maxBytes)
		}
		total *= d
		dims = append(dims, int(d))
	}
	data, err = readExactly(r, total)
	if err != nil {
		return nil, nil, fmt.Errorf("header claims %d bytes: %w", total, err)
	}
	return dims, data, nil
}

// readExactly reads n bytes and grows its buffer as they come.
func readExactly(r io.Reader, n int64) ([]byte, error) {
	const chunk = 64 << 20
	if n <= chunk {
		data := make([]byte, n)
		_, err := io.ReadFull(r, data)
		return data, early(err)
	}
	var b bytes.Buffer
	if got, err := io.CopyN(&b, r, n); err != nil {
		return nil, fmt.Errorf("%d of them are there: %w", got, early(err))
	}
	return b.Bytes(), nil
}

func early(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errors.New("the file ends early")
	}
	return err
}

// head shortens a list for a message.
func head(s []string, n int) []string {
	if len(s) > n {
		return append(append([]string(nil), s[:n]...), "…")
	}
	return s
}
