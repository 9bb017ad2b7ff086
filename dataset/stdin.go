package dataset

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"swav/dataset/tarshard"
)

// input is a stream that is read once: standard input. A goroutine reads ahead,
// as reads cannot be interrupted, and ends with the input.
type input struct {
	name    string
	view    int
	records chan *Record // closed at the end
	err     error        // why, once it is closed; nil: the input ended
	again   []*Record    // that were peeked at
	mark    Mark
}

// stdin is the one stream of a process's standard input.
var stdin struct {
	sync.Mutex
	stream *input
}

// standardInput opens standard input, or goes on with it.
func standardInput(o Options, view int) *input {
	stdin.Lock()
	defer stdin.Unlock()
	if stdin.stream == nil {
		stdin.stream = newInput("standard input", os.Stdin, o, view)
	}
	stdin.stream.view = view
	return stdin.stream
}

func newInput(name string, r io.Reader, o Options, view int) *input {
	s := &input{name: name, view: view, records: make(chan *Record, 16)}
	go func() {
		s.err = readInput(r, o, func(r *Record) { s.records <- r })
		close(s.records)
	}()
	return s
}

// readInput yields the images of a tar stream or of a list of files.
func readInput(r io.Reader, o Options, yield func(*Record)) error {
	unpacked, err := tarshard.Unpack(r)
	if err != nil {
		return err
	}
	defer unpacked.Close()
	b := bufio.NewReaderSize(unpacked, 1<<16)
	head, err := b.Peek(512)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if len(head) < 512 || !bytes.Equal(head[257:262], []byte("ustar")) {
		return readPaths(b, o, yield)
	}
	t := tarshard.NewReader(b, tarOptions(o))
	for {
		x, err := t.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("tar stream: %w", err)
		}
		yield(newRecord(StandardInput, x, o))
	}
}

// readPaths yields the files that lines name.
func readPaths(r io.Reader, o Options, yield func(*Record)) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxLine)
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		image, label, ok := cutLabel(line)
		if !ok {
			return fmt.Errorf("neither a tar stream nor a list of images: line %d is %q", n, shorten(line))
		}
		yield(fileRecord(filepath.ToSlash(image), image, label, o))
	}
	return lines.Err()
}

// fileRecord reads a file as a record.
func fileRecord(id, path, label string, o Options) *Record {
	r := &Record{ID: id, Label: label, decode: o.Decode}
	r.err = readFile(&r.Data, path, o.MaxFileBytes)
	return r
}

func (s *input) Name() string  { return s.name }
func (s *input) Channels() int { return s.view }
func (s *input) Mark() Mark    { return s.mark }

// Close leaves the input open: what comes may be wanted by another.
func (s *input) Close() error { return nil }

func (s *input) Next(ctx context.Context) (*Record, error) {
	if len(s.again) > 0 {
		r := s.again[0]
		s.again = s.again[1:]
		s.mark.Record++
		return r, nil
	}
	select {
	case r, ok := <-s.records:
		if ok {
			s.mark.Record++
			return r, nil
		}
		if s.err != nil {
			return nil, fmt.Errorf("%s, after %d images: %w", s.name, s.mark.Record, s.err)
		}
		return nil, io.EOF
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// unread takes the last records back.
func (s *input) unread(last []*Record) {
	s.again = append(last[:len(last):len(last)], s.again...)
	s.mark.Record -= int64(len(last))
}

// Seek reads past records up to a place.
func (s *input) Seek(ctx context.Context, to Mark) error {
	if to.Record < s.mark.Record {
		return fmt.Errorf("%s cannot go back from image %d to image %d", s.name, s.mark.Record, to.Record)
	}
	for s.mark.Record < to.Record {
		if _, err := s.Next(ctx); errors.Is(err, io.EOF) {
			return fmt.Errorf("%s ends after %d images, and the run has seen %d: give the same stream from its beginning, or set data.replay = false in recipe.toml to go on with what comes", s.name, s.mark.Record, to.Record)
		} else if err != nil {
			return err
		}
	}
	return nil
}
