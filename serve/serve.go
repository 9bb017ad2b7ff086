// Package serve answers questions about images over HTTP: features, clusters,
// nearest images, classes.
//
// A [Server] takes image files as they are (JPEG, PNG: whatever imgcodec reads)
// and shows them to one network. Requests are decoded beside each other; whatever
// views wait when the network is free form its next batch, so that single
// requests see no delay and many of them share the work ([Server.Compute]).
//
// Requests are hostile. Each has limits on bytes, pixels, images and time, there
// is a limit on requests at once, and what goes wrong with one image is that
// image's answer. Memory stays below about Limits.Concurrent times
// (Limits.BodyBytes + a batch of views), and a decoded image per processor.
//
// Which network, which images to search and how a run is read is the caller's.
package serve

import (
	"crypto/sha256"
	"fmt"
	"log/slog"
	"net/http"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"swav/index"
)

// Network shows views of images to a trained network.
type Network interface {
	// Pixels is the number of values of a view.
	Pixels() int
	// Batch is the largest number of views that Run takes.
	Batch() int
	// View decodes an image file into dst. It is called concurrently.
	View(dst []float32, file []byte) error
	// Run appends features, embeddings and prototype scores of n views to those
	// that are not nil. It is called by Compute only.
	Run(views []float32, n int, features, embeddings, scores *[]float32) error
}

// Classifier is a network that tells classes: its scores are their logits, and
// nothing else is asked of it.
type Classifier struct {
	Network Network
	Classes []string
	Method  string // in a word or two, for people
}

// Class is a class with its probability.
type Class struct {
	Label       string  `json:"label"`
	Probability float64 `json:"probability"`
}

// Limits bound what requests may take. Zero values are replaced by defaults.
type Limits struct {
	BodyBytes  int64         // of a request; 0: 32 MiB
	Images     int           // of a request; 0: 64
	Concurrent int           // requests at once, more are told to come back; 0: 32
	Nearest    int           // largest k of a search; 0: 1000
	Time       time.Duration // from the first byte of a request to its answer; 0: 30 s
}

func (l Limits) withDefaults() Limits {
	if l.BodyBytes <= 0 {
		l.BodyBytes = 32 << 20
	}
	if l.Images <= 0 {
		l.Images = 64
	}
	if l.Concurrent <= 0 {
		l.Concurrent = 32
	}
	if l.Nearest <= 0 {
		l.Nearest = 1000
	}
	if l.Time <= 0 {
		l.Time = 30 * time.Second
	}
	return l
}

// Config is what a server answers with.
type Config struct {
	Name       string       // of the run, for people
	Index      *index.Index // images to search; nil: no search
	Classifier *Classifier  // nil: the index's labels vote, where it has some
	Token      string       // that clients must send as bearer token; "": none
	Limits     Limits
	Log        *slog.Logger // nil: slog.Default
}

// Server is the handler of all paths and the batches behind it.
type Server struct {
	net     Network
	config  Config
	limits  Limits
	token   [sha256.Size]byte // hash of Config.Token
	log     *slog.Logger
	batches *batcher
	classes *batcher // of the classifier; nil without one
	metrics *metrics
	slots   chan struct{} // requests at once
	decode  chan struct{} // images decoded at once
	handler http.Handler
	// draining is set when no more requests should come.
	draining atomic.Bool
}

// New prepares a server. It answers only while Compute runs.
func New(net Network, c Config) (*Server, error) {
	if err := checkNetwork(net); err != nil {
		return nil, err
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	s := &Server{net: net, config: c, limits: c.Limits.withDefaults(), log: c.Log, token: sha256.Sum256([]byte(c.Token)),
		metrics: newMetrics()}
	turn := new(sync.Mutex)
	s.batches = newBatcher(net, s.metrics, turn)
	if k := c.Classifier; k != nil {
		if err := checkNetwork(k.Network); err != nil {
			return nil, err
		}
		s.classes = newBatcher(k.Network, s.metrics, turn)
		s.classes.classes = true
	}
	s.slots = make(chan struct{}, s.limits.Concurrent)
	s.decode = make(chan struct{}, runtime.GOMAXPROCS(0))
	s.handler = s.routes()
	return s, nil
}

// Handler answers HTTP requests.
func (s *Server) Handler() http.Handler { return s.handler }

func checkNetwork(net Network) error {
	if net.Batch() < 1 || net.Pixels() < 1 {
		return fmt.Errorf("serve: network of %d pixels, batches of %d", net.Pixels(), net.Batch())
	}
	return nil
}

// Compute runs batches until Stop. It must be called once, on the thread that
// may use the network.
func (s *Server) Compute() { s.batches.run() }

// ComputeClasses is Compute for the classifier's network. The two take turns, as
// each has all processors for itself.
func (s *Server) ComputeClasses() {
	if s.classes != nil {
		s.classes.run()
	}
}

// Stop ends Compute and ComputeClasses. Requests that still wait for them get an
// error, so end the HTTP server first.
func (s *Server) Stop() {
	s.batches.stop()
	if s.classes != nil {
		s.classes.stop()
	}
}
