package dataset

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// classesFile names the classes of shards whose labels are numbers: a line each,
// counted from 0. `swav data pack` writes it beside them.
const classesFile = "classes.txt"

// shardClasses replaces numbers by the names in a folder's classesFile. Where that
// does not have all of them, classes stay as they are.
func shardClasses(dir string, classes []string) []string {
	path := filepath.Join(dir, classesFile)
	const most = 1 << 20
	if info, err := os.Stat(path); err != nil || !info.Mode().IsRegular() || info.Size() > most {
		return classes
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return classes
	}
	lines := strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
	named := make([]string, len(classes))
	for i, c := range classes {
		n, err := strconv.Atoi(c)
		if err != nil || n < 0 || n >= len(lines) || lines[n] == "" {
			return classes
		}
		named[i] = strings.TrimSpace(lines[n])
	}
	return named
}
