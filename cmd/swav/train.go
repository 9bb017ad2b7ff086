package main

import (
	"context"
	"errors"
	"fmt"
	"image"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"swav/checkpoint"
	"swav/checkpoint/mirror"
	"swav/config"
	"swav/dataset"
	"swav/datatool"
	"swav/dist/join"
	"swav/internal/numa"
	"swav/train"
)

// shownViews is how many images TensorBoard shows with their views.
const shownViews = 8

func newTrain() *cobra.Command {
	var recipe, data, dir, init, resumed, copies string
	var dryRun bool
	var ranks int
	var set []string
	var budget time.Duration
	c := &cobra.Command{
		Use:   "train SRC --run DIR [--recipe NAME|FILE]",
		Short: "Train on images, then say what the features are worth",
		Long: `Trains SwAV, or DeepCluster-v2 where the recipe's train.method says so, on the
images of SRC (or --data SRC) and writes everything into the run directory: checkpoints,
metrics.jsonl, TensorBoard events, the resolved recipe.toml, and at the end
prototypes.png and report.html.

SRC is one of
  a folder of images, nested or flat; links are followed. Sub-folders of the
      first level are taken as labels, which are used for the evaluation only
  a file list (.txt, .lst, .csv, .tsv): a path a line and perhaps a label
  shards: tar files in WebDataset's convention (.tar, .tar.gz, .tar.zst) or
      Hugging Face's parquet files; a folder of them, a file, or a pattern such
      as 'data-{000..123}.tar', here or at http(s)://, s3:// or gs://
  idx files (Fashion-MNIST) or CIFAR binary batches
  a stream, which is trained on by steps (train.steps): - for standard input (a
      tar stream or a list of paths), watch:FOLDER for images as they arrive,
      repeat:SHARDS for shards again and again without reading them all first

Fetched and unpacked shards are kept in the user's cache folder, at most
data.cache_gb of them.

The recipe says everything else: see ` + "`swav recipes`" + `. The recipe auto chooses by the
data, the machine and --time, and prints why.

--init starts from weights of another training: backbone, and projection head and
prototypes where they fit. Optimizer and schedule start afresh.

Ctrl-C, SIGTERM and SIGUSR1 save and leave; --resume goes on exactly where the run
stopped, on any number of ranks. Exit status 0: done, 1: failed, 2: wrong usage, 130:
interrupted and saved.`,
		Example: `  swav train ~/photos --run runs/photos --time 30m
  swav train --recipe cifar10 --data ~/cifar10 --run runs/c10 --set optim.lr=2e-3
  swav train --data 's3://bucket/data-{000000..000123}.tar' --run runs/s3 --time 8h
  tar cf - photos | swav train --data - --run runs/stream --time 1h
  swav train --init swav_800ep_pretrain.pth.tar --recipe swav_200ep_bs256 --data ~/photos --run runs/more
  swav train --resume --run runs/c10`,
		Args: cobra.ArbitraryArgs,
		RunE: func(c *cobra.Command, args []string) error {
			return joined(c.Context(), func(g *join.Group) error {
				if g != nil && g.Rank() > 0 {
					return otherRank(c.Context(), g, c.ErrOrStderr())
				}
				if len(args) == 1 && args[0] == resumeAuto && resumed == resumeYes {
					resumed, args = resumeAuto, nil // --resume auto, without the equals sign
				}
				if err := withUsage(cobra.MaximumNArgs(1))(c, args); err != nil {
					return err
				}
				if len(args) == 1 {
					if data != "" {
						err := fmt.Errorf("data given twice: %s and --data %s", args[0], data)
						if strings.Contains(args[0], ".tar") {
							return usageError{hint(err, quotePattern)}
						}
						return usageError{hint(err, "leave one of them out")}
					}
					data = args[0]
				}
				var store *mirror.Mirror
				if copies != "" && !dryRun {
					var err error
					if store, err = fetchRun(c, copies, dir, resumed); err != nil {
						return err
					}
				}
				resume, err := resumes(resumed, dir)
				if err != nil {
					return err
				}
				if resumed == resumeAuto && resume {
					recipe, data, init, set, budget = "", "", "", nil, 0 // said for the start
				}
				if ranks < 0 {
					return usageError{hint(fmt.Errorf("--ranks %d", ranks), "say how many ranks train within this process, such as --ranks 2")}
				}
				if dryRun {
					scratch, err := os.MkdirTemp("", "swav-dry-run-")
					if err != nil {
						return err
					}
					defer os.RemoveAll(scratch)
					dir, resume = scratch, false
				}
				if dir == "" {
					return usageError{hint(errors.New("no run directory given"), "add --run DIR: everything is written there")}
				}
				if data == "" && !resume {
					return usageError{hint(errors.New("no data given"), "add the folder of images, or --data FOLDER")}
				}
				if budget < 0 || budget > 0 && !strings.EqualFold(recipe, "auto") && recipe != "" {
					return usageError{hint(fmt.Errorf("--time %v with --recipe %s", budget, recipe), "--time belongs to --recipe auto; other recipes say their length by train.epochs or train.steps")}
				}
				if init != "" && resume {
					return usageError{hint(errors.New("--init with --resume: a resumed run has its weights"), "leave --init out, or start a new --run")}
				}
				o := train.Options{Data: data, Dir: dir, Init: init, Resume: resume, DryRun: dryRun, Ranks: ranks}
				if g != nil {
					if ranks > 0 {
						return usageError{hint(fmt.Errorf("--ranks %d under a launcher that has started %d ranks", ranks, g.Size()), "leave --ranks out")}
					}
					o.Comm, o.Place = g, g.Place
				}
				if recipe != "" || !resume {
					var err error
					if o.Recipe, o.Notes, err = chooseRecipe(c, recipe, data, budget, set); err != nil {
						return err
					}
				} else if len(set) > 0 {
					return usageError{hint(errors.New("--set with --resume: a resumed run keeps its recipe"), "to change it, edit recipe.toml in the run directory, or start a new --run")}
				}
				if g == nil {
					within(&o, numa.Here(), reportNote(c))
				}
				log := train.NewRunLog(c.OutOrStdout(), c.ErrOrStderr(), dir)
				log.Views = func(src dataset.Source, r *config.Recipe) (image.Image, error) {
					return datatool.Preview(c.Context(), src, r, datatool.PreviewOptions{Images: shownViews, Seed: r.Train.Seed})
				}
				o.Log = log
				var copying *mirror.Follower
				if store != nil {
					copying = store.Follow(dir, func(err error) { log.Warn(fmt.Sprintf("%v; the run goes on", err)) })
					o.Written = copying.Written
				}
				_, err = train.Run(c.Context(), o)
				if copying != nil {
					err = errors.Join(err, sendLast(c, copying))
				}
				log.Ended(err)
				err = errors.Join(err, log.Close())
				var bad *config.Error
				switch {
				case errors.Is(err, train.ErrInterrupted):
					fmt.Fprintf(c.ErrOrStderr(), "swav: interrupted; go on with: swav train --resume --run %s\n", dir)
					return context.Canceled
				case errors.As(err, &bad):
					return usageError{err}
				}
				return advise(err)
			})
		},
	}
	f := c.Flags()
	f.StringVar(&recipe, "recipe", "", "built-in recipe or TOML file (default auto)")
	f.StringVar(&data, "data", "", "images: folder, list, shards, URLs of shards, idx files, CIFAR batches, or a stream (- for standard input)")
	f.StringVar(&dir, "run", "", "run directory (required)")
	f.StringVar(&init, "init", "", "weights to start from: a PyTorch checkpoint (the original's, torchvision's, VISSL's, lightly's), safetensors, or a run")
	f.StringVar(&resumed, "resume", "", "go on with the run in --run; auto: if there is one, otherwise start it")
	f.Lookup("resume").NoOptDefVal = resumeYes
	f.IntVar(&ranks, "ranks", 0, "train as so many ranks within this process; 0: one for each NUMA node, where the batch divides")
	f.StringArrayVar(&set, "set", nil, "change a key of the recipe: KEY=VALUE; may be repeated")
	f.StringVar(&copies, "mirror", "", "keep a copy of the run and its newest checkpoint at s3://BUCKET/PREFIX; --resume fetches it where the run is not here")
	f.BoolVar(&dryRun, "dry-run", false, "print what would run and the memory that it takes, then leave; no run directory is written")
	f.DurationVar(&budget, "time", 0, "with auto: how long the run may take, such as 30m or 8h (default 30m)")
	return c
}

