package dataset

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/gob"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"swav/dataset/tarshard"
	"swav/imgcodec"
	"swav/internal/fetch"
)

// access is how the bytes of shards are reached.
type access struct {
	ctx    context.Context
	client *fetch.Client
	store  *fetch.Store
	slots  chan struct{} // bounds what is prefetched at a time
}

// together is how many shards are indexed, fetched or unpacked at a time.
const together = 4

func newAccess(o Options) *access {
	dir, err := o.cacheDir("shards")
	if err == nil {
		err = os.MkdirAll(dir, 0o755)
	}
	if err != nil {
		dir = filepath.Join(os.TempDir(), fmt.Sprintf("swav-%d", os.Getuid()), "shards")
	}
	return &access{ctx: o.Context, client: &fetch.Client{Note: o.Note}, store: &fetch.Store{Dir: dir, Max: o.CacheBytes},
		slots: make(chan struct{}, together)}
}

// openAll finds shards and what is in them, of which each of o.Peers looks into a share.
func (a *access) openAll(names []string, o Options) ([]part, error) {
	parts := make([]part, len(names))
	for i, name := range names {
		var err error
		if parts[i], err = newPart(name); err != nil {
			return nil, err
		}
	}
	rank, ranks := 0, 1
	if o.Peers != nil {
		rank, ranks = o.Peers.Rank, o.Peers.Ranks
	}
	work, ctx := errgroup.WithContext(o.Context)
	work.SetLimit(together)
	for i := rank; i < len(parts); i += ranks {
		work.Go(func() error { return a.look(ctx, &parts[i], o) })
	}
	if err := work.Wait(); err != nil || ranks == 1 {
		return parts, err
	}
	return parts, exchange(parts, o.Peers)
}

// exchange fills in what the peers have found in their parts. These go by the ends of
// their names: where they lie may differ.
func exchange(parts []part, peers *Peers) error {
	var own []shardIndex
	for i := peers.Rank; i < len(parts); i += peers.Ranks {
		own = append(own, shardIndex{URL: parts[i].base, Version: parts[i].version, Samples: parts[i].samples})
	}
	var message bytes.Buffer
	if err := gob.NewEncoder(&message).Encode(own); err != nil {
		return err
	}
	all, err := peers.Exchange(message.Bytes())
	if err != nil {
		return err
	}
	for rank, b := range all {
		var theirs []shardIndex
		if err := gob.NewDecoder(bytes.NewReader(b)).Decode(&theirs); err != nil {
			return fmt.Errorf("what rank %d found in its shards: %w: all ranks must be the same version of swav", rank, err)
		}
		for k, x := range theirs {
			i := rank + k*peers.Ranks
			if i >= len(parts) || parts[i].base != x.URL {
				return fmt.Errorf("rank %d looked into %s, which is another shard on rank %d: all ranks must see the same data", rank, x.URL, peers.Rank)
			}
			parts[i].version, parts[i].samples = x.Version, x.Samples
		}
	}
	for _, p := range parts {
		if p.version == "" {
			return fmt.Errorf("no rank looked into %s: all ranks must see the same data", p.base)
		}
	}
	return nil
}

// newPart is a shard before it is looked into.
func newPart(name string) (part, error) {
	p := part{url: name, base: shardBase(name), stored: true}
	if fetch.Is(name) {
		return p, nil
	}
	var err error
	_, p.stored = shardName(name)
	p.url, err = filepath.Abs(name)
	return p, err
}

// look finds out what is in a shard.
func (a *access) look(ctx context.Context, p *part, o Options) (err error) {
	if p.version, err = a.version(ctx, p.url); err != nil {
		return err
	}
	return a.index(ctx, p, o)
}

// version changes with the content of a shard.
func (a *access) version(ctx context.Context, url string) (string, error) {
	if fetch.Is(url) {
		info, err := a.client.Stat(ctx, url)
		if err != nil {
			return "", unavailable(err)
		}
		return fmt.Sprint(info.Size, info.Version), nil
	}
	info, err := os.Stat(url)
	if err != nil {
		return "", err
	}
	if !info.Mode().IsRegular() {
		return "", fmt.Errorf("%s: not a regular file", url)
	}
	return fmt.Sprint(info.Size(), info.ModTime().UnixNano()), nil
}

// shardIndex is what is kept of a shard.
type shardIndex struct {
	URL, Version string
	Suffixes     []string // that were taken for images
	Samples      []tarshard.Sample
}

