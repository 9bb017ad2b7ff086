package train

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"image"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"swav/config"
	"swav/dataset"
	"swav/internal/mlflow"
	"swav/runlog"
)

// RunLog is the Observer of a run for people: console, metrics.jsonl,
// skipped.jsonl, TensorBoard and MLflow as the recipe says, and at the end
// prototypes.png and report.html.
type RunLog struct {
	// Views draws some images with their views at the start of a run, for TensorBoard;
	// nil: they are not drawn.
	Views func(src dataset.Source, r *config.Recipe) (image.Image, error)

	out, err io.Writer // console, and warnings
	start    Start
	console  *runlog.Console
	metrics  *runlog.Metrics
	events   *runlog.Events // nil: none
	mlflow   *mlflow.Run    // nil: none
	status   mlflow.Status
	skips    *runlog.Skips
	mu       sync.Mutex
	notes    []string
	metric   runlog.Metric
	began    time.Time
	stalls   map[int]int // step at which a rank was last named as stalling
}

var _ Observer = (*RunLog)(nil)

// NewRunLog shows the run on out and warnings on err. Files go into dir.
func NewRunLog(out, err io.Writer, dir string) *RunLog {
	return &RunLog{out: out, err: err, skips: runlog.NewSkips(dir), began: time.Now(), status: mlflow.Killed}
}

// Start opens the files and prints what is about to run.
func (l *RunLog) Start(s Start) error {
	l.start = s
	if s.DryRun {
		runlog.Table(l.out, l.facts())
		return nil
	}
	facts := append(l.facts(), [2]string{"run", s.Dir})
	server := l.mlflowOptions()
	if server != nil {
		facts = append(facts, [2]string{"MLflow", fmt.Sprintf("%s, experiment %s", mlflow.Address(server.URL), server.Experiment)})
	}
	runlog.Table(l.out, facts)
	if s.Resume > 0 {
		fmt.Fprintf(l.out, "resuming at step %d of %d\n", s.Resume, s.Resolved.Steps)
	}
	var err error
	if l.metrics, err = runlog.OpenMetrics(s.Dir, s.Resume); err != nil {
		return err
	}
	if s.Recipe.Log.TensorBoard {
		if l.events, err = runlog.CreateEvents(s.Dir); err != nil {
			return err
		}
	}
	l.console = runlog.NewConsole(l.out, s.Resolved.Steps, s.Resume, s.Recipe.Train.LogEvery)
	if err := l.views(); err != nil {
		return err
	}
	if server != nil { // last: it may warn at any time from here on
		l.mlflow, err = mlflow.Start(*server)
	}
	return err
}

func (l *RunLog) facts() [][2]string {
	s := l.start
	var crops []string
	for _, c := range s.Recipe.Crops {
		crops = append(crops, fmt.Sprintf("%dx%d (scale %g to %g)", c.Count, c.Size, c.MinScale, c.MaxScale))
	}
	epochs := float64(s.Resolved.Steps) / float64(s.Resolved.StepsPerEpoch)
	facts := [][2]string{
		{"data", dataText(s)},
		{"method", s.Recipe.MethodName()},
		{"views", strings.Join(crops, " + ")},
		{"network", fmt.Sprintf("%v; %.2f M parameters, %.1f M multiply-accumulates an image", s.Arch, float64(s.Params)/1e6, float64(s.MACs)/1e6)},
		{"training", fmt.Sprintf("%d steps of %d images (%.3g epochs), %s, learning rate %g, seed %d", s.Resolved.Steps, s.Recipe.Train.Batch, epochs, s.Recipe.Optim.Kind, s.Recipe.Optim.LR, s.Recipe.Train.Seed)},
		{"device", fmt.Sprintf("%s, %s", s.Device, s.Precision)},
		{"memory", fmt.Sprintf("%s for intermediates, %s for weights, gradients, optimizer and method", size(s.Memory), size(s.Fixed))},
	}
	if s.Ranks > 1 {
		facts = append(facts, [2]string{"ranks", fmt.Sprintf("%d by %s, of %d images of a step each; device and memory are one rank's",
			s.Ranks, cmp.Or(s.Engine, "threads of this process"), s.Resolved.RankBatch*s.Recipe.Train.Accumulate)})
	}
	if s.Init != nil {
		facts = append(facts, [2]string{"start", strings.Join(s.Init, "; ")})
	}
	return facts
}

