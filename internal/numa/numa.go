// Package numa says which processors of this machine lie together (NUMA nodes,
// cores), and keeps threads on some of them. Linux tells it in /sys; elsewhere all
// processors count as one node.
//
// Memory needs no call: Linux places a page beside the thread that first writes it,
// unless the user has asked for something else (numactl), which stays in force.
package numa

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Machine is the part of a machine that this process may use.
type Machine struct {
	Nodes []Node // by number; none is empty
}

// Node is processors with memory of their own: a NUMA node, or a socket where the
// kernel knows no NUMA nodes.
type Node struct {
	ID    int
	Cores [][]int // each the processors (hardware threads) of one core; sorted
}

// Root is where Linux tells about processors.
const Root = "/sys/devices/system"

// Here is the machine as this process may use it: its affinity mask counts, which
// launchers, cpusets and containers set.
func Here() Machine { return Read(Root, Usable()) }

// Read is the machine that a tree such as /sys/devices/system describes, with only
// the usable processors. What the tree does not tell, or tells in a way that makes no
// sense, counts as one node and as cores of one processor: a guess that costs speed
// and nothing else.
func Read(root string, usable []int) Machine {
	usable = slices.Compact(slices.Sorted(slices.Values(usable)))
	nodeOf := nodes(root)
	if len(nodeOf) == 0 {
		nodeOf = sockets(root, usable)
	}
	byNode := map[int][]int{}
	for _, cpu := range usable {
		node := nodeOf[cpu] // 0 where it is not known
		byNode[node] = append(byNode[node], cpu)
	}
	var m Machine
	for id, cpus := range byNode {
		m.Nodes = append(m.Nodes, Node{ID: id, Cores: cores(root, cpus)})
	}
	slices.SortFunc(m.Nodes, func(a, b Node) int { return cmp.Compare(a.ID, b.ID) })
	return m
}

// nodes is the NUMA node of each processor, as far as the kernel tells.
func nodes(root string) map[int]int {
	online, err := readList(filepath.Join(root, "node", "online"))
	if err != nil {
		return nil
	}
	of := map[int]int{}
	for _, node := range online {
		cpus, err := readList(filepath.Join(root, "node", "node"+strconv.Itoa(node), "cpulist"))
		if err != nil {
			continue
		}
		for _, cpu := range cpus { // none: memory alone
			of[cpu] = node
		}
	}
	return of
}

// sockets is the socket of each processor.
func sockets(root string, cpus []int) map[int]int {
	of := map[int]int{}
	for _, cpu := range cpus {
		text, err := os.ReadFile(topology(root, cpu, "physical_package_id"))
		if err != nil {
			continue
		}
		if id, err := strconv.Atoi(strings.TrimSpace(string(text))); err == nil && id >= 0 {
			of[cpu] = id
		}
	}
	return of
}

func topology(root string, cpu int, name string) string {
	return filepath.Join(root, "cpu", "cpu"+strconv.Itoa(cpu), "topology", name)
}

// cores groups processors of a node by core.
func cores(root string, cpus []int) [][]int {
	var all [][]int
	taken := map[int]bool{}
	for _, cpu := range cpus {
		if taken[cpu] {
			continue
		}
		core := []int{cpu}
		siblings, _ := readList(topology(root, cpu, "thread_siblings_list"))
		for _, other := range siblings {
			if other != cpu && !taken[other] && slices.Contains(cpus, other) {
				core = append(core, other)
			}
		}
		slices.Sort(core)
		for _, c := range core {
			taken[c] = true
		}
		all = append(all, core)
	}
	return all
}

// maxCPU is beyond the processors of any machine.
const maxCPU = 1 << 16

// readList reads a file such as "0-3,8".
func readList(path string) ([]int, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		var p *fs.PathError
		if errors.As(err, &p) {
			return nil, fmt.Errorf("%s: %w", path, p.Err)
		}
		return nil, err
	}
	list, err := parseList(strings.TrimSpace(string(text)))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return list, nil
}

