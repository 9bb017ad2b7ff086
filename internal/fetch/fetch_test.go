package fetch

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// object is content that a server below gives.
var object = bytes.Repeat([]byte("0123456789abcdef"), 1<<12)

// serve answers with the object; trouble, if it returns true, has answered the
// n-th request itself.
func serve(t *testing.T, trouble func(n int, w http.ResponseWriter, r *http.Request) bool) (string, *atomic.Int32) {
	t.Helper()
	n := new(atomic.Int32)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		i := int(n.Add(1)) - 1
		w.Header().Set("ETag", `"v1"`)
		if trouble == nil || !trouble(i, w, r) {
			http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(object))
		}
	}))
	t.Cleanup(s.Close)
	return s.URL + "/data/a.tar?signature=secret", n
}

// cut sends the first bytes of what is asked for and then resets the connection.
func cut(w http.ResponseWriter, r *http.Request, bytes int) {
	from := 0
	_, _ = fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-", &from)
	if from > 0 {
		w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, len(object)-1, len(object)))
		w.Header().Set("Content-Length", fmt.Sprint(len(object)-from))
		w.WriteHeader(http.StatusPartialContent)
	} else {
		w.Header().Set("Content-Length", fmt.Sprint(len(object)))
	}
	_, _ = w.Write(object[from : from+bytes])
	_ = http.NewResponseController(w).Flush()
	panic(http.ErrAbortHandler)
}

func quick() *Client { return &Client{Wait: time.Millisecond, Tries: 3, Stall: 300 * time.Millisecond} }

// Whatever happens on the way, what arrives is the object.
func TestReadsOnAfterFailures(t *testing.T) {
	for name, trouble := range map[string]func(n int, w http.ResponseWriter, r *http.Request) bool{
		"none": nil,
		"busy at first": func(n int, w http.ResponseWriter, _ *http.Request) bool {
			if n < 2 {
				w.WriteHeader([]int{503, 429}[n])
			}
			return n < 2
		},
		"reset within the body, many times": func(n int, w http.ResponseWriter, r *http.Request) bool {
			if n < 9 {
				cut(w, r, 1000*n+1)
			}
			return false
		},
		"resets and errors in turn": func(n int, w http.ResponseWriter, r *http.Request) bool {
			if n%2 == 0 && n < 6 {
				w.WriteHeader(500)
				return true
			}
			if n < 6 {
				cut(w, r, 10)
			}
			return false
		},
		"no ranges": func(n int, w http.ResponseWriter, r *http.Request) bool {
			if n == 0 {
				cut(w, r, 5000)
			}
			_, _ = w.Write(object)
			return true
		},
		"silence": func(n int, w http.ResponseWriter, r *http.Request) bool {
			if n == 0 {
				<-r.Context().Done()
			}
			return n == 0
		},
	} {
		t.Run(name, func(t *testing.T) {
			url, requests := serve(t, trouble)
			notes := 0
			c := quick()
			c.Note = func(string) { notes++ }
			r := c.Open(context.Background(), url)
			defer r.Close()
			got, err := io.ReadAll(r)
			if err != nil || !bytes.Equal(got, object) {
				t.Fatalf("%d bytes of %d, %v", len(got), len(object), err)
			}
			if int(requests.Load()) != notes+1 {
				t.Errorf("%d requests, %d notes of failed tries", requests.Load(), notes)
			}
		})
	}
}

// What fails for good says what and where, and gives no secrets away.
func TestGivesUp(t *testing.T) {
	for name, tc := range map[string]struct {
		trouble  func(n int, w http.ResponseWriter, r *http.Request) bool
		at       int64
		requests int32
		want     string
	}{
		"not there":   {func(_ int, w http.ResponseWriter, _ *http.Request) bool { w.WriteHeader(404); return true }, 0, 1, "404"},
		"always busy": {func(_ int, w http.ResponseWriter, _ *http.Request) bool { w.WriteHeader(502); return true }, 0, 3, "tried 3 times"},
		"dies for good in the middle": {func(n int, w http.ResponseWriter, r *http.Request) bool {
			if n == 0 {
				cut(w, r, 4321)
			}
			panic(http.ErrAbortHandler)
		}, 4321, 3, "tried 3 times"},
		"another object in the middle": {func(n int, w http.ResponseWriter, r *http.Request) bool {
			if n == 0 {
				cut(w, r, 99)
			}
			w.Header().Set("ETag", `"v2"`)
			return false
		}, 99, 2, "replaced"},
	} {
		t.Run(name, func(t *testing.T) {
			url, requests := serve(t, tc.trouble)
			_, err := io.ReadAll(quick().Open(context.Background(), url))
			var e *Error
			if !errors.As(err, &e) || e.Byte != tc.at || requests.Load() != tc.requests {
				t.Fatalf("%v after %d requests, want byte %d and %d", err, requests.Load(), tc.at, tc.requests)
			}
			for _, want := range []string{tc.want, "/data/a.tar", fmt.Sprintf("byte %d", tc.at)} {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%v, want %q in it", err, want)
				}
			}
			if strings.Contains(err.Error(), "secret") {
				t.Errorf("%v shows the signature", err)
			}
		})
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	url, _ := serve(t, nil)
	if _, err := quick().Open(ctx, url).Read(make([]byte, 1)); !errors.Is(err, context.Canceled) {
		t.Errorf("an interrupted read: %v", err)
	}
	if _, err := quick().Stat(context.Background(), "http://127.0.0.1:1/x"); err == nil || !strings.Contains(err.Error(), "127.0.0.1:1/x") {
		t.Errorf("nobody there: %v", err)
	}
}

