// Package dataset finds images and gives them by number.
//
// A [Source] is a list of images in a stable order, each with a stable name (ID)
// and perhaps a label. [Open] recognises image folders, file lists, idx files
// (MNIST and its kin) and CIFAR's binary batches; a prefix such as "folder:"
// forces a kind. Sources are safe for concurrent use.
//
// A [Stream] is images as they come, without an end or with one that is not
// known. Its records are encoded and decoded by whoever takes them.
//
// Order of visits, workers and views belong to package loader, decoding to
// imgcodec.
package dataset

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"sync"

	"swav/imgcodec"
	"swav/internal/fetch"
)

// Source is a finite list of images.
type Source interface {
	// Name says what this is, for logs: kind, place and split.
	Name() string
	// Len is the number of images.
	Len() int
	// Channels is the number of channels that views of this source should have.
	// Images may have fewer or more where package augment converts them: grey to
	// colour and back.
	Channels() int
	// Classes names the labels; it is empty without labels.
	Classes() []string
	// Label is the index into Classes of image i, -1 for none.
	Label(i int) int
	// ID is the stable name of image i: it survives other images' coming and
	// going.
	ID(i int) string
	// Load reads image i into dst and reuses dst's memory. Its error names the
	// image.
	Load(i int, dst *imgcodec.Image) error
}

// Encoded is a Source whose images are files of their own, in a folder or within
// others: their bytes can be had as they are.
type Encoded interface {
	Source
	// Encoded reads the file of image i into *buf and reuses its memory. Its
	// error names the image.
	Encoded(i int, buf *[]byte) error
	// Decode makes dst what Load would, of a file that Encoded has read.
	Decode(i int, file []byte, dst *imgcodec.Image) error
}

// Sharded is a Source whose images lie in parts that cost something to open, so
// that images of one part should be visited together.
type Sharded interface {
	Source
	// Shards are the numbers of the first image of each part, and Len; window is
	// how many parts may be visited by turns without being opened again and again,
	// 0 where that costs nothing.
	Shards() (first []int, window int)
	// Prefetch brings the part of image i near, in the background. It returns false
	// where as many as allowed are on their way.
	Prefetch(i int) bool
}

// Options select and bound what Open reads. The zero value is ready for use.
type Options struct {
	// Split is "train" or "test"; empty means "train". Sources that have no
	// splits give all their images for "train" and ErrNoSplit for "test".
	Split string
	// Channels fixes the number of channels of views (0: as the source suggests,
	// 3 for folders). With 2 or 4, alpha counts as a channel.
	Channels int
	// Decode bounds image decoding.
	Decode imgcodec.Options
	// MaxFileBytes limits a single image file; 0 means 256 MiB.
	MaxFileBytes int64
	// MaxDataBytes limits the pixels that sources held in memory (idx, CIFAR)
	// may take; 0 means 16 GiB.
	MaxDataBytes int64
	// CacheDir keeps indices and what was fetched or unpacked; empty means the
	// user's cache folder. Nothing fails where it cannot be written, but shards
	// that are fetched or unpacked then go to the system's temporary folder.
	CacheDir string
	// CacheBytes limits what is fetched or unpacked there; 0 means 32 GiB.
	CacheBytes int64
	// Note, if set, is told of what takes long or was decided on the way.
	Note func(text string)
	// Seed decides the order of the shards of a stream that repeats itself.
	Seed uint64
	// Peers, if set, are ranks that open the same source at the same time.
	Peers *Peers
	// Context ends fetches over the network, which Load has no other way to
	// end; nil means never.
	Context context.Context
}

// Peers are ranks that open a source in shards together: each looks into its share of the
// shards and tells the others what is in them.
type Peers struct {
	Rank, Ranks int
	// Exchange gives every rank what each has given, by rank.
	Exchange func(own []byte) ([][]byte, error)
}

const (
	Train = "train"
	Test  = "test"
)

// ErrNoSplit says that a source has no images of the wanted split.
var ErrNoSplit = errors.New("no such split")

// ErrUnavailable marks errors of Load that tell nothing of the image: the source
// as a whole cannot be reached, and other images will fail as well.
var ErrUnavailable = errors.New("data source unavailable")

