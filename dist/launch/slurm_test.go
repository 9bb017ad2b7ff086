package launch

import (
	"strings"
	"testing"
)

func TestFirstHost(t *testing.T) {
	for list, want := range map[string]string{
		"node7":                  "node7",
		"node[01-03,7],x1":       "node01",
		"x1,node[01-03]":         "x1",
		"node[7,9-12]":           "node7",
		"r[1-2]n[08-10].site.eu": "r1n08.site.eu",
		"a-b_c.d":                "a-b_c.d",
		"tux[100]":               "tux100",
	} {
		if got, err := firstHost(list); err != nil || got != want {
			t.Errorf("%s: %q, %v", list, got, err)
		}
	}
	for _, list := range []string{
		"", ",", ",a", "[", "[]", "a[", "a[]", "a[-3]", "a[x]", "a[1", "a]", "a b", "a;b", "ä", "a\x00", "-[1-", strings.Repeat("a", 300), "a[" + strings.Repeat("1", 300) + "]",
	} {
		if got, err := firstHost(list); err == nil {
			t.Errorf("%.40q is read as %.40q", list, got)
		}
	}
}

func TestParseTasks(t *testing.T) {
	for s, want := range map[string][]int{
		"4": {4}, "10": {10}, "10(x2),3": {10, 10, 3}, "16(x1)": {16}, "2,1(x3)": {2, 1, 1, 1}, "1, 2": {1, 2},
	} {
		counts, err := parseTasks(s)
		if err != nil {
			t.Errorf("%s: %v", s, err)
			continue
		}
		total := 0
		for node, n := range want {
			if got, ok := counts.at(node); !ok || got != n {
				t.Errorf("%s, node %d: %d, %v", s, node, got, ok)
			}
			total += n
		}
		if _, ok := counts.at(len(want)); ok || counts.total() != total {
			t.Errorf("%s: %d tasks", s, counts.total())
		}
	}
	for _, s := range []string{"", ",", "0", "-1", "a", "2(x", "2(x)", "2(x0)", "2(x2", "2(y2)", "(x2)", "2(x2)3", "1048576,1", "1024(x1025)", "4294967297", "+1"} {
		if counts, err := parseTasks(s); err == nil {
			t.Errorf("%q is read as %v", s, counts)
		}
	}
}

func FuzzFirstHost(f *testing.F) {
	for _, s := range []string{"node[01-03,7],x1", "a", "r[1-2]n[1-4]", "a[", ",", "[1]"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		host, err := firstHost(s)
		if err != nil {
			return
		}
		if host == "" || len(host) > 255 || strings.ContainsAny(host, "[], \n/") {
			t.Fatalf("%q begins with %q", s, host)
		}
		if again, err := firstHost(host); err != nil || again != host {
			t.Fatalf("%q is a host, but not by itself: %q, %v", host, again, err)
		}
	})
}

func FuzzParseTasks(f *testing.F) {
	for _, s := range []string{"10(x2),3", "4", "1(x", "0", "2(x3)(x4)"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		counts, err := parseTasks(s)
		if err != nil {
			return
		}
		n := counts.total()
		if n < 1 || n > maxRanks {
			t.Fatalf("%q makes %d tasks", s, n)
		}
		if first, ok := counts.at(0); !ok || first < 1 {
			t.Fatalf("%q: %d tasks on the first node", s, first)
		}
	})
}
