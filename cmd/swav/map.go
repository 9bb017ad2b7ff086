package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"swav/gallery"
)

func newMap() *cobra.Command {
	var f indexFlags
	var out string
	var o gallery.MapOptions
	c := &cobra.Command{
		Use:   "map RUN [--data SRC] [--out FILE]",
		Short: "Write a map of all images as one HTML file",
		Long: `Writes a page on which every image is a point, similar images near each other. It
zooms, pans, shows an image under the pointer, and is coloured by label or
cluster. The file needs no network. Places are principal components (PCA) of the
features: linear, so that distances mean something, but groups overlap more than
UMAP would show them; swav has no UMAP of its own.`,
		Example: `  swav map runs/photos --data ~/photos --out map.html`,
		Args:    withUsage(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			if o.Images < 0 {
				return usageError{fmt.Errorf("--images %d: want 0 or more", o.Images)}
			}
			_, x, err := f.open(c, args[0])
			if err != nil {
				return err
			}
			n, err := gallery.WriteMap(c.Context(), out, x, o)
			if err != nil {
				return err
			}
			fmt.Fprintf(c.OutOrStdout(), "%s: %d of %d images\n", out, n, x.Len())
			return nil
		},
	}
	f.add(c)
	c.Flags().StringVar(&out, "out", "map.html", "file to write")
	c.Flags().IntVar(&o.Images, "images", 10000, "show at most so many, a random sample; 0: all")
	c.Flags().Uint64Var(&o.Seed, "seed", 1, "of the sample")
	return c
}
