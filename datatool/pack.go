package datatool

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"swav/dataset"
	"swav/runlog"
)

// PackOptions say how shards are made.
type PackOptions struct {
	Options
	Size     int     // images are shrunk until their shorter side has this many pixels; 0: files are copied
	PerShard int     // images
	Quality  int     // of JPEG files that were shrunk
	MaxSkip  float64 // share of unreadable images at which packing stops
	Restart  bool    // throw away what an earlier pack left, instead of going on with it
}

// Packed is the outcome of Pack.
type Packed struct {
	Shards  int // all there are
	Kept    int // of them written earlier
	Images  int // written now
	Skipped []Broken
	Bytes   int64 // of all shards
}

// manifest is pack.json: what the shards in a folder are. Packing goes on only
// where it would make the same.
type manifest struct {
	Format   int    `json:"format"`
	Source   string `json:"source"`
	Images   int    `json:"images"`
	Names    string `json:"names"` // a hash of all IDs
	Size     int    `json:"size"`
	PerShard int    `json:"images_per_shard"`
	Quality  int    `json:"quality"`
	Shards   int    `json:"shards"`
}

const (
	manifestFile = "pack.json"
	classesFile  = "classes.txt"
)

func shardName(n int) string { return fmt.Sprintf("data-%06d.tar", n) }

// Pack writes the images of src into dir as tar shards in WebDataset's convention:
// an image is KEY.jpg (or what it is), its label KEY.cls, a line of classes.txt
// counted from 0. Images are in an order without pattern, the same each time.
//
// A shard appears under its name when it is whole. After an interruption, the same
// call goes on with the shards that are missing. Images that cannot be read are
// left out and listed in skipped.jsonl.
func Pack(ctx context.Context, src dataset.Source, dir string, o PackOptions) (*Packed, error) {
	if o.Size < 0 || o.PerShard < 1 || o.Quality < 1 || o.Quality > 100 {
		return nil, fmt.Errorf("pack: size %d, %d images a shard, quality %d: want at least 0, at least 1, 1 to 100", o.Size, o.PerShard, o.Quality)
	}
	m := manifest{Format: 1, Source: src.Name(), Images: src.Len(), Names: hashNames(src),
		Size: o.Size, PerShard: o.PerShard, Quality: o.Quality, Shards: (src.Len() + o.PerShard - 1) / o.PerShard}
	if err := prepare(dir, m, o.Restart); err != nil {
		return nil, err
	}
	if classes := src.Classes(); len(classes) > 0 {
		if err := runlog.WriteFile(filepath.Join(dir, classesFile), []byte(strings.Join(classes, "\n")+"\n")); err != nil {
			return nil, err
		}
	}
	p := &packer{src: src, o: o, dir: dir, order: packOrder(src), keys: keys(src), skips: runlog.NewSkips(dir)}
	out := &Packed{Shards: m.Shards}
	for n := range m.Shards {
		path := filepath.Join(dir, shardName(n))
		numbers := p.order[n*o.PerShard : min((n+1)*o.PerShard, src.Len())]
		if _, err := os.Stat(path); err == nil {
			out.Kept++
			if o.Done != nil {
				for range numbers {
					o.Done()
				}
			}
			continue
		}
		written, err := p.shard(ctx, path, numbers)
		if err != nil {
			return nil, errors.Join(err, p.skips.Close())
		}
		out.Images += written
	}
	out.Skipped = p.broken
	if err := p.skips.Close(); err != nil {
		return nil, err
	}
	for n := range m.Shards {
		info, err := os.Stat(filepath.Join(dir, shardName(n)))
		if err != nil {
			return nil, err
		}
		out.Bytes += info.Size()
	}
	return out, nil
}

