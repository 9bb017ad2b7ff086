package dataset

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"unicode"

	"golang.org/x/sync/errgroup"

	"swav/dataset/tarshard"
	"swav/imgcodec"
	"swav/internal/fetch"
)

// shards are tar files in WebDataset's convention. Plain ones on this machine are
// read in place, at any image. Compressed and remote ones are unpacked and
// fetched into a store first, as a whole; where they lie is found once and kept.
type shards struct {
	name    string
	parts   []part
	first   []int // number of the first image of each part, and of all
	window  int
	labels  []int32 // nil without labels
	classes []string
	view    int
	opts    Options
	access  *access
}

// part is a shard.
type part struct {
	url     string // or path
	base    string // of the name, for IDs
	stored  bool   // in the store, not in place
	version string
	samples []tarshard.Sample
}

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

// shardPattern tells paths that cannot be looked up: URLs, and names of several
// files.
func shardPattern(path string) bool {
	if strings.HasPrefix(path, "shards:") {
		return false
	}
	if fetch.Is(path) || strings.Contains(path, "::") {
		return true
	}
	shard, _ := shardName(path)
	if !shard || !strings.ContainsAny(path, "{*?[") {
		return false
	}
	_, err := os.Stat(path) // brackets may be part of a name
	return err != nil
}

// shardName tells names of shards, and whether their images cannot be read in
// place.
func shardName(name string) (shard, packed bool) {
	if shard, packed = tarshard.Is(name); shard {
		return shard, packed
	}
	parquet := strings.HasSuffix(strings.ToLower(shardBase(name)), parquetSuffix)
	return parquet, parquet
}

func detectShards(path string, isDir bool) bool {
	if !isDir {
		shard, _ := shardName(path)
		return shard
	}
	_, found, err := shardsIn(path, Train)
	return err == nil && len(found) > 0
}

// shardsIn are the shards of a split in a folder that has no images beside
// them. Splits are sub-folders, or the beginnings of names as Hugging Face's are,
// which also may lie in a sub-folder data. Parts tells whether there are splits.
func shardsIn(dir, split string) (parts bool, found []string, err error) {
	sub, err := splitFolder(dir, split)
	if err != nil {
		return false, nil, err
	}
	if sub != "" {
		_, found = shardsOf(filepath.Join(dir, sub), split)
		return true, found, nil
	}
	for _, d := range []string{dir, filepath.Join(dir, "data")} {
		if parts, found = shardsOf(d, split); len(found) > 0 {
			break
		}
	}
	return parts, found, nil
}

// shardsOf are the shards right in a folder.
func shardsOf(dir, split string) (parts bool, found []string) {
	bySplit := map[string][]string{}
	for _, name := range shardFiles(dir) {
		path := filepath.Join(dir, name)
		found = append(found, path)
		stem := strings.ToLower(name[:len(name)-len(strings.TrimLeftFunc(name, unicode.IsLetter))])
		for s, stems := range splitFolders {
			if slices.Contains(stems, stem) {
				bySplit[s] = append(bySplit[s], path)
			}
		}
	}
	if len(bySplit[Train]) > 0 && len(bySplit[Test]) > 0 {
		return true, bySplit[split]
	}
	return false, found
}

// shardFiles names the shards in a folder, none where an image lies beside them:
// the first one ends the search, which would be long in a folder of millions.
func shardFiles(dir string) (names []string) {
	d, err := os.Open(dir)
	if err != nil {
		return nil
	}
	defer d.Close()
	for {
		entries, err := d.ReadDir(256)
		for _, e := range entries {
			if imageName(e.Name()) {
				return nil
			}
			if shard, _ := shardName(e.Name()); shard {
				names = append(names, e.Name())
			}
		}
		if err != nil {
			sort.Strings(names)
			return names
		}
	}
}

func openShards(path string, o Options) (Source, error) {
	names, err := shardNames(path, o.Split)
	if err != nil {
		return nil, err
	}
	s := &shards{name: "shards:" + fetch.Show(path), opts: o, view: 3, access: newAccess(o)}
	if !fetch.Is(path) {
		s.name = "shards:" + path
	}
	if o.Channels != 0 {
		if s.view, err = viewChannels(o, 3); err != nil {
			return nil, err
		}
	}
	s.parts = make([]part, len(names))
	work, ctx := errgroup.WithContext(o.Context)
	work.SetLimit(together)
	for i, name := range names {
		work.Go(func() error {
			var err error
			s.parts[i], err = s.access.open(ctx, name, o)
			return err
		})
	}
	if err := work.Wait(); err != nil {
		return nil, err
	}
	return s, s.arrange()
}

