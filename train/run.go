// Package train runs SwAV and DeepCluster-v2: it opens the data, builds network
// and optimizer from a recipe, takes step after step, keeps checkpoints and
// metrics, watches the run's health, and says at the end what the features are
// worth.
//
// Stepper is the arithmetic of one step and is what the reference traces prove;
// Run is everything around it. Numbers are crunched in package engine, files are
// written by checkpoint and runlog.
package train

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"swav"
	"swav/checkpoint"
	"swav/config"
	"swav/dataset"
	"swav/dist"
	"swav/engine"
	"swav/loader"
	"swav/nn"
	"swav/optim"
)

// Options are what a run needs besides its recipe.
type Options struct {
	Recipe *config.Recipe // nil with Resume: the run's own
	Data   string         // source, as dataset.Open takes it; "" with Resume: as before
	Dir    string         // run directory
	Init   string         // weights to start from, as package transfer opens them; "": random ones
	Resume bool
	Stop   int // > 0: save and return after this many steps, as if interrupted

	// Written, if not nil, is called on rank 0 whenever a checkpoint is whole on disk, from
	// any goroutine.
	Written func()

	// Comm is this process's end of a group of ranks, each of which calls Run; nil: a
	// group of one. Only rank 0 reads and writes the run directory and looks at Recipe,
	// Data, Init and Resume; the others are told. It stays the caller's to close.
	Comm dist.Comm
	// Ranks > 1 trains as that many ranks within this process, without Comm.
	Ranks int
	// Place is called on each rank's compute thread before anything is allocated there,
	// to put the thread where it belongs, and tells how many compute threads (and loader
	// workers) the rank has. nil: an equal share of the processors.
	Place func(rank int) (threads int, err error)

	DryRun bool     // return after Log.Start: nothing is trained or saved
	Log    Observer // sees the run; not nil
	Notes  []string // shown in the report: why auto chose what it chose
}

// Observer is told what happens in a run. Its methods are called by one
// goroutine, in order.
type Observer interface {
	// Start is called before the first step.
	Start(Start) error
	// Step is called after every step. The record is reused.
	Step(*StepRecord) error
	// Skip is called for every image that could not be read, from any goroutine.
	Skip(id string, err error)
	// Note tells of something that takes long or was decided on the way, from any
	// goroutine.
	Note(text string)
	// Warn tells of something that does not stop the run.
	Warn(text string)
	// Saved is called when a checkpoint is begun.
	Saved(step int)
	// Evaluated is called after an evaluation during training.
	Evaluated(Evaluation) error
	// Stage tells what the run does after training: evaluation, pictures.
	Stage(text string)
	// Finish is called at the end of a whole run.
	Finish(*Outcome) error
}

// Start describes a run that begins.
type Start struct {
	Recipe   *config.Recipe
	Resolved config.Resolved
	Source   dataset.Source
	Arch     nn.Arch
	Params   int
	MACs     int64 // forward, all crops of one image
	Device   string
	Precision,
	Dir string
	Memory int64 // bytes of intermediates
	Fixed  int64 // bytes of weights, gradients, moments and queue
	Ranks  int
	Engine string   // what the ranks meet by; "": this process
	Resume int      // steps done before
	Init   []string // where the weights come from, and what starts afresh; nil: all does
	DryRun bool     // nothing follows
	Notes  []string
}

// ErrInterrupted is returned by Run when its context ended: the run is saved
// and can be resumed.
var ErrInterrupted = errors.New("interrupted; the run is saved and can be resumed")

// recipeFile is the resolved recipe within a run directory.
const recipeFile = "recipe.toml"

// run is a training run under way.
type run struct {
	opts     Options
	recipe   *config.Recipe
	comm     dist.Comm
	threads  int // compute threads of this rank; 0: all processors
	res      config.Resolved
	source   dataset.Source // of a stream: empty until the end, then the last images
	stream   dataset.Stream // nil for sources
	arch     nn.Arch
	stepper  *Stepper
	schedule optim.Schedule
	loader   *loader.Loader
	writer   *checkpoint.Writer
	alarm    swav.Alarm
	monitor  *monitor // nil: no evaluations during training
	state    State
	init     []string // as Start.Init
	passes   [][]int  // the loader's crop groups of each pass of the plan

	watched watched // of the last step, for its health
	joined  []float32
}

