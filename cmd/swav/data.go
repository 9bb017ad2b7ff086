package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"swav/config"
	"swav/dataset"
	"swav/datatool"
	"swav/imgcodec"
	"swav/runlog"
	"swav/train"
)

func newData() *cobra.Command {
	c := &cobra.Command{
		Use:   "data",
		Short: "Look at images before a run, and pack them",
		Long: `What people ask of a pile of images before a run: are they whole, are some there
twice, what are their mean and deviation, what will the network see of them. And
packs folders into tar shards, which large storage reads faster.

SRC is whatever ` + "`swav train --data`" + ` takes.`,
	}
	c.AddCommand(newDataCheck(), newDataStats(), newDataPreview(), newDataPack())
	return c
}

// dataFlags are what commands over a whole source share.
type dataFlags struct {
	split     string
	exif      string
	maxPixels int
	workers   int
}

func (f *dataFlags) add(c *cobra.Command) {
	def := config.Default().Data
	c.Flags().StringVar(&f.split, "split", "train", "part of the data, where it has parts: train or test")
	c.Flags().StringVar(&f.exif, "exif", def.Exif, "orientation written by cameras: apply or ignore")
	c.Flags().IntVar(&f.maxPixels, "max-pixels", def.MaxPixels, "larger images count as unreadable")
	c.Flags().IntVar(&f.workers, "workers", 0, "images at a time (default: one per core)")
}

// open opens a source as it is stored: every channel and every bit.
func (f *dataFlags) open(c *cobra.Command, path string) (dataset.Source, error) {
	if f.exif != "apply" && f.exif != "ignore" {
		return nil, usageError{fmt.Errorf("--exif %s: want apply or ignore", f.exif)}
	}
	return dataset.Open(path, dataset.Options{Split: f.split, Context: c.Context(),
		Note:   reportNote(c),
		Decode: imgcodec.Options{MaxPixels: f.maxPixels, IgnoreOrientation: f.exif == "ignore", Deep: true}})
}

func newDataCheck() *cobra.Command {
	var f dataFlags
	var asJSON bool
	c := &cobra.Command{
		Use:   "check SRC",
		Short: "Read everything once and say what is there, broken or twice",
		Long: `Reads every image once and reports how many there are, their sizes, formats and
channels, which cannot be read and why, which have the same pixels, and which
look alike (the same picture resized, compressed anew or slightly changed).

Exit status 0: all images can be trained on (some may be there twice), 1: some
cannot be read or do not go together, 2: wrong usage.`,
		Example: `  swav data check ~/photos
  swav data check ~/photos --json > report.json`,
		Args: withUsage(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			src, err := f.open(c, args[0])
			if err != nil {
				return err
			}
			bar := runlog.NewBar(c.ErrOrStderr(), "reading", src.Len())
			r, err := datatool.Check(c.Context(), src, datatool.Options{Workers: f.workers, Done: bar.Done})
			bar.Close()
			if err != nil {
				return err
			}
			if asJSON {
				err = writeJSON(c.OutOrStdout(), r)
			} else {
				err = r.WriteText(c.OutOrStdout())
			}
			if err == nil && !r.OK() {
				return errNotPassed
			}
			return err
		},
	}
	f.add(c)
	c.Flags().BoolVar(&asJSON, "json", false, "print everything found as JSON")
	return c
}

func writeJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

