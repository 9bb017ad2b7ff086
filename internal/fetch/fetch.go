// Package fetch reads objects over HTTP(S), from S3 (s3://bucket/key) and from
// Google Cloud Storage (gs://bucket/key), and keeps them in a store on disk of
// bounded size.
//
// What fails for a moment (5xx, 429, a reset or silent connection, a body that
// ends early) is tried again with growing pauses, and goes on at the byte where
// it stopped. What fails for good is an [Error] that names the URL and the byte.
// All three kinds are plain GET requests with ranges; only the headers differ.
//
// A Client and a Store may be used concurrently, a reader belongs to one caller.
// What the bytes mean is the caller's.
package fetch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-retryablehttp"
)

// Client reads objects. The zero value is ready for use.
type Client struct {
	HTTP  *http.Client  // nil: http.DefaultClient
	Tries int           // in a row without a byte; 0: 6
	Wait  time.Duration // before the second try, then twice as long each time; 0: half a second
	Stall time.Duration // without a byte, until a connection counts as broken; 0: a minute
	Note  func(string)  // told of tries that failed; may be nil

	once sync.Once
	auth signers
}

// maxWait bounds the pause between tries.
const maxWait = 30 * time.Second

// Error says what could not be read, and where in it.
type Error struct {
	URL  string // without secrets
	Byte int64
	Err  error
}

func (e *Error) Error() string {
	return fmt.Sprintf("get %s: at byte %d: %v", e.URL, e.Byte, e.Err)
}
func (e *Error) Unwrap() error { return e.Err }

// Info is what a server says of an object.
type Info struct {
	Size    int64  // -1: it does not say
	Version string // changes with the content; empty: it does not say
}

// Is tells whether a path is a URL that this package reads.
func Is(path string) bool {
	for _, scheme := range []string{"http://", "https://", "s3://", "gs://"} {
		if strings.HasPrefix(path, scheme) {
			return true
		}
	}
	return false
}

// Stat asks for an object's size and version.
func (c *Client) Stat(ctx context.Context, url string) (Info, error) {
	// A range of one byte, not HEAD: signed URLs are good for one method only.
	r := &reader{c: c, ctx: ctx, url: url, probe: true}
	defer r.Close()
	err := r.connect()
	return r.info, err
}

// Open reads an object from its beginning. Errors come from Read; those of ctx
// come as they are.
func (c *Client) Open(ctx context.Context, url string) io.ReadCloser {
	return &reader{c: c, ctx: ctx, url: url}
}

// reader is an object being read, over as many connections as it takes.
type reader struct {
	c      *Client
	ctx    context.Context
	url    string
	probe  bool // the first byte is enough
	at     int64
	info   Info
	known  bool  // info is
	failed int   // tries since the last byte
	skip   int64 // bytes to read past: the server began anew

	body  io.ReadCloser // nil between connections
	end   context.CancelFunc
	stall *time.Timer
}

// Read reads on, over a new connection where the last one broke.
func (r *reader) Read(p []byte) (int, error) {
	for {
		if r.body == nil {
			if err := r.connect(); err != nil {
				return 0, err
			}
		}
		r.stall.Reset(r.c.stall())
		n, err := r.body.Read(p)
		r.stall.Stop()
		if past := int(min(r.skip, int64(n))); past > 0 {
			n, r.skip = copy(p, p[past:n]), r.skip-int64(past)
		}
		if n > 0 {
			r.at += int64(n)
			r.failed = 0
		}
		switch {
		case err == nil:
			return n, nil
		case errors.Is(err, io.EOF) && (r.info.Size < 0 || r.at >= r.info.Size):
			return n, io.EOF
		case errors.Is(err, io.EOF):
			err = fmt.Errorf("the body ends early, %d bytes were announced", r.info.Size)
		}
		r.drop()
		if n > 0 {
			return n, nil
		}
		if err := r.again(err, nil); err != nil {
			return 0, err
		}
	}
}

// Close ends the connection.
func (r *reader) Close() error {
	r.drop()
	return nil
}

func (r *reader) drop() {
	if r.body != nil {
		r.stall.Stop()
		r.end()
		_ = r.body.Close()
		r.body = nil
	}
}

// connect asks for the object from r.at on, again and again where that may help.
func (r *reader) connect() error {
	for {
		resp, err := r.request()
		if err == nil {
			if err = r.accept(resp); err == nil {
				return nil
			}
			r.drop()
			return r.fail(err)
		}
		if err := r.again(err, resp); err != nil {
			return err
		}
	}
}