// prepare makes dir fit for the shards of m, or says why it is not.
func prepare(dir string, m manifest, restart bool) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	path := filepath.Join(dir, manifestFile)
	text, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if found, _ := filepath.Glob(filepath.Join(dir, "data-*.tar")); len(found) > 0 {
			return fmt.Errorf("%s holds shards already (%s …), which were not written by this command: choose another folder", dir, filepath.Base(found[0]))
		}
	case err != nil:
		return err
	default:
		var old manifest
		if err := json.Unmarshal(text, &old); err != nil {
			return fmt.Errorf("%s: %w: remove the folder, or choose another", path, err)
		}
		if old == m && !restart {
			return nil
		}
		if !restart {
			return fmt.Errorf("%s holds shards of another source or other settings (%s): choose another folder, or write them anew with --restart", dir, differences(old, m))
		}
		found, _ := filepath.Glob(filepath.Join(dir, "data-[0-9][0-9][0-9][0-9][0-9][0-9].tar*"))
		for _, f := range append(found, filepath.Join(dir, "skipped.jsonl")) {
			if err := os.Remove(f); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
	}
	text, err = json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	return runlog.WriteFile(path, append(text, '\n'))
}

// differences names what is not alike.
func differences(old, now manifest) string {
	var parts []string
	add := func(what string, a, b any) {
		if a != b {
			parts = append(parts, fmt.Sprintf("%s %v there, %v now", what, a, b))
		}
	}
	add("source", old.Source, now.Source)
	add("images", old.Images, now.Images)
	add("size", old.Size, now.Size)
	add("images a shard", old.PerShard, now.PerShard)
	add("quality", old.Quality, now.Quality)
	if len(parts) == 0 {
		return "other images"
	}
	return strings.Join(parts, ", ")
}

// hashNames is one for all IDs and labels, in order.
func hashNames(src dataset.Source) string {
	h := uint64(0)
	for i := range src.Len() {
		h = h*0x9e3779b97f4a7c15 + dataset.Key(src.ID(i)) + uint64(src.Label(i)+1)
	}
	return fmt.Sprintf("%016x", h)
}

// packOrder is an order without pattern that does not change: that of the IDs'
// hashes. Streams of shards are shuffled within a buffer only, so classes must not
// lie together.
func packOrder(src dataset.Source) []int {
	order := make([]int, src.Len())
	hash := make([]uint64, src.Len())
	for i := range order {
		order[i], hash[i] = i, dataset.Key(src.ID(i))
	}
	slices.SortFunc(order, func(a, b int) int { return cmp.Or(cmp.Compare(hash[a], hash[b]), cmp.Compare(a, b)) })
	return order
}

// keys names the images in shards: as their IDs without suffix, and without the
// dots in which a key ends. Where that makes two alike, a number tells them apart.
func keys(src dataset.Source) []string {
	out := make([]string, src.Len())
	taken := map[string]bool{}
	for i := range out {
		dir, base := "", strings.TrimLeft(filepath.ToSlash(src.ID(i)), "/.")
		if at := strings.LastIndexByte(base, '/'); at >= 0 {
			dir, base = base[:at+1], base[at+1:]
		}
		if at := strings.LastIndexByte(base, '.'); at > 0 {
			base = base[:at]
		}
		key := dir + strings.ReplaceAll(base, ".", "_")
		for n := 2; taken[key]; n++ {
			key = fmt.Sprintf("%s%s-%d", dir, strings.ReplaceAll(base, ".", "_"), n)
		}
		taken[key] = true
		out[i] = key
	}
	return out
}

// packer writes shards.
type packer struct {
	src   dataset.Source
	o     PackOptions
	dir   string
	order []int
	keys  []string
	skips *runlog.Skips

	mu     sync.Mutex
	broken []Broken
}

// fewSkips is the number of unreadable images that is always tolerated.
const fewSkips = 3

// skip notes an unreadable image, and says when there are too many.
func (p *packer) skip(i int, err error) error {
	p.skips.Add(p.src.ID(i), err)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.broken = append(p.broken, Broken{p.src.ID(i), strings.TrimPrefix(err.Error(), p.src.ID(i)+": ")})
	if n := len(p.broken); n > fewSkips && float64(n) > p.o.MaxSkip*float64(p.src.Len()) || n == p.src.Len() {
		text := fmt.Sprintf("%s: %d of %d images cannot be read", p.src.Name(), n, p.src.Len())
		for _, b := range p.broken[:min(n, 3)] {
			text += "\n  " + b.Image + ": " + b.Error
		}
		return errors.New(text + "\nremove or repair them, or allow more with --max-skip 0.1")
	}
	return nil
}
