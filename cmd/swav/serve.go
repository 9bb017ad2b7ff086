package main

import (
	"cmp"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"swav/finetune"
	"swav/index"
	"swav/serve"
	"swav/train"
)

// tokenVariable holds the bearer token where --token is not given: other users of a
// machine see the flags of a process, not its environment.
const tokenVariable = "SWAV_TOKEN"

// maxOwnImages bounds the images that a server indexes without having been asked.
const maxOwnImages = 50000

type serveFlags struct {
	images            indexFlags
	addr, cert, key   string
	token             string
	classifier        string
	limits            serve.Limits
	megabytes, pixels int64
	batch             int
	grace             time.Duration
}

func newServe() *cobra.Command {
	var f serveFlags
	c := &cobra.Command{
		Use:   "serve RUN [--data SRC] [--addr HOST:PORT]",
		Short: "Answer questions about images over HTTP",
		Long: `Answers HTTP requests: POST an image file to /embed (features), /cluster (nearest
prototypes), /search (most similar images of --data) or /predict (class); several
as multipart/form-data, a part each. Answers are JSON, or npy matrices for those
who accept application/x-npy. / is a page to drop an image on, /openapi.json
describes all, /metrics is for Prometheus, /healthz for supervisors.

Requests that come at once share batches. Each has limits on bytes, pixels, images
and time. SIGTERM and Ctrl-C end it when the requests under way are answered.

It listens on this machine only, unless --addr says otherwise. A server that others
reach should want a token, in the environment variable ` + tokenVariable + ` or by --token, and
speak TLS (--tls-cert, --tls-key).`,
		Example: `  swav serve runs/photos --data ~/photos
  curl --data-binary @cat.jpg http://127.0.0.1:8080/search?k=5
  curl -F a=@cat.jpg -F b=@dog.jpg -H 'Accept: application/x-npy' -o f.npy http://127.0.0.1:8080/embed`,
		Args: withUsage(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, args []string) error { return f.serve(c, args[0]) },
	}
	flags := c.Flags()
	flags.StringVar(&f.images.data, "data", "", "images to search, none: no search (default: the run's, where they are at most 50,000)")
	flags.StringVar(&f.images.split, "split", "", "part of the data, where it has parts: train or test (default train)")
	flags.StringVar(&f.images.cache, "cache", "", "folder where features are kept, none: nowhere (default RUN/index)")
	flags.StringVar(&f.classifier, "classifier", "", "file of swav eval finetune that /predict answers by, none: labels of --data vote (default RUN/classifier.safetensors, where there is one)")
	flags.StringVar(&f.addr, "addr", "127.0.0.1:8080", "address to listen on; port 0 takes a free one")
	flags.StringVar(&f.cert, "tls-cert", "", "certificate file (PEM, with its chain)")
	flags.StringVar(&f.key, "tls-key", "", "key file (PEM)")
	flags.StringVar(&f.token, "token", "", "bearer token that clients must send (default: "+tokenVariable+" of the environment; none without)")
	flags.Int64Var(&f.megabytes, "max-mb", 32, "largest request, in MB")
	flags.Int64Var(&f.pixels, "max-pixels", 0, "largest image, in pixels (default: the recipe's data.max_pixels)")
	flags.IntVar(&f.limits.Images, "max-images", 64, "images of one request")
	flags.IntVar(&f.limits.Concurrent, "concurrent", 32, "requests at once; more are told to come back")
	flags.DurationVar(&f.limits.Time, "timeout", 30*time.Second, "of a request, from its first byte to its answer")
	flags.IntVar(&f.batch, "batch-size", 16, "images that the network sees at once, at most")
	flags.DurationVar(&f.grace, "grace", 0, "how long requests under way may take at the end (default --timeout)")
	return c
}

// check reads the flags.
func (f *serveFlags) check() error {
	switch {
	case f.images.split != "" && f.images.split != "train" && f.images.split != "test":
		return usageError{fmt.Errorf("--split %s: want train or test", f.images.split)}
	case (f.cert == "") != (f.key == ""):
		return usageError{fmt.Errorf("--tls-cert and --tls-key go together")}
	case f.megabytes < 1 || f.megabytes > 4096:
		return usageError{fmt.Errorf("--max-mb %d: want 1 to 4096", f.megabytes)}
	case f.pixels < 0:
		return usageError{fmt.Errorf("--max-pixels %d: want more than 0", f.pixels)}
	case f.limits.Images < 1 || f.limits.Images > 10000:
		return usageError{fmt.Errorf("--max-images %d: want 1 to 10000", f.limits.Images)}
	case f.limits.Concurrent < 1 || f.limits.Concurrent > 10000:
		return usageError{fmt.Errorf("--concurrent %d: want 1 to 10000", f.limits.Concurrent)}
	case f.batch < 1 || f.batch > 1024:
		return usageError{fmt.Errorf("--batch-size %d: want 1 to 1024", f.batch)}
	case f.limits.Time < time.Millisecond:
		return usageError{fmt.Errorf("--timeout %v: want at least 1ms", f.limits.Time)}
	}
	f.limits.BodyBytes = f.megabytes * 1e6
	f.token = cmp.Or(f.token, os.Getenv(tokenVariable))
	return nil
}