// request sends one request. Its response is that of a success, or, with an
// error, one that says when to come again, or nil.
func (r *reader) request() (*http.Response, error) {
	ctx, end := context.WithCancel(r.ctx)
	stall := time.AfterFunc(r.c.stall(), end)
	quit := func(resp *http.Response, err error) (*http.Response, error) {
		stall.Stop()
		end()
		if resp != nil {
			_ = resp.Body.Close()
		}
		return resp, err
	}
	req, err := r.c.newRequest(ctx, r.url)
	if err != nil {
		return quit(nil, permanent{err})
	}
	switch {
	case r.probe:
		req.Header.Set("Range", "bytes=0-0")
	case r.at > 0:
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", r.at))
	}
	// Ranges count bytes as they are stored.
	req.Header.Set("Accept-Encoding", "identity")
	if err := r.c.sign(req, r.url); err != nil {
		return quit(nil, permanent{err})
	}
	resp, err := r.c.http().Do(req)
	if err == nil && (resp.StatusCode == http.StatusOK || resp.StatusCode == http.StatusPartialContent ||
		resp.StatusCode == http.StatusRequestedRangeNotSatisfiable && r.probe) {
		r.body, r.end, r.stall = resp.Body, end, stall
		stall.Stop()
		return resp, nil
	}
	if err != nil {
		if ctx.Err() != nil && r.ctx.Err() == nil {
			return quit(nil, fmt.Errorf("no answer in %v", r.c.stall()))
		}
		retry, _ := retryablehttp.DefaultRetryPolicy(r.ctx, nil, err)
		if u := (*url.Error)(nil); errors.As(err, &u) {
			err = u.Err // u shows the URL, with its secrets
		}
		if !retry {
			err = permanent{err}
		}
		return quit(nil, err)
	}
	err = fmt.Errorf("the server says %s%s", resp.Status, r.c.advice(r.url, resp))
	if retry, _ := retryablehttp.DefaultRetryPolicy(r.ctx, resp, nil); !retry && !r.c.learn(r.url, resp) {
		err = permanent{err}
	}
	return quit(resp, err)
}

// permanent marks errors that another try does not help.
type permanent struct{ error }

func (p permanent) Unwrap() error { return p.error }

// accept checks that a response goes on where the reader stands.
func (r *reader) accept(resp *http.Response) error {
	got := Info{Size: -1, Version: resp.Header.Get("ETag")}
	if got.Version == "" {
		got.Version = resp.Header.Get("Last-Modified")
	}
	from := int64(0)
	switch resp.StatusCode {
	case http.StatusOK:
		got.Size = resp.ContentLength
	default:
		first, size, ok := contentRange(resp.Header.Get("Content-Range"))
		if !ok {
			return fmt.Errorf("the server answers a range with Content-Range %q", resp.Header.Get("Content-Range"))
		}
		from, got.Size = first, size
	}
	if r.known && (got.Version != r.info.Version || got.Size >= 0 && r.info.Size >= 0 && got.Size != r.info.Size) {
		return errors.New("the object was replaced by another while it was read")
	}
	if !r.known {
		r.info, r.known = got, true
	}
	if from > r.at {
		return fmt.Errorf("the server goes on at byte %d", from)
	}
	r.skip = r.at - from // a server without ranges begins anew
	return nil
}

// contentRange reads "bytes 5-9/10" and "bytes */0".
func contentRange(s string) (first, size int64, ok bool) {
	s, ok = strings.CutPrefix(s, "bytes ")
	span, total, cut := strings.Cut(s, "/")
	if !ok || !cut {
		return 0, 0, false
	}
	size = -1
	var err error
	if total != "*" {
		if size, err = strconv.ParseInt(total, 10, 64); err != nil || size < 0 {
			return 0, 0, false
		}
	}
	if span == "*" {
		return 0, size, true
	}
	from, _, _ := strings.Cut(span, "-")
	first, err = strconv.ParseInt(from, 10, 64)
	return first, size, err == nil && first >= 0
}

// again waits before another try, or returns the error that ends the reading.
func (r *reader) again(err error, resp *http.Response) error {
	if r.ctx.Err() != nil {
		return r.ctx.Err()
	}
	if p := (permanent{}); errors.As(err, &p) {
		return r.fail(p.error)
	}
	r.failed++
	tries := r.c.Tries
	if tries == 0 {
		tries = 6
	}
	if r.failed >= tries {
		return r.fail(fmt.Errorf("%w (tried %d times)", err, r.failed))
	}
	least := r.c.Wait
	if least == 0 {
		least = 500 * time.Millisecond
	}
	pause := min(maxWait, retryablehttp.DefaultBackoff(least, maxWait, r.failed-1, resp))
	if r.c.Note != nil {
		r.c.Note(fmt.Sprintf("get %s: at byte %d: %v; again in %v", Show(r.url), r.at, err, pause))
	}
	select {
	case <-time.After(pause):
		return nil
	case <-r.ctx.Done():
		return r.ctx.Err()
	}
}

func (r *reader) fail(err error) error { return &Error{Show(r.url), r.at, err} }

func (c *Client) http() *http.Client {
	if c.HTTP != nil {
		return c.HTTP
	}
	return http.DefaultClient
}

func (c *Client) stall() time.Duration {
	if c.Stall != 0 {
		return c.Stall
	}
	return time.Minute
}

// Show is a URL for people: passwords and signatures are left out.
func Show(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return "a URL that cannot be parsed"
	}
	if u.RawQuery != "" {
		u.RawQuery = "…"
	}
	// Braces of patterns stay readable.
	return strings.NewReplacer("%7B", "{", "%7D", "}").Replace(u.Redacted())
}
