package launch

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// firstSpecialStep is the lowest of SLURM's numbers for steps that srun did not
// start: the shell of salloc, the batch script, and what stands in for others.
const firstSpecialStep = 0xfffffff0

// step says whether srun has started this process.
func (e *reader) step() bool {
	s := e.env("SLURM_STEP_ID")
	if s == "" {
		return false
	}
	n, err := strconv.ParseUint(s, 10, 32)
	return err != nil || n < firstSpecialStep // what is no number is reported by slurm
}

func (e *reader) slurm() World {
	const cure = "srun sets it; unset SLURM_STEP_ID to run without srun"
	w := World{Kind: Slurm, Job: e.env("SLURM_JOB_ID")}
	// The step's variables go before the job's, which may have more tasks.
	step := e.number("SLURM_STEP_ID", cure, 0, firstSpecialStep-1)
	w.Rank, w.Size = e.place("SLURM_PROCID", e.either("SLURM_STEP_NUM_TASKS", "SLURM_NTASKS"), cure)
	if e.has("SLURM_LOCALID") {
		e.slurmLocal(&w, cure)
	}
	w.Master = e.env("MASTER_ADDR")
	if list := e.either("SLURM_STEP_NODELIST", e.either("SLURM_JOB_NODELIST", "SLURM_NODELIST")); w.Master == "" && e.has(list) {
		host, err := firstHost(e.env(list))
		if err != nil {
			e.fail("%s: %w: set MASTER_ADDR to the host of rank 0", list, err)
		}
		w.Master = host
	}
	if e.has("MASTER_PORT") {
		w.Port = e.number("MASTER_PORT", "", 1, 65535)
	} else if job, err := strconv.ParseUint(w.Job, 10, 63); err == nil {
		// Any port will do that is the same for all ranks, and another for other
		// jobs on the same host; below the ephemeral ones.
		w.Port = 12000 + int((job*31+uint64(step))%20000)
	}
	return w
}

// either names the first variable if it is set, otherwise the second.
func (e *reader) either(first, second string) string {
	if e.has(first) {
		return first
	}
	return second
}

// slurmLocal finds the place on this host. SLURM counts tasks by node, and says
// which node this is.
func (e *reader) slurmLocal(w *World, cure string) {
	w.LocalRank = e.number("SLURM_LOCALID", cure, 0, maxRanks)
	size := e.either("SLURM_STEP_TASKS_PER_NODE", e.either("SLURM_TASKS_PER_NODE", "SLURM_NTASKS_PER_NODE"))
	if !e.has(size) {
		w.LocalRank = 0
		return
	}
	counts, err := parseTasks(e.env(size))
	if err != nil {
		e.fail("%s: %w: %s", size, err, cure)
		return
	}
	node := 0
	if e.has("SLURM_NODEID") {
		node = e.number("SLURM_NODEID", cure, 0, maxRanks)
	}
	n, ok := counts.at(node)
	if size == "SLURM_STEP_TASKS_PER_NODE" && counts.total() != w.Size {
		e.fail("%s is %.80q, which makes %d tasks, not %d: %s", size, e.env(size), counts.total(), w.Size, cure)
	}
	if size == "SLURM_STEP_TASKS_PER_NODE" && (!ok || w.LocalRank >= n) {
		e.fail("SLURM_LOCALID is %d on node %d, but %s is %.80q: %s", w.LocalRank, node, size, e.env(size), cure)
	}
	// The job's counts may be other than the step's.
	if !ok || w.LocalRank >= n || n > w.Size {
		w.LocalRank = 0
		return
	}
	w.LocalSize = n
}

// tasks are numbers of tasks for one node after the other, equal ones together.
type tasks []struct{ count, nodes int }

// parseTasks reads SLURM's short form: "10(x2),3" is 10, 10 and 3.
func parseTasks(s string) (tasks, error) {
	const most = 1 << 16 // of a text
	if len(s) > most {
		return nil, fmt.Errorf("a list of %d bytes", len(s))
	}
	var all tasks
	total := 0
	for part := range strings.SplitSeq(s, ",") {
		count, nodes, err := parseRun(strings.TrimSpace(part))
		if err != nil {
			return nil, fmt.Errorf("%.80q is not a list of numbers of tasks such as 10(x2),3: %w", s, err)
		}
		if total += count * nodes; total > maxRanks {
			return nil, fmt.Errorf("%.80q has more than %d tasks", s, maxRanks)
		}
		all = append(all, struct{ count, nodes int }{count, nodes})
	}
	return all, nil
}

// parseRun reads "10" or "10(x2)".
func parseRun(s string) (count, nodes int, err error) {
	head, tail, repeated := strings.Cut(s, "(x")
	nodes = 1
	if repeated {
		times, ok := strings.CutSuffix(tail, ")")
		if !ok {
			return 0, 0, errors.New("a bracket is open")
		}
		if nodes, err = parseCount(times); err != nil {
			return 0, 0, err
		}
	}
	count, err = parseCount(head)
	return count, nodes, err
}

func parseCount(s string) (int, error) {
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil || n < 1 || n > maxRanks {
		return 0, fmt.Errorf("%.20q is not a number from 1 to %d", s, maxRanks)
	}
	return int(n), nil
}

// at is the number of tasks on a node, counted from 0.
func (t tasks) at(node int) (int, bool) {
	for _, run := range t {
		if node < run.nodes {
			return run.count, true
		}
		node -= run.nodes
	}
	return 0, false
}

func (t tasks) total() (n int) {
	for _, run := range t {
		n += run.count * run.nodes
	}
	return n
}

// firstHost is the first name in SLURM's short form of a list of hosts:
// "node[01-03,7],x1" begins with node01, "r[1-2]n[1-4]" with r1n1.
func firstHost(list string) (string, error) {
	const most = 255 // of a host's name
	var name strings.Builder
	rest := strings.TrimSpace(list)
	for rest != "" && rest[0] != ',' {
		if rest[0] != '[' {
			if !hostByte(rest[0]) {
				return "", fmt.Errorf("%.80q is not a list of hosts such as node[01-03,7],x1", list)
			}
			name.WriteByte(rest[0])
			rest = rest[1:]
		} else {
			inside, after, ok := strings.Cut(rest[1:], "]")
			first, _, _ := strings.Cut(inside, ",")
			first, _, _ = strings.Cut(first, "-")
			if !ok || first == "" || strings.Trim(first, "0123456789") != "" {
				return "", fmt.Errorf("%.80q is not a list of hosts such as node[01-03,7],x1", list)
			}
			name.WriteString(first)
			rest = after
		}
		if name.Len() > most {
			return "", fmt.Errorf("%.80q begins with a name of more than %d bytes", list, most)
		}
	}
	if name.Len() == 0 {
		return "", fmt.Errorf("%.80q is not a list of hosts such as node[01-03,7],x1", list)
	}
	return name.String(), nil
}

func hostByte(b byte) bool {
	return b >= '0' && b <= '9' || b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z' || b == '-' || b == '_' || b == '.'
}
