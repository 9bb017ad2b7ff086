package dataset

import (
	"path/filepath"
	"strings"
)

// Absolute is a description of images that means the same from any folder: paths
// become absolute, URLs and standard input stay. Where the current folder cannot be
// told it returns src.
func Absolute(src string) string {
	for _, prefix := range []string{watchPrefix, RepeatPrefix} {
		if rest, ok := strings.CutPrefix(src, prefix); ok {
			return prefix + Absolute(rest)
		}
	}
	if src == "" || src == StandardInput || strings.Contains(src, "://") {
		return src
	}
	abs, err := filepath.Abs(src)
	if err != nil {
		return src
	}
	return abs
}