func newDataStats() *cobra.Command {
	var f dataFlags
	var images int
	var asJSON bool
	c := &cobra.Command{
		Use:   "stats SRC",
		Short: "Measure each channel's mean and deviation",
		Long: `Measures mean and standard deviation of each channel and prints the lines of a
recipe that set them. Images are of equal weight, whatever their sizes, and
samples are shares of the largest that 8 or 16 bits hold.`,
		Example: `  swav data stats ~/microscope >> recipe.toml`,
		Args:    withUsage(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			src, err := f.open(c, args[0])
			if err != nil {
				return err
			}
			var index []int
			n := src.Len()
			if images > 0 && images < n {
				for i := range images { // evenly over the source
					index = append(index, i*n/images)
				}
				n = images
			}
			bar := runlog.NewBar(c.ErrOrStderr(), "measuring", n)
			s, err := datatool.Measure(c.Context(), src, index, datatool.Options{Workers: f.workers, Done: bar.Done})
			bar.Close()
			if err != nil {
				return err
			}
			if s.Skipped > 0 {
				fmt.Fprintf(c.ErrOrStderr(), "swav: warning: %d images are left out: they cannot be read, or have other channels (`swav data check` lists them)\n", s.Skipped)
			}
			if asJSON {
				return writeJSON(c.OutOrStdout(), s)
			}
			return s.WriteTOML(c.OutOrStdout())
		},
	}
	f.add(c)
	c.Flags().IntVar(&images, "images", 0, "measure only so many, evenly over the source (default all)")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

func newDataPreview() *cobra.Command {
	var recipe, out string
	var set []string
	var o datatool.PreviewOptions
	var budget time.Duration
	c := &cobra.Command{
		Use:   "preview SRC [--recipe NAME|FILE] [--out FILE]",
		Short: "Draw what the network will see",
		Long: `Draws a contact sheet: in each row an image as it is stored, with frames around
what its views show, and then the views, augmented as in training. With the seed
of a run, they are the views of that run's first epoch.`,
		Example: `  swav data preview ~/photos --recipe swav_200ep_bs256 --out preview.png
  swav data preview ~/photos --recipe runs/photos/recipe.toml --epoch 3`,
		Args: withUsage(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			if dir := filepath.Dir(out); !exists(dir) {
				return fmt.Errorf("write %s: folder %s does not exist", out, dir)
			}
			r, _, err := chooseRecipe(c, recipe, args[0], budget, set)
			if err != nil {
				return err
			}
			if err := r.Validate(); err != nil {
				return usageError{err}
			}
			src, err := train.OpenData(c.Context(), args[0], r, dataset.Train)
			if err != nil {
				return err
			}
			if !c.Flags().Changed("seed") {
				o.Seed = r.Train.Seed
			}
			sheet, err := datatool.Preview(c.Context(), src, r, o)
			if err != nil {
				return err
			}
			if err := runlog.WritePNG(out, sheet); err != nil {
				return err
			}
			fmt.Fprintf(c.OutOrStdout(), "%s: %d x %d pixels\n", out, sheet.Bounds().Dx(), sheet.Bounds().Dy())
			return nil
		},
	}
	f := c.Flags()
	f.StringVar(&recipe, "recipe", "", "built-in recipe or TOML file (default auto)")
	f.StringVar(&out, "out", "preview.png", "picture to write")
	f.StringArrayVar(&set, "set", nil, "change a key of the recipe: KEY=VALUE; may be repeated")
	f.IntVar(&o.Images, "images", 8, "rows")
	f.Uint64Var(&o.Seed, "seed", 0, "of the choice of images and of the views (default: the recipe's)")
	f.IntVar(&o.Epoch, "epoch", 0, "pass over the data whose views are shown")
	f.DurationVar(&budget, "time", 0, "with auto: how long the run may take (default 30m)")
	return c
}

func newDataPack() *cobra.Command {
	var f dataFlags
	o := datatool.PackOptions{}
	c := &cobra.Command{
		Use:   "pack SRC OUT",
		Short: "Write images into tar shards",
		Long: `Writes the images of SRC into the folder OUT as tar shards in WebDataset's
convention: data-000000.tar and so on, with KEY.jpg (or what an image is) and its
label KEY.cls, a line of classes.txt counted from 0. Files are copied as they are;
with --size, larger images are shrunk and written anew (JPEG as JPEG, others
without loss). Images are mixed, in the same order each time.

Shards appear when they are whole. After an interruption, the same command goes on
with those that are missing; --restart writes all anew. Images that cannot be read
are left out and listed in OUT/skipped.jsonl.`,
		Example: `  swav data pack ~/photos /mnt/shards --size 256`,
		Args:    withUsage(cobra.ExactArgs(2)),
		RunE: func(c *cobra.Command, args []string) error {
			if o.Size < 0 || o.PerShard < 1 || o.Quality < 1 || o.Quality > 100 || o.MaxSkip < 0 || o.MaxSkip > 1 {
				return usageError{errors.New("want --size of at least 0, --shard-images of at least 1, --quality of 1 to 100, --max-skip of 0 to 1")}
			}
			src, err := f.open(c, args[0])
			if err != nil {
				return err
			}
			bar := runlog.NewBar(c.ErrOrStderr(), "packing", src.Len())
			o.Workers, o.Done = f.workers, bar.Done
			p, err := datatool.Pack(c.Context(), src, args[1], o)
			bar.Close()
			if err != nil {
				if c.Context().Err() != nil {
					fmt.Fprintf(c.ErrOrStderr(), "swav: interrupted; the same command goes on with the shards that are missing\n")
				}
				return err
			}
			w := c.OutOrStdout()
			fmt.Fprintf(w, "%s: %d shards, %.1f MB; %d images written", args[1], p.Shards, float64(p.Bytes)/1e6, p.Images)
			if p.Kept > 0 {
				fmt.Fprintf(w, ", %d shards were there", p.Kept)
			}
			fmt.Fprintln(w)
			if n := len(p.Skipped); n > 0 {
				fmt.Fprintf(c.ErrOrStderr(), "swav: warning: %d images cannot be read and are left out: see %s\n", n, filepath.Join(args[1], "skipped.jsonl"))
			}
			return nil
		},
	}
	f.add(c)
	c.Flags().IntVar(&o.Size, "size", 0, "shrink images until their shorter side has so many pixels (default: copy files)")
	c.Flags().IntVar(&o.PerShard, "shard-images", 5000, "images in a shard")
	c.Flags().IntVar(&o.Quality, "quality", 95, "of JPEG files that were shrunk, 1 to 100")
	c.Flags().Float64Var(&o.MaxSkip, "max-skip", 0.01, "share of unreadable images at which packing stops")
	c.Flags().BoolVar(&o.Restart, "restart", false, "write all shards anew")
	return c
}
