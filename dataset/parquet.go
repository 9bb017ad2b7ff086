package dataset

import (
	"archive/tar"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strconv"
	"strings"

	"github.com/parquet-go/parquet-go"

	"swav/imgcodec"
)

// Parquet files as Hugging Face writes them have a column of structs with the
// leaves bytes and path, mostly named image, and perhaps a label. They are turned
// into tar shards in the store, and read as such: a parquet page must be read as
// a whole for one image of it.

const parquetSuffix = ".parquet"

// labelColumns are the usual names of labels, the best first.
var labelColumns = []string{"label", "labels", "fine_label", "cls", "class", "category", "target"}

// packParquet writes the images of a parquet file as a tar file with labels.
func packParquet(f *os.File, w io.Writer) (err error) {
	defer func() {
		// The library's decoders may index beyond damaged data.
		if r := recover(); r != nil {
			err = fmt.Errorf("damaged parquet file: %v", r)
		}
	}()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if err := checkFooter(f, info.Size()); err != nil {
		return err
	}
	file, err := parquet.OpenFile(f, info.Size(), parquet.SkipBloomFilters(true), parquet.SkipPageIndex(true))
	if err != nil {
		return err
	}
	c, err := imageColumns(file)
	if err != nil {
		return err
	}
	if err := checkPages(f, info.Size(), file); err != nil {
		return err
	}
	out := tar.NewWriter(w)
	rows := int64(0)
	for _, group := range file.RowGroups() {
		n, err := c.packGroup(group, out, rows)
		if err != nil {
			return fmt.Errorf("after %d images: %w", rows+n, err)
		}
		rows += n
	}
	return out.Close()
}

// columns are where images and labels lie in rows.
type columns struct {
	image, path, label int // numbers of leaves; -1 for none
	classes            []string
}

func imageColumns(file *parquet.File) (*columns, error) {
	c := &columns{-1, -1, -1, nil}
	var names []string
	for _, col := range file.Root().Columns() {
		names = append(names, col.Name())
		data := col.Column("bytes")
		if c.image < 0 && data != nil && data.Leaf() && data.Type().Kind() == parquet.ByteArray && !col.Repeated() && !data.Repeated() {
			c.image = data.Index()
			if p := col.Column("path"); p != nil && p.Leaf() {
				c.path = p.Index()
			}
		}
	}
	if c.image < 0 {
		return nil, fmt.Errorf("no column of images (a struct with bytes and path, as Hugging Face writes it) among %s", strings.Join(head(names, 8), ", "))
	}
	for _, name := range labelColumns {
		if col := file.Root().Column(name); col != nil && col.Leaf() && !col.Repeated() {
			c.label, c.classes = col.Index(), huggingFaceNames(file, name)
			break
		}
	}
	return c, nil
}

// huggingFaceNames are the classes' names as the file's metadata has them.
func huggingFaceNames(file *parquet.File, column string) []string {
	text, _ := file.Lookup("huggingface")
	var meta struct {
		Info struct {
			Features map[string]json.RawMessage `json:"features"`
		} `json:"info"`
	}
	var feature struct {
		Names []string `json:"names"`
	}
	if json.Unmarshal([]byte(text), &meta) != nil || json.Unmarshal(meta.Info.Features[column], &feature) != nil {
		return nil
	}
	return feature.Names
}

func (c *columns) packGroup(group parquet.RowGroup, out *tar.Writer, first int64) (n int64, err error) {
	rows := group.Rows()
	defer rows.Close()
	buf := make([]parquet.Row, 16)
	for {
		got, err := rows.ReadRows(buf)
		for _, row := range buf[:got] {
			if err := c.packRow(row, out, first+n); err != nil {
				return n, err
			}
			n++
		}
		if errors.Is(err, io.EOF) {
			return n, nil
		}
		if err != nil {
			return n, err
		}
		if got == 0 {
			return n, io.ErrNoProgress
		}
	}
}

// packRow writes an image under the number of its row. A row without image
// bytes becomes an empty file, which is skipped and counted as any other that
// cannot be read.
func (c *columns) packRow(row parquet.Row, out *tar.Writer, number int64) error {
	var image []byte
	var name, label string
	for _, v := range row {
		switch v.Column() {
		case c.image:
			image = v.ByteArray()
		case c.path:
			name = string(v.ByteArray())
		case c.label:
			label = c.labelText(v)
		}
	}
	stem := fmt.Sprintf("%08d", number)
	if err := pack(out, stem+imageSuffix(name, image), image); err != nil || label == "" {
		return err
	}
	return pack(out, stem+".cls", []byte(label))
}

func pack(out *tar.Writer, name string, data []byte) error {
	if err := out.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(data))}); err != nil {
		return err
	}
	_, err := out.Write(data)
	return err
}

// imageSuffix is that of the path, or what the bytes look like.
func imageSuffix(name string, data []byte) string {
	if suffix := strings.ToLower(path.Ext(name)); imageSuffixes[suffix] {
		return suffix
	}
	if info, err := imgcodec.ReadInfo(data); err == nil && imageSuffixes["."+info.Format] {
		return "." + info.Format
	}
	return ".jpg"
}

func (c *columns) labelText(v parquet.Value) string {
	if v.IsNull() {
		return ""
	}
	n := int64(-1)
	switch v.Kind() {
	case parquet.Int32:
		n = int64(v.Int32())
	case parquet.Int64:
		n = v.Int64()
	case parquet.ByteArray:
		return string(v.ByteArray())
	}
	switch {
	case n < 0: // Hugging Face's sign of a hidden label
		return ""
	case n < int64(len(c.classes)):
		return c.classes[n]
	}
	return strconv.FormatInt(n, 10)
}
