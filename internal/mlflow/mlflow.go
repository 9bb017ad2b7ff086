// Package mlflow sends a run to an MLflow tracking server by its REST interface:
// parameters, metrics and files.
//
// A Run never holds its caller up and never makes it fail. What is logged waits in
// memory, of bounded size, until a goroutine has sent it in batches; while the server
// is away it tries again with growing pauses, and what it refuses for good is told of
// once. Methods may be called by any goroutine.
//
// What the values mean, and where else they are kept, is the caller's.
package mlflow

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"time"
)

// Options describe a run to be logged.
type Options struct {
	URL        string // of the server; user and password in it are used, and not shown
	Experiment string // is made where there is none of this name
	Name       string // of the run
	ID         string // of a run to go on with; empty: a new one
	Token      string // sent as bearer token, where not empty
	User       string // with Password: basic authentication, where there is no token
	Password   string
	Params     [][2]string // name, value
	Warn       func(string)
	Created    func(id string) // told of a new run's ID
}

// Metric is a value of a step.
type Metric struct {
	Name  string
	Value float64
	Step  int
	Time  time.Time
}

// Status is how a run has ended.
type Status string

// A run is finished, interrupted from outside, or has failed.
const (
	Finished Status = "FINISHED"
	Killed   Status = "KILLED"
	Failed   Status = "FAILED"
)

// MLflow's limits for one call (its REST reference), and ours.
const (
	maxMetrics = 1000
	maxParams  = 100
	maxValue   = 500     // characters of a parameter; later versions take more
	maxQueue   = 100_000 // metrics that wait; then the oldest go
)

// timing is how long things may take.
type timing struct {
	collect time.Duration // metrics wait for others
	pause   time.Duration // after the first failure, then twice as long each time
	longest time.Duration // pause
	call    time.Duration // of one request
	closing time.Duration // at the end, without anything taken
	end     time.Duration // at the end in all
}

var usual = timing{collect: 2 * time.Second, pause: time.Second, longest: time.Minute, call: 15 * time.Second, closing: 5 * time.Second, end: time.Minute}

// Run is a run on a server.
type Run struct {
	o      Options
	c      *client
	wait   timing
	wake   chan struct{} // of capacity 1: there is enough for a batch, or the end
	done   chan struct{}
	cancel context.CancelFunc

	mu      sync.Mutex
	metrics []Metric
	files   []file
	dropped int
	status  Status      // "" while it runs
	give    *time.Timer // gives up at the end; nil before

	// Of the sending goroutine alone:
	experiment, id string
	artifacts      string // where files go; empty: nowhere
	params         [][2]string
	warned         bool // that the server does not answer
	told           bool // that it refused something
}

type file struct {
	name string
	data []byte
}

// Start begins to log; the only errors are those of the options. The server may not
// answer yet.
func Start(o Options) (*Run, error) { return start(o, usual) }

func start(o Options, wait timing) (*Run, error) {
	u, err := url.Parse(o.URL)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, fmt.Errorf("mlflow: %q is no address of a server: want http://HOST:PORT or https://HOST", redacted(o.URL))
	}
	if u.User != nil && o.User == "" {
		o.User = u.User.Username()
		o.Password, _ = u.User.Password()
	}
	u.User = nil
	ctx, cancel := context.WithCancel(context.Background())
	r := &Run{o: o, wait: wait, wake: make(chan struct{}, 1), done: make(chan struct{}), cancel: cancel, params: o.Params,
		c: &client{base: strings.TrimSuffix(u.String(), "/"), token: o.Token, user: o.User, password: o.Password, limit: wait.call}}
	go r.send(ctx)
	return r, nil
}

// Address is a server's address without user and password, for people and files.
func Address(server string) string {
	u, err := url.Parse(server)
	if err != nil {
		return ""
	}
	u.User = nil
	return strings.TrimSuffix(u.String(), "/")
}

func redacted(text string) string {
	if u, err := url.Parse(text); err == nil {
		return u.Redacted()
	}
	return "the text given"
}

// Log adds metrics.
func (r *Run) Log(ms ...Metric) {
	r.mu.Lock()
	r.metrics = append(r.metrics, ms...)
	if over := len(r.metrics) - maxQueue; over > 0 {
		r.metrics = append(r.metrics[:0], r.metrics[over:]...)
		r.dropped += over
	}
	enough := len(r.metrics) >= maxMetrics
	r.mu.Unlock()
	if enough {
		r.poke()
	}
}

// File adds a file, where the server keeps files itself (as `mlflow server` does if
// not told otherwise); else it is left out.
func (r *Run) File(name string, data []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.files = append(r.files, file{name, data})
}

// Close sends what is left and how the run has ended. It waits while the server takes
// values, for a minute at most.
func (r *Run) Close(s Status) {
	r.mu.Lock()
	r.status, r.give = s, time.AfterFunc(r.wait.closing, r.cancel)
	r.mu.Unlock()
	r.poke()
	end := time.AfterFunc(r.wait.end, r.cancel)
	<-r.done
	end.Stop()
	r.give.Stop()
	r.cancel()
	r.mu.Lock()
	left := r.dropped + len(r.metrics)
	r.mu.Unlock()
	if left > 0 {
		r.o.Warn(fmt.Sprintf("mlflow: %s has not taken %d values", r.c.base, left))
	}
}

