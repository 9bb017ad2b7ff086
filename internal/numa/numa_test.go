package numa

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// tree writes files below a fake /sys/devices/system, given as "path=text".
func tree(t *testing.T, files ...string) string {
	t.Helper()
	root := t.TempDir()
	for _, f := range files {
		name, text, _ := strings.Cut(f, "=")
		name = filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func siblings(pairs ...string) (files []string) {
	for _, p := range pairs {
		list, _ := parseList(p)
		for _, cpu := range list {
			files = append(files, fmt.Sprintf("cpu/cpu%d/topology/thread_siblings_list=%s", cpu, p))
		}
	}
	return files
}

func upTo(n int) []int {
	all := make([]int, n)
	for i := range all {
		all[i] = i
	}
	return all
}

func TestRead(t *testing.T) {
	two := []string{"node/online=0-1", "node/node0/cpulist=0-1,4-5", "node/node1/cpulist=2-3,6-7"}
	threads := append(siblings("0,4", "1,5", "2,6", "3,7"), two...)
	var packages []string
	for cpu := range 4 {
		packages = append(packages, fmt.Sprintf("cpu/cpu%d/topology/physical_package_id=%d", cpu, cpu/2*3))
	}
	for name, c := range map[string]struct {
		files  []string
		usable []int
		want   []Node
		text   string
	}{
		"two nodes, two threads a core": {threads, upTo(8), []Node{{0, [][]int{{0, 4}, {1, 5}}}, {1, [][]int{{2, 6}, {3, 7}}}}, "2 nodes, 4 cores, 8 processors"},
		"a mask over both":              {threads, []int{7, 5, 1}, []Node{{0, [][]int{{1, 5}}}, {1, [][]int{{7}}}}, "2 nodes, 2 cores, 3 processors"},
		"a mask within one":             {threads, []int{2, 3}, []Node{{1, [][]int{{2}, {3}}}}, "1 node, 2 cores, 2 processors"},
		"cores not told":                {two, upTo(4), []Node{{0, [][]int{{0}, {1}}}, {1, [][]int{{2}, {3}}}}, "2 nodes, 4 cores, 4 processors"},
		"a node of memory alone": {append(slices.Clone(two[1:]), "node/online=0-2", "node/node2/cpulist="), upTo(4),
			[]Node{{0, [][]int{{0}, {1}}}, {1, [][]int{{2}, {3}}}}, "2 nodes, 4 cores, 4 processors"},
		"sockets, no NUMA":    {packages, upTo(4), []Node{{0, [][]int{{0}, {1}}}, {3, [][]int{{2}, {3}}}}, "2 nodes, 4 cores, 4 processors"},
		"nothing told":        {nil, upTo(3), []Node{{0, [][]int{{0}, {1}, {2}}}}, "1 node, 3 cores, 3 processors"},
		"nonsense":            {[]string{"node/online=x", "cpu/cpu0/topology/thread_siblings_list=0-", "cpu/cpu1/topology/physical_package_id=-1"}, upTo(2), []Node{{0, [][]int{{0}, {1}}}}, "1 node, 2 cores, 2 processors"},
		"a core over two":     {append(siblings("0,2"), two...), upTo(4), []Node{{0, [][]int{{0}, {1}}}, {1, [][]int{{2}, {3}}}}, "2 nodes, 4 cores, 4 processors"},
		"one processor":       {two, []int{6}, []Node{{1, [][]int{{6}}}}, "1 node, 1 core, 1 processor"},
		"no processors known": {two, nil, nil, "0 nodes, 0 cores, 0 processors"},
	} {
		m := Read(tree(t, c.files...), c.usable)
		if d := cmp.Diff(c.want, m.Nodes); d != "" {
			t.Errorf("%s: %s", name, d)
		}
		if m.String() != c.text {
			t.Errorf("%s: %s", name, m)
		}
	}
}

// machine has nodes of so many cores, each of threads processors, numbered in order.
func machine(threads int, nodes ...int) Machine {
	var m Machine
	cpu := 0
	for id, n := range nodes {
		node := Node{ID: id}
		for range n {
			var core []int
			for range threads {
				core = append(core, cpu)
				cpu++
			}
			node.Cores = append(node.Cores, core)
		}
		m.Nodes = append(m.Nodes, node)
	}
	return m
}

func TestPlace(t *testing.T) {
	for name, c := range map[string]struct {
		m    Machine
		want string // the processors of each rank
	}{
		"one rank a node":           {machine(1, 4, 4), "0-3 4-7"},
		"two ranks a node":          {machine(1, 4, 4), "0-1 2-3 4-5 6-7"},
		"two nodes a rank":          {machine(1, 2, 2, 2, 2), "0-3 4-7"},
		"all nodes for one":         {machine(1, 2, 2), "0-3"},
		"threads stay together":     {machine(2, 3), "0-1 2-5"},
		"three ranks, two nodes":    {machine(1, 6, 6), "0-3 4-7 8-11"},
		"nodes almost equal":        {machine(1, 8, 6), "0-7 8-13"},
		"nodes too unequal":         {machine(1, 6, 2), "0-3 4-7"},
		"unequal, more ranks":       {machine(1, 8, 4), "0-3 4-7 8-11"},
		"more ranks than cores":     {machine(2, 2), "0 1 2 3"},
		"a core divided":            {machine(2, 2), "0 1 2-3"},
		"more than processors":      {machine(1, 2), "0 0 1 1"},
		"one processor for all":     {machine(1, 1), "0 0 0"},
		"three cores, two ranks":    {machine(1, 3), "0 1-2"},
		"unequal shares of a node":  {machine(1, 7), "0-1 2-3 4-6"},
		"nothing known, two of two": {Machine{}, "- -"},
	} {
		want := strings.Fields(c.want)
		for i, list := range want {
			var cpus []int
			if list != "-" {
				var err error
				if cpus, err = parseList(list); err != nil {
					t.Fatal(err)
				}
			}
			if got := c.m.Place(i, len(want)); !slices.Equal(got, cpus) {
				t.Errorf("%s: rank %d has %v, not %s", name, i, got, list)
			}
		}
	}
}

// Whatever the machine: every rank has processors, no processor is idle or, unless
// there are too few, used twice, and no rank has much less than its share.
func TestPlaceProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := machine(rapid.IntRange(1, 3).Draw(t, "threads"), rapid.SliceOfN(rapid.IntRange(1, 12), 1, 6).Draw(t, "nodes")...)
		n := rapid.IntRange(1, 40).Draw(t, "ranks")
		used := map[int]int{}
		for i := range n {
			mine := m.Place(i, n)
			if len(mine) == 0 {
				t.Fatalf("rank %d of %d has no processors", i, n)
			}
			threads, all := len(m.Nodes[0].Cores[0]), len(m.cores())
			if c := len(mine) / threads; all >= n && c < all/n && 5*c*n < 4*all {
				t.Fatalf("rank %d of %d has %v", i, n, mine)
			}
			for _, cpu := range mine {
				used[cpu]++
			}
		}
		for _, cpu := range m.CPUs() {
			if n <= len(m.CPUs()) && used[cpu] != 1 {
				t.Fatalf("processor %d is used by %d of %d ranks", cpu, used[cpu], n)
			}
		}
	})
}

