package mlflow

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// client makes the calls of MLflow's REST interface, version 2.0.
type client struct {
	base                  string // without a slash at the end
	token, user, password string
	limit                 time.Duration // of one call
	http                  http.Client
}

// Error is what a server answers when it refuses a call.
type Error struct {
	Call    string // "POST http://host/api/2.0/mlflow/runs/create"
	Status  int
	Code    string // MLflow's, such as RESOURCE_DOES_NOT_EXIST; may be empty
	Message string
}

func (e *Error) Error() string {
	text := fmt.Sprintf("%s: status %d", e.Call, e.Status)
	if e.Code != "" {
		text += ", " + e.Code
	}
	if e.Message != "" {
		text += ": " + e.Message
	}
	if e.Status == http.StatusUnauthorized || e.Status == http.StatusForbidden {
		text += " (MLFLOW_TRACKING_TOKEN, or MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, say who you are)"
	}
	return text
}

const (
	api       = "/api/2.0/mlflow/"
	maxAnswer = 1 << 20
)

func (c *client) post(ctx context.Context, call string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	return c.do(ctx, http.MethodPost, api+call, "application/json", body, out)
}

func (c *client) get(ctx context.Context, call string, query url.Values, out any) error {
	return c.do(ctx, http.MethodGet, api+call+"?"+query.Encode(), "", nil, out)
}

// put stores a file.
func (c *client) put(ctx context.Context, path string, data []byte) error {
	return c.do(ctx, http.MethodPut, path, "application/octet-stream", data, nil)
}

func (c *client) do(ctx context.Context, method, path, kind string, body []byte, out any) error {
	ctx, cancel := context.WithTimeout(ctx, c.limit)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	if kind != "" {
		req.Header.Set("Content-Type", kind)
	}
	switch {
	case c.token != "":
		req.Header.Set("Authorization", "Bearer "+c.token)
	case c.user != "":
		req.SetBasicAuth(c.user, c.password)
	}
	res, err := c.http.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("%s %s: %w", method, c.base+path, err)
	}
	if res.StatusCode/100 != 2 {
		e := &Error{Call: method + " " + c.base + strings.SplitN(path, "?", 2)[0], Status: res.StatusCode}
		var said struct {
			Code    string `json:"error_code"`
			Message string `json:"message"`
		}
		if json.Unmarshal(answer, &said) == nil {
			e.Code, e.Message = fmt.Sprintf("%.100s", said.Code), fmt.Sprintf("%.300s", said.Message)
		}
		return e
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(answer, out); err != nil {
		return fmt.Errorf("%s %s: the answer is not MLflow's: %w", method, c.base+path, err)
	}
	return nil
}

// experiment finds an experiment by name, or makes it, and returns its ID.
func (c *client) experiment(ctx context.Context, name string) (string, error) {
	var found struct {
		Experiment struct {
			ID string `json:"experiment_id"`
		} `json:"experiment"`
	}
	byName := func() error {
		return c.get(ctx, "experiments/get-by-name", url.Values{"experiment_name": {name}}, &found)
	}
	err := byName()
	if !notFound(err) {
		return found.Experiment.ID, err
	}
	var made struct {
		ID string `json:"experiment_id"`
	}
	err = c.post(ctx, "experiments/create", map[string]any{"name": name}, &made)
	if err != nil && byName() == nil { // another run was faster
		return found.Experiment.ID, nil
	}
	return made.ID, err
}

// runAnswer is a run as the server describes it.
type runAnswer struct {
	Run struct {
		Info struct {
			ID        string `json:"run_id"`
			Artifacts string `json:"artifact_uri"`
		} `json:"info"`
	} `json:"run"`
}

func (c *client) create(ctx context.Context, experiment, name string) (id, artifacts string, err error) {
	var a runAnswer
	err = c.post(ctx, "runs/create", map[string]any{"experiment_id": experiment, "run_name": name, "start_time": time.Now().UnixMilli(),
		"tags": []map[string]string{{"key": "mlflow.source.name", "value": "swav train"}}}, &a)
	if err == nil && a.Run.Info.ID == "" {
		err = fmt.Errorf("%s: runs/create names no run: is this an MLflow server?", c.base)
	}
	return a.Run.Info.ID, artifactPath(a.Run.Info.Artifacts), err
}

// goOn marks a run as running again.
func (c *client) goOn(ctx context.Context, id string) (artifacts string, err error) {
	var a runAnswer
	if err := c.get(ctx, "runs/get", url.Values{"run_id": {id}}, &a); err != nil {
		return "", err
	}
	return artifactPath(a.Run.Info.Artifacts), c.post(ctx, "runs/update", map[string]any{"run_id": id, "status": "RUNNING"}, nil)
}

func (c *client) update(ctx context.Context, id string, s Status) error {
	return c.post(ctx, "runs/update", map[string]any{"run_id": id, "status": s, "end_time": time.Now().UnixMilli()}, nil)
}

// artifactPath is where files of a run are put by HTTP; empty where the server does
// not keep them itself.
func artifactPath(uri string) string {
	u, err := url.Parse(uri)
	if err != nil || u.Scheme != "mlflow-artifacts" {
		return ""
	}
	return "/api/2.0/mlflow-artifacts/artifacts/" + strings.Trim(u.EscapedPath(), "/")
}

func (c *client) logBatch(ctx context.Context, id string, ms []Metric, params [][2]string) error {
	type metric struct {
		Key   string `json:"key"`
		Value any    `json:"value"`
		Time  int64  `json:"timestamp"`
		Step  int    `json:"step"`
	}
	type param struct {
		Key   string `json:"key"`
		Value string `json:"value"`
	}
	body := struct {
		ID      string   `json:"run_id"`
		Metrics []metric `json:"metrics"`
		Params  []param  `json:"params"`
	}{ID: id, Metrics: []metric{}, Params: []param{}}
	for _, m := range ms {
		body.Metrics = append(body.Metrics, metric{m.Name, number(m.Value), m.Time.UnixMilli(), m.Step})
	}
	for _, p := range params {
		value := []rune(p[1])
		body.Params = append(body.Params, param{p[0], string(value[:min(maxValue, len(value))])})
	}
	return c.post(ctx, "runs/log-batch", body, nil)
}

// number is a value as JSON of Protocol Buffers has it.
func number(v float64) any {
	switch {
	case math.IsNaN(v):
		return "NaN"
	case math.IsInf(v, 1):
		return "Infinity"
	case math.IsInf(v, -1):
		return "-Infinity"
	}
	return v
}
