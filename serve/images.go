package serve

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"os"
	"sync"

	"swav/imgcodec"
)

// failure is an error with the status that it is answered with.
type failure struct {
	status int
	text   string
}

func (f *failure) Error() string { return f.text }

func failed(status int, format string, args ...any) *failure {
	return &failure{status, fmt.Sprintf(format, args...)}
}

// asFailure finds the status of any error.
func (s *Server) asFailure(err error) *failure {
	var f *failure
	var long *http.MaxBytesError
	switch {
	case errors.As(err, &f):
		return f
	case errors.As(err, &long):
		return failed(http.StatusRequestEntityTooLarge, "%s", s.tooLong())
	case errors.Is(err, imgcodec.ErrTooLarge):
		return failed(http.StatusRequestEntityTooLarge, "%v", err)
	case errors.Is(err, imgcodec.ErrFormat):
		return failed(http.StatusUnsupportedMediaType, "%v", err)
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return failed(http.StatusServiceUnavailable, "no answer within %v: the server is busy, or the request came too slowly", s.limits.Time)
	case errors.Is(err, context.Canceled), errors.Is(err, errStopped):
		return failed(http.StatusServiceUnavailable, "%v", errStopped)
	}
	return failed(http.StatusInternalServerError, "%v", err)
}

// upload is an image file as it came.
type upload struct {
	name string // of its part; "" for a body that is the image
	data []byte
}

// uploads reads a request's images: the files of a multipart form, or else the
// body, whatever type it claims; the decoder looks for itself.
func (s *Server) uploads(r *http.Request) ([]upload, error) {
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || kind != "multipart/form-data" {
		data, err := io.ReadAll(r.Body)
		if err != nil {
			return nil, s.unreadable(err)
		}
		if len(data) == 0 {
			return nil, failed(http.StatusBadRequest, "no image: send a file as body, or files as multipart/form-data")
		}
		return []upload{{data: data}}, nil
	}
	form, err := r.MultipartReader()
	if err != nil {
		return nil, failed(http.StatusBadRequest, "multipart form: %v", err)
	}
	var images []upload
	for {
		part, err := form.NextPart()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, s.unreadable(err)
		}
		if len(images) == s.limits.Images {
			return nil, failed(http.StatusRequestEntityTooLarge, "more than %d images in one request", s.limits.Images)
		}
		data, err := io.ReadAll(part)
		if err != nil {
			return nil, s.unreadable(err)
		}
		name := part.FileName()
		if name == "" {
			name = part.FormName()
		}
		images = append(images, upload{name, data})
	}
	if len(images) == 0 {
		return nil, failed(http.StatusBadRequest, "a form without files: send each image as one part")
	}
	return images, nil
}

// unreadable is the failure of a body that did not come whole.
func (s *Server) unreadable(err error) error {
	var long *http.MaxBytesError
	if errors.As(err, &long) || errors.Is(err, os.ErrDeadlineExceeded) {
		return err
	}
	return failed(http.StatusBadRequest, "the request cannot be read: %v", err)
}

// seen is what came of an upload: a result, or why there is none.
type seen struct {
	name string
	result
	failure *failure
}

// look shows uploads to a network, as many at a time as a batch holds.
func (s *Server) look(ctx context.Context, b *batcher, images []upload) []seen {
	out := make([]seen, len(images))
	next := make(chan int)
	var wg sync.WaitGroup
	for range min(len(images), b.net.Batch()) {
		wg.Go(func() {
			view := make([]float32, b.net.Pixels())
			for i := range next {
				out[i].name = images[i].name
				var err error
				if out[i].result, err = s.one(ctx, b, view, images[i].data); err != nil {
					out[i].failure = s.asFailure(err)
				}
				images[i].data = nil
				outcome := "answered"
				if err != nil {
					outcome = "refused"
				}
				s.metrics.images.WithLabelValues(outcome).Inc()
			}
		})
	}
	for i := range images {
		next <- i
	}
	close(next)
	wg.Wait()
	return out
}

// one decodes an image and waits for the network.
func (s *Server) one(ctx context.Context, b *batcher, view []float32, file []byte) (result, error) {
	select {
	case s.decode <- struct{}{}:
	case <-ctx.Done():
		return result{}, ctx.Err()
	}
	err := b.net.View(view, file)
	<-s.decode
	if err != nil {
		var f *failure
		if errors.Is(err, imgcodec.ErrFormat) || errors.Is(err, imgcodec.ErrTooLarge) || errors.As(err, &f) {
			return result{}, err
		}
		return result{}, failed(http.StatusUnprocessableEntity, "%v", err)
	}
	return b.do(ctx, view)
}
