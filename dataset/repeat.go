package dataset

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"

	"swav/dataset/tarshard"
	"swav/internal/fetch"
)

// repeat is a list of shards again and again, in another order each time. Nothing
// is read before it is needed, so it begins at once however many shards there
// are. Remote shards are fetched as a whole into the store, the next one while
// one is read; others are read as they lie.
type repeat struct {
	name   string
	view   int
	opts   Options
	access *access
	parts  []part
	order  []int // of the pass
	mark   Mark
	read   bool // something, in this pass

	asking sync.Mutex // for versions

	tar   *tarshard.Reader // of the part at mark; nil before it is opened
	close func()
}

func openRepeat(path string, o Options, view int) (Stream, error) {
	names, err := shardNames(path, o.Split)
	if err != nil {
		return nil, err
	}
	s := &repeat{name: RepeatPrefix + path, view: view, opts: o, access: newAccess(o)}
	if fetch.Is(path) {
		s.name = RepeatPrefix + fetch.Show(path)
	}
	for _, name := range names {
		p := part{url: name, base: shardBase(name)}
		// A compressed file is unpacked as it is read.
		p.stored = fetch.Is(name) || strings.HasSuffix(strings.ToLower(p.base), parquetSuffix)
		s.parts = append(s.parts, p)
	}
	s.begin(0)
	return s, nil
}

// shardBase is the last element of a shard's name.
func shardBase(name string) string {
	base := path.Base(filepath.ToSlash(name))
	if i := strings.IndexAny(base, "?#"); i >= 0 && fetch.Is(name) {
		base = base[:i]
	}
	return base
}

func (s *repeat) Name() string  { return fmt.Sprintf("%s (%d shards)", s.name, len(s.parts)) }
func (s *repeat) Channels() int { return s.view }
func (s *repeat) Mark() Mark    { return s.mark }

// Close leaves the shard that is being read.
func (s *repeat) Close() error {
	s.leave()
	return nil
}

func (s *repeat) leave() {
	if s.tar != nil {
		s.close()
		s.tar = nil
	}
}

// begin starts a pass.
func (s *repeat) begin(pass int) {
	s.leave()
	s.mark, s.read = Mark{Pass: pass}, false
	s.order = rand.New(rand.NewPCG(s.opts.Seed, uint64(pass))).Perm(len(s.parts))
}

func (s *repeat) Seek(ctx context.Context, to Mark) error {
	s.begin(to.Pass)
	s.mark.Part = to.Part
	for s.mark.Record < to.Record {
		at := s.mark.Part
		if _, err := s.Next(ctx); err != nil {
			return err
		}
		if s.mark.Part != at {
			return fmt.Errorf("%s: %s has become shorter since the run read it: restore it, or start a new run", s.name, s.parts[s.order[at]].base)
		}
	}
	return nil
}

func (s *repeat) Next(ctx context.Context) (*Record, error) {
	for {
		if s.mark.Part >= len(s.order) {
			if !s.read {
				return nil, fmt.Errorf("%s: no images in any of the shards", s.name)
			}
			s.begin(s.mark.Pass + 1)
		}
		p := &s.parts[s.order[s.mark.Part]]
		if s.tar == nil {
			if err := s.open(ctx, p); err != nil {
				return nil, err
			}
		}
		x, err := s.tar.Next()
		if err == nil {
			s.mark.Record++
			s.read = true
			return newRecord(p.base, x, s.opts), nil
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if !errors.Is(err, io.EOF) {
			s.opts.Note(fmt.Sprintf("%s is damaged after %d images: %v", fetch.Show(p.url), s.mark.Record, err))
		}
		s.leave()
		s.mark.Part, s.mark.Record = s.mark.Part+1, 0
	}
}

// open opens a shard at its beginning and has the next one brought near.
func (s *repeat) open(ctx context.Context, p *part) error {
	f, err := s.file(ctx, p)
	if err != nil {
		return err
	}
	unpacked, err := tarshard.Unpack(f)
	if err != nil {
		s.opts.Note(fmt.Sprintf("%s is damaged: %v", p.base, err))
		unpacked = io.NopCloser(strings.NewReader(""))
	}
	s.tar = tarshard.NewReader(unpacked, tarOptions(s.opts))
	s.close = func() {
		unpacked.Close()
		f.Close()
	}
	if s.mark.Part+1 < len(s.order) {
		if next := &s.parts[s.order[s.mark.Part+1]]; next.stored {
			go func() {
				if f, err := s.file(ctx, next); err == nil {
					f.Close()
				}
			}()
		}
	}
	return nil
}

// file opens a shard, fetched where it is remote.
func (s *repeat) file(ctx context.Context, p *part) (*os.File, error) {
	if !p.stored {
		return os.Open(p.url)
	}
	if err := s.ask(ctx, p); err != nil {
		return nil, err
	}
	if strings.HasSuffix(strings.ToLower(p.base), parquetSuffix) {
		return s.access.file(ctx, p)
	}
	f, err := s.access.raw(ctx, p)
	if err != nil {
		return nil, unavailable(err)
	}
	return f, nil
}

// ask asks once what a shard is, so that one that was replaced since an earlier
// run is fetched anew.
func (s *repeat) ask(ctx context.Context, p *part) (err error) {
	s.asking.Lock()
	defer s.asking.Unlock()
	if p.version == "" {
		p.version, err = s.access.version(ctx, p.url)
	}
	return err
}
