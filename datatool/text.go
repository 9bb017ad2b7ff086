package datatool

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
)

// examples is how many images of a kind are named.
const examples = 5

// WriteText writes the report for people.
func (r *Report) WriteText(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	line := func(name, format string, args ...any) { fmt.Fprintf(t, "%s\t%s\n", name, fmt.Sprintf(format, args...)) }
	line("source", "%s", r.Source)
	images := fmt.Sprint(r.Images)
	if len(r.Classes) > 0 {
		images += fmt.Sprintf(", %d of them in %d classes", r.Labelled, len(r.Classes))
	}
	line("images", "%s", images)
	if r.Bytes > 0 {
		line("size", "%.1f MB", float64(r.Bytes)/1e6)
	}
	if len(r.Formats) > 0 {
		line("formats", "%s", counts(r.Formats, func(f string) string { return f }))
		line("channels", "%s", counts(r.Channels, func(c int) string { return fmt.Sprint(c) }))
		line("bits", "%s", counts(r.Depths, func(d int) string { return fmt.Sprint(d) }))
		line("width", "%d to %d, median %d", r.Width.Min, r.Width.Max, r.Width.Median)
		line("height", "%d to %d, median %d", r.Height.Min, r.Height.Max, r.Height.Median)
	}
	if r.Turned > 0 {
		line("turned", "%d by their EXIF orientation", r.Turned)
	}
	list(t, "misnamed", r.Misnamed, "named as another format; read by their content")
	var broken []string
	for _, b := range r.Broken {
		broken = append(broken, b.Image+": "+b.Error)
	}
	list(t, "broken", broken, "cannot be read")
	groups(t, "duplicates", r.Duplicates, "have the same pixels as another")
	groups(t, "near duplicates", r.Near, "look like another")
	for _, p := range r.Problems {
		line("problem", "%s", p)
	}
	return t.Flush()
}

// counts lists kinds, the most frequent first.
func counts[K cmp.Ordered](m map[K]int, name func(K) string) string {
	keys := sortedKeys(m)
	slices.SortStableFunc(keys, func(a, b K) int { return m[b] - m[a] })
	var parts []string
	for _, k := range keys {
		parts = append(parts, fmt.Sprintf("%s: %d", name(k), m[k]))
	}
	return strings.Join(parts, ", ")
}

func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }

// list writes how many there are, and the first of them.
func list(w io.Writer, name string, items []string, what string) {
	fmt.Fprintf(w, "%s\t%d", name, len(items))
	if len(items) > 0 {
		fmt.Fprintf(w, " %s", what)
	}
	fmt.Fprintln(w)
	first(w, items)
}

// first writes the first of a list.
func first(w io.Writer, items []string) {
	for _, item := range items[:min(len(items), examples)] {
		fmt.Fprintf(w, "\t  %s\n", item)
	}
	if n := len(items) - examples; n > 0 {
		fmt.Fprintf(w, "\t  and %d more (--json lists all)\n", n)
	}
}

// groups writes groups of images as list does; all but the first of a group
// count.
func groups(w io.Writer, name string, groups [][]string, what string) {
	n := 0
	var items []string
	for _, g := range groups {
		n += len(g) - 1
		item := strings.Join(g[:min(len(g), examples)], "  ")
		if more := len(g) - examples; more > 0 {
			item += fmt.Sprintf("  and %d more", more)
		}
		items = append(items, item)
	}
	if n == 0 {
		list(w, name, nil, "")
		return
	}
	fmt.Fprintf(w, "%s\t%d images %s, in groups:\n", name, n, what)
	first(w, items)
}