func TestStat(t *testing.T) {
	url, _ := serve(t, nil)
	info, err := quick().Stat(context.Background(), url)
	if err != nil || info.Size != int64(len(object)) || info.Version != `"v1"` {
		t.Errorf("%+v, %v", info, err)
	}
}

// Object stores are the same under other addresses, with proofs of who asks.
func TestObjectStores(t *testing.T) {
	var seen *http.Request
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen = r
		if strings.HasPrefix(r.URL.Path, "/moved/") && !strings.Contains(r.Header.Get("Authorization"), "/ap-south-1/s3/") {
			w.Header().Set("X-Amz-Bucket-Region", "ap-south-1")
			w.WriteHeader(http.StatusMovedPermanently)
			return
		}
		if strings.HasPrefix(r.URL.Path, "/secret/") {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		_, _ = w.Write(object)
	}))
	defer s.Close()
	for k, v := range map[string]string{"AWS_ENDPOINT_URL": s.URL, "AWS_ACCESS_KEY_ID": "AKID", "AWS_SECRET_ACCESS_KEY": "never shown",
		"AWS_REGION": "eu-west-3", "STORAGE_EMULATOR_HOST": strings.TrimPrefix(s.URL, "http://")} {
		t.Setenv(k, v)
	}
	read := func(url string) {
		t.Helper()
		if got, err := io.ReadAll(quick().Open(context.Background(), url)); err != nil || !bytes.Equal(got, object) {
			t.Fatalf("%s: %d bytes, %v", url, len(got), err)
		}
	}
	read("s3://bucket/dir/a b.tar")
	if seen.URL.Path != "/bucket/dir/a b.tar" || !strings.Contains(seen.Header.Get("Authorization"), "AKID/") || !strings.Contains(seen.Header.Get("Authorization"), "/eu-west-3/s3/") {
		t.Errorf("s3: %s, %v", seen.URL, seen.Header)
	}
	read("s3://moved/a.tar") // a bucket says in which region it is
	for url, want := range map[string]string{"s3://secret/a.tar": "AWS_ACCESS_KEY_ID", "gs://secret/a.tar": "gcloud"} {
		if _, err := quick().Stat(context.Background(), url); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), url) || strings.Contains(err.Error(), "never shown") {
			t.Errorf("%s: %v, want %s in it", url, err, want)
		}
	}
	read("gs://bucket/dir/a.tar")
	if seen.URL.Path != "/bucket/dir/a.tar" {
		t.Errorf("gs: %s", seen.URL)
	}
	if _, err := quick().Stat(context.Background(), "s3://bucket"); err == nil || !strings.Contains(err.Error(), "bucket/key") {
		t.Errorf("no key: %v", err)
	}
	t.Setenv("AWS_ENDPOINT_URL", "")
	for url, want := range map[string]string{
		"s3://bucket/k#1.tar":      "https://bucket.s3.eu-west-3.amazonaws.com/k%231.tar",
		"s3://dotted.bucket/k.tar": "https://s3.eu-west-3.amazonaws.com/dotted.bucket/k.tar",
	} {
		if got, err := new(Client).address(url); err != nil || got != want {
			t.Errorf("%s lies at %s, %v; want %s", url, got, err, want)
		}
	}
}

func TestStore(t *testing.T) {
	s := &Store{Dir: t.TempDir(), Max: 100}
	fills := map[string]int{}
	open := func(key string, size int) (string, error) {
		f, err := s.Open(key, func(w io.Writer) error {
			fills[key]++
			_, err := w.Write(bytes.Repeat([]byte(key), size))
			return err
		})
		if err != nil {
			return "", err
		}
		defer f.Close()
		text, err := io.ReadAll(f)
		return string(text), err
	}
	age := func() {
		entries, err := os.ReadDir(s.Dir)
		if err != nil {
			t.Fatal(err)
		}
		for i, e := range entries {
			past := time.Now().Add(-time.Hour - time.Duration(i))
			if err := os.Chtimes(s.Dir+"/"+e.Name(), past, past); err != nil {
				t.Fatal(err)
			}
		}
		s.used = nil
	}
	for _, key := range []string{"a", "b", "a"} {
		if text, err := open(key, 40); err != nil || text != strings.Repeat(key, 40) {
			t.Fatalf("%q, %v", text, err)
		}
		age()
	}
	if fills["a"] != 1 || fills["b"] != 1 {
		t.Errorf("filled %v times, both fit", fills)
	}
	// a was used last, so b goes when c comes.
	for _, step := range []struct {
		key   string
		fills int
	}{{"a", 1}, {"c", 1}, {"a", 1}, {"b", 2}} {
		if _, err := open(step.key, 40); err != nil || fills[step.key] != step.fills {
			t.Errorf("%s was filled %d times, want %d (%v)", step.key, fills[step.key], step.fills, err)
		}
		if step.key == "c" {
			age()
		}
	}
	if _, err := open("large", 101); err == nil || !strings.Contains(err.Error(), "allow more") {
		t.Errorf("larger than all: %v", err)
	}
	boom := errors.New("boom")
	if _, err := s.Open("broken", func(io.Writer) error { return boom }); !errors.Is(err, boom) {
		t.Errorf("a fill that fails: %v", err)
	}
	entries, err := os.ReadDir(s.Dir)
	if err != nil || len(entries) > 2 {
		t.Errorf("%d files are left, %v", len(entries), err)
	}
}