// open finds the checkpoint to go on from, the recipe and the data: rank 0 does, and
// tells the others.
func (t *run) open(ctx context.Context) (*checkpoint.Loaded, error) {
	if t.comm.Rank() > 0 {
		return nil, t.follow(ctx)
	}
	o := &t.opts
	saved, err := checkpoint.Resume(o.Dir, func(err error) { o.Log.Warn(err.Error()) })
	switch {
	case errors.Is(err, checkpoint.ErrNone):
		saved = nil
	case err != nil:
		return nil, err
	case !o.Resume:
		return nil, fmt.Errorf("%s holds a run already (%d steps): go on with it by --resume, or choose another --run", o.Dir, saved.Step)
	}
	if o.Resume && t.recipe == nil {
		if t.recipe, err = config.Load(filepath.Join(o.Dir, recipeFile)); err != nil {
			return nil, fmt.Errorf("resume %s: %w", o.Dir, err)
		}
	}
	if saved != nil {
		if err := saved.DecodeState(&t.state); err != nil {
			return nil, fmt.Errorf("resume %s: %w", saved.Path, err)
		}
		if o.Data == "" {
			o.Data = t.state.Data
		}
	}
	if o.Data == "" {
		return nil, fmt.Errorf("no data: say where the images are (--data FOLDER)")
	}
	if err := shareable(o.Data, t.comm.Size()); err != nil {
		return nil, err
	}
	// Shards are opened by all ranks together. What else there is rank 0 opens first, so
	// that it alone tells of what is wrong with it.
	peers := t.peers()
	if peers != nil {
		if err := t.lead(saved != nil); err != nil {
			return nil, err
		}
	}
	images, err := t.openData(ctx, peers)
	if err != nil {
		return nil, err
	}
	if saved != nil && t.state.Images != images {
		return nil, fmt.Errorf("resume %s: the run saw %d images, %s has %d: the order of its epochs would be another; restore the data, or start a new --run",
			o.Dir, t.state.Images, t.source.Name(), images)
	}
	t.state.Images = images
	if peers == nil {
		if err := t.lead(saved != nil); err != nil {
			return nil, err
		}
	}
	if err := t.sameImages(images); err != nil {
		return nil, err
	}
	return saved, t.resolve()
}

// resolve makes lengths and network of the recipe and the data.
func (t *run) resolve() (err error) {
	if t.res, err = t.recipe.Resolve(t.state.Images, t.comm.Size()); err != nil {
		return err
	}
	t.arch, err = t.recipe.Arch(t.source.Channels())
	return err
}

// train sets up the compute side on the calling thread and trains.
func (t *run) train(ctx context.Context, saved *checkpoint.Loaded) (*Outcome, error) {
	r := t.recipe
	if err := t.place(); err != nil {
		return nil, err
	}
	b, err := NewBackend(r.Train.Backend, t.threads)
	if err != nil {
		return nil, err
	}
	defer b.Close()
	if t.stepper, err = newStepper(b, r, t.arch, t.res, t.comm); err != nil {
		return nil, err
	}
	defer t.stepper.Close()
	if err := t.begin(saved); err != nil {
		return nil, err
	}
	t.state.Arch, t.state.Data = t.arch, dataset.Absolute(t.opts.Data) // for commands from other folders
	t.schedule = schedule(r, t.res)
	t.alarm = swav.Alarm{Warmup: t.warmup(), State: t.state.Alarm, Setting: swav.Setting{
		Epsilon: r.SwAV.Epsilon, Hard: r.SwAV.Hard, FreezeSteps: t.res.FreezePrototypes, Hidden: r.Model.Hidden > 0,
		Queue: t.res.QueueLength, Batch: r.Train.Batch, Clustering: r.Clustering()}}
	if t.root() {
		if err := t.writeRecipe(t.opts.Dir); err != nil {
			return nil, err
		}
	}
	if err := t.watch(ctx); err != nil {
		return nil, err
	}
	if err := t.start(); err != nil || t.opts.DryRun {
		return nil, err
	}
	if err := t.loop(ctx); err != nil || !t.root() {
		return nil, err
	}
	return t.finish(ctx)
}

// warmup is how long the alarm holds back: an untrained network shows every
// sign of a collapsed one.
func (t *run) warmup() int {
	return max(t.res.Warmup, t.res.FreezePrototypes, min(t.res.Steps/5, 2*t.res.StepsPerEpoch))
}

