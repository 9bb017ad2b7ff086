package serve

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"swav/interop"
)

// The media types of answers.
const (
	typeJSON = "application/json"
	typeNPY  = "application/x-npy"
)

// wanted is the type of answer that a request asks for: of those it accepts, the
// first that there is.
func wanted(r *http.Request, npy bool) (string, error) {
	accept := strings.Join(r.Header.Values("Accept"), ",")
	if strings.TrimSpace(accept) == "" {
		return typeJSON, nil
	}
	for item := range strings.SplitSeq(accept, ",") {
		kind, _, _ := strings.Cut(item, ";")
		switch strings.ToLower(strings.TrimSpace(kind)) {
		case typeJSON, "application/*", "*/*":
			return typeJSON, nil
		case typeNPY:
			if npy {
				return typeNPY, nil
			}
		}
	}
	if npy {
		return "", failed(http.StatusNotAcceptable, "answers are %s or %s", typeJSON, typeNPY)
	}
	return "", failed(http.StatusNotAcceptable, "answers are %s", typeJSON)
}

// number reads a whole number from 1 to most out of a query string.
func number(q url.Values, key string, usual, most int) (int, error) {
	text := q.Get(key)
	if text == "" {
		return min(usual, most), nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > most {
		return 0, failed(http.StatusBadRequest, "%s=%.40s: want 1 to %d", key, text, most)
	}
	return n, nil
}

// fail answers with an error.
func fail(w http.ResponseWriter, status int, format string, args ...any) {
	if status == http.StatusServiceUnavailable && w.Header().Get("Retry-After") == "" {
		w.Header().Set("Retry-After", "1")
	}
	writeJSON(w, status, map[string]string{"error": fmt.Sprintf(format, args...)})
}

func (s *Server) failWith(w http.ResponseWriter, err error) {
	f := s.asFailure(err)
	if f.status >= 500 && f.status != http.StatusServiceUnavailable {
		s.log.Error("request failed", "error", err)
	}
	fail(w, f.status, "%s", f.text)
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	data, err := json.Marshal(v)
	if err != nil { // numbers are finite and maps have string keys
		status, data = http.StatusInternalServerError, []byte(`{"error":"the answer cannot be written as JSON"}`)
	}
	w.Header().Set("Content-Type", typeJSON)
	w.Header().Set("Content-Length", strconv.Itoa(len(data)+1))
	w.WriteHeader(status)
	_, _ = w.Write(append(data, '\n')) // a client that has gone is no error here
}

// answer is what is said of an image.
type answer struct {
	Name  string `json:"name,omitempty"`
	Error string `json:"error,omitempty"`
	*features
	*cluster
	*found
	*classes
}

// respond answers with a list, one entry an image, in the order they came. An
// image that failed has its error there; if all failed, status and error are the
// first one's.
func (s *Server) respond(w http.ResponseWriter, all []seen, say func(a *answer, r result) error) {
	answers := make([]answer, len(all))
	status, good := 0, 0
	for i, one := range all {
		answers[i].Name = one.name
		f := one.failure
		if f == nil {
			if err := say(&answers[i], one.result); err != nil {
				f = s.asFailure(err)
			}
		}
		if f == nil {
			good++
			continue
		}
		answers[i].Error = f.text
		if status == 0 {
			status = f.status
		}
	}
	if good > 0 {
		writeJSON(w, http.StatusOK, map[string]any{"images": answers})
		return
	}
	if status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "1")
	}
	writeJSON(w, status, map[string]any{"error": answers[0].Error, "images": answers})
}

// respondNPY answers with a matrix, one row an image. It has no place for errors,
// so one image that failed fails the request.
func (s *Server) respondNPY(w http.ResponseWriter, all []seen, pick func(r result) []float32) {
	for i, one := range all {
		if f := one.failure; f != nil {
			fail(w, f.status, "image %d %s: %s", i, one.name, f.text)
			return
		}
	}
	var b bytes.Buffer
	m, err := interop.NewNPY(&b, len(all), len(pick(all[0].result)))
	for _, one := range all {
		if err == nil {
			err = m.Write(pick(one.result))
		}
	}
	if err == nil {
		err = m.Close()
	}
	if err != nil {
		s.failWith(w, err)
		return
	}
	w.Header().Set("Content-Type", typeNPY)
	w.Header().Set("Content-Length", strconv.Itoa(b.Len()))
	_, _ = w.Write(b.Bytes())
}
