package train

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// tracker is as much of an MLflow server as a run talks to.
type tracker struct {
	mu       sync.Mutex
	created  int
	params   map[string]string
	losses   map[int]float64 // by step
	final    map[string]float64
	files    map[string]int // bytes
	statuses []string
}

func (s *tracker) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	body, _ := io.ReadAll(r.Body)
	const run = `{"run": {"info": {"run_id": "r1", "artifact_uri": "mlflow-artifacts:/0/r1/artifacts"}}}`
	switch call := strings.TrimPrefix(r.URL.Path, "/api/2.0/mlflow/"); call {
	case "experiments/get-by-name":
		fmt.Fprint(w, `{"experiment": {"experiment_id": "0"}}`)
	case "runs/create":
		s.created++
		fmt.Fprint(w, run)
	case "runs/get":
		fmt.Fprint(w, run)
	case "runs/update":
		var in struct{ Status string }
		_ = json.Unmarshal(body, &in)
		s.statuses = append(s.statuses, in.Status)
		fmt.Fprint(w, "{}")
	case "runs/log-batch":
		var in struct {
			Metrics []struct {
				Key   string
				Value float64
				Step  int
			}
			Params []struct{ Key, Value string }
		}
		if err := json.Unmarshal(body, &in); err != nil {
			w.WriteHeader(400)
			return
		}
		for _, m := range in.Metrics {
			if m.Key == "train/loss" {
				s.losses[m.Step] = m.Value
			}
			s.final[m.Key] = m.Value
		}
		for _, p := range in.Params {
			s.params[p.Key] = p.Value
		}
		fmt.Fprint(w, "{}")
	default:
		s.files[filepath.Base(call)] = len(body)
	}
}

// MLflow has the curves, the recipe and the outcome of a run, as one run however often
// it was interrupted.
func TestMLflow(t *testing.T) {
	s := &tracker{params: map[string]string{}, losses: map[int]float64{}, final: map[string]float64{}, files: map[string]int{}}
	server := httptest.NewServer(s)
	defer server.Close()
	t.Setenv("MLFLOW_TRACKING_URI", server.URL)
	data, dir := photos(t, 20), t.TempDir()
	o := Options{Recipe: recipe(t), Data: data, Dir: dir, Stop: 4}
	if _, screen, err := execute(context.Background(), o); !errors.Is(err, ErrInterrupted) || !strings.Contains(screen, server.URL+", experiment swav") {
		t.Fatalf("%v\n%s", err, screen)
	}
	out, screen, err := execute(context.Background(), Options{Dir: dir, Resume: true})
	if err != nil || strings.Contains(screen, "warning") {
		t.Fatalf("%v\n%s", err, screen)
	}
	if got := strings.Join(s.statuses, " "); s.created != 1 || got != "KILLED RUNNING FINISHED" {
		t.Errorf("%d runs, %s", s.created, got)
	}
	if s.params["optim.lr"] != "0.3" || s.params["crops.1.size"] != "8" || s.params["run.images"] != "20" {
		t.Errorf("parameters %v", s.params)
	}
	for _, m := range deterministic(t, dir) {
		if got, ok := s.losses[m.Step]; !ok || got != float64(m.Loss) {
			t.Errorf("step %d: loss %v, want %v", m.Step, got, m.Loss)
		}
	}
	if len(s.losses) != 7 || out.KNN == nil || s.final["final/knn"] != out.KNN.Trained {
		t.Errorf("%d losses, kNN %v", len(s.losses), s.final["final/knn"])
	}
	for _, name := range []string{"report.html", "prototypes.png", recipeFile} {
		if s.files[name] == 0 {
			t.Errorf("no %s among %v", name, s.files)
		}
	}
}

// A server that is not there makes no difference to a run but for a warning.
func TestMLflowAway(t *testing.T) {
	server := httptest.NewServer(nil)
	server.Close()
	data, with, without := photos(t, 20), t.TempDir(), t.TempDir()
	_, screen, err := execute(context.Background(), Options{Recipe: recipe(t, "log.mlflow="+server.URL), Data: data, Dir: with})
	if err != nil || !strings.Contains(screen, "mlflow") {
		t.Fatalf("%v\n%s", err, screen)
	}
	if _, screen, err := execute(context.Background(), Options{Recipe: recipe(t, "log.mlflow=off"), Data: data, Dir: without}); err != nil {
		t.Fatalf("%v\n%s", err, screen)
	}
	sameRuns(t, without, with)
}

// TensorBoard finds curves, sheet and projector in a run, and in what it is converted
// to afterwards; or nothing, if that is wanted.
func TestTensorBoard(t *testing.T) {
	ctx := context.Background()
	data, dir, other := photos(t, 20), t.TempDir(), filepath.Join(t.TempDir(), "tb")
	if _, screen, err := execute(ctx, Options{Recipe: recipe(t, "log.projector=7"), Data: data, Dir: dir}); err != nil {
		t.Fatalf("%v\n%s", err, screen)
	}
	steps, images, err := TensorBoard(ctx, TensorBoardOptions{Dir: other, EmbedOptions: EmbedOptions{Run: dir, Images: 9}})
	if err != nil || steps != 7 || images != 9 {
		t.Fatalf("%d steps, %d images, %v", steps, images, err)
	}
	for at, points := range map[string]int{dir: 7, other: 9} {
		events, _ := filepath.Glob(filepath.Join(at, "events.out.tfevents.*"))
		if len(events) != 1 {
			t.Fatalf("%s: events %v", at, events)
		}
		content, err := os.ReadFile(events[0])
		if err != nil || bytes.Count(content, []byte("train/loss")) != 7 || bytes.Count(content, []byte("\x89PNG")) != 1 {
			t.Errorf("%s: %d losses, %d pictures, %v", at, bytes.Count(content, []byte("train/loss")), bytes.Count(content, []byte("\x89PNG")), err)
		}
		tensor, err1 := os.ReadFile(filepath.Join(at, "projector", "tensor.tsv"))
		metadata, err2 := os.ReadFile(filepath.Join(at, "projector", "metadata.tsv"))
		_, err3 := os.Stat(filepath.Join(at, "projector_config.pbtxt"))
		if err := errors.Join(err1, err2, err3); err != nil {
			t.Fatal(err)
		}
		if bytes.Count(tensor, []byte("\n")) != points || bytes.Count(metadata, []byte("\n")) != points+1 || !bytes.Contains(metadata, []byte("\tspots\t")) {
			t.Errorf("%s: want %d points:\n%s", at, points, metadata)
		}
	}
	none := t.TempDir()
	if _, screen, err := execute(ctx, Options{Recipe: recipe(t, "log.tensorboard=false"), Data: data, Dir: none}); err != nil {
		t.Fatalf("%v\n%s", err, screen)
	}
	if files, _ := filepath.Glob(filepath.Join(none, "[ep][vr][eo][nj]*")); len(files) > 0 {
		t.Errorf("without TensorBoard: %v", files)
	}
	if _, _, err := TensorBoard(ctx, TensorBoardOptions{Dir: other, EmbedOptions: EmbedOptions{Run: t.TempDir()}}); err == nil {
		t.Error("no error for a folder without a run")
	}
}
