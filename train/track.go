package train

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"image/png"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"swav/dataset"
	"swav/internal/mlflow"
	"swav/runlog"
)

// mlflowFile remembers, in a run directory, which run of which server it is.
const mlflowFile = "mlflow.json"

type mlflowRun struct {
	Server string `json:"server"`
	ID     string `json:"run_id"`
}

// mlflowOptions are how to log to the server that the recipe or the environment names;
// nil: there is none. The environment is MLflow's own: MLFLOW_TRACKING_URI,
// MLFLOW_TRACKING_TOKEN, MLFLOW_TRACKING_USERNAME, MLFLOW_TRACKING_PASSWORD,
// MLFLOW_EXPERIMENT_NAME.
func (l *RunLog) mlflowOptions() *mlflow.Options {
	s := &l.start
	server := s.Recipe.Log.MLflow
	if server == "" {
		server = os.Getenv("MLFLOW_TRACKING_URI")
		if server != "" && !strings.HasPrefix(server, "http://") && !strings.HasPrefix(server, "https://") {
			l.Note("MLFLOW_TRACKING_URI names no server (http:// or https://): nothing is logged to MLflow")
			return nil
		}
	}
	if server == "" || server == "off" {
		return nil
	}
	o := &mlflow.Options{URL: server, Experiment: s.Recipe.Log.Experiment, Name: runName(s.Dir), Params: s.params(), Warn: l.Warn,
		Token: os.Getenv("MLFLOW_TRACKING_TOKEN"), User: os.Getenv("MLFLOW_TRACKING_USERNAME"), Password: os.Getenv("MLFLOW_TRACKING_PASSWORD")}
	if o.Experiment == "" {
		o.Experiment = os.Getenv("MLFLOW_EXPERIMENT_NAME")
	}
	if o.Experiment == "" {
		o.Experiment = "swav"
	}
	here := mlflowRun{Server: mlflow.Address(server)}
	path := filepath.Join(s.Dir, mlflowFile)
	if s.Resume > 0 {
		var before mlflowRun
		data, err := os.ReadFile(path)
		if err == nil && json.Unmarshal(data, &before) == nil && before.Server == here.Server {
			o.ID = before.ID
		}
	}
	o.Created = func(id string) {
		here.ID = id
		data, err := json.Marshal(here)
		if err == nil {
			err = runlog.WriteFile(path, append(data, '\n'))
		}
		if err != nil {
			l.Warn(fmt.Sprintf("mlflow: %v: resumed, this would be another run there", err))
		}
	}
	return o
}

// runName is the name of a run directory.
func runName(dir string) string {
	if abs, err := filepath.Abs(dir); err == nil {
		dir = abs
	}
	return filepath.Base(dir)
}

// params are what a run is made of, for MLflow: the recipe, but for where it is logged
// to, and the facts.
func (s *Start) params() [][2]string {
	recipe := slices.DeleteFunc(s.Recipe.Values(), func(p [2]string) bool { return strings.HasPrefix(p[0], "log.") })
	return append(recipe,
		[2]string{"run.data", s.Source.Name()}, [2]string{"run.images", strconv.Itoa(s.Source.Len())},
		[2]string{"run.network", s.Arch.String()}, [2]string{"run.parameters", strconv.Itoa(s.Params)},
		[2]string{"run.steps", strconv.Itoa(s.Resolved.Steps)},
		[2]string{"run.device", s.Device}, [2]string{"run.precision", s.Precision})
}

// views puts the sheet of views into a new run's events. Streams have no images to draw
// yet, and those of a sharded source may be far away.
func (l *RunLog) views() error {
	s := &l.start
	if l.Views == nil || l.events == nil || s.Resume > 0 || s.Source.Len() == 0 {
		return nil
	}
	if _, sharded := s.Source.(dataset.Sharded); sharded {
		return nil
	}
	img, err := l.Views(s.Source, s.Recipe)
	var b bytes.Buffer
	if err == nil {
		err = png.Encode(&b, img)
	}
	if err != nil {
		l.Warn(fmt.Sprintf("no sheet of views for TensorBoard: %v", err))
		return nil
	}
	return l.events.Image(0, float64(time.Now().UnixMilli())/1e3, "views", b.Bytes())
}

// TensorBoardOptions say what TensorBoard is to show of a run.
type TensorBoardOptions struct {
	EmbedOptions        // the run, and images for the projector
	Dir          string // folder that is written into
}