// What --resume takes: nothing, or auto.
const (
	resumeYes  = "yes"
	resumeAuto = "auto"
)

// resumes tells whether a run is to be gone on with.
func resumes(how, dir string) (bool, error) {
	switch how {
	case "", resumeYes:
		return how == resumeYes, nil
	case resumeAuto:
		_, err := checkpoint.Latest(dir)
		return err == nil, nil
	}
	return false, usageError{hint(fmt.Errorf("--resume %s", how), "--resume goes on with a run; --resume=auto starts it where there is none")}
}

// fetchRun opens a mirror and brings the run from there, where it is to be resumed and is
// not here or is older here.
func fetchRun(c *cobra.Command, place, dir, resumed string) (*mirror.Mirror, error) {
	m, err := mirror.Open(place)
	if err != nil {
		return nil, usageError{err}
	}
	if resumed == "" || dir == "" {
		return m, nil
	}
	note := reportNote(c)
	note("looking for the run at " + m.String())
	fetched, err := m.Pull(c.Context(), dir)
	if fetched {
		note("fetched the run from " + m.String())
	}
	return m, err
}

// lastCopy is how long the end of a run waits for its copy; after Ctrl-C, and before a
// scheduler's limit, there is less time.
const lastCopy = 60 * time.Second

// sendLast copies what the end of a run has written.
func sendLast(c *cobra.Command, f *mirror.Follower) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(c.Context()), lastCopy)
	defer cancel()
	err := f.Close(ctx)
	if errors.Is(err, checkpoint.ErrNone) {
		return nil // it ended before there was anything to copy
	}
	return err
}

