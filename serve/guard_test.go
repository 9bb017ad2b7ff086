package serve

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"swav/serve/load"
)

// What bad requests are told: the status, and words that help.
func TestBadRequests(t *testing.T) {
	good := picture(200, 100, 50)
	huge := append([]byte(nil), good...)
	binary.BigEndian.PutUint32(huge[16:], 60000) // width: no sum is right any more, but the header comes first
	many, kind := form(t, []string{"a", "b", "c", "d"}, good, good, good, good)
	empty, emptyKind := form(t, nil)
	f := start(t, &colours{batch: 4, pixels: 10000}, Config{Index: indexed(8), Limits: Limits{BodyBytes: 4000, Images: 3}})
	for _, c := range []struct {
		path   string
		body   io.Reader
		header []string
		status int
		words  string
	}{
		{path: "/embed", body: bytes.NewReader(nil), status: 400, words: "no image"},
		{path: "/embed", body: strings.NewReader("hello"), status: 415, words: "format"},
		{path: "/embed", body: bytes.NewReader(good[:len(good)-30]), status: 422, words: "ends early"},
		{path: "/embed", body: bytes.NewReader(huge), status: 413, words: "10000"},
		{path: "/embed", body: bytes.NewReader(make([]byte, 5000)), status: 413, words: "4000 bytes"},
		{path: "/embed", body: iotest.OneByteReader(bytes.NewReader(make([]byte, 5000))), status: 413, words: "4000 bytes"},
		{path: "/embed", body: bytes.NewReader(many), header: []string{"Content-Type", kind}, status: 413, words: "more than 3 images"},
		{path: "/embed", body: bytes.NewReader(empty), header: []string{"Content-Type", emptyKind}, status: 400, words: "without files"},
		{path: "/embed", body: bytes.NewReader(many[:200]), header: []string{"Content-Type", kind}, status: 400, words: "cannot be read"},
		{path: "/embed", body: bytes.NewReader(good), header: []string{"Content-Type", "multipart/form-data"}, status: 400, words: "boundary"},
		{path: "/embed?output=everything", body: bytes.NewReader(good), status: 400, words: "features or embedding"},
		{path: "/cluster?top=0", body: bytes.NewReader(good), status: 400, words: "1 to 1000"},
		{path: "/search?k=-3", body: bytes.NewReader(good), status: 400, words: "1 to 1000"},
		{path: "/search?k=many", body: bytes.NewReader(good), status: 400, words: "k=many"},
		{path: "/search", body: bytes.NewReader(good), header: []string{"Accept", "application/x-npy"}, status: 406, words: "application/json"},
		{path: "/embed", body: bytes.NewReader(good), header: []string{"Accept", "video/mp4"}, status: 406, words: "application/x-npy"},
		{path: "/nothing", body: bytes.NewReader(good), status: 404, words: "/openapi.json"},
		{path: "/healthz", body: bytes.NewReader(good), status: 405, words: "GET"},
	} {
		r := f.call(t, "POST", c.path, c.body, c.header...)
		if r.status != c.status || !strings.Contains(r.message(), c.words) {
			t.Errorf("%s, %v: status %d: %s, want %d with %q", c.path, c.header, r.status, r.body, c.status, c.words)
		}
		if r.header.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: headers %v", c.path, r.header)
		}
	}
	if r := f.post(t, "/embed", good); r.status != 200 {
		t.Errorf("afterwards: status %d: %s", r.status, r.body)
	}
}

func TestToken(t *testing.T) {
	f := start(t, nil, Config{Token: "s3cret", Index: indexed(8)})
	for header, status := range map[string]int{"": 401, "Bearer wrong": 401, "Bearer s3cret2": 401, "Basic s3cret": 401, "s3cret": 401, "Bearer": 401,
		"Bearer s3cret": 200, "bearer  s3cret": 200} {
		for _, path := range []string{"/embed", "/cluster", "/search", "/predict"} {
			if r := f.post(t, path, picture(1, 2, 3), "Authorization", header); r.status != status {
				t.Errorf("%s with %q: status %d, want %d", path, header, r.status, status)
			} else if status == 401 && r.header.Get("WWW-Authenticate") == "" {
				t.Errorf("%s: no WWW-Authenticate", path)
			}
		}
		for _, path := range []string{"/metrics", "/images/1"} {
			if r := f.call(t, "GET", path, nil, "Authorization", header); r.status != status {
				t.Errorf("%s with %q: status %d, want %d", path, header, r.status, status)
			}
		}
	}
	for _, path := range []string{"/", "/healthz", "/openapi.json"} {
		if r := f.call(t, "GET", path, nil); r.status != 200 {
			t.Errorf("%s without a token: status %d", path, r.status)
		}
	}
}

