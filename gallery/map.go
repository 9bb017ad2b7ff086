package gallery

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"image"
	"image/draw"
	"math"
	"math/rand/v2"
	"os"
	"slices"

	"swav/eval"
	"swav/index"
	"swav/layout"
	"swav/train"
)

// MapOptions bound the page that WriteMap writes.
type MapOptions struct {
	Images int    // at most so many, a random sample of them; 0: all
	Seed   uint64 // of the sample and of the layout
	// Linear leaves out the layout by neighbours: principal components only.
	Linear bool
	// Gemm lends a fast product, such as cpu.Gemm; nil is gonum's.
	Gemm eval.Gemm
	// Progress, if not nil, is told how far the layout is.
	Progress func(done, total int)
}

// fewImages need no layout by neighbours: everything is near everything.
const fewImages = 50

// mapComponents are the directions that the page lets one choose from.
const mapComponents = 4

// sheetCells is the number of thumbnails along a side of one sheet.
const sheetCells = 32

// thumbSide is the side of thumbnails when there are n: the more there are, the
// smaller, so that the page stays below about 25 MB.
func thumbSide(n int) int {
	switch {
	case n <= 2500:
		return 64
	case n <= 10000:
		return 48
	}
	return 32
}

// WriteMap writes one HTML file with all images as points, and returns how many it
// shows. They are laid out by who is similar to whom (UMAP) and, for those who
// switch, by the directions in which features vary most (PCA); few images only by
// the latter.
func WriteMap(ctx context.Context, path string, x *index.Index, o MapOptions) (int, error) {
	rows := make([]int, x.Len())
	for i := range rows {
		rows[i] = i
	}
	if o.Images > 0 && o.Images < len(rows) {
		rows = rand.New(rand.NewPCG(o.Seed, 0x3a9)).Perm(x.Len())[:o.Images]
		slices.Sort(rows)
	}
	features := make([]float32, 0, len(rows)*x.Dim)
	for _, r := range rows {
		features = append(features, x.Features[r*x.Dim:(r+1)*x.Dim]...)
	}
	coords, share, err := layout.PCA(features, len(rows), x.Dim, mapComponents, o.Gemm)
	if err != nil {
		return 0, err
	}
	k := len(share)
	var near []float64
	if !o.Linear && len(rows) > fewImages {
		if near, err = layout.UMAP(ctx, features, len(rows), x.Dim, layout.Options{Seed: o.Seed, Gemm: o.Gemm, Progress: o.Progress}); err != nil {
			return 0, err
		}
	}
	data := mapData{Total: x.Len(), Source: x.Source.Name(), Classes: x.Source.Classes(), Thumb: thumbSide(len(rows)), Cells: sheetCells, Prototypes: x.Prototypes}
	for j := range k {
		data.Axes = append(data.Axes, column(coords, k, j))
		data.Share = append(data.Share, rounded(share[j]))
	}
	if near != nil {
		data.UMAP = [][]float64{column(near, 2, 0), column(near, 2, 1)}
	}
	for _, r := range rows {
		data.IDs = append(data.IDs, x.ID(r))
		data.Labels = append(data.Labels, x.Label(r))
		data.Clusters = append(data.Clusters, x.Prototype[r])
	}
	if data.Sheets, err = thumbSheets(ctx, x, rows, data.Thumb); err != nil {
		return 0, err
	}
	var b bytes.Buffer
	if err := mapTemplate.Execute(&b, map[string]any{"Data": data, "Style": template.CSS(style)}); err != nil {
		return 0, fmt.Errorf("map: %w", err)
	}
	return len(rows), os.WriteFile(path, b.Bytes(), 0o644)
}

// column is column j of rows of k numbers.
func column(coords []float64, k, j int) []float64 {
	out := make([]float64, len(coords)/k)
	for i := range out {
		out[i] = rounded(coords[i*k+j])
	}
	return out
}

// rounded keeps the file small.
func rounded(v float64) float64 { return math.Round(v*1e4) / 1e4 }

// mapData is what the page's script works on.
type mapData struct {
	Source     string      `json:"source"`
	Total      int         `json:"total"`
	UMAP       [][]float64 `json:"umap"`  // both coordinates of all images; null without
	Axes       [][]float64 `json:"axes"`  // coordinates of all images, for each principal direction
	Share      []float64   `json:"share"` // of the variance
	IDs        []string    `json:"ids"`
	Labels     []int       `json:"labels"`
	Classes    []string    `json:"classes"`
	Clusters   []int       `json:"clusters"`
	Prototypes int         `json:"prototypes"`
	Thumb      int         `json:"thumb"`
	Cells      int         `json:"cells"`
	Sheets     []string    `json:"sheets"` // JPEG, base64: Cells x Cells thumbnails in order
}

// thumbSheets draws the thumbnails of rows, many to a JPEG.
func thumbSheets(ctx context.Context, x *index.Index, rows []int, side int) ([]string, error) {
	const per = sheetCells * sheetCells
	sheets := make([]string, (len(rows)+per-1)/per)
	for s := range sheets {
		part := rows[s*per : min((s+1)*per, len(rows))]
		lines := (len(part) + sheetCells - 1) / sheetCells
		sheet := image.NewRGBA(image.Rect(0, 0, sheetCells*side, lines*side))
		err := parallel(len(part), func(i int) error {
			if err := ctx.Err(); err != nil {
				return err
			}
			img, err := train.Picture(x.Source, x.Image[part[i]])
			if err != nil {
				img = nil // gone since the index was made: an empty square
			}
			at := image.Pt(i%sheetCells*side, i/sheetCells*side)
			draw.Draw(sheet, image.Rect(0, 0, side, side).Add(at), thumbnail(img, side), image.Point{}, draw.Src)
			return nil
		})
		if err != nil {
			return nil, err
		}
		data, err := encodeJPEG(sheet)
		if err != nil {
			return nil, err
		}
		sheets[s] = base64.StdEncoding.EncodeToString(data)
	}
	return sheets, nil
}

//go:embed map.html
var mapHTML string

var mapTemplate = template.Must(template.New("map.html").Parse(mapHTML))
