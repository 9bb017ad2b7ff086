package main

import (
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"swav/gallery"
	"swav/op/cpu"
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
cluster. The file needs no network.

Images lie near those that they resemble (UMAP); the page can switch to principal
components (PCA), whose distances mean more while groups overlap. --pca leaves out
UMAP, which takes seconds for 10,000 images and minutes for 100,000.`,
		Example: `  swav map runs/photos --data ~/photos --out map.html`,
		Args:    withUsage(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			if dir := filepath.Dir(out); !exists(dir) {
				return fmt.Errorf("write %s: folder %s does not exist", out, dir)
			}
			if o.Images < 0 {
				return usageError{fmt.Errorf("--images %d: want 0 or more", o.Images)}
			}
			_, x, err := f.open(c, args[0])
			if err != nil {
				return err
			}
			bar := &lateBar{c: c, name: "places"}
			o.Gemm, o.Progress = cpu.Gemm, bar.tell
			n, err := gallery.WriteMap(c.Context(), out, x, o)
			bar.close()
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
	c.Flags().Uint64Var(&o.Seed, "seed", 1, "of the sample and of the layout")
	c.Flags().BoolVar(&o.Linear, "pca", false, "principal components only")
	return c
}