// Requests above the limit are told to come back, at once, and the others are
// answered.
func TestTooManyAtOnce(t *testing.T) {
	f := start(t, &colours{batch: 2, hold: make(chan struct{})}, Config{Limits: Limits{Concurrent: 3}})
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			if r := f.post(t, "/embed", picture(9, 9, 9)); r.status != 200 {
				t.Errorf("status %d: %s", r.status, r.body)
			}
		})
	}
	waitFor(t, "three requests under way", func() bool { return len(f.slots) == 3 })
	r := f.post(t, "/embed", picture(9, 9, 9))
	if r.status != 429 || r.header.Get("Retry-After") == "" {
		t.Errorf("the fourth: status %d, %v", r.status, r.header)
	}
	if r := f.call(t, "GET", "/healthz", nil); r.status != 200 {
		t.Errorf("health of a busy server: status %d", r.status)
	}
	close(f.net.hold)
	wg.Wait()
	if r := f.post(t, "/embed", picture(9, 9, 9)); r.status != 200 {
		t.Errorf("afterwards: status %d", r.status)
	}
}

func waitFor(t testing.TB, what string, ready func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !ready(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("no %s", what)
		}
	}
}

func TestTimeIsLimited(t *testing.T) {
	f := start(t, &colours{batch: 2, hold: make(chan struct{})}, Config{Limits: Limits{Time: 100 * time.Millisecond}})
	// The network is busy with the first; the second waits in vain.
	var wg sync.WaitGroup
	wg.Go(func() { f.post(t, "/embed", picture(1, 1, 1)) })
	waitFor(t, "request under way", func() bool { return len(f.slots) == 1 })
	r := f.post(t, "/embed", picture(2, 2, 2))
	if r.status != 503 || !strings.Contains(r.message(), "100ms") || r.header.Get("Retry-After") == "" {
		t.Errorf("status %d, %v: %s", r.status, r.header, r.body)
	}
	// A client that stops in the middle of its image.
	body, end := io.Pipe()
	go func() { _, _ = end.Write(picture(3, 3, 3)[:20]) }()
	r = f.call(t, "POST", "/embed", body)
	if r.status != 503 || !strings.Contains(r.message(), "too slowly") {
		t.Errorf("a slow client: status %d: %s", r.status, r.body)
	}
	close(f.net.hold)
	end.Close()
	wg.Wait()
	waitFor(t, "end of all requests", func() bool { return len(f.slots) == 0 })
	if r := f.post(t, "/embed", picture(2, 2, 2)); r.status != 200 {
		t.Errorf("afterwards: status %d: %s", r.status, r.body)
	}
}

// A network that fails or panics, or gives no numbers, fails the requests of its
// batch and no others.
func TestNetworkThatFails(t *testing.T) {
	f := start(t, nil, Config{})
	for name, fault := range map[string]func() error{
		"error": func() error { return errors.New("out of memory") },
		"panic": func() error { panic("index out of range") },
	} {
		f.net.fault.Store(fault)
		if r := f.post(t, "/embed", picture(1, 2, 3)); r.status != 500 || r.message() == "" {
			t.Errorf("%s: status %d: %s", name, r.status, r.body)
		}
		f.net.fault.Store(func() error { return nil })
		if r := f.post(t, "/embed", picture(1, 2, 3)); r.status != 200 {
			t.Errorf("after %s: status %d: %s", name, r.status, r.body)
		}
	}
	nan := start(t, &colours{batch: 4, diverged: true}, Config{})
	if r := nan.post(t, "/embed", picture(1, 2, 3)); r.status != 500 || !strings.Contains(string(r.body), "diverged") {
		t.Errorf("not finite: status %d: %s", r.status, r.body)
	}
}