// dataText describes the data; a stream is a source that is empty at the start.
func dataText(s Start) string {
	if s.Source.Len() == 0 {
		return fmt.Sprintf("%s: images as they come, %d channel(s)", s.Source.Name(), s.Arch.InChannels)
	}
	return fmt.Sprintf("%s: %d images, %d channel(s), %d classes", s.Source.Name(), s.Source.Len(), s.Arch.InChannels, len(s.Source.Classes()))
}

// Step writes a line of metrics and shows it.
func (l *RunLog) Step(r *StepRecord) error {
	h := r.Health
	l.metric = runlog.Metric{
		Step: r.Step, Epoch: r.Epoch, Loss: runlog.Number(r.Loss), LR: runlog.Number(r.LR), GradNorm: runlog.Number(r.GradNorm),
		LossRatio: runlog.Number(h.LossRatio), Perplexity: runlog.Number(h.Perplexity), MarginalError: runlog.Number(h.MarginalError),
		CodeEntropy: runlog.Number(h.CodeEntropy), EffectiveRank: runlog.Number(h.EffectiveRank), UsedPrototypes: h.UsedPrototypes, Queue: r.Queue,
		Time: runlog.Timing{Unix: float64(time.Now().UnixMilli()) / 1e3, ImagesPerSecond: runlog.Number(float64(r.Images) / r.Elapsed.Seconds()),
			Seconds: r.Elapsed.Seconds(), Wait: r.Wait.Seconds()},
	}
	m := &l.metric
	for _, w := range r.Waits {
		m.Time.Waits = append(m.Time.Waits, w.Seconds())
	}
	l.stalled(r)
	if r.Clusters != nil {
		l.clusters(r, m)
	}
	if err := l.metrics.Write(m); err != nil {
		return err
	}
	if every := max(1, l.start.Recipe.Train.LogEvery/5); r.Step%every == 0 || r.Clusters != nil {
		if err := l.scalars(r.Step, m.Scalars()); err != nil {
			return err
		}
	}
	l.console.Step(m)
	for _, n := range r.Notices {
		l.note(n.String(), n.Try)
	}
	return nil
}

// scalars sends values of a step to TensorBoard and MLflow.
func (l *RunLog) scalars(step int, values []runlog.Scalar) error {
	now := time.Now()
	if l.mlflow != nil {
		for _, v := range values {
			l.mlflow.Log(mlflow.Metric{Name: v.Name, Value: v.Value, Step: step, Time: now})
		}
	}
	if l.events == nil {
		return nil
	}
	return l.events.Scalars(step, float64(now.UnixMilli())/1e3, values)
}

// A rank is said to stall when it waits for data this long and this share of a step,
// while the rank in the middle waits a fifth of it at most.
const (
	stallTime  = time.Second
	stallShare = 0.25
	stallQuiet = 100 // steps until the same rank is named again
)

// stalled names a rank whose source keeps the others waiting.
func (l *RunLog) stalled(r *StepRecord) {
	if len(r.Waits) == 0 {
		return
	}
	worst := 0
	for i, w := range r.Waits {
		if w > r.Waits[worst] {
			worst = i
		}
	}
	wait := r.Waits[worst]
	sorted := slices.Sorted(slices.Values(r.Waits))
	if wait < stallTime || wait.Seconds() < stallShare*r.Elapsed.Seconds() || sorted[(len(sorted)-1)/2] > wait/5 {
		return
	}
	if last, named := l.stalls[worst]; named && r.Step-last < stallQuiet {
		return
	}
	if l.stalls == nil {
		l.stalls = map[int]int{}
	}
	l.stalls[worst] = r.Step
	l.console.Print("swav: rank %d waited %s for data in step %d and kept the others waiting: its source or its processors are slow", worst, wait.Round(time.Millisecond), r.Step)
}

