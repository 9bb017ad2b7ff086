package train

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"

	"swav/checkpoint"
	"swav/config"
	"swav/dataset"
	"swav/dist"
)

// Run trains to the end of the recipe, then evaluates. It returns what came out, nil on
// ranks other than 0; with ErrInterrupted a run that can be resumed.
func Run(ctx context.Context, o Options) (*Outcome, error) {
	if o.Ranks > 1 {
		return runLocal(ctx, o)
	}
	if o.Comm == nil {
		o.Comm = dist.Solo()
	}
	return runRank(ctx, o)
}

// runLocal is Run for ranks within this process.
func runLocal(ctx context.Context, o Options) (*Outcome, error) {
	if o.Comm != nil {
		return nil, errors.New("ranks within this process beside those of a launcher: choose one of them")
	}
	defer Room(o.Ranks)()
	comms := dist.Local(o.Ranks)
	outs, errs := make([]*Outcome, o.Ranks), make([]error, o.Ranks)
	var wg sync.WaitGroup
	for r, c := range comms {
		wg.Go(func() {
			own := o
			own.Comm = c
			if r > 0 {
				own.Log = Quiet(o.Log.Skip)
			}
			outs[r], errs[r] = runRank(ctx, own)
			_ = c.Close()
		})
	}
	wg.Wait()
	// Ranks that were stopped by another's failure say so; the other says more.
	var stopped error
	for _, err := range errs {
		if err != nil && !strings.Contains(err.Error(), "stopped: ") {
			return outs[0], err
		}
		stopped = cmp.Or(stopped, err)
	}
	return outs[0], stopped
}

// runRank is Run for one rank.
func runRank(ctx context.Context, o Options) (out *Outcome, err error) {
	t := &run{opts: o, recipe: o.Recipe, comm: o.Comm}
	// A rank that fails ends all, which would wait for it otherwise.
	defer func() {
		if err != nil && !errors.Is(err, ErrInterrupted) {
			t.comm.Abort(err)
		}
	}()
	if t.root() {
		if err := checkpoint.Prepare(o.Dir); err != nil {
			return nil, err
		}
		release, err := checkpoint.Lock(o.Dir)
		if err != nil {
			return nil, err
		}
		defer func() { _ = release() }()
	}
	saved, err := t.open(ctx)
	if err != nil {
		return nil, err
	}
	err = OnThread(func() error {
		var err error
		out, err = t.train(ctx, saved)
		return err
	})
	if err == nil || errors.Is(err, ErrInterrupted) {
		// The others wait while rank 0 evaluates.
		err = cmp.Or(t.comm.Barrier(), err)
	}
	return out, err
}

// root tells whether this is the rank that writes.
func (t *run) root() bool { return t.comm.Rank() == 0 }

// quiet is the Observer of ranks other than 0.
type quiet struct{ skip func(id string, err error) }

// Quiet is an Observer that passes on only what the ranks beside rank 0 have to tell:
// images that they could not read.
func Quiet(skip func(id string, err error)) Observer { return quiet{skip} }

func (q quiet) Skip(id string, err error) { q.skip(id, err) }

func (quiet) Start(Start) error          { return nil }
func (quiet) Step(*StepRecord) error     { return nil }
func (quiet) Note(string)                {}
func (quiet) Warn(string)                {}
func (quiet) Saved(int)                  {}
func (quiet) Evaluated(Evaluation) error { return nil }
func (quiet) Stage(string)               {}
func (quiet) Finish(*Outcome) error      { return nil }

// opening is what rank 0 tells the others of a run.
type opening struct {
	Recipe, Name string
	Data         string
	State        State
	Saved        bool // it goes on from a checkpoint
	Init         bool // it starts from weights of another
}

// lead tells the other ranks what the run is.
func (t *run) lead(saved bool) error {
	if t.comm.Size() == 1 {
		return nil
	}
	var text strings.Builder
	if err := t.recipe.Encode(&text); err != nil {
		return err
	}
	message, err := json.Marshal(opening{Recipe: text.String(), Name: t.recipe.Name, Data: t.opts.Data, State: t.state, Saved: saved, Init: t.opts.Init != ""})
	if err != nil {
		return err
	}
	_, err = dist.BroadcastBytes(t.comm, message, 0)
	return err
}