// Requests that come while the network is busy meet in batches, and each gets its
// own answer.
func TestConcurrentRequestsShareBatches(t *testing.T) {
	const requests = 40
	f := start(t, &colours{batch: 8, hold: make(chan struct{})}, Config{Limits: Limits{Concurrent: requests}})
	var wg sync.WaitGroup
	for i := range requests {
		wg.Go(func() {
			r := f.post(t, "/embed", picture(uint8(i), 0, uint8(5*i)))
			if r.status != 200 || !near(floats(t, r.images(t)[0]["features"]), float64(float32(i)/255), 0, float64(float32(5*i)/255)) {
				t.Errorf("request %d: status %d: %s", i, r.status, r.body)
			}
		})
	}
	waitFor(t, "requests under way", func() bool { return len(f.slots) == requests })
	for f.net.seen.Load() < requests {
		select {
		case f.net.hold <- struct{}{}:
		case <-time.After(5 * time.Millisecond):
		}
	}
	wg.Wait()
	if runs, widest := f.net.runs.Load(), f.net.widest.Load(); runs > requests/2 || widest < 2 || widest > 8 {
		t.Errorf("%d batches, the largest of %d", runs, widest)
	}
}

// A client that goes away does not hold up the others.
func TestClientThatGoes(t *testing.T) {
	f := start(t, &colours{batch: 2, hold: make(chan struct{})}, Config{})
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		req, _ := http.NewRequestWithContext(ctx, "POST", f.url+"/embed", bytes.NewReader(picture(1, 1, 1)))
		if resp, err := http.DefaultClient.Do(req); err == nil {
			resp.Body.Close()
			t.Errorf("a cancelled request was answered: %d", resp.StatusCode)
		}
	})
	waitFor(t, "request under way", func() bool { return len(f.slots) == 1 })
	cancel()
	wg.Wait()
	close(f.net.hold)
	if r := f.post(t, "/embed", picture(2, 2, 2)); r.status != 200 {
		t.Errorf("afterwards: status %d", r.status)
	}
	waitFor(t, "end of all requests", func() bool { return len(f.slots) == 0 })
}

// Many good requests with bad ones of all kinds between them: each good one gets
// its own answer, each bad one its refusal.
func TestMixedLoad(t *testing.T) {
	requests := 400
	if testing.Short() {
		requests = 80
	}
	const limit = 200000
	f := start(t, &colours{batch: 8, pixels: 1 << 20}, Config{Token: "t", Index: indexed(30), Limits: Limits{BodyBytes: limit, Concurrent: 12, Time: 20 * time.Second}})
	var images [][]byte
	for i := range 25 {
		images = append(images, picture(uint8(10*i), uint8(255-i), 7))
	}
	for _, path := range []string{"/embed", "/cluster", "/search", "/predict"} {
		o := load.Options{URL: f.url + path, Token: "t", Images: images, Requests: requests, Concurrency: 24, Bad: 0.5, TooLarge: limit + 1, Seed: 1}
		if path == "/embed" {
			o.Check = func(i int, body []byte) error {
				got := reply{body: body}.images(t)
				if len(got) != 1 || !near(floats(t, got[0]["features"]), float64(float32(10*i)/255), float64(float32(255-i)/255), float64(float32(7)/255)) {
					return fmt.Errorf("image %d: %s", i, body)
				}
				return nil
			}
		}
		r, err := load.Run(context.Background(), o)
		if err != nil {
			t.Fatal(err)
		}
		if r.Good != requests || len(r.Failed) > 0 || len(r.Odd) > 0 {
			t.Errorf("%s: %d of %d answered; failed %v; odd %v", path, r.Good, requests, r.Failed, r.Odd)
		}
		if len(r.Bad) < 14 {
			t.Errorf("%s: only bad requests of the kinds %v", path, r.Bad)
		}
	}
	waitFor(t, "end of all requests", func() bool { return len(f.slots) == 0 && len(f.decode) == 0 })
	if r := f.post(t, "/embed", images[3], "Authorization", "Bearer t"); r.status != 200 {
		t.Errorf("afterwards: status %d: %s", r.status, r.body)
	}
}
