package config

import "strings"

// nearestKey is the valid key that somebody who wrote name most likely meant:
// the smallest edit distance, where a key of another section counts one more.
// One word of a key's several counts one edit more than the key, and so do the
// first words of its documentation ("learning_rate"); later ones count two.
func nearestKey(name string) string {
	sec, leaf := splitKey(name)
	words := strings.ToLower(strings.NewReplacer("_", " ", "-", " ").Replace(leaf))
	best, bestDistance := "", -1
	for _, s := range schema {
		for _, f := range s.fields {
			d := editDistance(leaf, f.name)
			if parts := strings.Split(f.name, "_"); len(parts) > 1 {
				for _, part := range parts {
					d = min(d, 1+editDistance(leaf, part))
				}
			}
			if i := strings.Index(strings.ToLower(f.doc), words); i >= 0 && len(words) > 3 {
				d = min(d, 1+min(i, 1))
			}
			if s.name != sec {
				d++
			}
			if d < bestDistance || bestDistance < 0 {
				best, bestDistance = s.name+"."+f.name, d
			}
		}
	}
	return best
}

func splitKey(name string) (section, leaf string) {
	if i := strings.LastIndexByte(name, '.'); i >= 0 {
		section, _, _ = strings.Cut(name[:i], "[")
		return section, name[i+1:]
	}
	return "", name
}

// nearest is the candidate with the smallest edit distance from name.
func nearest(name string, candidates []string) string {
	best, bestDistance := "", -1
	for _, c := range candidates {
		if d := editDistance(strings.ToLower(name), strings.ToLower(c)); d < bestDistance || bestDistance < 0 {
			best, bestDistance = c, d
		}
	}
	return best
}

// editDistance is Levenshtein's: the fewest bytes to insert, delete or replace.
// Long names are cut, since only small distances matter.
func editDistance(a, b string) int {
	a, b = a[:min(len(a), 64)], b[:min(len(b), 64)]
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			d := diagonal
			if a[i] != b[j] {
				d++
			}
			diagonal = row[j+1]
			row[j+1] = min(d, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}
