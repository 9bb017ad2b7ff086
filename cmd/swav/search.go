package main

import (
	"encoding/json"
	"fmt"
	"image"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"swav/gallery"
	"swav/index"
	"swav/runlog"
	"swav/train"
)

// indexFlags name the images that a search looks through, or a map shows.
type indexFlags struct {
	data, split, cache string
	set                []string
}

func (f *indexFlags) add(c *cobra.Command) {
	c.Flags().StringVar(&f.data, "data", "", "images to look through: folder, idx files, CIFAR batches (default: the run's)")
	c.Flags().StringVar(&f.split, "split", "", "part of the data, where it has parts: train or test (default train)")
	c.Flags().StringVar(&f.cache, "cache", "", "folder where features are kept, none: nowhere (default RUN/index)")
}

// open reads or makes the index of the flags' images under a run's network.
func (f *indexFlags) open(c *cobra.Command, run string) (*train.Trained, *index.Index, error) {
	if f.split != "" && f.split != "train" && f.split != "test" {
		return nil, nil, usageError{fmt.Errorf("--split %s: want train or test", f.split)}
	}
	t, err := train.OpenRun(run, f.set...)
	if err != nil {
		return nil, nil, err
	}
	src, err := t.Data(c.Context(), f.data, f.split, reportNote(c))
	if err != nil {
		return nil, nil, err
	}
	dir := f.cache
	switch dir {
	case "":
		dir = index.Dir(run)
	case "none":
		dir = ""
	}
	bar := &lateBar{c: c, name: "features"}
	defer bar.close()
	x, err := index.Open(c.Context(), t, src, index.Options{Dir: dir, Note: reportNote(c), Progress: bar.tell,
		Skip: func(id string, err error) { bar.print(fmt.Sprintf("swav: warning: skipped %s: %v", id, err)) }})
	return t, x, err
}

// lateBar is a progress bar that appears when there is something to tell.
type lateBar struct {
	c        *cobra.Command
	name     string
	mu       sync.Mutex
	progress *runlog.Progress
	stage    func(done, total int)
}

func (b *lateBar) open() {
	if b.progress == nil {
		b.progress = runlog.NewProgress(b.c.ErrOrStderr())
	}
}

func (b *lateBar) tell(done, total int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.open(); b.stage == nil {
		b.stage = b.progress.Stage(b.name)
	}
	b.stage(done, total)
}

// print shows a line that stays above the bar.
func (b *lateBar) print(text string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.open()
	b.progress.Print(text)
}

func (b *lateBar) close() {
	if b.progress != nil {
		b.progress.Close()
	}
}

// maxQueryBytes bounds an image file that is searched for.
const maxQueryBytes = 256 << 20

// maxQueries bounds the images of one search: all are in memory.
const maxQueries = 256

func newSearch() *cobra.Command {
	var f indexFlags
	var k int
	var out string
	var asJSON bool
	c := &cobra.Command{
		Use:   "search RUN QUERY... [--data SRC] [--out FILE.png]",
		Short: "Find the images that look most like a given one",
		Long: `Prints the images of --data whose features are most similar (cosine) to those of
each query image, and draws them with --out. Features of --data are computed once
and kept in RUN/index.`,
		Example: `  swav search runs/photos holiday.jpg --data ~/photos --out nearest.png`,
		Args:    withUsage(cobra.RangeArgs(2, 1+maxQueries)),
		RunE: func(c *cobra.Command, args []string) error {
			if k < 1 {
				return usageError{fmt.Errorf("--k %d: want at least 1", k)}
			}
			if out != "" && !strings.HasSuffix(strings.ToLower(out), ".png") {
				return usageError{fmt.Errorf("--out %s: want a name ending in .png", out)}
			}
			if dir := filepath.Dir(out); !exists(dir) {
				return fmt.Errorf("write %s: folder %s does not exist", out, dir)
			}
			// The queries first: what takes minutes should not fail at the end.
			files := make([][]byte, len(args)-1)
			for i, path := range args[1:] {
				var err error
				if files[i], err = readQuery(path); err != nil {
					return fmt.Errorf("query: %w", err)
				}
			}
			t, x, err := f.open(c, args[0])
			if err != nil {
				return err
			}
			queries, err := search(c, t, x, args[1:], files, k)
			if err != nil {
				return err
			}
			if out != "" {
				img, err := gallery.Nearest(x, queries)
				if err != nil {
					return err
				}
				if err := runlog.WritePNG(out, img); err != nil {
					return err
				}
			}
			if asJSON {
				return writeHitsJSON(c.OutOrStdout(), x, queries)
			}
			return writeHits(c.OutOrStdout(), x, queries)
		},
	}
	f.add(c)
	c.Flags().IntVar(&k, "k", 10, "images to find for each query")
	c.Flags().StringVar(&out, "out", "", "picture of the queries with what was found (.png)")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

// search computes the queries' features and looks for the nearest rows.
func search(c *cobra.Command, t *train.Trained, x *index.Index, paths []string, files [][]byte, k int) ([]gallery.Query, error) {
	pictures := make([]image.Image, len(paths))
	for i, path := range paths {
		var err error
		if pictures[i], err = t.Picture(files[i]); err != nil {
			return nil, fmt.Errorf("query %s: %w", path, err)
		}
	}
	var features []float32
	err := t.Predict(min(len(files), 16), func(p *train.Predictor) error {
		view := make([]float32, p.Pixels())
		for i, file := range files {
			if err := p.View(view, file); err != nil {
				return fmt.Errorf("query %s: %w", paths[i], err)
			}
			if err := p.Run(view, 1, &features, nil, nil); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	hits, err := x.Nearest(c.Context(), features, k)
	if err != nil {
		return nil, err
	}
	queries := make([]gallery.Query, len(paths))
	for i, path := range paths {
		queries[i] = gallery.Query{Name: path, Image: pictures[i], Hits: hits[i]}
	}
	return queries, nil
}

func readQuery(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxQueryBytes+1))
	if err == nil && len(data) > maxQueryBytes {
		err = fmt.Errorf("%s: more than %d MiB", path, maxQueryBytes>>20)
	}
	return data, err
}

func writeHits(w io.Writer, x *index.Index, queries []gallery.Query) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for i, q := range queries {
		if len(queries) > 1 {
			if i > 0 {
				fmt.Fprintln(t)
			}
			fmt.Fprintln(t, runlog.Printable(q.Name))
		}
		for rank, h := range q.Hits {
			fmt.Fprintf(t, "%d\t%.4f\t%s\t%s\n", rank+1, h.Similarity, runlog.Printable(x.Class(h.Row)), runlog.Printable(x.ID(h.Row)))
		}
	}
	return t.Flush()
}

func writeHitsJSON(w io.Writer, x *index.Index, queries []gallery.Query) error {
	type hit struct {
		ID         string  `json:"id"`
		Similarity float32 `json:"similarity"`
		Label      string  `json:"label,omitempty"`
	}
	type found struct {
		Query   string `json:"query"`
		Nearest []hit  `json:"nearest"`
	}
	var all []found
	for _, q := range queries {
		f := found{Query: q.Name}
		for _, h := range q.Hits {
			f.Nearest = append(f.Nearest, hit{x.ID(h.Row), h.Similarity, x.Class(h.Row)})
		}
		all = append(all, f)
	}
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(all)
}
