package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"swav/dataset"
	"swav/eval"
	"swav/gallery"
	"swav/runlog"
	"swav/train"
)

// modelFlags are what embed and cluster share: which network, which images.
type modelFlags struct {
	run, data, split, out string
	set                   []string
}

func (f *modelFlags) add(c *cobra.Command, out string) {
	c.Flags().StringVar(&f.run, "run", "", "run directory, one checkpoint in it, or weights of another tool; the same as the argument")
	c.Flags().StringVar(&f.data, "data", "", "images: folder, list, shards, URLs of shards, idx files, CIFAR batches (default: the run's)")
	c.Flags().StringVar(&f.split, "split", "", "part of the data, where it has parts: train or test (default train)")
	c.Flags().StringVar(&f.out, "out", out, "file to write")
	c.Flags().StringArrayVar(&f.set, "set", nil, "change a key of the run's recipe for this: KEY=VALUE, such as train.precision=fp32; may be repeated")
}

func (f *modelFlags) check(c *cobra.Command, args []string) error {
	switch {
	case len(args) > 0 && f.run != "":
		return usageError{fmt.Errorf("two runs: %s and --run %s", args[0], f.run)}
	case len(args) > 0:
		f.run = args[0]
	case f.run == "":
		return usageError{hint(fmt.Errorf("no run directory given"), "name it: %s RUN; `%s --help` has an example", c.CommandPath(), c.CommandPath())}
	}
	if f.split != "" && f.split != "train" && f.split != "test" {
		return usageError{fmt.Errorf("--split %s: want train or test", f.split)}
	}
	if dir := filepath.Dir(f.out); !exists(dir) {
		return fmt.Errorf("write %s: folder %s does not exist", f.out, dir)
	}
	return nil
}

// embed shows the images to the network, which is to have prototypes where they are
// asked for, with a progress bar.
func (f *modelFlags) embed(c *cobra.Command, prototypes bool) (*train.EmbeddedSource, error) {
	bar := runlog.NewProgress(c.ErrOrStderr())
	defer bar.Close()
	return train.Embed(c.Context(), train.EmbedOptions{Run: f.run, Data: f.data, Split: f.split, Set: f.set,
		Prototypes: prototypes, Skip: reportSkip(c), Note: reportNote(c), Progress: bar.Stage("features")})
}

func newEmbed() *cobra.Command {
	var f modelFlags
	c := &cobra.Command{
		Use:   "embed RUN [--data SRC] [--out FILE]",
		Short: "Write the features of images",
		Long: `Writes one row of backbone features for each image. The ending of --out chooses the
format:

  .npy, .safetensors  a matrix, and beside it a .csv that names the image of each row
  .parquet            columns id, label and features (a list of float32)
  .csv                columns id, label, f0, f1 and so on

Images that cannot be read are left out and reported.

RUN may also be weights of other tools, as ` + "`swav train --init`" + ` takes them. Images are then
shown as the original shows them, unless --set says otherwise.`,
		Example: `  swav embed runs/photos --data ~/photos --out features.npy
  swav embed runs/photos --out features.parquet
  swav embed resnet50.pth --set augment.std=0.229,0.224,0.225 --data ~/photos`,
		Args: withUsage(cobra.MaximumNArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			if err := f.check(c, args); err != nil {
				return err
			}
			if _, err := eval.FeatureFormat(f.out); err != nil {
				return usageError{fmt.Errorf("--out: %w", err)}
			}
			e, err := f.embed(c, false)
			if err != nil {
				return err
			}
			w, err := eval.CreateFeatures(f.out, len(e.Index), len(e.Features)/len(e.Index), e.Source.Classes())
			if err != nil {
				return err
			}
			if err := w.Append(e.Features, e.Rows()); err != nil {
				w.Abort()
				return err
			}
			if err := w.Close(); err != nil {
				return err
			}
			fmt.Fprintf(c.OutOrStdout(), "%s: %d images x %d features\n", f.out, len(e.Index), len(e.Features)/len(e.Index))
			return nil
		},
	}
	f.add(c, "features.npy")
	return c
}