func (o Options) withDefaults() (Options, error) {
	switch o.Split {
	case "":
		o.Split = Train
	case Train, Test:
	default:
		return o, fmt.Errorf("split %q, want %q or %q", o.Split, Train, Test)
	}
	if o.Channels < 0 {
		return o, fmt.Errorf("%d channels", o.Channels)
	}
	o.Decode.Alpha = o.Channels == 2 || o.Channels == 4
	if o.MaxFileBytes <= 0 {
		o.MaxFileBytes = 256 << 20
	}
	if o.MaxDataBytes <= 0 {
		o.MaxDataBytes = 16 << 30
	}
	if o.CacheBytes <= 0 {
		o.CacheBytes = 32 << 30
	}
	if o.Context == nil {
		o.Context = context.Background()
	}
	if o.Note == nil {
		o.Note = func(string) {}
	}
	return o, nil
}

// opener is a kind of source: detect says whether path looks like one.
type opener struct {
	kind   string
	detect func(path string, isDir bool) bool
	open   func(path string, o Options) (Source, error)
	hint   string
}

// openers are asked in this order; the folder takes every directory.
var openers = []opener{
	{"idx", detectIDX, openIDX, "idx files (train-images-idx3-ubyte[.gz], train-labels-idx1-ubyte[.gz])"},
	{"cifar", detectCIFAR, openCIFAR, "CIFAR binary batches (data_batch_1.bin, test_batch.bin; train.bin, test.bin)"},
	{"shards", detectShards, openShards, "shards: tar files in WebDataset's convention (.tar, .tar.gz, .tar.zst) or Hugging Face's parquet, here or at http(s)://, s3://, gs:// ('data-{000..123}.tar')"},
	{"list", detectList, openList, "file list (.txt, .lst, .csv, .tsv: a path a line and perhaps a label)"},
	{"folder", func(_ string, isDir bool) bool { return isDir }, openFolder,
		"image folder (" + imgcodec.Formats + "; sub-folders become labels)"},
}

// Open opens the source at path. A prefix such as "folder:" or "idx:" forces
// the kind; else it is recognised by file names.
func Open(path string, o Options) (Source, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("open data %s: %w", path, err)
	}
	op, rest, err := find(path, o.Split)
	if err != nil {
		return nil, fmt.Errorf("open data %s: %w", path, err)
	}
	return wrap(op, rest, o)
}

// InShards tells whether path is a source that ranks open together (Options.Peers).
func InShards(path string) bool {
	op, _, err := find(path, Train)
	return err == nil && op.kind == "shards"
}

// find is the kind of the source at path, and the path without a prefix.
func find(path, split string) (op opener, rest string, err error) {
	if IsStream(path) {
		if split == Test {
			return op, "", fmt.Errorf("%w: a stream has one part", ErrNoSplit)
		}
		return op, "", errors.New("a stream, whose images cannot be had by number: it can be trained on, and followed by swav cluster --follow")
	}
	if shardPattern(path) {
		path = "shards:" + path // it names several files, or a URL
	}
	for _, op := range openers {
		if rest, ok := strings.CutPrefix(path, op.kind+":"); ok {
			return op, rest, nil
		}
	}
	if path == "" {
		return op, "", fmt.Errorf("no data given: name a folder or file (%s; streams: %s)", kinds(), streamKinds)
	}
	info, err := os.Stat(path)
	if err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return op, "", fmt.Errorf("there is no such file or folder: %w", os.ErrNotExist)
		}
		return op, "", err
	}
	for _, op := range openers {
		if op.detect(path, info.IsDir()) {
			return op, path, nil
		}
	}
	return op, "", fmt.Errorf("not a kind of data that is read here; looked for %s", kinds())
}

func wrap(op opener, path string, o Options) (Source, error) {
	src, err := op.open(path, o)
	if err != nil {
		if fetch.Is(path) {
			path = fetch.Show(path)
		}
		return nil, fmt.Errorf("open data %s:%s: %w", op.kind, path, err)
	}
	return src, nil
}

