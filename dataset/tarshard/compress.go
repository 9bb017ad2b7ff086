package tarshard

import (
	"bufio"
	"compress/gzip"
	"fmt"
	"io"
	"strings"

	"github.com/klauspost/compress/zstd"
)

// suffixes are the names of shards and whether they are compressed.
var suffixes = []struct {
	name   string
	packed bool
}{{".tar", false}, {".tar.gz", true}, {".tgz", true}, {".tar.zst", true}, {".tar.zstd", true}, {".tzst", true}}

// Is tells whether a file's name or URL is that of a shard, and whether it is
// compressed.
func Is(name string) (shard, packed bool) {
	name = strings.ToLower(name)
	if i := strings.IndexAny(name, "?#"); i >= 0 && strings.Contains(name, "://") {
		name = name[:i]
	}
	for _, s := range suffixes {
		if strings.HasSuffix(name, s.name) {
			return true, s.packed
		}
	}
	return false, false
}

// maxWindow bounds the memory that a zstd frame may ask for.
const maxWindow = 128 << 20

// Unpack recognises compression by the first bytes and undoes it; other streams
// come as they are. Close frees what it holds, not r.
func Unpack(r io.Reader) (io.ReadCloser, error) {
	b := bufio.NewReaderSize(r, 1<<16)
	magic, err := b.Peek(4)
	if err != nil && len(magic) == 0 {
		return io.NopCloser(b), nil // empty, or an error that the first read shows
	}
	switch {
	case len(magic) >= 2 && magic[0] == 0x1f && magic[1] == 0x8b:
		z, err := gzip.NewReader(b)
		if err != nil {
			return nil, fmt.Errorf("gzip: %w", err)
		}
		return z, nil
	case string(magic) == "\x28\xb5\x2f\xfd":
		z, err := zstd.NewReader(b, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxWindow), zstd.WithDecoderLowmem(true))
		if err != nil {
			return nil, fmt.Errorf("zstd: %w", err)
		}
		return z.IOReadCloser(), nil
	}
	return io.NopCloser(b), nil
}
