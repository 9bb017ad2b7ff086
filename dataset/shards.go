package dataset

import (
	"fmt"
	"path/filepath"
	"sort"

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

func openShards(path string, o Options) (Source, error) {
	names, err := shardNames(path, o.Split)
	if err != nil {
		return nil, err
	}
	s := &shards{name: "shards:" + fetch.Show(path), opts: o, view: fileChannels(o), access: newAccess(o)}
	if !fetch.Is(path) {
		s.name = "shards:" + path
	}
	if s.parts, err = s.access.openAll(names, o); err != nil {
		return nil, err
	}
	return s, s.arrange()
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
	// The next shards are brought near while some are visited.
	if stored {
		s.window = int(max(1, min(int64(len(s.parts)), s.opts.CacheBytes/(3*max(1, largest)))))
	}
	if labelled {
		s.classes, s.labels = namedLabels(names, true)
		if url := s.parts[0].url; !fetch.Is(url) {
			s.classes = shardClasses(filepath.Dir(url), s.classes)
		}
	} else {
		s.classes, s.labels = pathLabels(keys)
	}
	return nil
}

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

func (s *shards) Load(i int, dst *imgcodec.Image) error { return load(s, i, dst) }

// Decode decodes a file that Encoded has read.
func (s *shards) Decode(i int, file []byte, dst *imgcodec.Image) error {
	return decode(s, i, file, dst, s.opts.Decode)
}

// Encoded reads the file of image i out of its shard.
func (s *shards) Encoded(i int, buf *[]byte) error {
	p, k := s.at(i)
	err := s.access.read(p, p.samples[k], buf, s.opts.MaxFileBytes)
	if err != nil {
		return fmt.Errorf("%s: %w", s.ID(i), err)
	}
	return nil
}

// Prefetch brings the shard of image i near, unless as many as allowed are on
// their way. Errors are those of the Load that needs it.
func (s *shards) Prefetch(i int) bool {
	p, _ := s.at(i)
	if !p.stored {
		return true
	}
	select {
	case s.access.slots <- struct{}{}:
	default:
		return false
	}
	go func() {
		defer func() { <-s.access.slots }()
		if f, err := s.access.file(s.access.ctx, p); err == nil {
			f.Close()
		}
	}()
	return true
}