// index lists a shard's images, from what is kept where it is still true.
func (a *access) index(ctx context.Context, p *part, o Options) error {
	kept := ""
	if dir, err := o.cacheDir("index"); err == nil {
		sum := sha256.Sum256([]byte(p.url))
		kept = filepath.Join(dir, "shard-"+hex.EncodeToString(sum[:12])+".gob")
		var have shardIndex
		if readCache(kept, &have) == nil && have.URL == p.url && have.Version == p.version && slices.Equal(have.Suffixes, suffixes()) {
			p.samples = have.Samples
			return nil
		}
	}
	if p.stored {
		o.Note(fmt.Sprintf("reading %s once to see what is in it", p.base))
	}
	f, err := a.file(ctx, p)
	if err != nil {
		return err
	}
	defer f.Close()
	p.samples, err = tarshard.Index(f, tarOptions(o))
	if err != nil {
		o.Note(fmt.Sprintf("%s is damaged %v; what comes before is used", p.url, err))
	}
	if kept != "" {
		_ = writeCache(kept, &shardIndex{p.url, p.version, suffixes(), p.samples})
	}
	return nil
}

// file opens a shard's unpacked bytes.
func (a *access) file(ctx context.Context, p *part) (*os.File, error) {
	if !p.stored {
		return os.Open(p.url)
	}
	f, err := a.store.Open(p.url+" "+p.version, func(w io.Writer) error { return a.bring(ctx, p, w) })
	if err != nil {
		return nil, unavailable(err)
	}
	return f, nil
}

// bring fetches and unpacks a shard. One whose compression is damaged gives what
// comes before the damage; the index tells of it.
func (a *access) bring(ctx context.Context, p *part, w io.Writer) error {
	if strings.HasSuffix(strings.ToLower(p.base), parquetSuffix) {
		return a.bringParquet(ctx, p, w)
	}
	var in io.ReadCloser
	if fetch.Is(p.url) {
		in = a.client.Open(ctx, p.url)
	} else {
		file, err := os.Open(p.url)
		if err != nil {
			return err
		}
		in = file
	}
	defer in.Close()
	t := &tracked{r: in}
	unpacked, err := tarshard.Unpack(t)
	if err != nil {
		return fmt.Errorf("%s: %w", p.base, err)
	}
	defer unpacked.Close()
	out := &tracked{w: w}
	_, _ = io.Copy(out, unpacked)
	switch {
	case t.err != nil:
		return t.err // the network's
	case out.err != nil:
		return out.err // the disk's
	}
	return nil
}

// bringParquet turns a parquet file into a tar file. Its end is needed first, so
// that a remote one is fetched as a whole before.
func (a *access) bringParquet(ctx context.Context, p *part, w io.Writer) error {
	f, err := a.raw(ctx, p)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := packParquet(f, w); err != nil {
		return fmt.Errorf("%s: %w", fetch.Show(p.url), err)
	}
	return nil
}

// raw opens a shard's bytes as they lie, fetched where it is remote.
func (a *access) raw(ctx context.Context, p *part) (*os.File, error) {
	if !fetch.Is(p.url) {
		return os.Open(p.url)
	}
	return a.store.Open("raw "+p.url+" "+p.version, func(w io.Writer) error {
		in := a.client.Open(ctx, p.url)
		defer in.Close()
		_, err := io.Copy(w, in)
		return err
	})
}

// tracked remembers the error of one side of a copy.
type tracked struct {
	r   io.Reader
	w   io.Writer
	err error
}

func (t *tracked) Read(p []byte) (int, error) {
	n, err := t.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		t.err = err
	}
	return n, err
}

func (t *tracked) Write(p []byte) (int, error) {
	n, err := t.w.Write(p)
	if err != nil {
		t.err = err
	}
	return n, err
}

// unavailable marks an error that says nothing of single images.
func unavailable(err error) error {
	if errors.Is(err, context.Canceled) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrUnavailable, err)
}

func (a *access) read(p *part, x tarshard.Sample, buf *[]byte, limit int64) error {
	if x.Size > limit {
		return fmt.Errorf("%w: file of %d bytes, the limit is %d", imgcodec.ErrTooLarge, x.Size, limit)
	}
	f, err := a.file(a.ctx, p)
	if err != nil {
		return err
	}
	defer f.Close()
	if int64(cap(*buf)) < x.Size {
		*buf = make([]byte, x.Size)
	}
	*buf = (*buf)[:x.Size]
	if _, err = f.ReadAt(*buf, x.Offset); errors.Is(err, io.EOF) {
		err = errors.New("the shard is shorter than when it was opened")
	}
	return err
}