func (f *serveFlags) serve(c *cobra.Command, run string) error {
	if err := f.check(); err != nil {
		return err
	}
	l := serve.Listening{Grace: f.grace}
	if f.cert != "" {
		pair, err := tls.LoadX509KeyPair(f.cert, f.key)
		if err != nil {
			return fmt.Errorf("certificate %s: %w", f.cert, err)
		}
		l.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
	}
	// The address first: what takes minutes should not fail at the end.
	var err error
	if l.Listener, err = net.Listen("tcp", f.addr); err != nil {
		return hint(err, "--addr HOST:PORT chooses another address; port 0 takes a free one")
	}
	defer l.Listener.Close()
	t, x, err := f.open(c, run)
	if err != nil {
		return err
	}
	k, err := f.openClassifier(c, run)
	if err != nil {
		return err
	}
	config := serve.Config{Name: filepath.Base(run), Index: x, Token: f.token, Limits: f.limits, Log: slog.New(slog.NewTextHandler(c.ErrOrStderr(), nil))}
	return t.Predict(f.batch, func(p *train.Predictor) error {
		f.limit(p)
		return f.withClassifier(k, &config, func(compute func(*serve.Server)) error {
			s, err := serve.New(p, config)
			if err != nil {
				return err
			}
			compute(s)
			f.announce(c, l.Listener.Addr())
			err = s.Run(c.Context(), l)
			if err == nil {
				fmt.Fprintln(c.ErrOrStderr(), "swav: note: all requests are answered, the server has ended")
			}
			return err
		})
	})
}

// limit bounds the images that a network is shown.
func (f *serveFlags) limit(p *train.Predictor) {
	if f.pixels > 0 {
		p.Decode.MaxPixels = int(f.pixels)
	}
}

// openClassifier reads the classifier of --classifier, or of the run where it has
// one; nil is none.
func (f *serveFlags) openClassifier(c *cobra.Command, run string) (*finetune.Classifier, error) {
	path := f.classifier
	if path == "none" {
		return nil, nil
	}
	if path == "" {
		path = finetune.FileOf(run, 1, "")
		if !exists(path) {
			return nil, nil
		}
	}
	k, err := finetune.Open(path)
	if err == nil {
		reportNote(c)(fmt.Sprintf("/predict answers by %s, %d classes", path, len(k.Classes)))
	}
	return k, err
}

// withClassifier puts the classifier into the configuration and has do use it;
// compute starts the computing of its classes once there is a server. Without a
// classifier it does nothing. It ends when the server has been stopped.
func (f *serveFlags) withClassifier(k *finetune.Classifier, config *serve.Config, do func(compute func(*serve.Server)) error) error {
	if k == nil {
		return do(func(*serve.Server) {})
	}
	lent, server, ended := make(chan *train.Predictor), make(chan *serve.Server), make(chan error, 1)
	go func() {
		ended <- k.Lend(f.batch, func(p *train.Predictor) error {
			lent <- p
			if s := <-server; s != nil {
				s.ComputeClasses()
			}
			return nil
		})
	}()
	select {
	case err := <-ended:
		return err
	case p := <-lent:
		f.limit(p)
		config.Classifier = &serve.Classifier{Network: p, Classes: k.Classes, Method: "classifier"}
	}
	started := false
	err := do(func(s *serve.Server) {
		started = true
		server <- s
	})
	if !started {
		server <- nil
	}
	return cmp.Or(err, <-ended)
}

// open reads the network and the images to search.
func (f *serveFlags) open(c *cobra.Command, run string) (*train.Trained, *index.Index, error) {
	if f.images.data == "none" {
		t, err := train.OpenRun(run)
		return t, nil, err
	}
	if f.images.data != "" {
		return f.images.open(c, run)
	}
	note := reportNote(c)
	t, err := train.OpenRun(run)
	if err != nil {
		return nil, nil, err
	}
	src, err := t.Data(c.Context(), "", f.images.split, note)
	switch {
	case err != nil:
		note(fmt.Sprintf("no images to search, as the run's are not there (%v); --data names others", err))
		return t, nil, nil
	case src.Len() > maxOwnImages:
		note(fmt.Sprintf("no images to search: the run has %d of them; --data %s has them searched", src.Len(), src.Name()))
		return t, nil, nil
	}
	return f.images.open(c, run)
}

// announce prints where the server is.
func (f *serveFlags) announce(c *cobra.Command, addr net.Addr) {
	scheme := "http"
	if f.cert != "" {
		scheme = "https"
	}
	fmt.Fprintf(c.OutOrStdout(), "serving %s://%s/ (Ctrl-C ends)\n", scheme, addr)
	if tcp, ok := addr.(*net.TCPAddr); ok && !tcp.IP.IsLoopback() && f.token == "" {
		reportNote(c)("whoever reaches this address can use it: " + tokenVariable + " sets a token")
	}
}