// follow opens the run that rank 0 tells of.
func (t *run) follow(ctx context.Context) error {
	message, err := dist.BroadcastBytes(t.comm, nil, 0)
	if err != nil {
		return err
	}
	var o opening
	if err := json.Unmarshal(message, &o); err != nil {
		return fmt.Errorf("rank %d: what rank 0 tells of the run: %w: all ranks must be the same version of swav", t.comm.Rank(), err)
	}
	if t.recipe, err = config.Parse([]byte(o.Recipe), o.Name); err != nil {
		return fmt.Errorf("rank %d: rank 0's recipe: %w: all ranks must be the same version of swav", t.comm.Rank(), err)
	}
	t.opts.Data, t.opts.Resume, t.state = o.Data, o.Saved, o.State
	if o.Init {
		t.opts.Init = "rank 0's"
	} else {
		t.opts.Init = ""
	}
	images, err := t.openData(ctx, t.peers())
	if err != nil {
		return fmt.Errorf("rank %d: %w", t.comm.Rank(), err)
	}
	if err := t.sameImages(images); err != nil {
		return err
	}
	t.state.Images = images
	return t.resolve()
}

// sameImages fails where ranks see different data.
func (t *run) sameImages(images int) error {
	b, err := dist.BroadcastBytes(t.comm, []byte(strconv.Itoa(images)), 0)
	if err != nil {
		return err
	}
	if of := string(b); of != strconv.Itoa(images) {
		return fmt.Errorf("rank %d finds %d images in %s, rank 0 found %s: all ranks must see the same data", t.comm.Rank(), images, t.source.Name(), of)
	}
	return nil
}

// shareable refuses data of which each rank would see another part.
func shareable(data string, ranks int) error {
	if ranks == 1 || !dataset.IsStream(data) || strings.HasPrefix(data, dataset.RepeatPrefix) {
		return nil
	}
	return fmt.Errorf("%s: a stream that is read once cannot feed %d ranks: use repeat:SHARDS, a folder, a list or shards, or one rank", data, ranks)
}

// place finds out how many threads this rank has and where.
func (t *run) place() (err error) {
	switch {
	case t.opts.Place != nil:
		t.threads, err = t.opts.Place(t.comm.Rank())
	case t.opts.Ranks > 1:
		t.threads = max(1, runtime.NumCPU()/t.opts.Ranks)
	}
	if err != nil {
		return fmt.Errorf("rank %d: %w", t.comm.Rank(), err)
	}
	return nil
}

// workers is the number of this rank's loader goroutines.
func (t *run) workers() int {
	if t.recipe.Data.Workers == 0 && t.threads > 0 {
		return t.threads
	}
	return workers(t.recipe)
}

// begin puts every rank where rank 0 is: at a checkpoint, at weights of another
// training, or at the recipe's seed, where all are anyway.
func (t *run) begin(saved *checkpoint.Loaded) (err error) {
	m := t.stepper.Model
	switch {
	case t.opts.Resume && (saved != nil || !t.root()):
		t.state, err = restore(t.stepper, saved, t.state)
		return err
	case t.opts.Init == "":
		return nil
	}
	if t.root() {
		if t.init, err = startFrom(m, t.opts.Init); err != nil {
			return err
		}
	}
	if t.comm.Size() == 1 {
		return nil
	}
	weights, buffers := download(m.Backend, m.Weights), download(m.Backend, m.Buffers)
	if err := errors.Join(t.comm.Broadcast(weights, 0), t.comm.Broadcast(buffers, 0)); err != nil {
		return err
	}
	m.Set(weights, buffers)
	return m.Backend.Sync()
}

