package dataset

import (
	"bufio"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"swav/imgcodec"
)

// listSuffixes are the file names of lists: a path a line and perhaps a label.
// Tables (.csv, .tsv) have the path in their first column and the label in the
// second; elsewhere a tab, comma or space stands between them. Relative paths
// begin at the list's folder.
var listSuffixes = map[string]bool{".txt": true, ".lst": true, ".list": true, ".csv": true, ".tsv": true}

func detectList(path string, isDir bool) bool {
	return !isDir && listSuffixes[strings.ToLower(filepath.Ext(path))]
}

func openList(path string, o Options) (Source, error) {
	if o.Split == Test {
		return nil, fmt.Errorf("%w: a file list is one part; give another list for the other", ErrNoSplit)
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	f := &folder{root: filepath.Dir(path), list: path, opts: o, view: fileChannels(o)}
	var names []string
	err = readList(file, strings.ToLower(filepath.Ext(path)), o.MaxDataBytes, func(image, label string) {
		f.files = append(f.files, filepath.ToSlash(filepath.Clean(image)))
		names = append(names, label)
	})
	if err != nil {
		return nil, err
	}
	if len(f.files) == 0 {
		return nil, errors.New("the list names no images: want a path a line")
	}
	f.classes, f.labels = namedLabels(names, true)
	return f, nil
}

// maxLine bounds a line of a list.
const maxLine = 1 << 16

// readList yields the lines of a list.
func readList(r io.Reader, suffix string, limit int64, yield func(image, label string)) error {
	r = io.LimitReader(r, limit)
	if suffix == ".csv" || suffix == ".tsv" {
		return readTable(r, suffix, yield)
	}
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxLine)
	n := 0
	for lines.Scan() {
		n++
		line := strings.TrimSpace(strings.TrimPrefix(lines.Text(), "\ufeff"))
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		image, label, ok := cutLabel(line)
		if !ok {
			return fmt.Errorf("line %d: %q does not name an image (%s)", n, shorten(line), imgcodec.Formats)
		}
		yield(image, label)
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("line %d: %w", n+1, err)
	}
	return nil
}

// cutLabel divides a line. Paths may hold spaces and commas, so the separator is
// the one that leaves an image's name before it.
func cutLabel(line string) (image, label string, ok bool) {
	if imageName(line) {
		return line, "", true
	}
	for _, sep := range []string{"\t", ",", " "} {
		for at := len(line); ; {
			if at = strings.LastIndex(line[:at], sep); at < 0 {
				break
			}
			if image = strings.TrimSpace(line[:at]); imageName(image) {
				return image, strings.TrimSpace(line[at+1:]), true
			}
		}
	}
	return "", "", false
}

func imageName(name string) bool { return imageSuffixes[strings.ToLower(filepath.Ext(name))] }

func readTable(r io.Reader, suffix string, yield func(image, label string)) error {
	table := csv.NewReader(bufio.NewReader(r))
	table.FieldsPerRecord, table.ReuseRecord, table.LazyQuotes = -1, true, suffix == ".tsv"
	if suffix == ".tsv" {
		table.Comma = '\t'
	}
	for first := true; ; first = false {
		row, err := table.Read()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		image := strings.TrimSpace(strings.TrimPrefix(row[0], "\ufeff"))
		switch {
		case imageName(image):
		case first:
			continue // names of the columns
		default:
			line, _ := table.FieldPos(0)
			return fmt.Errorf("line %d: %q in the first column does not name an image (%s)", line, shorten(image), imgcodec.Formats)
		}
		label := ""
		if len(row) > 1 {
			label = strings.TrimSpace(row[1])
		}
		yield(image, label)
	}
}

// shorten makes hostile text fit for a message.
func shorten(s string) string {
	if len(s) > 80 {
		return s[:80] + "…"
	}
	return s
}