// clusters adds an epoch's clusters to its first step and shows them.
func (l *RunLog) clusters(r *StepRecord, m *runlog.Metric) {
	m.Time.Clustering = r.Clusters.Elapsed.Seconds()
	for h, c := range r.Clusters.Heads {
		m.Clusters = append(m.Clusters, runlog.Clusters{Clusters: c.Clusters, Images: c.Images, Empty: c.Empty, Largest: c.Largest, Smallest: c.Smallest,
			Perplexity: runlog.Number(c.Perplexity), Compared: c.Compared, NMI: runlog.Number(c.NMI), Moved: runlog.Number(c.Moved)})
		head := ""
		if len(r.Clusters.Heads) > 1 {
			head = fmt.Sprintf(" of head %d", h)
		}
		text := fmt.Sprintf("epoch %d  %d clusters%s: %d empty, %d to %d images", r.Epoch, c.Clusters, head, c.Empty, c.Smallest, c.Largest)
		if c.Compared > 0 {
			text += fmt.Sprintf("; since the last epoch %.1f %% moved, NMI %.3f", 100*c.Moved, c.NMI)
		}
		l.console.Print("%s", text)
	}
}

// note shows an alarm with what to try, and keeps it for the report.
func (l *RunLog) note(text string, try []string) {
	l.console.Print("swav: alarm: %s", text)
	for _, t := range try {
		l.console.Print("swav: hint: %s", t)
	}
	if len(try) > 0 {
		text += ". Try: " + strings.Join(try, "; ")
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.notes = append(l.notes, text)
}

// noted is what the report is to tell of.
func (l *RunLog) noted() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.notes)
}

// shownSkips is how many unreadable images are named on the console.
const shownSkips = 5

// Skip notes an unreadable image.
func (l *RunLog) Skip(id string, err error) {
	l.skips.Add(id, err)
	if n := l.skips.Count(); n <= shownSkips {
		l.Warn(fmt.Sprintf("skipped %s: %v", id, err))
	} else if n == shownSkips+1 {
		l.Warn("more images cannot be read; skipped.jsonl lists them all")
	}
}

// Note shows what is worth knowing.
func (l *RunLog) Note(text string) { l.print("note", text) }

// Warn shows a warning and keeps it for the report.
func (l *RunLog) Warn(text string) {
	l.mu.Lock()
	l.notes = append(l.notes, text)
	l.mu.Unlock()
	l.print("warning", text)
}

func (l *RunLog) print(kind, text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.console != nil {
		l.console.Print("swav: %s: %s", kind, text)
	} else {
		fmt.Fprintf(l.err, "swav: %s: %s\n", kind, text)
	}
}

// Saved is silent: a checkpoint is what is expected.
func (l *RunLog) Saved(int) {}

// Evaluated shows an evaluation during training and keeps it in evaluations.jsonl.
func (l *RunLog) Evaluated(e Evaluation) error {
	note := ""
	if e.Best {
		note = ", the best so far: kept as " + filepath.Join(l.start.Dir, bestDir)
	}
	l.console.Print("step %d  %s %s%s", e.Step, e.Protocol, scoreText(e.Protocol, e.Score), note)
	if err := l.scalars(e.Step, []runlog.Scalar{{Name: "eval/" + e.Protocol, Value: e.Score}}); err != nil {
		return err
	}
	return runlog.AppendEvaluation(l.start.Dir, runlog.Evaluation{Step: e.Step, Epoch: e.Epoch, Protocol: e.Protocol, Score: runlog.Number(e.Score), Best: e.Best, Seconds: e.Seconds})
}

// scoreText is a protocol's score for people.
func scoreText(protocol string, score float64) string {
	if protocol == "cluster" {
		return fmt.Sprintf("NMI %.4f", score)
	}
	return percentText(score)
}

