package serve

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

// running is a server on an address of its own, as swav serve starts it.
type running struct {
	*Server
	net    *colours
	url    string
	end    context.CancelFunc
	result chan error
}

func listen(t *testing.T, c *colours, config Config, l Listening) *running {
	t.Helper()
	config.Log = quiet
	s, err := New(c, config)
	if err != nil {
		t.Fatal(err)
	}
	if l.Listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{s, c, "http://" + l.Listener.Addr().String(), cancel, make(chan error, 1)}
	go func() { r.result <- s.Run(ctx, l) }()
	t.Cleanup(cancel)
	return r
}

func (r *running) send(client *http.Client) (status int, body string, err error) {
	resp, err := client.Post(r.url+"/embed", "image/png", bytes.NewReader(picture(4, 5, 6)))
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(data), err
}

func (r *running) wait(t *testing.T) error {
	t.Helper()
	select {
	case err := <-r.result:
		return err
	case <-time.After(20 * time.Second):
		t.Fatal("the server does not end")
		return nil
	}
}

// The end of the context ends the server once the requests under way are answered.
func TestEndDrainsRequests(t *testing.T) {
	r := listen(t, &colours{batch: 2, hold: make(chan struct{})}, Config{}, Listening{})
	var wg sync.WaitGroup
	for range 5 {
		wg.Go(func() {
			status, body, err := r.send(&http.Client{Transport: &http.Transport{}})
			if err != nil || status != 200 || !strings.Contains(body, "features") {
				t.Errorf("a request under way: status %d, %s, %v", status, body, err)
			}
		})
	}
	waitFor(t, "requests under way", func() bool { return len(r.slots) == 5 })
	r.end()
	waitFor(t, "end of listening", func() bool {
		conn, err := net.DialTimeout("tcp", strings.TrimPrefix(r.url, "http://"), time.Second)
		if err == nil {
			conn.Close()
		}
		return err != nil
	})
	select {
	case err := <-r.result:
		t.Fatalf("ended before the requests: %v", err)
	default:
	}
	if w := httptest.NewRecorder(); true {
		r.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/healthz", nil))
		if w.Code != 503 {
			t.Errorf("health while ending: status %d", w.Code)
		}
	}
	close(r.net.hold)
	wg.Wait()
	if err := r.wait(t); err != nil {
		t.Errorf("ended with %v", err)
	}
}

func TestEndDoesNotWaitForever(t *testing.T) {
	r := listen(t, &colours{batch: 2, hold: make(chan struct{})}, Config{}, Listening{Grace: 50 * time.Millisecond})
	var wg sync.WaitGroup
	wg.Go(func() { _, _, _ = r.send(http.DefaultClient) })
	waitFor(t, "request under way", func() bool { return len(r.slots) == 1 })
	r.end()
	time.AfterFunc(200*time.Millisecond, func() { close(r.net.hold) })
	if err := r.wait(t); err == nil || !strings.Contains(err.Error(), "cut off") {
		t.Errorf("ended with %v", err)
	}
	wg.Wait()
}

// An idle server ends at once, and a listener that fails ends it with its error.
func TestEndOfAnIdleServer(t *testing.T) {
	r := listen(t, &colours{batch: 2}, Config{}, Listening{})
	if status, _, err := r.send(http.DefaultClient); err != nil || status != 200 {
		t.Fatal(status, err)
	}
	r.end()
	if err := r.wait(t); err != nil {
		t.Errorf("ended with %v", err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	s, err := New(&colours{batch: 1}, Config{Log: quiet})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Run(context.Background(), Listening{Listener: l}); err == nil {
		t.Error("a closed listener: no error")
	}
}

func TestTLS(t *testing.T) {
	// httptest has a certificate for 127.0.0.1.
	h := httptest.NewUnstartedServer(nil)
	h.StartTLS()
	defer h.Close()
	r := listen(t, &colours{batch: 2}, Config{}, Listening{TLS: &tls.Config{Certificates: h.TLS.Certificates}})
	r.url = strings.Replace(r.url, "http:", "https:", 1)
	transport := h.Client().Transport.(*http.Transport).Clone()
	transport.ForceAttemptHTTP2 = true
	client := &http.Client{Transport: transport}
	resp, err := client.Post(r.url+"/embed", "image/png", bytes.NewReader(picture(4, 5, 6)))
	if err != nil || resp.StatusCode != 200 || resp.ProtoMajor != 2 {
		t.Fatalf("%+v, %v", resp, err)
	}
	resp.Body.Close()
	if _, _, err := r.send(&http.Client{Transport: &http.Transport{}}); err == nil {
		t.Error("an unknown certificate: no error")
	}
	r.end()
	if err := r.wait(t); err != nil {
		t.Errorf("ended with %v", err)
	}
}
