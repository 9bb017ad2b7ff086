package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What users see of each command when they get it wrong, and of those that
// print: exit code and words.
func TestCommandLine(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "recipe.toml")
	if err := os.WriteFile(file, []byte("[swav]\nepsilom = 0.03\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	empty := filepath.Join(dir, "empty")
	if err := os.Mkdir(empty, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		args   string
		code   int
		stdout string
		stderr []string
	}{
		{args: "--help", stdout: "swav train --recipe auto"},
		{args: "train --help", stdout: "--resume"},
		{args: "recipes", stdout: "swav_200ep_bs256"},
		{args: "recipes fashion-mnist", stdout: "in_channels = 1"},
		{args: "recipes --keys", stdout: "swav.epsilon"},
		{args: "recipes nosuch", code: 1, stderr: []string{"nosuch"}},
		{args: "train", code: 2, stderr: []string{"--run"}},
		{args: "train --run x", code: 2, stderr: []string{"--data"}},
		{args: "train --nosuch", code: 2, stderr: []string{"nosuch", "--help"}},
		{args: "train --recipe " + file + " --data " + empty + " --run " + dir + "/r1", code: 1, stderr: []string{"recipe.toml", "2:", "epsilom", "epsilon"}},
		{args: "train --recipe fashion-mnist --set swav.epsilom=1 --data " + empty + " --run " + dir + "/r2", code: 2, stderr: []string{"epsilom", "swav.epsilon", "--keys"}},
		{args: "train --recipe fashion-mnist --set optim.lr=-1 --data " + empty + " --run " + dir + "/r3", code: 2, stderr: []string{"optim.lr"}},
		{args: "train --recipe fashion-mnist --data " + empty + " --run " + dir + "/r4", code: 1, stderr: []string{"no images", empty}},
		{args: "train --recipe cifar10 --time 5m --data " + empty + " --run " + dir + "/r5", code: 2, stderr: []string{"--time", "auto"}},
		{args: "train --resume --run " + dir + "/r6", code: 1, stderr: []string{"r6"}},
		{args: "embed", code: 2, stderr: []string{"--run"}},
		{args: "embed --run " + empty + " --out " + dir + "/f.npy", code: 1, stderr: []string{"no checkpoint"}},
		{args: "embed --run " + empty + " --out " + dir + "/f.txt", code: 2, stderr: []string{".npy"}},
		{args: "cluster --run " + empty + " --out " + dir + "/no/where.csv", code: 1, stderr: []string{"where.csv"}},
		{args: "eval --help", stdout: "retrieval"},
		{args: "eval", code: 2, stderr: []string{"no protocol"}},
		{args: "eval knn", code: 2, stderr: []string{"eval knn RUN"}},
		{args: "eval knn a b c", code: 2, stderr: []string{"--help"}},
		{args: "eval knn --help", stdout: "REFERENCES.npy"},
		{args: "eval linear " + empty, code: 1, stderr: []string{"no checkpoint"}},
		{args: "eval knn " + dir + "/f.npy", code: 2, stderr: []string{"two files"}},
		{args: "eval knn " + dir + "/f.npy " + dir + "/g.npy", code: 1, stderr: []string{"f.npy"}},
		{args: "verify", code: 2, stderr: []string{"--help"}},
		{args: "verify " + empty, code: 1, stderr: []string{"case.json", "--augment"}},
		{args: "bench step --crops 2y224", code: 2, stderr: []string{"COUNTxSIZE"}},
		{args: "nosuch", code: 1, stderr: []string{"nosuch"}},
	} {
		t.Run(tc.args, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			code := run(strings.Fields(tc.args), &stdout, &stderr)
			if code != tc.code {
				t.Errorf("exit code %d, want %d", code, tc.code)
			}
			if !strings.Contains(stdout.String(), tc.stdout) {
				t.Errorf("standard output lacks %q:\n%s", tc.stdout, stdout.String())
			}
			for _, want := range tc.stderr {
				if !strings.Contains(stderr.String(), want) {
					t.Errorf("standard error lacks %q:\n%s", want, stderr.String())
				}
			}
			if code != 0 && !strings.HasPrefix(stderr.String(), "swav: error: ") {
				t.Errorf("standard error starts with %q", stderr.String())
			}
		})
	}
}