// Stage names what follows the training.
func (l *RunLog) Stage(text string) {
	l.console.Close()
	fmt.Fprintf(l.out, "%s …\n", text)
}

// Ended tells what Run has returned.
func (l *RunLog) Ended(err error) {
	switch {
	case err == nil:
		l.status = mlflow.Finished
	case !errors.Is(err, ErrInterrupted):
		l.status = mlflow.Failed
	}
}

// Close closes the files; the run may have ended anywhere.
func (l *RunLog) Close() error {
	if l.console != nil {
		l.console.Close()
	}
	if l.mlflow != nil {
		l.mlflow.Close(l.status)
	}
	for _, c := range []io.Closer{l.metrics, l.events, l.skips} {
		if m, ok := c.(*runlog.Metrics); ok && m == nil {
			continue
		}
		if e, ok := c.(*runlog.Events); ok && e == nil {
			continue
		}
		if err := c.Close(); err != nil {
			return err
		}
	}
	return nil
}

// Finish prints the outcome and writes the pictures.
func (l *RunLog) Finish(o *Outcome) error {
	dir := l.start.Dir
	sheet, err := l.sheet(o)
	if err != nil {
		return err
	}
	r := &runlog.Report{
		Title:    l.start.Recipe.MethodName() + " on " + filepath.Base(strings.TrimSuffix(o.Source.Name(), "/")),
		Subtitle: fmt.Sprintf("%d steps, %d images seen, %s of training; %s", o.Steps, o.Images, time.Duration(o.Seconds*1e9).Round(time.Second), time.Now().Format("2006-01-02 15:04")),
		Facts:    l.facts(), Notes: l.noted(), Choices: l.start.Notes,
		LnK: l.chance(), K: l.start.Arch.Clusters(), Dim: l.start.Arch.FeatureDim, Sheet: sheet,
	}
	if r.Metrics, err = runlog.ReadMetrics(dir); err != nil {
		return err
	}
	if r.Evaluations, err = runlog.ReadEvaluations(dir); err != nil {
		return err
	}
	var recipe bytes.Buffer
	if err := l.start.Recipe.Encode(&recipe); err != nil {
		return err
	}
	r.Recipe = recipe.String()
	r.Tiles, r.Table = tiles(o)
	if err := runlog.WriteReport(filepath.Join(dir, "report.html"), r); err != nil {
		return err
	}
	if err := l.trackers(o, sheet); err != nil {
		return err
	}
	fmt.Fprintln(l.out)
	if t := o.KNN; t != nil {
		PrintKNN(l.out, t)
	}
	fmt.Fprintf(l.out, "%d of %d prototypes in use, perplexity %.0f", o.Prototypes.Used, len(o.Prototypes.Counts), o.Prototypes.Perplexity)
	if o.Prototypes.Labelled {
		fmt.Fprintf(l.out, ", purity %.1f %%, NMI %.3f", 100*o.Prototypes.Purity, o.Prototypes.NMI)
	}
	fmt.Fprintf(l.out, "\n\ndone in %s\n  %s\n  %s\n", time.Since(l.began).Round(time.Second), filepath.Join(dir, "report.html"), filepath.Join(dir, "prototypes.png"))
	fmt.Fprintf(l.out, "\nlook further\n  swav map %[1]s\n  swav search %[1]s IMAGE --out nearest.png\n  swav serve %[1]s\n", dir)
	return nil
}

// chance is the loss of a network that is constant.
func (l *RunLog) chance() float64 {
	heads := l.start.Arch.HeadSizes()
	var sum float64
	for _, k := range heads {
		sum += math.Log(float64(k))
	}
	return sum / float64(len(heads))
}