// shardNames lists the shards that a folder, file, URL or pattern stands for.
func shardNames(path, split string) ([]string, error) {
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		parts, names, err := shardsIn(path, split)
		if err != nil {
			return nil, err
		}
		if !parts && split == Test {
			return nil, fmt.Errorf("%w: shards have test images only in a sub-folder test or val beside train, or in files named like test-*.parquet beside train-*", ErrNoSplit)
		}
		if len(names) == 0 {
			return nil, errors.New("no shards in it: looked for *.tar, *.tar.gz, *.tar.zst, *.parquet")
		}
		return names, nil
	}
	if split == Test {
		return nil, fmt.Errorf("%w: name the shards with test images as another source", ErrNoSplit)
	}
	if fetch.Is(path) {
		return tarshard.Expand(path) // a question mark is no wildcard there
	}
	return tarshard.Glob(path)
}

// open finds a shard and what is in it.
func (a *access) open(ctx context.Context, name string, o Options) (part, error) {
	p := part{url: name, base: shardBase(name), stored: true}
	var err error
	if !fetch.Is(name) {
		_, p.stored = shardName(name)
		if p.url, err = filepath.Abs(name); err != nil {
			return p, err
		}
	}
	if p.version, err = a.version(ctx, p.url); err != nil {
		return p, err
	}
	return p, a.index(ctx, &p, o)
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

// arrange numbers the images and names their classes.
func (s *shards) arrange() error {
	n, largest, stored := 0, int64(0), false
	var names, keys []string
	labelled := false
	for _, p := range s.parts {
		s.first = append(s.first, n)
		n += len(p.samples)
		stored = stored || p.stored
		if k := len(p.samples); k > 0 {
			largest = max(largest, p.samples[k-1].Offset+p.samples[k-1].Size)
		}
		for _, x := range p.samples {
			names, keys = append(names, x.Label), append(keys, x.Key+x.Suffix)
			labelled = labelled || x.Label != ""
		}
	}
	s.first = append(s.first, n)
	if n == 0 {
		return fmt.Errorf("no images in %d shard(s): looked for files like 000123.jpg (%s) with 000123.cls or 000123.json", len(s.parts), imgcodec.Formats)
	}
	// The next window is brought near while one is visited.
	s.window = len(s.parts)
	if stored {
		s.window = int(max(1, min(int64(len(s.parts)), maxWindow, s.opts.CacheBytes/(3*max(1, largest)))))
	}
	if labelled {
		s.classes, s.labels = namedLabels(names, true)
	} else {
		s.classes, s.labels = pathLabels(keys)
	}
	return nil
}

// maxWindow bounds how many fetched shards are visited by turns.
const maxWindow = 16

func (s *shards) Name() string      { return fmt.Sprintf("%s (%d shards)", s.name, len(s.parts)) }
func (s *shards) Len() int          { return s.first[len(s.parts)] }
func (s *shards) Channels() int     { return s.view }
func (s *shards) Classes() []string { return s.classes }
func (s *shards) Label(i int) int {
	if s.labels == nil {
		return -1
	}
	return int(s.labels[i])
}
func (s *shards) Shards() ([]int, int) { return s.first, s.window }

// at is the part of image i and its number within.
func (s *shards) at(i int) (*part, int) {
	k := sort.SearchInts(s.first, i+1) - 1
	return &s.parts[k], i - s.first[k]
}

// ID is the shard's name and the image's in it.
func (s *shards) ID(i int) string {
	p, k := s.at(i)
	return p.base + "/" + p.samples[k].Key + p.samples[k].Suffix
}

func (s *shards) Load(i int, dst *imgcodec.Image) error { return load(s, i, dst, s.opts.Decode) }

// Encoded reads the file of image i out of its shard.
func (s *shards) Encoded(i int, buf *[]byte) error {
	p, k := s.at(i)
	err := s.access.read(p, p.samples[k], buf, s.opts.MaxFileBytes)
	if err != nil {
		return fmt.Errorf("%s: %w", s.ID(i), err)
	}
	return nil
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

// Prefetch brings the shard of image i near, unless as many as allowed are on
// their way. Errors are those of the Load that needs it.
func (s *shards) Prefetch(i int) {
	p, _ := s.at(i)
	if !p.stored {
		return
	}
	select {
	case s.access.slots <- struct{}{}:
	default:
		return
	}
	go func() {
		defer func() { <-s.access.slots }()
		if f, err := s.access.file(s.access.ctx, p); err == nil {
			f.Close()
		}
	}()
}