// chooseRecipe loads a recipe, or has auto choose one, and sets the user's keys.
func chooseRecipe(c *cobra.Command, name, data string, budget time.Duration, set []string) (*config.Recipe, []string, error) {
	r, notes, err := loadOrChoose(c, name, data, budget, set)
	if err != nil {
		return nil, nil, err
	}
	for _, s := range set {
		if err := r.Set(s); err != nil {
			return nil, nil, usageError{hint(err, "`swav recipes --keys` lists the keys")}
		}
	}
	return r, notes, nil
}

func loadOrChoose(c *cobra.Command, name, data string, budget time.Duration, set []string) (*config.Recipe, []string, error) {
	if name != "" && !strings.EqualFold(name, "auto") {
		r, err := config.Load(name)
		return r, nil, err
	}
	if budget == 0 {
		budget = 30 * time.Minute
	}
	r, choices, err := train.Auto(c.Context(), data, budget, reportNote(c), set...)
	if err != nil {
		return nil, nil, err
	}
	w := c.ErrOrStderr()
	fmt.Fprintln(w, "recipe auto chooses:")
	var notes []string
	for _, ch := range choices {
		line := fmt.Sprintf("%s = %s: %s", ch.Key, ch.Value, ch.Reason)
		fmt.Fprintln(w, "  "+line)
		notes = append(notes, line)
	}
	return r, notes, nil
}

// advise adds to an error what people can do about it.
func advise(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, train.ErrNonFinite):
		return hint(err, "the checkpoint before is whole. Start again from it with a lower learning rate (optim.lr), or in fp32 (--set train.precision=fp32);\nwith epsilon below 0.02, raise swav.epsilon")
	}
	return err
}

// lockedWriter lets several goroutines write whole lines.
type lockedWriter struct {
	mu sync.Mutex
	w  io.Writer
}

func (l *lockedWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}