// TensorBoard writes a run's curves, its sheet of prototypes and, of o.Images images,
// the projector's files. It returns how many steps and points there are.
func TensorBoard(ctx context.Context, o TensorBoardOptions) (steps, images int, err error) {
	_, recipe, err := findRun(o.Run)
	if err != nil {
		return 0, 0, err
	}
	run := filepath.Dir(recipe)
	metrics, err := runlog.ReadMetrics(run)
	if err != nil {
		return 0, 0, err
	}
	if len(metrics) == 0 {
		return 0, 0, fmt.Errorf("%s holds no %s: there are no curves to show", run, runlog.MetricsFile)
	}
	if err := os.MkdirAll(o.Dir, 0o755); err != nil {
		return 0, 0, err
	}
	if err := convertEvents(o.Dir, run, metrics); err != nil || o.Images == 0 {
		return len(metrics), 0, err
	}
	e, err := Embed(ctx, o.EmbedOptions)
	if err != nil {
		return 0, 0, err
	}
	return len(metrics), len(e.Index), runlog.WriteProjector(o.Dir, points(e.Source, e.Embedded, sample(len(e.Index), 0, 0)))
}

func convertEvents(dir, run string, metrics []runlog.Metric) (err error) {
	e, err := runlog.CreateEvents(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.Close()) }()
	for i := range metrics {
		if err := e.Scalars(metrics[i].Step, metrics[i].Time.Unix, metrics[i].Scalars()); err != nil {
			return err
		}
	}
	evaluations, err := runlog.ReadEvaluations(run)
	if err != nil {
		return err
	}
	for _, v := range evaluations {
		if err := e.Scalars(v.Step, metrics[min(max(v.Step-1, 0), len(metrics)-1)].Time.Unix, []runlog.Scalar{{Name: "eval/" + v.Protocol, Value: float64(v.Score)}}); err != nil {
			return err
		}
	}
	sheet, err := os.ReadFile(filepath.Join(run, "prototypes.png"))
	if errors.Is(err, os.ErrNotExist) {
		return nil // of a run that has not ended
	}
	if err != nil {
		return err
	}
	last := metrics[len(metrics)-1]
	return e.Image(last.Step+1, last.Time.Unix, "prototypes", sheet)
}

// trackers tells TensorBoard and MLflow of the outcome.
func (l *RunLog) trackers(o *Outcome, sheet []byte) error {
	if err := l.scalars(o.Steps, o.scalars()); err != nil {
		return err
	}
	if l.mlflow != nil {
		for _, name := range []string{"report.html", "prototypes.png", recipeFile} {
			data, err := os.ReadFile(filepath.Join(l.start.Dir, name))
			if err != nil {
				return err
			}
			l.mlflow.File(name, data)
		}
	}
	if l.events == nil {
		return nil
	}
	if err := l.events.Image(o.Steps, float64(time.Now().UnixMilli())/1e3, "prototypes", sheet); err != nil {
		return err
	}
	n := min(l.start.Recipe.Log.Projector, len(o.Looked.Index))
	if n == 0 {
		return nil
	}
	return runlog.WriteProjector(l.start.Dir, points(o.Source, o.Looked, sample(len(o.Looked.Index), n, l.start.Recipe.Train.Seed)))
}

// scalars are the numbers that a run comes to.
func (o *Outcome) scalars() []runlog.Scalar {
	all := []runlog.Scalar{{Name: "final/prototypes_used", Value: float64(o.Prototypes.Used)}, {Name: "final/prototypes_perplexity", Value: o.Prototypes.Perplexity}}
	if o.Prototypes.Labelled {
		all = append(all, runlog.Scalar{Name: "final/purity", Value: o.Prototypes.Purity}, runlog.Scalar{Name: "final/nmi", Value: o.Prototypes.NMI})
	}
	if t := o.KNN; t != nil {
		all = append(all, runlog.Scalar{Name: "final/knn", Value: t.Trained})
		if t.Baselines {
			all = append(all, runlog.Scalar{Name: "final/knn_untrained", Value: t.Untrained}, runlog.Scalar{Name: "final/knn_pixels", Value: t.Pixels})
		}
	}
	return all
}

// points are some rows of embedded images for TensorBoard's projector.
func points(src dataset.Source, e *Embedded, rows []int) *runlog.Points {
	dim := len(e.Features) / len(e.Index)
	p := &runlog.Points{Dim: dim, Columns: []string{"id", "label", "prototype"},
		Picture: func(i int) (image.Image, error) { return Picture(src, e.Index[rows[i]]) }}
	classes := src.Classes()
	for _, r := range rows {
		label := ""
		if c := src.Label(e.Index[r]); c >= 0 && c < len(classes) {
			label = classes[c]
		}
		p.Features = append(p.Features, e.Features[r*dim:(r+1)*dim]...)
		p.Metadata = append(p.Metadata, []string{src.ID(e.Index[r]), label, strconv.Itoa(e.Prototype[r])})
	}
	return p
}
