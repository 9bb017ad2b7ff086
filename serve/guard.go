package serve

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// patterns are what the server answers. Those that tell nothing of the images need
// no token, so that a page can ask for one and a supervisor can look after the
// process.
func (s *Server) patterns() map[string]http.HandlerFunc {
	guarded := func(h http.HandlerFunc) http.HandlerFunc { return s.authorized(s.limited(h)) }
	return map[string]http.HandlerFunc{
		"POST /embed": guarded(s.embed), "POST /cluster": guarded(s.cluster), "POST /search": guarded(s.search),
		"POST /predict": guarded(s.predict), "GET /images/{number}": guarded(s.image),
		"GET /metrics": s.authorized(promhttp.HandlerFor(s.metrics.registry, promhttp.HandlerOpts{}).ServeHTTP),
		"GET /healthz": s.health, "GET /openapi.json": s.openAPI,
		"GET /{$}": s.page, "GET /page.css": s.page, "GET /page.js": s.page,
	}
}

// routes leads requests to their handlers.
func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	for pattern, h := range s.patterns() {
		mux.Handle(pattern, s.measured(pattern, h))
	}
	mux.Handle("/", s.measured("other", func(w http.ResponseWriter, r *http.Request) {
		if allowed := s.methodOf(r.URL.Path); allowed != "" {
			w.Header().Set("Allow", allowed)
			fail(w, http.StatusMethodNotAllowed, "%s takes %s", r.URL.Path, allowed)
			return
		}
		fail(w, http.StatusNotFound, "there is nothing here; /openapi.json lists what there is")
	}))
	return mux
}

// methodOf is the method that a path takes, "" for an unknown one.
func (s *Server) methodOf(path string) string {
	switch path {
	case "/embed", "/cluster", "/search", "/predict":
		return http.MethodPost
	case "/", "/page.css", "/page.js", "/healthz", "/metrics", "/openapi.json":
		return http.MethodGet
	}
	if strings.HasPrefix(path, "/images/") {
		return http.MethodGet
	}
	return ""
}

// statusWriter remembers the status of an answer.
type statusWriter struct {
	http.ResponseWriter
	status int
}

func (w *statusWriter) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *statusWriter) Write(p []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	return w.ResponseWriter.Write(p)
}

// Unwrap lets http.ResponseController reach the connection.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// measured counts and times a path, sets the headers of every answer, and answers
// for a handler that panics.
func (s *Server) measured(pattern string, h http.HandlerFunc) http.Handler {
	path := strings.TrimSuffix(pattern[strings.Index(pattern, " ")+1:], "{$}")
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		w := &statusWriter{ResponseWriter: rw}
		began := time.Now()
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Referrer-Policy", "no-referrer")
		defer func() {
			if p := recover(); p != nil {
				s.log.Error("handler panicked", "path", path, "panic", p)
				if w.status == 0 {
					fail(w, http.StatusInternalServerError, "internal error")
				}
			}
			s.metrics.requests.WithLabelValues(path, strconv.Itoa(w.status)).Inc()
			s.metrics.seconds.WithLabelValues(path).Observe(time.Since(began).Seconds())
		}()
		h(w, r)
	})
}

// authorized asks for the bearer token. Hashes are compared, in constant time, so
// that neither content nor length of the token shows.
func (s *Server) authorized(h http.HandlerFunc) http.HandlerFunc {
	if s.config.Token == "" {
		return h
	}
	return func(w http.ResponseWriter, r *http.Request) {
		scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
		sent := sha256.Sum256([]byte(strings.TrimSpace(token)))
		if subtle.ConstantTimeCompare(sent[:], s.token[:]) != 1 || !strings.EqualFold(scheme, "Bearer") {
			w.Header().Set("WWW-Authenticate", `Bearer realm="swav"`)
			fail(w, http.StatusUnauthorized, "this server wants a token: send the header Authorization: Bearer TOKEN")
			return
		}
		h(w, r)
	}
}

// limited counts a request against the limit of those at once, and bounds its
// body and time.
func (s *Server) limited(h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		select {
		case s.slots <- struct{}{}:
		default:
			w.Header().Set("Retry-After", "1")
			fail(w, http.StatusTooManyRequests, "%d requests are under way, no more are taken at once: try again", s.limits.Concurrent)
			return
		}
		s.metrics.inFlight.Inc()
		defer func() {
			s.metrics.inFlight.Dec()
			<-s.slots
		}()
		if r.ContentLength > s.limits.BodyBytes {
			fail(w, http.StatusRequestEntityTooLarge, "%s", s.tooLong())
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), s.limits.Time)
		defer cancel()
		// Reading heeds no context; a client that stops sending is cut off here.
		// Writers without deadlines (tests) go without.
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(s.limits.Time))
		r.Body = http.MaxBytesReader(w, r.Body, s.limits.BodyBytes)
		h(w, r.WithContext(ctx))
	}
}

func (s *Server) tooLong() string {
	return fmt.Sprintf("the request is longer than %d bytes", s.limits.BodyBytes)
}