// parseList reads the kernel's form of a set of numbers: "0-3,8,10-11". An empty
// text is the empty set.
func parseList(s string) ([]int, error) {
	if s == "" {
		return nil, nil
	}
	var all []int
	for part := range strings.SplitSeq(s, ",") {
		low, high, ranged := strings.Cut(part, "-")
		a, err := strconv.ParseUint(low, 10, 32)
		b := a
		if err == nil && ranged {
			b, err = strconv.ParseUint(high, 10, 32)
		}
		if err != nil || b < a || b >= maxCPU || len(all)+int(b-a) >= maxCPU {
			return nil, fmt.Errorf("%.80q is not a list of numbers such as 0-3,8", s)
		}
		for n := a; n <= b; n++ {
			all = append(all, int(n))
		}
	}
	return all, nil
}

// CPUs is all processors, node by node and core by core.
func (m Machine) CPUs() []int {
	var all []int
	for _, core := range m.cores() {
		all = append(all, core...)
	}
	return all
}

func (m Machine) cores() (all [][]int) {
	for _, n := range m.Nodes {
		all = append(all, n.Cores...)
	}
	return all
}

// Ranks is how many ranks suit this machine: one for each node, so that each finds
// its memory near. Nodes of which less than half as many cores may be used as of the
// largest do not count: a rank there would hold up the others.
func (m Machine) Ranks() int {
	most, ranks := 0, 0
	for _, n := range m.Nodes {
		most = max(most, len(n.Cores))
	}
	for _, n := range m.Nodes {
		if 2*len(n.Cores) >= most {
			ranks++
		}
	}
	return max(1, ranks)
}

// Place is the processors of the i-th of n ranks that share this machine; none where
// none are known. Cores are dealt out evenly, in the order of the nodes, so ranks as
// many as equal nodes, or a multiple, or a fraction, each stay within their own. A
// core is divided only where there are more ranks than cores, and a processor is
// shared only where there are more ranks than processors.
//
// Where nodes are unequal, no rank crosses from one to another as long as none gets
// less than four fifths of an even share by that.
func (m Machine) Place(i, n int) []int {
	if i < 0 || n < 1 || i >= n {
		panic(fmt.Sprintf("numa: place %d of %d ranks", i, n))
	}
	all := m.cores()
	if len(all) == 0 {
		return nil
	}
	if len(all) < n {
		cpus := m.CPUs()
		if len(cpus) < n {
			return []int{cpus[i*len(cpus)/n]}
		}
		return cpus[i*len(cpus)/n : (i+1)*len(cpus)/n]
	}
	from, to := i*len(all)/n, (i+1)*len(all)/n
	if a, b, ok := m.within(i, n); ok {
		from, to = a, b
	}
	var mine []int
	for _, core := range all[from:to] {
		mine = append(mine, core...)
	}
	return mine
}

// within deals ranks out to nodes: each node gets as many as its cores are worth.
// It gives the i-th rank's cores, by their number over all nodes.
func (m Machine) within(i, n int) (from, to int, ok bool) {
	total, share := len(m.cores()), make([]int, len(m.Nodes))
	if n < len(share) {
		return 0, 0, false
	}
	for k := range share {
		share[k] = 1
	}
	for range n - len(share) { // the next rank goes where ranks have the most
		best := 0
		for k, node := range m.Nodes {
			if len(node.Cores)*(share[best]+1) > len(m.Nodes[best].Cores)*(share[k]+1) {
				best = k
			}
		}
		share[best]++
	}
	first, start := 0, 0 // of this node: its first rank and its first core
	for k, node := range m.Nodes {
		if least := len(node.Cores) / share[k]; 5*least*n < 4*total {
			return 0, 0, false
		}
		if j := i - first; j >= 0 && j < share[k] {
			from, to = start+j*len(node.Cores)/share[k], start+(j+1)*len(node.Cores)/share[k]
		}
		first += share[k]
		start += len(node.Cores)
	}
	return from, to, true
}

// String is for a log: "2 nodes, 32 cores, 64 processors".
func (m Machine) String() string {
	return count(len(m.Nodes), "node") + ", " + count(len(m.cores()), "core") + ", " + count(len(m.CPUs()), "processor")
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return strconv.Itoa(n) + " " + what + "s"
}
