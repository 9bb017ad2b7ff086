package mlflow

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// soon is the usual timing for tests that do not wait; what is never to come is
// given up by closing.
var soon = timing{collect: time.Millisecond, pause: time.Millisecond, longest: 5 * time.Millisecond, call: 10 * time.Second, closing: 10 * time.Second, end: time.Minute}

// server is an MLflow server that keeps what it is told.
type server struct {
	t *testing.T
	*httptest.Server
	mu      sync.Mutex
	calls   []string // "POST runs/create"
	auth    []string
	metrics []string // "train/loss 3 = 0.5"
	params  map[string]string
	files   map[string]string
	status  string
	name    string                                             // of the run
	known   bool                                               // the experiment is
	answer  func(call string, n int) (status int, code string) // 0: as usual; n counts the calls from 1
}

func newServer(t *testing.T) *server {
	s := &server{t: t, params: map[string]string{}, files: map[string]string{}}
	s.Server = httptest.NewServer(s)
	t.Cleanup(s.Close)
	return s
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	call := r.Method + " " + strings.TrimPrefix(r.URL.Path, "/api/2.0/mlflow/")
	s.calls = append(s.calls, call)
	s.auth = append(s.auth, r.Header.Get("Authorization"))
	fail := func(status int, code string) {
		w.WriteHeader(status)
		fmt.Fprintf(w, `{"error_code": %q, "message": "no luck"}`, code)
	}
	if s.answer != nil {
		if status, code := s.answer(call, len(s.calls)); status != 0 {
			fail(status, code)
			return
		}
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		s.t.Error(err)
	}
	var in struct {
		Status           string
		Run_id, Run_name string
		Experiment_id    string
		Metrics          []struct {
			Key       string
			Value     any
			Step      int
			Timestamp int64
		}
		Params []struct{ Key, Value string }
	}
	if r.Method == "POST" {
		if err := json.Unmarshal(body, &in); err != nil {
			s.t.Errorf("%s: %v", call, err)
		}
	}
	const run = `{"run": {"info": {"run_id": "r1", "artifact_uri": "mlflow-artifacts:/7/r1/artifacts"}}}`
	switch call {
	case "GET experiments/get-by-name":
		if !s.known {
			fail(404, "RESOURCE_DOES_NOT_EXIST")
			return
		}
		fmt.Fprintf(w, `{"experiment": {"experiment_id": "7", "name": %q}}`, r.URL.Query().Get("experiment_name"))
	case "POST experiments/create":
		s.known = true
		fmt.Fprint(w, `{"experiment_id": "7"}`)
	case "POST runs/create":
		if in.Experiment_id != "7" {
			s.t.Errorf("run in experiment %q", in.Experiment_id)
		}
		s.name = in.Run_name
		fmt.Fprint(w, run)
	case "GET runs/get":
		if r.URL.Query().Get("run_id") != "r1" {
			fail(404, "RESOURCE_DOES_NOT_EXIST")
			return
		}
		fmt.Fprint(w, run)
	case "POST runs/log-batch":
		if in.Run_id != "r1" || len(in.Metrics) > 1000 || len(in.Params) > 100 {
			s.t.Errorf("%d metrics and %d parameters for run %q", len(in.Metrics), len(in.Params), in.Run_id)
		}
		for _, m := range in.Metrics {
			s.metrics = append(s.metrics, fmt.Sprintf("%s %d = %v", m.Key, m.Step, m.Value))
		}
		for _, p := range in.Params {
			s.params[p.Key] = p.Value
		}
		fmt.Fprint(w, `{}`)
	case "POST runs/update":
		s.status = in.Status
		fmt.Fprint(w, `{}`)
	default:
		if r.Method != "PUT" {
			s.t.Errorf("call %s", call)
		}
		s.files[strings.TrimPrefix(r.URL.Path, "/api/2.0/mlflow-artifacts/artifacts/")] = string(body)
	}
}

// steps are n values of a metric, and as the server keeps them.
func steps(n int) (ms []Metric, kept []string) {
	for i := range n {
		ms = append(ms, Metric{Name: "train/loss", Value: float64(i) / 2, Step: i, Time: time.UnixMilli(int64(1000 + i))})
		kept = append(kept, fmt.Sprintf("train/loss %d = %v", i, float64(i)/2))
	}
	return ms, kept
}

