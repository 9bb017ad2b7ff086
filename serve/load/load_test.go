package load

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
)

var images = [][]byte{bytes.Repeat([]byte{1}, 100), bytes.Repeat([]byte{2}, 100)}

// A server that is wrong is found out.
func TestRunFindsFaults(t *testing.T) {
	var n atomic.Int64
	h := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		switch turn := n.Add(1); {
		case err != nil || len(body) == 0:
			w.WriteHeader(http.StatusTeapot)
		case turn%5 == 0:
			w.WriteHeader(http.StatusServiceUnavailable) // good requests come again
		case turn%7 == 0:
			w.WriteHeader(http.StatusInternalServerError)
		default:
			_, _ = w.Write(body[:1])
		}
	}))
	defer h.Close()
	o := Options{URL: h.URL, Images: images, Requests: 60, Concurrency: 4, Bad: 0.5,
		Check: func(i int, body []byte) error {
			if i == 1 {
				return errors.New("the second is never right")
			}
			return nil
		}}
	r, err := Run(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	failed, odd := strings.Join(r.Failed, "\n"), strings.Join(r.Odd, "\n")
	if r.Good == 0 || r.Good > 30 || len(r.Waits) != r.Good || r.Good+len(r.Failed) != 60 || r.Retried == 0 {
		t.Errorf("%d good, %d failed, %d retried", r.Good, len(r.Failed), r.Retried)
	}
	if !strings.Contains(failed, "status 500") || !strings.Contains(failed, "never right") {
		t.Errorf("failed: %s", failed)
	}
	if !strings.Contains(odd, "empty: status 418") || !strings.Contains(odd, "zeros: status 200") {
		t.Errorf("odd: %s", odd)
	}
	if r.Rate() <= 0 || r.Quantile(0) > r.Quantile(1) {
		t.Errorf("rate %v, quantiles %v to %v", r.Rate(), r.Quantile(0), r.Quantile(1))
	}
}

func TestRunRefusesAndEnds(t *testing.T) {
	for _, o := range []Options{{Images: images, Requests: 1}, {Requests: 1, Concurrency: 1}, {Images: images, Concurrency: 1}} {
		if _, err := Run(context.Background(), o); err == nil {
			t.Errorf("%+v: no error", o)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Run(ctx, Options{URL: "http://127.0.0.1:1/", Images: images, Requests: 5, Concurrency: 2}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}
