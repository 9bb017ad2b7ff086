package serve

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"
)

// Listening is how Run meets its clients.
type Listening struct {
	Listener net.Listener
	TLS      *tls.Config   // nil: plain HTTP
	Grace    time.Duration // for requests under way at the end; 0: Limits.Time
}

// Run answers until ctx ends, then lets the requests under way finish. It
// computes on the calling goroutine, which must be the network's.
func (s *Server) Run(ctx context.Context, l Listening) error {
	if l.Grace <= 0 {
		l.Grace = s.limits.Time
	}
	h := &http.Server{
		TLSConfig:         l.TLS,
		Handler:           s.handler,
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       2 * s.limits.Time, // limited sets a nearer one where a body is read
		WriteTimeout:      3 * s.limits.Time,
		IdleTimeout:       2 * time.Minute,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelWarn),
		MaxHeaderBytes:    64 << 10,
	}
	ended := make(chan error, 1)
	go func() {
		defer s.Stop()
		failed := make(chan error, 1)
		go func() {
			if l.TLS != nil {
				failed <- h.ServeTLS(l.Listener, "", "")
			} else {
				failed <- h.Serve(l.Listener)
			}
		}()
		select {
		case err := <-failed:
			ended <- err
		case <-ctx.Done():
			s.draining.Store(true)
			grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), l.Grace)
			defer cancel()
			err := h.Shutdown(grace)
			if errors.Is(err, context.DeadlineExceeded) {
				err = fmt.Errorf("requests were still under way after %v, they were cut off", l.Grace)
				h.Close()
			}
			ended <- err
		}
	}()
	s.Compute()
	return <-ended
}

// health answers supervisors and load balancers: 503 once the end has come, so
// that no more requests are sent here.
func (s *Server) health(w http.ResponseWriter, _ *http.Request) {
	if s.draining.Load() {
		fail(w, http.StatusServiceUnavailable, "%v", errStopped)
		return
	}
	x := 0
	if s.config.Index != nil {
		x = s.config.Index.Len()
	}
	writeJSON(w, http.StatusOK, map[string]any{"status": "ok", "run": s.config.Name, "indexed": x, "search": x > 0, "predict": s.predicts()})
}