func kinds() string {
	var s []string
	for _, op := range openers {
		s = append(s, op.hint)
	}
	return strings.Join(s, ", ")
}

// subset is a selection of another source's images.
type subset struct {
	Source
	index []int
}

// Subset selects images of src by number, in the given order. IDs and labels
// stay those of src.
func Subset(src Source, index []int) Source {
	for _, i := range index {
		if i < 0 || i >= src.Len() {
			panic(fmt.Sprintf("dataset: image %d of a source of %d", i, src.Len()))
		}
	}
	return &subset{src, index}
}

func (s *subset) Name() string {
	return fmt.Sprintf("%s (%d of %d)", s.Source.Name(), len(s.index), s.Source.Len())
}
func (s *subset) Len() int                              { return len(s.index) }
func (s *subset) Label(i int) int                       { return s.Source.Label(s.index[i]) }
func (s *subset) ID(i int) string                       { return s.Source.ID(s.index[i]) }
func (s *subset) Load(i int, dst *imgcodec.Image) error { return s.Source.Load(s.index[i], dst) }

// Key is a stable 64-bit hash of an image's ID: FNV-1a with a final mix, so
// that neighbouring names give unrelated values. Random numbers hang on it.
func Key(id string) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(id) {
		h ^= uint64(id[i])
		h *= 1099511628211
	}
	h ^= h >> 30
	h *= 0xbf58476d1ce4e5b9
	h ^= h >> 27
	h *= 0x94d049bb133111eb
	return h ^ h>>31
}

// fileBuffers hold files while they are decoded.
var fileBuffers = sync.Pool{New: func() any { return new([]byte) }}

// load is Load of a source of files.
func load(src Encoded, i int, dst *imgcodec.Image) error {
	buf := fileBuffers.Get().(*[]byte)
	defer fileBuffers.Put(buf)
	if err := src.Encoded(i, buf); err != nil {
		return err
	}
	return src.Decode(i, *buf, dst)
}

// decode is Decode of a source whose images decode by o.
func decode(src Source, i int, file []byte, dst *imgcodec.Image, o imgcodec.Options) error {
	if err := imgcodec.DecodeInto(dst, file, o); err != nil {
		return fmt.Errorf("%s: %w", src.ID(i), err)
	}
	return nil
}

// memory is a source whose pixels are held as they are: n images of w x h x c.
type memory struct {
	name    string
	w, h, c int
	split   string
	pix     []byte
	labels  []uint8 // nil without labels
	classes []string
	view    int // channels of views
}

func (m *memory) Name() string      { return m.name }
func (m *memory) Len() int          { return len(m.pix) / (m.w * m.h * m.c) }
func (m *memory) Channels() int     { return m.view }
func (m *memory) Classes() []string { return m.classes }
func (m *memory) Label(i int) int {
	if m.labels == nil {
		return -1
	}
	return int(m.labels[i])
}
func (m *memory) ID(i int) string { return fmt.Sprintf("%s/%d", m.split, i) }
func (m *memory) Load(i int, dst *imgcodec.Image) error {
	dst.Reset(m.w, m.h, m.c)
	copy(dst.Pix, m.pix[i*len(dst.Pix):])
	return nil
}

// viewChannels is what the user asked for, else what the source suggests.
func viewChannels(o Options, own int) (int, error) {
	if o.Channels == 0 || o.Channels == own {
		return own, nil
	}
	if own == 1 && o.Channels == 3 || own == 3 && o.Channels == 1 {
		return o.Channels, nil
	}
	return 0, fmt.Errorf("images have %d channels, %d are wanted", own, o.Channels)
}

// fileChannels is what the user asked for, else colour: the images of files may
// have any number of channels.
func fileChannels(o Options) int { return cmp.Or(o.Channels, 3) }

// siblings lists the names in dir, sorted, for detection and messages.
func siblings(dir string) []string {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}
	names := make([]string, 0, len(entries))
	for _, e := range entries {
		names = append(names, e.Name())
	}
	sort.Strings(names)
	return names
}

func exists(elem ...string) bool {
	_, err := os.Stat(filepath.Join(elem...))
	return err == nil
}
