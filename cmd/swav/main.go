// Command swav trains SwAV on images and takes away what was learnt. This
// package is flags, help and exit codes; what the commands do lives in the
// packages they call.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"

	"github.com/spf13/cobra"
)

// Exit codes, the same for every command.
const (
	exitOK          = 0
	exitFailed      = 1   // the work failed, or a check did not pass
	exitUsage       = 2   // flags or arguments are off
	exitInterrupted = 130 // Ctrl-C, SIGTERM, SIGUSR1: saved, resumable
)

// hinted is an error with a line that says what to do next.
type hinted struct {
	error
	hint string
}

func (h hinted) Unwrap() error { return h.error }

// hint attaches advice to an error.
func hint(err error, format string, args ...any) error {
	return hinted{err, fmt.Sprintf(format, args...)}
}

// usageError marks a mistake in flags or arguments.
type usageError struct{ error }

func (u usageError) Unwrap() error { return u.error }

// errNotPassed is returned after a report has already said what did not pass.
var errNotPassed = errors.New("")

func main() {
	tuneOpenMP()
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

func run(args []string, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), stopSignals...)
	defer stop()
	// A second signal ends the process the ordinary way.
	context.AfterFunc(ctx, stop)

	root := newRoot()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	switch {
	case err == nil:
		return exitOK
	case errors.Is(err, errNotPassed):
		return exitFailed
	case errors.Is(err, context.Canceled):
		return exitInterrupted
	}
	fmt.Fprintf(stderr, "swav: error: %v\n", err)
	var h hinted
	if errors.As(err, &h) {
		for line := range strings.SplitSeq(h.hint, "\n") {
			fmt.Fprintf(stderr, "swav: hint: %s\n", line)
		}
	}
	var u usageError
	if errors.As(err, &u) {
		return exitUsage
	}
	return exitFailed
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "swav",
		Short: "Learn image features without labels (SwAV)",
		Long: `swav learns image features without labels, by the method of "Unsupervised
Learning of Visual Features by Contrasting Cluster Assignments" (Caron et al.,
NeurIPS 2020), and writes features, clusters and the trained backbone.`,
		Example: `  swav train ~/photos --run runs/photos --time 30m
  swav embed runs/photos --data ~/photos --out features.npy
  swav cluster runs/photos --data ~/photos --out clusters.csv`,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return usageError{hint(err, "see `%s --help`", c.CommandPath())}
	})
	root.AddCommand(newTrain(), newEmbed(), newCluster(), newSearch(), newMap(), newServe(), newEval(), newPredict(), newExport(),
		newRecipes(), newVerify(), newBench(), newData())
	return root
}

const quotePattern = "the shell has expanded a pattern: put it in quotes, as in --data 'data-{000..123}.tar'"

// withUsage is cobra's check of the number of arguments as a usage error.
func withUsage(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if err := check(c, args); err != nil {
			if len(args) > 0 && strings.Contains(args[0], ".tar") {
				return usageError{hint(err, quotePattern)}
			}
			return usageError{hint(err, "see `%s --help`", c.CommandPath())}
		}
		return nil
	}
}
