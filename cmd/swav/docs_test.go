package main

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

var update = flag.Bool("update", false, "write docs/cli.md instead of comparing with it (make docs)")

const cliPreamble = `# The commands of swav

Written by ` + "`make docs`" + ` from the commands' own help; do not edit.

Results go to standard output, progress and messages to standard error; lines for a machine to read come with ` + "`--json`" + `. Errors begin with
` + "`swav: error:`" + `, and ` + "`swav: hint:`" + ` says what to do next. Exit codes, the same for every command:

| code | meaning |
|---|---|
| 0 | done |
| 1 | the work failed, or a check did not pass |
| 2 | flags or arguments are wrong; nothing was done |
| 130 | interrupted (Ctrl-C, SIGTERM): what was done is saved, training resumes |

Completion for a shell: ` + "`swav completion bash > /etc/bash_completion.d/swav`" + `, or zsh, fish, powershell.

`

// commands are all that a user may call, in the order of the help, parents first.
func commands(c *cobra.Command) []*cobra.Command {
	all := []*cobra.Command{c}
	for _, sub := range c.Commands() {
		if sub.IsAvailableCommand() && sub.Name() != "completion" {
			all = append(all, commands(sub)...)
		}
	}
	return all
}

func TestCLIDocs(t *testing.T) {
	root := newRoot()
	root.DisableAutoGenTag = true
	var b bytes.Buffer
	b.WriteString(cliPreamble)
	for _, c := range commands(root) {
		c.DisableAutoGenTag = true
		c.InitDefaultHelpFlag()
		link := func(file string) string {
			return "#" + strings.ReplaceAll(strings.TrimSuffix(file, ".md"), "_", "-")
		}
		if err := doc.GenMarkdownCustom(c, &b, link); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join("..", "..", "docs", "cli.md")
	if *update {
		if err := os.WriteFile(path, b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	have, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(have), b.String()); d != "" {
		t.Errorf("docs/cli.md is not what the commands say: run make docs\n%s", d)
	}
}

func TestEveryCommandHasAnExample(t *testing.T) {
	for _, c := range commands(newRoot()) {
		if c.Example == "" && c.Runnable() {
			t.Errorf("%s --help has no example", c.CommandPath())
		}
		if strings.Contains(c.Example, "\t") {
			t.Errorf("%s: examples are indented by two spaces", c.CommandPath())
		}
	}
}
