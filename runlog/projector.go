package runlog

import (
	"bufio"
	"errors"
	"fmt"
	"image"
	"image/draw"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Points are what TensorBoard's projector shows: a point for each image.
type Points struct {
	Dim      int
	Features []float32   // [n, Dim]
	Columns  []string    // names of what is known of a point: two or more
	Metadata [][]string  // n rows of them
	Picture  PictureFunc // nil: no thumbnails
}

// PictureFunc reads the picture of point i for a thumbnail.
type PictureFunc func(i int) (image.Image, error)

// Files of the projector within a run directory. TensorBoard finds the first by its
// name; it names the others.
const (
	projectorConfig = "projector_config.pbtxt"
	projectorDir    = "projector"
)

// spriteSide is the largest side of the picture with all thumbnails that
// TensorBoard takes, spriteCell the side of one where they fit.
const (
	spriteSide = 8192
	spriteCell = 64
)

// WriteProjector writes the projector's files into a run directory: vectors
// (tensor.tsv), what is known of each (metadata.tsv), thumbnails (sprite.png) and
// the configuration (projector_config.pbtxt). A picture that cannot be read is left
// blank.
func WriteProjector(dir string, p *Points) error {
	n := len(p.Metadata)
	if n == 0 || p.Dim < 1 || len(p.Features) != n*p.Dim || len(p.Columns) < 2 {
		return fmt.Errorf("projector: %d points of %d dimensions from %d numbers and %d columns", n, p.Dim, len(p.Features), len(p.Columns))
	}
	to := filepath.Join(dir, projectorDir)
	if err := os.MkdirAll(to, 0o755); err != nil {
		return err
	}
	err := writeLines(filepath.Join(to, "tensor.tsv"), n, func(line []byte, i int) []byte {
		for j, v := range p.Features[i*p.Dim : (i+1)*p.Dim] {
			if j > 0 {
				line = append(line, '\t')
			}
			line = strconv.AppendFloat(line, float64(v), 'g', -1, 32)
		}
		return line
	})
	if err != nil {
		return err
	}
	err = writeLines(filepath.Join(to, "metadata.tsv"), n+1, func(line []byte, i int) []byte {
		row := p.Columns
		if i > 0 {
			row = p.Metadata[i-1]
		}
		for j, v := range row {
			if j > 0 {
				line = append(line, '\t')
			}
			line = append(line, cellText(v)...)
		}
		return line
	})
	if err != nil {
		return err
	}
	sprite := ""
	if p.Picture != nil {
		img, cell := drawSprite(n, p.Picture)
		if err := WritePNG(filepath.Join(to, "sprite.png"), img); err != nil {
			return err
		}
		sprite = fmt.Sprintf("  sprite {\n    image_path: %q\n    single_image_dim: %d\n    single_image_dim: %d\n  }\n", projectorDir+"/sprite.png", cell, cell)
	}
	config := fmt.Sprintf("embeddings {\n  tensor_name: \"features\"\n  tensor_path: %q\n  metadata_path: %q\n%s}\n",
		projectorDir+"/tensor.tsv", projectorDir+"/metadata.tsv", sprite)
	return WriteFile(filepath.Join(dir, projectorConfig), []byte(config))
}

// cellText is a cell of a table without quoting: tabs and ends of lines would part
// it.
func cellText(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == '\u0085' || r == '\u2028' || r == '\u2029' {
			return ' '
		}
		return r
	}, s)
}

// writeLines writes n lines whole or not at all.
func writeLines(path string, n int, line func(b []byte, i int) []byte) error {
	f, err := os.Create(path + ".tmp")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	w := bufio.NewWriterSize(f, 1<<20)
	var b []byte
	for i := range n {
		b = append(line(b[:0], i), '\n')
		if _, err = w.Write(b); err != nil {
			break
		}
	}
	err = errors.Join(err, w.Flush(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

// spriteLayout is how many thumbnails stand in a row, and how large they are.
func spriteLayout(n int) (columns, cell int) {
	columns = int(math.Ceil(math.Sqrt(float64(n))))
	return columns, max(1, min(spriteCell, spriteSide/columns))
}

// drawSprite draws n thumbnails in a square and returns the side of one.
func drawSprite(n int, picture PictureFunc) (sprite image.Image, cell int) {
	columns, cell := spriteLayout(n)
	img := image.NewRGBA(image.Rect(0, 0, columns*cell, columns*cell))
	for i := range n {
		if p, err := picture(i); err == nil {
			at := image.Rect(0, 0, cell, cell).Add(image.Pt(i%columns*cell, i/columns*cell))
			Thumbnail(img.SubImage(at).(draw.Image), at, p) // which keeps within it
		}
	}
	return img, cell
}