// PrintKNN prints the table of nearest-neighbour accuracies.
func PrintKNN(w io.Writer, t *KNNTable) {
	fmt.Fprintf(w, "weighted kNN (k %d, temperature %g), %d references, %d queries", t.K, t.Temperature, t.References, t.Queries)
	if t.Holdout {
		fmt.Fprint(w, " held out of the training images")
	}
	fmt.Fprintln(w)
	for _, r := range knnRows(t) {
		fmt.Fprintf(w, "  %-32s %s\n", r[0], r[1])
	}
}

func knnRows(t *KNNTable) [][]string {
	rows := [][]string{{"this network, trained", percentText(t.Trained)}}
	if t.Baselines {
		rows = append(rows, []string{"the same network, untrained", percentText(t.Untrained)}, []string{"raw pixels", percentText(t.Pixels)})
	}
	return append(rows, []string{"always the most frequent class", percentText(t.Majority)})
}

func percentText(p float64) string { return fmt.Sprintf("%.2f %%", p) }

// tiles are the report's headline numbers and the table behind them.
func tiles(o *Outcome) ([]runlog.Tile, *runlog.Comparison) {
	usage := runlog.Tile{Value: fmt.Sprintf("%d / %d", o.Prototypes.Used, len(o.Prototypes.Counts)), Name: "prototypes in use", Help: fmt.Sprintf("perplexity %.0f", o.Prototypes.Perplexity)}
	t := o.KNN
	if t == nil {
		return []runlog.Tile{usage}, nil
	}
	all := []runlog.Tile{{Value: percentText(t.Trained), Name: "kNN accuracy, trained", Help: "without a label in training", Good: true}}
	if t.Baselines {
		all = append(all,
			runlog.Tile{Value: percentText(t.Pixels), Name: "raw pixels", Help: fmt.Sprintf("trained is %+.1f points", t.Trained-t.Pixels)},
			runlog.Tile{Value: percentText(t.Untrained), Name: "the network untrained", Help: fmt.Sprintf("trained is %+.1f points", t.Trained-t.Untrained)})
	}
	caption := fmt.Sprintf("Weighted kNN (k %d, temperature %g): %d references, %d queries", t.K, t.Temperature, t.References, t.Queries)
	if t.Holdout {
		caption += " held out of the training images"
	}
	return append(all, usage), &runlog.Comparison{Caption: caption, Head: []string{"features", "accuracy"}, Rows: knnRows(t)}
}

// size is a number of bytes for people.
func size(bytes int64) string {
	if bytes < 1e8 {
		return fmt.Sprintf("%.1f MB", float64(bytes)/1e6)
	}
	return fmt.Sprintf("%.2f GB", float64(bytes)/1e9)
}

// className is a class's name to be read on its own.
func className(name string) string {
	if _, err := strconv.Atoi(name); err == nil {
		return "class " + name
	}
	return name
}

// sheet draws prototypes.png, writes it, and returns its bytes.
func (l *RunLog) sheet(o *Outcome) ([]byte, error) {
	var rows []runlog.SheetRow
	for _, p := range o.Sheet {
		row := runlog.SheetRow{Title: fmt.Sprintf("prototype %d", p.Prototype), Lines: []string{fmt.Sprintf("%.1f %% of the images", 100*p.Share)}}
		if p.Majority >= 0 && p.Majority < len(o.Classes) {
			row.Lines = append(row.Lines, fmt.Sprintf("%.0f %% %s", 100*p.Purity, className(o.Classes[p.Majority])))
		}
		for _, i := range p.Images {
			img, err := Picture(o.Source, i)
			if err != nil {
				img = nil
			}
			row.Images = append(row.Images, img)
		}
		rows = append(rows, row)
	}
	title := fmt.Sprintf("The %d most used of %d prototypes", len(rows), len(o.Prototypes.Counts))
	img, err := runlog.Sheet(title, "Each row: the images nearest to a prototype, nearest first. No label was used to find them.", rows)
	if err != nil {
		return nil, err
	}
	path := filepath.Join(l.start.Dir, "prototypes.png")
	if err := runlog.WritePNG(path, img); err != nil {
		return nil, err
	}
	return os.ReadFile(path)
}