// warnings collects what a run warns of.
type warnings struct {
	mu  sync.Mutex
	all []string
}

func (w *warnings) add(text string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.all = append(w.all, text)
}

func begin(t *testing.T, o Options, wait timing) (*Run, *warnings) {
	t.Helper()
	w := &warnings{}
	o.Warn = w.add
	r, err := start(o, wait)
	if err != nil {
		t.Fatal(err)
	}
	return r, w
}

func TestRun(t *testing.T) {
	s := newServer(t)
	var params [][2]string
	for i := range 130 {
		params = append(params, [2]string{fmt.Sprintf("key.%d", i), strings.Repeat("é", 400+i)})
	}
	var id string
	r, w := begin(t, Options{URL: s.URL + "/", Experiment: "photos", Name: "first", Token: "secret", Params: params, Created: func(i string) { id = i }}, soon)
	ms, kept := steps(2500)
	r.Log(ms[:3]...)
	r.Log(ms[3:]...)
	r.Log(Metric{Name: "odd", Value: math.NaN()}, Metric{Name: "odd", Value: math.Inf(-1)})
	r.File("report.html", []byte("<p>"))
	r.Close(Finished)
	if kept = append(kept, "odd 0 = NaN", "odd 0 = -Infinity"); !slices.Equal(s.metrics, kept) {
		t.Errorf("%d metrics, want %d", len(s.metrics), len(kept))
	}
	if len(s.params) != 130 || s.params["key.7"] != strings.Repeat("é", 407) || s.params["key.129"] != strings.Repeat("é", 500) {
		t.Errorf("%d parameters", len(s.params))
	}
	if want := map[string]string{"7/r1/artifacts/report.html": "<p>"}; !reflect.DeepEqual(s.files, want) {
		t.Errorf("files %v", s.files)
	}
	if s.status != "FINISHED" || s.name != "first" || id != "r1" || len(w.all) > 0 {
		t.Errorf("status %s of %q, ID %q, warnings %q", s.status, s.name, id, w.all)
	}
	if slices.ContainsFunc(s.auth, func(a string) bool { return a != "Bearer secret" }) {
		t.Errorf("authorization %q", s.auth)
	}
}

// While the server is away the run goes on; when it is back, it gets every value
// once.
func TestServerAwayForAWhile(t *testing.T) {
	s := newServer(t)
	s.answer = func(_ string, n int) (int, string) {
		if n%3 != 0 && n < 30 {
			return 503, ""
		}
		return 0, ""
	}
	r, w := begin(t, Options{URL: s.URL, Experiment: "x"}, soon)
	ms, kept := steps(5000)
	for len(ms) > 0 {
		r.Log(ms[:100]...)
		ms = ms[100:]
	}
	r.Close(Killed)
	if !slices.Equal(s.metrics, kept) || s.status != "KILLED" {
		t.Errorf("%d metrics, want %d; status %s", len(s.metrics), len(kept), s.status)
	}
	if len(w.all) == 0 || !strings.Contains(w.all[0], "503") || !strings.Contains(w.all[0], "tried again") {
		t.Errorf("warnings %q", w.all)
	}
}

// A server that never answers costs a run nothing but the wait at its end.
func TestServerAway(t *testing.T) {
	s := newServer(t)
	s.Server.Close()
	short := soon
	short.closing = 20 * time.Millisecond
	r, w := begin(t, Options{URL: s.URL, Experiment: "x"}, short)
	ms, _ := steps(10)
	r.Log(ms...)
	r.Close(Finished)
	if len(w.all) == 0 || !strings.Contains(w.all[len(w.all)-1], "10 values") {
		t.Errorf("warnings %q", w.all)
	}
}

