package tarshard

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
)

// MaxShards bounds what a pattern stands for.
const MaxShards = 1 << 20

// Expand lists what a pattern with braces stands for: {a,b} and {000..123}, which
// may stand side by side and within each other's alternatives. "::" joins
// patterns.
func Expand(pattern string) ([]string, error) {
	var out []string
	for _, p := range strings.Split(pattern, "::") {
		names, err := braces(p, MaxShards-len(out))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", pattern, err)
		}
		out = append(out, names...)
	}
	return out, nil
}

func braces(p string, most int) ([]string, error) {
	open := strings.IndexByte(p, '{')
	if open < 0 {
		return []string{p}, nil
	}
	end := closing(p, open)
	if end < 0 {
		return nil, fmt.Errorf("a brace is not closed")
	}
	middle, err := alternatives(p[open+1:end], most)
	if err != nil {
		return nil, err
	}
	rest, err := braces(p[end+1:], most)
	if err != nil {
		return nil, err
	}
	if len(middle) > most/max(1, len(rest)) {
		return nil, fmt.Errorf("stands for more than %d names", most)
	}
	var out []string
	for _, m := range middle {
		for _, r := range rest {
			out = append(out, p[:open]+m+r)
		}
	}
	return out, nil
}

// closing is the place of the brace that closes the one at open, -1 without.
func closing(p string, open int) int {
	depth := 0
	for i := open; i < len(p); i++ {
		switch p[i] {
		case '{':
			depth++
		case '}':
			if depth--; depth == 0 {
				return i
			}
		}
	}
	return -1
}

// alternatives are what stands between braces.
func alternatives(s string, most int) ([]string, error) {
	if from, to, ok := strings.Cut(s, ".."); ok && !strings.ContainsAny(s, ",{") {
		a, err1 := strconv.Atoi(from)
		b, err2 := strconv.Atoi(to)
		if err1 != nil || err2 != nil || a < 0 || b < a {
			return nil, fmt.Errorf("{%s} is not a range of numbers: write {000..123}", s)
		}
		if b-a >= most {
			return nil, fmt.Errorf("{%s} stands for more than %d names", s, most)
		}
		var out []string
		for i := a; i <= b; i++ {
			out = append(out, fmt.Sprintf("%0*d", len(from), i))
		}
		return out, nil
	}
	var out []string
	depth, start := 0, 0
	for i := 0; i <= len(s); i++ {
		if i < len(s) && s[i] == '{' {
			depth++
		} else if i < len(s) && s[i] == '}' {
			depth--
		}
		if i < len(s) && (s[i] != ',' || depth > 0) {
			continue
		}
		names, err := braces(s[start:i], most-len(out))
		if err != nil {
			return nil, err
		}
		out = append(out, names...)
		start = i + 1
	}
	return out, nil
}

// Glob is the files that a path with braces and wildcards stands for, in order.
// Names without wildcards stand for themselves, whether or not they are there.
func Glob(pattern string) ([]string, error) {
	names, err := Expand(pattern)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, name := range names {
		if !strings.ContainsAny(name, "*?[") {
			out = append(out, name)
			continue
		}
		found, err := filepath.Glob(name) // sorted
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		if len(found) == 0 {
			return nil, fmt.Errorf("%s: no file is named like that", name)
		}
		out = append(out, found...)
	}
	return out, nil
}
