package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"swav/gallery"
)

// sortImages is swav cluster --dir.
func sortImages(c *cobra.Command, f *modelFlags, dir string, o gallery.ClusterOptions) error {
	if o.Examples < 1 || o.Examples > 1000 {
		return usageError{fmt.Errorf("--examples %d: want 1 to 1000", o.Examples)}
	}
	images := indexFlags{data: f.data, split: f.split, set: f.set}
	_, x, err := images.open(c, f.run)
	if err != nil {
		return err
	}
	s, err := gallery.WriteClusters(c.Context(), dir, x, o)
	if err != nil {
		return err
	}
	fmt.Fprintf(c.OutOrStdout(), "%s: %d images in %d clusters\n", s.Page, s.Images, s.Used)
	if s.Labelled {
		fmt.Fprintf(c.OutOrStdout(), "purity %.3f, NMI %.3f against the labels\n", s.Purity, s.NMI)
	}
	return nil
}