func TestRanks(t *testing.T) {
	for _, c := range []struct {
		want int
		m    Machine
	}{
		{1, Machine{}}, {1, machine(2, 8)}, {2, machine(2, 8, 8)}, {4, machine(1, 4, 4, 4, 3)}, {1, machine(1, 8, 1)}, {2, machine(1, 8, 4, 3)}, {8, machine(1, 1, 1, 1, 1, 1, 1, 1, 1)},
	} {
		if got := c.m.Ranks(); got != c.want {
			t.Errorf("%d ranks for %+v, not %d", got, c.m, c.want)
		}
	}
}

func TestHere(t *testing.T) {
	m := Here()
	if got, want := slices.Sorted(slices.Values(m.CPUs())), Usable(); !slices.Equal(got, want) || len(want) == 0 {
		t.Errorf("processors %v, usable are %v", got, want)
	}
	if r := m.Ranks(); r < 1 || r > len(m.CPUs()) {
		t.Errorf("%d ranks", r)
	}
}

// A pinned thread stays where it is put, and the rest of the process where it was.
func TestPin(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("threads are pinned on Linux only")
	}
	before := Usable()
	one := before[len(before)-1]
	done := make(chan []int)
	go func() {
		runtime.LockOSThread() // for good: the thread ends with the goroutine
		if err := Pin([]int{one}); err != nil {
			t.Error(err)
		}
		done <- Usable()
	}()
	if now := <-done; !slices.Equal(now, []int{one}) {
		t.Errorf("a thread pinned to %d may use %v", one, now)
	}
	if err := Pin(nil); err == nil {
		t.Error("pinned to nothing")
	}
	if err := Pin([]int{-1}); err == nil {
		t.Error("pinned to processor -1")
	}
	if err := Pin([]int{maxCPU - 1}); err == nil {
		t.Error("pinned to a processor that is not there")
	}
	if now := Usable(); !slices.Equal(now, before) {
		t.Errorf("others may use %v instead of %v", now, before)
	}
}

func FuzzParseList(f *testing.F) {
	for _, s := range []string{"0-3,8", "", "7", "3-1", "0-4294967295", "a", "1,", "0-65535,0-65535"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		list, err := parseList(s)
		if err != nil {
			return
		}
		var parts []string
		for _, n := range list {
			if n < 0 || n >= maxCPU {
				t.Fatalf("%q has %d", s, n)
			}
			parts = append(parts, strconv.Itoa(n))
		}
		if again, err := parseList(strings.Join(parts, ",")); err != nil || !slices.Equal(again, list) {
			t.Fatalf("%q: %v, then %v, %v", s, list, again, err)
		}
	})
}