func newCluster() *cobra.Command {
	var f modelFlags
	var follow bool
	var dir string
	var o gallery.ClusterOptions
	c := &cobra.Command{
		Use:   "cluster RUN [--data SRC] [--out FILE] [--dir FOLDER]",
		Short: "Write each image's prototype, or sort images into folders",
		Long: `Writes a CSV with the prototype of each image: the one whose direction is nearest
to the image's embedding, and the cosine between them as score.

With --dir it fills a new folder instead: a sub-folder for each cluster with links
to its images (copies with --copy), and clusters.html to browse them: sizes,
purity where there are labels, the most and the least typical images of each.

--follow labels the images of a stream as they arrive, one line each, on standard
output unless --out is given: - for standard input (a tar stream or a list of
paths), watch:FOLDER, repeat:SHARDS.`,
		Example: `  swav cluster runs/photos --data ~/photos --out clusters.csv
  swav cluster runs/photos --data ~/photos --dir sorted
  swav cluster runs/photos --follow --data watch:incoming`,
		Args: withUsage(cobra.MaximumNArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			if err := f.check(c, args); err != nil {
				return err
			}
			switch {
			case dir != "" && (follow || c.Flags().Changed("out")):
				return usageError{fmt.Errorf("--dir goes with neither --out nor --follow: it writes files of its own")}
			case dir != "":
				return sortImages(c, &f, dir, o)
			case follow:
				return followStream(c, &f)
			}
			e, err := f.embed(c, true)
			if err != nil {
				return err
			}
			rows := make([]eval.Assignment, len(e.Index))
			for i, r := range e.Rows() {
				rows[i] = eval.Assignment{Row: r, Prototype: e.Prototype[i], Score: e.Score[i]}
			}
			file, err := os.Create(f.out)
			if err != nil {
				return err
			}
			if err := eval.WriteAssignments(file, rows, e.Source.Classes()); err != nil {
				file.Close()
				return fmt.Errorf("write %s: %w", f.out, err)
			}
			if err := file.Close(); err != nil {
				return fmt.Errorf("write %s: %w", f.out, err)
			}
			used := map[int]bool{}
			for _, p := range e.Prototype {
				used[p] = true
			}
			fmt.Fprintf(c.OutOrStdout(), "%s: %d images in %d clusters\n", f.out, len(rows), len(used))
			return nil
		},
	}
	f.add(c, "clusters.csv")
	c.Flags().StringVar(&dir, "dir", "", "new folder to sort the images into, with a page to browse them")
	c.Flags().BoolVar(&o.Copy, "copy", false, "with --dir: copy the images instead of linking to them")
	c.Flags().IntVar(&o.Examples, "examples", 10, "with --dir: most and least typical images that the page shows of a cluster")
	c.Flags().BoolVar(&follow, "follow", false, "label the images of a stream as they arrive")
	return c
}

// followStream labels a stream until it ends or the user ends it.
func followStream(c *cobra.Command, f *modelFlags) error {
	if !dataset.IsStream(f.data) {
		return usageError{hint(fmt.Errorf("--follow takes a stream as --data, not %q", f.data), "- is standard input; watch:FOLDER and repeat:SHARDS are others")}
	}
	w := c.OutOrStdout()
	if c.Flags().Changed("out") {
		file, err := os.Create(f.out)
		if err != nil {
			return err
		}
		// Every line is written as it comes; closing has nothing left to fail at.
		defer file.Close()
		w = file
	}
	if err := eval.WriteAssignments(w, nil, nil); err != nil {
		return err
	}
	return train.Follow(c.Context(), train.EmbedOptions{Run: f.run, Data: f.data, Set: f.set, Skip: reportSkip(c), Note: reportNote(c)}, func(rows []eval.Assignment) error {
		return eval.AppendAssignments(w, rows, nil)
	})
}

// reportSkip tells of images that cannot be read.
func reportSkip(c *cobra.Command) func(id string, err error) {
	w := &lockedWriter{w: c.ErrOrStderr()}
	return func(id string, err error) { fmt.Fprintf(w, "swav: warning: skipped %s: %v\n", id, err) }
}

// reportNote tells of what takes long.
func reportNote(c *cobra.Command) func(text string) {
	w := &lockedWriter{w: c.ErrOrStderr()}
	return func(text string) { fmt.Fprintf(w, "swav: note: %s\n", text) }
}