func (r *Run) poke() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// send sends until the run is closed and all is sent, or the server refuses it.
func (r *Run) send(ctx context.Context) {
	defer close(r.done)
	pause := r.wait.pause
	for {
		closed, err := r.round(ctx)
		if closed && err == nil || ctx.Err() != nil {
			return
		}
		wait := r.wait.collect
		switch {
		case err == nil:
			pause, r.warned = r.wait.pause, false
		case permanent(err):
			r.o.Warn(fmt.Sprintf("mlflow: %v; nothing more is sent there", err))
			r.drain(ctx)
			return
		default:
			if !r.warned {
				r.warned = true
				r.o.Warn(fmt.Sprintf("mlflow: %v; the run goes on, and this is tried again", err))
			}
			wait, pause = pause, min(2*pause, r.wait.longest)
			if r.isClosing() {
				wait = r.wait.pause
			}
		}
		r.sleep(ctx, wait, err != nil)
	}
}

// sleep waits for the time to be over, or for a reason to send. After a failure only
// the end is one: a full batch is there already.
func (r *Run) sleep(ctx context.Context, d time.Duration, failed bool) {
	t := time.NewTimer(d)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			return
		case <-r.wake:
			if !failed || r.isClosing() {
				return
			}
		}
	}
}

func (r *Run) isClosing() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.give != nil
}

// drain throws away what comes until the end: the server has refused the run.
func (r *Run) drain(ctx context.Context) {
	for {
		r.mu.Lock()
		r.metrics, r.files, r.dropped = nil, nil, 0
		r.mu.Unlock()
		if r.isClosing() {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-r.wake:
		}
	}
}

// round sends all that there is; closed tells that the run's end was sent.
func (r *Run) round(ctx context.Context) (closed bool, err error) {
	if r.id == "" {
		if err := r.open(ctx); err != nil {
			return false, err
		}
	}
	if err := r.sendParams(ctx); err != nil {
		return false, err
	}
	for {
		r.mu.Lock()
		batch := r.metrics[:min(maxMetrics, len(r.metrics))]
		batch = append([]Metric(nil), batch...)
		files, status, dropped := r.files, r.status, r.dropped
		r.mu.Unlock()
		switch {
		case len(batch) > 0:
			err := r.c.logBatch(ctx, r.id, batch, nil)
			if err != nil && !refused(err) {
				return false, err
			}
			r.sent(len(batch), dropped)
			r.tell(err, fmt.Sprintf("%d values", len(batch)))
		case len(files) > 0:
			if r.artifacts != "" {
				err := r.c.put(ctx, r.artifacts+"/"+url.PathEscape(files[0].name), files[0].data)
				if err != nil && !permanent(err) {
					return false, err
				}
				r.tell(err, files[0].name)
			}
			r.mu.Lock()
			r.files = r.files[1:]
			r.progress()
			r.mu.Unlock()
		case status != "":
			return true, r.c.update(ctx, r.id, status)
		default:
			return false, nil
		}
	}
}

// sent removes the first n metrics, less those that were dropped since they were
// taken.
func (r *Run) sent(n, dropped int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	since := min(n, r.dropped-dropped) // the oldest: they were sent after all
	r.dropped -= since
	r.metrics = append(r.metrics[:0], r.metrics[n-since:]...)
	r.progress()
}

// progress has Close wait on, as the server is taking things. The caller holds mu.
func (r *Run) progress() {
	if r.give != nil {
		r.give.Reset(r.wait.closing)
	}
}

// tell warns of what the server did not take, once.
func (r *Run) tell(err error, what string) {
	if err != nil && !r.told {
		r.told = true
		r.o.Warn(fmt.Sprintf("mlflow: %s: not taken: %v", what, err))
	}
}

// open finds the experiment and makes the run, or finds the one to go on with.
func (r *Run) open(ctx context.Context) error {
	if r.o.ID != "" {
		artifacts, err := r.c.goOn(ctx, r.o.ID)
		if err == nil {
			r.id, r.artifacts = r.o.ID, artifacts
			return nil
		}
		if !notFound(err) {
			return err
		}
		r.o.Warn(fmt.Sprintf("mlflow: %s does not know the run %s any more: a new one is made", r.c.base, r.o.ID))
		r.o.ID = ""
	}
	if r.experiment == "" {
		var err error
		if r.experiment, err = r.c.experiment(ctx, r.o.Experiment); err != nil {
			return err
		}
	}
	id, artifacts, err := r.c.create(ctx, r.experiment, r.o.Name)
	if err != nil {
		return err
	}
	r.id, r.artifacts = id, artifacts
	if r.o.Created != nil {
		r.o.Created(id)
	}
	return nil
}

func (r *Run) sendParams(ctx context.Context) error {
	for len(r.params) > 0 {
		n := min(maxParams, len(r.params))
		err := r.c.logBatch(ctx, r.id, nil, r.params[:n])
		if err != nil && !refused(err) {
			return err
		}
		r.tell(err, "parameters")
		r.params = r.params[n:]
	}
	return nil
}

// permanent errors are not worth another try: the server says that it does not want
// this, and not only this value.
func permanent(err error) bool {
	var e *Error
	return errors.As(err, &e) && e.Status >= 400 && e.Status < 500 && e.Status != 408 && e.Status != 429
}

// refused tells that the server did not take the values, though it knows the run.
func refused(err error) bool {
	var e *Error
	return errors.As(err, &e) && e.Status == 400
}

func notFound(err error) bool {
	var e *Error
	return errors.As(err, &e) && e.Code == "RESOURCE_DOES_NOT_EXIST"
}
