package gallery

import (
	"fmt"
	"image"
	"path/filepath"

	"swav/index"
	"swav/runlog"
	"swav/train"
)

// Query is an image that was searched for, with what was found.
type Query struct {
	Name  string
	Image image.Image
	Hits  []index.Hit
}

// sheetColumns is the number of images in a row of the picture.
const sheetColumns = 10

// Nearest draws each query and below it the images that were found, best first.
func Nearest(x *index.Index, queries []Query) (image.Image, error) {
	var rows []runlog.SheetRow
	for _, q := range queries {
		rows = append(rows, runlog.SheetRow{Title: "query", Lines: []string{filepath.Base(q.Name)}, Images: []image.Image{q.Image}})
		for from := 0; from < len(q.Hits); from += sheetColumns {
			hits := q.Hits[from:min(from+sheetColumns, len(q.Hits))]
			row := runlog.SheetRow{Title: fmt.Sprintf("nearest %d to %d", from+1, from+len(hits)),
				Lines: []string{fmt.Sprintf("cosine %.3f to %.3f", hits[0].Similarity, hits[len(hits)-1].Similarity)}, Images: make([]image.Image, len(hits))}
			for i, h := range hits {
				img, err := train.Picture(x.Source, x.Image[h.Row])
				if err == nil { // an image that is gone leaves an empty cell
					row.Images[i] = img
				}
			}
			rows = append(rows, row)
		}
	}
	return runlog.Sheet("Nearest images", fmt.Sprintf("of %d of %s", x.Len(), x.Source.Name()), rows)
}
