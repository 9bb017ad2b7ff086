package dataset

import (
	"errors"
	"fmt"
	"io"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/encoding/thrift"
	"github.com/parquet-go/parquet-go/format"
)

// The library sets aside what a page's header claims. Writers end a page by bytes
// or by rows (1024 images in pyarrow's case), so pages may be large; but images do
// not shrink, so that large ones are large in the file too.
const (
	maxPage   = 1 << 30  // unpacked
	largePage = 64 << 20 // unpacked; beyond this at most
	maxShrink = 16       // times the size in the file
)

// maxPageHeader bounds a page's header, in which statistics may hold values.
const maxPageHeader = 1 << 20

// checkPages looks at the header of every page before any page is read.
func checkPages(r io.ReaderAt, size int64, file *parquet.File) error {
	for g, group := range file.Metadata().RowGroups {
		for c, chunk := range group.Columns {
			m := &chunk.MetaData
			at := m.DataPageOffset
			if d := m.DictionaryPageOffset; d > 0 && d < at {
				at = d
			}
			if at < 0 || m.TotalCompressedSize < 0 || m.TotalCompressedSize > size-at {
				return fmt.Errorf("row group %d, column %d: its %d bytes from byte %d on are not in the file", g, c, m.TotalCompressedSize, at)
			}
			if err := checkChunk(r, at, at+m.TotalCompressedSize); err != nil {
				return fmt.Errorf("row group %d, column %d: %w", g, c, err)
			}
		}
	}
	return nil
}

// checkChunk looks at the headers of the pages from byte at to byte end.
func checkChunk(r io.ReaderAt, at, end int64) error {
	var protocol thrift.CompactProtocol
	buf := make([]byte, 4<<10)
	for at < end {
		window := buf[:min(int64(len(buf)), end-at)]
		if _, err := r.ReadAt(window, at); err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		header := new(format.PageHeader)
		t := protocol.NewReaderFromBytes(window)
		if err := thrift.NewDecoder(t).Decode(header); err != nil {
			if len(buf) < maxPageHeader && int64(len(buf)) < end-at {
				buf = make([]byte, 4*len(buf)) // it may be longer than the window
				continue
			}
			return fmt.Errorf("page at byte %d: %w", at, err)
		}
		packed, unpacked := int64(header.CompressedPageSize), int64(header.UncompressedPageSize)
		at += int64(t.BytesRead()) + packed
		if packed < 0 || unpacked < 0 || unpacked > maxPage || unpacked > max(largePage, maxShrink*packed) || at > end {
			return fmt.Errorf("page of %d bytes, %d unpacked, up to byte %d of %d: no page of images", packed, unpacked, at, end)
		}
	}
	return nil
}
