package main

import (
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"swav/config"
	"swav/nn"
)

// choices are what flags of these names take, wherever they stand; others complete
// to files.
var choices = map[string][]string{
	"arch":      {"resnet18", "resnet34", "resnet50", "resnet101", "resnet50w2", "resnet50w4", "resnet50w5"},
	"backend":   {"auto", "cpu", "ref"},
	"block":     {string(nn.Basic), string(nn.Bottleneck)},
	"exif":      {"apply", "ignore"},
	"format":    {"safetensors", "pytorch", "onnx", "timm", "hf", "tensorboard"},
	"precision": {"fp32", "bf16", "fp64"},
	"split":     {"train", "test"},
	"stem":      {string(nn.ImageNetStem), string(nn.SmallStem)},
}

// completeFlags tells the shell's completion what the flags of c and its commands
// take. Errors of registering cannot happen: the flags are there, once each.
func completeFlags(c *cobra.Command) {
	register := func(flag string, f cobra.CompletionFunc) {
		if c.Flags().Lookup(flag) != nil {
			_ = c.RegisterFlagCompletionFunc(flag, f)
		}
	}
	for flag, values := range choices {
		register(flag, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp))
	}
	register("recipe", completeRecipe)
	register("set", completeSet)
	register("resume", cobra.FixedCompletions([]string{resumeAuto}, cobra.ShellCompDirectiveNoFileComp))
	for _, sub := range c.Commands() {
		completeFlags(sub)
	}
}

// completeRecipe offers the built-in recipes, and files where none begins so.
func completeRecipe(_ *cobra.Command, _ []string, begun string) ([]cobra.Completion, cobra.ShellCompDirective) {
	var out []cobra.Completion
	for _, name := range slices.Concat([]string{"auto"}, config.Names()) {
		if strings.HasPrefix(name, begun) && !slices.Contains(out, name) {
			out = append(out, name)
		}
	}
	return out, cobra.ShellCompDirectiveDefault
}

// completeSet offers the keys of a recipe; behind the equals sign it shows what the
// key takes instead, as bash would repeat the key before a value.
func completeSet(_ *cobra.Command, _ []string, begun string) ([]cobra.Completion, cobra.ShellCompDirective) {
	var out []cobra.Completion
	name, _, behind := strings.Cut(begun, "=")
	for _, k := range config.Keys() {
		switch {
		case !behind && strings.HasPrefix(k.Name, name):
			out = append(out, cobra.CompletionWithDesc(k.Name+"=", k.Doc))
		case behind && k.Name == name:
			takes := k.Type
			if k.Range != "" {
				takes += ", " + k.Range
			}
			out = cobra.AppendActiveHelp(out, name+": "+k.Doc+" ("+takes+"; default "+k.Default+")")
		}
	}
	return out, cobra.ShellCompDirectiveNoSpace | cobra.ShellCompDirectiveNoFileComp
}
