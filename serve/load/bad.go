package load

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"
)

// bad is a kind of bad request.
type bad struct {
	name   string
	body   func() io.Reader
	url    func(string) string
	change func(*http.Request)
	want   []int // statuses; none: the connection may end without an answer
}

// busy are answers that any request may get.
var busy = []int{http.StatusTooManyRequests, http.StatusServiceUnavailable}

// ask makes the request and says in what way the answer is not what it should be.
func (b *bad) ask(ctx context.Context, client *http.Client, o Options) error {
	url := o.URL
	if b.url != nil {
		url = b.url(url)
	}
	status, _, body, err := post(ctx, client, o, url, b.body(), b.change)
	switch {
	case len(b.want) == 0 || ctx.Err() != nil:
		return nil
	case errors.Is(err, errCut):
		return nil
	case err != nil:
		return err
	case slices.Contains(b.want, status) || slices.Contains(busy, status):
		return nil
	}
	return fmt.Errorf("status %d, want %v: %.200s", status, b.want, body)
}

// badKinds are the bad requests that o allows.
func badKinds(o Options) []bad {
	image := o.Images[0]
	file := func(data []byte) func() io.Reader { return func() io.Reader { return bytes.NewReader(data) } }
	kinds := []bad{
		{name: "truncated", body: file(image[:len(image)/2]), want: []int{http.StatusUnprocessableEntity}},
		{name: "huge dimensions", body: file(bomb(60000, 60000)), want: []int{http.StatusRequestEntityTooLarge}},
		{name: "not an image", body: file([]byte(strings.Repeat("all work and no play ", 500))), want: []int{http.StatusUnsupportedMediaType}},
		{name: "empty", body: file(nil), want: []int{http.StatusBadRequest}},
		{name: "zeros", body: file(make([]byte, 100000)), want: []int{http.StatusUnsupportedMediaType}},
		{name: "broken form", body: file([]byte("--x\r\nContent-Disposition: form-data; name=image; filename=a.jpg\r\n\r\nabc")),
			change: func(r *http.Request) { r.Header.Set("Content-Type", "multipart/form-data; boundary=x") }, want: []int{http.StatusBadRequest}},
		{name: "form without boundary", body: file(image),
			change: func(r *http.Request) { r.Header.Set("Content-Type", "multipart/form-data") }, want: []int{http.StatusBadRequest}},
		{name: "method", body: file(image), change: func(r *http.Request) { r.Method = http.MethodPut }, want: []int{http.StatusMethodNotAllowed}},
		{name: "path", body: file(image), url: func(u string) string { return u + "/../nothing/%2e%2e/here" }, want: []int{http.StatusNotFound, http.StatusMethodNotAllowed}},
		{name: "answer type", body: file(image), change: func(r *http.Request) { r.Header.Set("Accept", "video/mp4") }, want: []int{http.StatusNotAcceptable}},
		{name: "cut", body: func() io.Reader { return &reader{data: image, stopAt: len(image) / 2} }},
		// Slow, but whole in the end: it must be answered.
		{name: "slow", body: func() io.Reader {
			return &reader{data: image, stopAt: len(image), piece: len(image)/8 + 1, pause: 30 * time.Millisecond}
		}, want: []int{http.StatusOK}},
	}
	if o.TooLarge > 0 {
		kinds = append(kinds,
			bad{name: "too large", body: func() io.Reader { return io.LimitReader(zeros{}, o.TooLarge) }, want: []int{http.StatusRequestEntityTooLarge},
				change: func(r *http.Request) { r.ContentLength = o.TooLarge }},
			bad{name: "too large, length unknown", body: func() io.Reader { return io.LimitReader(zeros{}, o.TooLarge) }, want: []int{http.StatusRequestEntityTooLarge}})
	}
	if o.Token != "" {
		kinds = append(kinds, bad{name: "token", body: file(image), change: func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+o.Token+"x") },
			want: []int{http.StatusUnauthorized}})
	}
	return kinds
}

var errCut = errors.New("cut off")

// reader gives data in pieces with pauses, and ends with an error where it stops
// before the end.
type reader struct {
	data   []byte
	at     int
	stopAt int
	piece  int // 0: as much as is asked for
	pause  time.Duration
}

func (r *reader) Read(p []byte) (int, error) {
	if r.at == r.stopAt {
		if r.stopAt < len(r.data) {
			return 0, errCut
		}
		return 0, io.EOF
	}
	time.Sleep(r.pause)
	n := min(len(p), r.stopAt-r.at)
	if r.piece > 0 {
		n = min(n, r.piece)
	}
	copy(p, r.data[r.at:r.at+n])
	r.at += n
	return n, nil
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// bomb is a PNG file that claims a size which it does not hold.
func bomb(w, h uint32) []byte {
	header := binary.BigEndian.AppendUint32(nil, w)
	header = binary.BigEndian.AppendUint32(header, h)
	header = append(header, 8, 2, 0, 0, 0)
	out := []byte("\x89PNG\r\n\x1a\n")
	chunk := func(kind string, data []byte) {
		out = binary.BigEndian.AppendUint32(out, uint32(len(data)))
		body := append([]byte(kind), data...)
		out = append(out, body...)
		out = binary.BigEndian.AppendUint32(out, crc32.ChecksumIEEE(body))
	}
	chunk("IHDR", header)
	chunk("IDAT", []byte{0x78, 0x9c, 3, 0, 0, 0, 0, 1})
	chunk("IEND", nil)
	return out
}
