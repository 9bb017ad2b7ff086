package deploy_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const shared = "# From here on both scripts are the same."

func TestSlurmScripts(t *testing.T) {
	files, err := filepath.Glob("slurm/*.sbatch")
	if err != nil || len(files) != 2 {
		t.Fatalf("scripts %v, error %v", files, err)
	}
	var bodies []string
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		head, body, found := strings.Cut(string(b), shared)
		if !found {
			t.Fatalf("%s: there is no line %q", name, shared)
		}
		bodies = append(bodies, body)
		// SLURM reads these; without any of them a run ends at its limit for good.
		for _, option := range []string{`--requeue`, `--signal=B:USR1@\d+`, `--open-mode=append`, `--time=\d\d:\d\d:\d\d`} {
			if !regexp.MustCompile(`(?m)^#SBATCH ` + option + `\b`).MatchString(head) {
				t.Errorf("%s: no line #SBATCH %s", name, option)
			}
		}
		if i, j := strings.LastIndex(head, "#SBATCH"), strings.Index(head, "set -uo"); i > j {
			t.Errorf("%s: #SBATCH after the first command, where SLURM does not read it", name)
		}
		if !strings.Contains(head, `"$SWAV" train --resume auto `) {
			t.Errorf("%s: a second turn would not go on with the run: no --resume auto", name)
		}
		if bash, err := exec.LookPath("bash"); err == nil {
			if out, err := exec.Command(bash, "-n", name).CombinedOutput(); err != nil {
				t.Errorf("%s: %v\n%s", name, err, out)
			}
		}
	}
	if bodies[0] != bodies[1] {
		t.Errorf("%s and %s differ after the line %q", files[0], files[1], shared)
	}
}