// agree is how ranks decide together, before a step, whether it can be done: err is this
// rank's reason not to, nil if there is none. All get an error if one has; an
// interruption counts only where there is nothing worse.
func (t *run) agree(err error) error {
	if t.comm.Size() == 1 {
		return err
	}
	const interrupted, failed = 1, 2 // failed + rank
	var mine [1]float64
	switch {
	case errors.Is(err, context.Canceled):
		mine[0] = interrupted
	case err != nil:
		mine[0] = failed + float64(t.comm.Rank())
	}
	if bad := t.comm.AllReduce64(mine[:], dist.Max); bad != nil {
		return bad
	}
	switch {
	case mine[0] == 0:
		return nil
	case mine[0] == interrupted:
		return context.Canceled
	}
	// The highest rank that failed says why.
	var text []byte
	root := int(mine[0]) - failed
	if root == t.comm.Rank() {
		text = []byte(err.Error())
	}
	text, bad := dist.BroadcastBytes(t.comm, text, root)
	if bad != nil {
		return bad
	}
	if err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	return dataError{fmt.Errorf("rank %d: %s", root, text)}
}

// waits are what each rank waited for data in a step, on all ranks; nil of a single one.
func (t *run) waits(own time.Duration) ([]time.Duration, error) {
	n := t.comm.Size()
	if n == 1 {
		return nil, nil
	}
	seconds := make([]float64, n)
	seconds[t.comm.Rank()] = own.Seconds()
	if err := t.comm.AllReduce64(seconds, dist.Sum); err != nil {
		return nil, err
	}
	all := make([]time.Duration, n)
	for r, s := range seconds {
		all[r] = time.Duration(s * float64(time.Second))
	}
	return all, nil
}

// pieceBytes is how much of a long message is broadcast at once, within what
// dist.BroadcastBytes takes.
const pieceBytes = 1 << 26

// gatherBytes gives every rank what each has, of any length, piece bytes at a time.
func gatherBytes(c dist.Comm, own []byte, piece int) ([][]byte, error) {
	all := make([][]byte, c.Size())
	for rank := range all {
		b, err := dist.BroadcastBytes(c, []byte(strconv.Itoa(len(own))), rank)
		if err != nil {
			return nil, err
		}
		size, err := strconv.Atoi(string(b))
		if err != nil {
			return nil, err
		}
		for from := 0; from < size; from += piece {
			var part []byte
			if rank == c.Rank() {
				part = own[from:min(from+piece, size)]
			}
			if b, err = dist.BroadcastBytes(c, part, rank); err != nil {
				return nil, err
			}
			all[rank] = append(all[rank], b...)
		}
	}
	return all, nil
}

// gatherRows makes one table of all ranks' rows, on rank 0, nil elsewhere. Each rank has
// pieces of unit rows of dim numbers; the table has the first piece of every rank in rank
// order, then the second ones: the order in which a single rank would have them.
func gatherRows(c dist.Comm, rows []float32, unit, dim int) ([]float32, error) {
	n := c.Size()
	if n == 1 {
		return append([]float32(nil), rows...), nil
	}
	const most = 1 << 22 // numbers of a rank at once
	size := unit * dim
	pieces := len(rows) / size
	at := max(1, min(most/size, pieces))
	var table []float32
	if c.Rank() == 0 {
		table = make([]float32, n*len(rows))
	}
	got := make([]float32, n*at*size)
	for from := 0; from < pieces; from += at {
		some := min(at, pieces-from)
		part := got[:n*some*size]
		if err := c.AllGather(part, rows[from*size:(from+some)*size]); err != nil {
			return nil, err
		}
		if c.Rank() > 0 {
			continue
		}
		for r := range n {
			for p := range some {
				copy(table[((from+p)*n+r)*size:][:size], part[(r*some+p)*size:])
			}
		}
	}
	return table, nil
}

// ownRows picks a rank's rows from such a table.
func ownRows(c dist.Comm, table []float32, unit, dim int) []float32 {
	n, size := c.Size(), unit*dim
	rows := make([]float32, len(table)/n)
	for p := range len(rows) / size {
		copy(rows[p*size:][:size], table[(p*n+c.Rank())*size:])
	}
	return rows
}