func (t *run) writeRecipe(dir string) error {
	path := filepath.Join(dir, recipeFile)
	f, err := os.CreateTemp(dir, "."+recipeFile+".*")
	if err != nil {
		return fmt.Errorf("write recipe: %w", err)
	}
	defer os.Remove(f.Name())
	if err := t.recipe.Encode(f); err != nil {
		f.Close()
		return fmt.Errorf("write recipe %s: %w", path, err)
	}
	if err := f.Close(); err != nil {
		return fmt.Errorf("write recipe %s: %w", path, err)
	}
	if err := os.Chmod(f.Name(), 0o644); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

// start opens the loader at the state's position and announces the run.
func (t *run) start() error {
	r := t.recipe
	v, err := Views(r, t.arch.InChannels)
	if err != nil {
		return err
	}
	if r.Data.Depth == 8 && storesDeep(t.source) {
		t.opts.Log.Warn("the images store 16 bits of a sample, and data.depth = 8 keeps the upper 8: --set data.depth=16 keeps all, and `swav data stats` measures the mean and deviation that go with it")
	}
	t.passes = passes(r)
	frames, err := r.Data.TemporalFrames()
	if err != nil {
		return err
	}
	c := loader.Config{
		Recipe: v, Batch: t.res.RankBatch, Accumulate: r.Train.Accumulate, Seed: r.Train.Seed, Workers: t.workers(), Rank: t.comm.Rank(), Ranks: t.comm.Size(),
		Lanes: r.Data.Lanes, Temporal: frames, MaxSkip: r.Data.MaxSkip, OnSkip: t.opts.Log.Skip,
	}
	if t.stream != nil {
		t.loader, err = loader.NewStream(t.stream, r.Data.Shuffle, c)
	} else {
		t.loader, err = loader.New(t.source, c)
	}
	if err != nil {
		return err
	}
	net, plan := t.stepper.Model.Net, t.stepper.Plan
	b := t.stepper.Model.Backend
	engine := ""
	if d, ok := t.comm.(interface{ Describe() string }); ok {
		engine = d.Describe()
	}
	return t.opts.Log.Start(Start{Engine: engine, Recipe: r, Resolved: t.res, Source: t.source, Arch: t.arch, Params: net.NumParams, MACs: plan.MACs(),
		Device: b.Describe(), Precision: precisionText(plan), Dir: t.opts.Dir, Memory: plan.ArenaBytes(), Fixed: t.stepper.Bytes(),
		Ranks: t.comm.Size(), Resume: t.state.Step, Init: t.init, DryRun: t.opts.DryRun, Notes: t.opts.Notes})
}

// precisionText names the precision of a plan, with the one that was asked for
// where it is another.
func precisionText(p *engine.Plan) string {
	if p.Precision == p.Config.Precision {
		return p.Precision.String()
	}
	return fmt.Sprintf("%v (a step this small gains nothing from %v)", p.Precision, p.Config.Precision)
}

// passes lists the crop groups of each backbone pass: engine merges neighbours
// of equal size.
func passes(r *config.Recipe) [][]int {
	var ps [][]int
	for i, c := range r.Crops {
		if i > 0 && r.Crops[i-1].Size == c.Size {
			ps[len(ps)-1] = append(ps[len(ps)-1], i)
		} else {
			ps = append(ps, []int{i})
		}
	}
	return ps
}

// loop trains and keeps checkpoints. However it ends, the last whole step is
// saved, unless it cannot be.
func (t *run) loop(ctx context.Context) error {
	if t.stream != nil {
		t.loader.StartStream(t.resumeAt())
	} else {
		t.loader.Start(loader.Position{Epoch: t.state.Epoch, Step: t.state.EpochStep})
	}
	defer t.loader.Close()
	t.writer = checkpoint.NewWriter(t.opts.Dir, t.recipe.Train.Keep)
	t.writer.Written = t.opts.Written
	lastSaved := t.state.Step
	began, before := time.Now(), t.state.Seconds
	save := func() error {
		t.state.Seconds = before + time.Since(began).Seconds()
		t.state.Alarm = t.alarm.State
		snap, err := snapshot(t.stepper, t.state)
		if err != nil {
			return err
		}
		lastSaved = t.state.Step
		if !t.root() {
			return nil
		}
		if name := notFinite(snap.Model); name != "" {
			return fmt.Errorf("step %d: %s: %w", t.state.Step, name, ErrNonFinite)
		}
		t.opts.Log.Saved(t.state.Step)
		return t.writer.Save(snap)
	}
	stopped := errors.New("stop")
	err := t.steps(ctx, func(rec *StepRecord) error {
		if err := t.opts.Log.Step(rec); err != nil {
			return err
		}
		if err := t.evaluate(ctx); err != nil {
			return err
		}
		if every := t.res.CheckpointEvery; every > 0 && t.state.Step%every == 0 && t.state.Step < t.res.Steps {
			if err := save(); err != nil {
				if !checkpoint.DiskFull(err) {
					return err
				}
				t.opts.Log.Warn(fmt.Sprintf("checkpoint: %v; the run goes on, the checkpoint before is whole", err))
			}
		}
		if t.opts.Stop > 0 && t.state.Step >= t.opts.Stop {
			return stopped
		}
		return nil
	})
	if errors.Is(err, io.EOF) && t.state.Step > 0 {
		t.opts.Log.Warn(fmt.Sprintf("%s has ended after step %d of %d, and so does the training", t.stream.Name(), t.state.Step, t.res.Steps))
		err = nil
	}
	// What all ranks do alike depends on what they agreed on, not on ctx, which may end
	// for each at another time.
	interrupted := errors.Is(err, stopped) || errors.Is(err, context.Canceled)
	var data dataError
	if err != nil && !interrupted && !(errors.As(err, &data) && t.state.Step > lastSaved) {
		// The weights after a failed step are not worth keeping; the checkpoint
		// from before is.
		return errors.Join(err, t.writer.Close())
	}
	if t.state.Step > lastSaved || t.state.Step == 0 {
		if err := save(); err != nil {
			return err
		}
	}
	if err := t.writer.Close(); err != nil {
		return fmt.Errorf("last checkpoint: %w", err)
	}
	// A launcher may end all ranks once one has left: not before the checkpoint is whole.
	if err := t.comm.Barrier(); err != nil {
		return err
	}
	if interrupted || ctx.Err() != nil {
		return ErrInterrupted
	}
	if err != nil {
		return fmt.Errorf("%w\nthe run is saved at step %d and can be resumed", err, t.state.Step)
	}
	if t.stream != nil {
		t.source, err = t.loader.Recent(ctx)
	}
	return err
}