// What a server refuses is said once, and not tried again.
func TestServerRefuses(t *testing.T) {
	for _, tc := range []struct {
		call   string
		status int
		code   string
		want   string
		ends   bool // the run is not logged any further
	}{
		{"GET experiments/get-by-name", 401, "", "MLFLOW_TRACKING_TOKEN", true},
		{"GET experiments/get-by-name", 404, "", "status 404", true},
		{"POST runs/create", 400, "INVALID_STATE", "INVALID_STATE: no luck", true},
		{"POST runs/log-batch", 400, "INVALID_PARAMETER_VALUE", "parameters: not taken", false},
		{"POST runs/log-batch", 404, "RESOURCE_DOES_NOT_EXIST", "nothing more is sent", true},
		{"PUT /api/2.0/mlflow-artifacts/artifacts/7/r1/artifacts/a.txt", 403, "", "a.txt: not taken", false},
	} {
		s := newServer(t)
		s.answer = func(call string, _ int) (int, string) {
			if call == tc.call {
				return tc.status, tc.code
			}
			return 0, ""
		}
		r, w := begin(t, Options{URL: s.URL, Experiment: "x", Params: [][2]string{{"a", "b"}}}, soon)
		ms, _ := steps(3)
		r.Log(ms...)
		r.File("a.txt", nil)
		r.Close(Failed)
		if len(w.all) != 1 || !strings.Contains(w.all[0], tc.want) {
			t.Errorf("%s %d: warnings %q, want %q", tc.call, tc.status, w.all, tc.want)
		}
		if tc.ends != (s.status == "") {
			t.Errorf("%s %d: status %q", tc.call, tc.status, s.status)
		}
	}
}

func TestGoOn(t *testing.T) {
	for id, created := range map[string]bool{"r1": false, "gone": true} {
		s := newServer(t)
		s.known = true
		made := false
		r, w := begin(t, Options{URL: s.URL, Experiment: "x", ID: id, Created: func(string) { made = true }}, soon)
		ms, kept := steps(3)
		r.Log(ms...)
		r.Close(Finished)
		if !slices.Equal(s.metrics, kept) || made != created || slices.Contains(s.calls, "POST runs/create") != created || (len(w.all) > 0) != created {
			t.Errorf("run %s: %q, %q, created %v", id, s.calls, w.all, made)
		}
	}
}

// The oldest values go when the server is away for too long, and are counted; a batch
// that was under way meanwhile is not.
func TestQueueIsBounded(t *testing.T) {
	s := newServer(t)
	release := make(chan struct{})
	var once sync.Once
	entered := make(chan struct{})
	s.answer = func(call string, _ int) (int, string) {
		if call == "POST runs/log-batch" {
			once.Do(func() { close(entered); <-release })
		}
		return 0, ""
	}
	r, w := begin(t, Options{URL: s.URL, Experiment: "x"}, soon)
	ms, kept := steps(maxQueue + 1700)
	r.Log(ms[:10]...)
	<-entered
	r.Log(ms[10:]...)
	close(release)
	r.Close(Finished)
	want := slices.Concat(kept[:10], kept[1700:])
	if !slices.Equal(s.metrics, want) {
		t.Errorf("%d metrics, want %d", len(s.metrics), len(want))
	}
	if len(w.all) != 1 || !strings.Contains(w.all[0], "1690 values") {
		t.Errorf("warnings %q", w.all)
	}
}

func TestOptions(t *testing.T) {
	for _, u := range []string{"", "sqlite:///x.db", "http://", "localhost:5000", "http://user:secret@", ":\x00secret"} {
		if r, err := Start(Options{URL: u}); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: %v, %v", u, r, err)
		}
	}
	s := newServer(t)
	r, _ := begin(t, Options{URL: strings.Replace(s.URL, "://", "://me:secret@", 1), Experiment: "x"}, soon)
	r.Close(Finished)
	if len(s.auth) == 0 || s.auth[0] != "Basic bWU6c2VjcmV0" {
		t.Errorf("authorization %q", s.auth)
	}
}

func TestArtifactPath(t *testing.T) {
	for uri, want := range map[string]string{
		"mlflow-artifacts:/7/r1/artifacts":         "/api/2.0/mlflow-artifacts/artifacts/7/r1/artifacts",
		"mlflow-artifacts://host:5000/7/artifacts": "/api/2.0/mlflow-artifacts/artifacts/7/artifacts",
		"s3://bucket/7": "", "/var/mlruns/7": "", "": "",
	} {
		if got := artifactPath(uri); got != want {
			t.Errorf("%s: %q, want %q", uri, got, want)
		}
	}
}
