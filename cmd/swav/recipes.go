package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"swav/config"
)

func newRecipes() *cobra.Command {
	var keys bool
	c := &cobra.Command{
		Use:   "recipes [NAME]",
		Short: "List the built-in recipes, or print one",
		Long: `Without an argument lists the built-in recipes; with one prints it in full, to be
saved, changed, and used with --recipe FILE.`,
		Example: `  swav recipes
  swav recipes cifar10 > mine.toml
  swav recipes --keys`,
		Args: withUsage(cobra.MaximumNArgs(1)),
		ValidArgsFunction: func(c *cobra.Command, args []string, begun string) ([]cobra.Completion, cobra.ShellCompDirective) {
			if len(args) > 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return completeRecipe(c, args, begun)
		},
		RunE: func(c *cobra.Command, args []string) error {
			w := c.OutOrStdout()
			if keys {
				for _, k := range config.Keys() {
					fmt.Fprintf(w, "%-28s %s\n", k.Name, k.Doc)
				}
				return nil
			}
			if len(args) == 1 {
				r, err := config.Load(args[0])
				if err != nil {
					return err
				}
				return r.Encode(w)
			}
			for _, name := range config.Names() {
				d, err := config.Describe(name)
				if err != nil {
					return err
				}
				fmt.Fprintf(w, "%s: %s\n    %s\n    time:   %s\n    result: %s\n\n", d.Name, d.Summary, d.Command, d.Time, d.Result)
			}
			return nil
		},
	}
	c.Flags().BoolVar(&keys, "keys", false, "list every key of a recipe with its meaning")
	return c
}

// exists tells whether a file or folder is there.
func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
