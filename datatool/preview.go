package datatool

import (
	"context"
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"math/rand/v2"
	"path"
	"slices"

	xdraw "golang.org/x/image/draw"

	"swav/augment"
	"swav/config"
	"swav/dataset"
	"swav/imgcodec"
	"swav/runlog"
	"swav/train"
)

// PreviewOptions select what a contact sheet shows.
type PreviewOptions struct {
	Images int    // rows
	Seed   uint64 // of the choice of images and of their views
	Epoch  int    // views differ from epoch to epoch
}

// Measures of a contact sheet in pixels.
const (
	previewCell  = 144
	previewFrame = 3
)

// Preview draws a contact sheet: in each row an image as it is stored, with frames
// around what its views show, and the views as the network gets them. With the
// seed and epoch of a run, they are the very views of that run.
func Preview(ctx context.Context, src dataset.Source, r *config.Recipe, o PreviewOptions) (image.Image, error) {
	channels := src.Channels()
	views, err := train.Views(r, channels)
	if err != nil {
		return nil, err
	}
	if o.Images < 1 {
		return nil, fmt.Errorf("a preview of %d images: want at least 1", o.Images)
	}
	p := &previewer{views: views, norm: augment.NewNormalizer(views.Mean, views.Std), o: o}
	var rows []runlog.SheetRow
	var last error
	for _, i := range rand.New(rand.NewPCG(o.Seed, 0xf1e1d)).Perm(src.Len()) {
		if len(rows) == o.Images {
			break
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		row, err := p.row(src, i)
		if err != nil {
			last = err // another image serves as well
			continue
		}
		rows = append(rows, row)
	}
	if len(rows) == 0 {
		return nil, fmt.Errorf("%s: no image can be read: %w", src.Name(), last)
	}
	title := fmt.Sprintf("What the network sees of %s", src.Name())
	return runlog.SheetOf(title, fmt.Sprintf("Images as stored, with the frames of their views; then the views: %s", config.FormatCrops(r.Crops)), rows, previewCell)
}

type previewer struct {
	views   augment.Recipe
	norm    *augment.Normalizer
	o       PreviewOptions
	img     imgcodec.Image
	scratch augment.Scratch
}

// row shows an image and its views.
func (p *previewer) row(src dataset.Source, i int) (runlog.SheetRow, error) {
	img := &p.img
	if err := src.Load(i, img); err != nil {
		return runlog.SheetRow{}, err
	}
	if err := p.norm.CheckImage(img.C); err != nil {
		return runlog.SheetRow{}, fmt.Errorf("%s: %w", src.ID(i), err)
	}
	white := 1.0 // what is shown white
	if img.IsDeep() {
		white = float64(max(1, slices.Max(img.Deep))) / 65535
	}
	original := cell(train.PictureOf(img), nil)
	channels := "1 channel"
	if img.C > 1 {
		channels = fmt.Sprintf("%d channels", img.C)
	}
	row := runlog.SheetRow{Title: path.Base(src.ID(i)),
		Lines: []string{fmt.Sprintf("%d x %d, %s", img.W, img.H, channels)}, Images: []image.Image{original}}
	if l := src.Label(i); l >= 0 {
		row.Lines = append(row.Lines, src.Classes()[l])
	}
	key := augment.Key{Seed: p.o.Seed, Epoch: p.o.Epoch, Sample: dataset.Key(src.ID(i))}
	for g, group := range p.views.Groups {
		for range group.Count {
			params := p.views.Draw(g, key, img.W, img.H)
			pix := make([]float32, group.Size*group.Size*p.norm.Channels())
			augment.Apply(pix, img, &params, p.norm, &p.scratch)
			frame := frames[int(key.View)%len(frames)]
			row.Images = append(row.Images, cell(p.picture(pix, group.Size, white), frame))
			p.outline(original, img, params.Crop, frame)
			key.View++
		}
	}
	return row, nil
}

// picture shows a view's first channel, or its first three as colours.
func (p *previewer) picture(pix []float32, size int, white float64) image.Image {
	c := p.norm.Channels()
	m := image.NewRGBA(image.Rect(0, 0, size, size))
	for i := range size * size {
		var rgb [3]byte
		for k := range rgb {
			ch := k
			if c < 3 {
				ch = 0
			}
			v := float64(pix[i*c+ch]*p.views.Std[ch]+p.views.Mean[ch]) / white
			rgb[k] = byte(min(max(v, 0), 1)*255 + 0.5)
		}
		m.SetRGBA(i%size, i/size, color.RGBA{rgb[0], rgb[1], rgb[2], 255})
	}
	return m
}

// frames tell views apart.
var frames = []color.Color{
	color.RGBA{214, 39, 40, 255}, color.RGBA{31, 119, 180, 255}, color.RGBA{44, 160, 44, 255}, color.RGBA{255, 127, 14, 255},
	color.RGBA{148, 103, 189, 255}, color.RGBA{23, 190, 207, 255}, color.RGBA{227, 119, 194, 255}, color.RGBA{188, 189, 34, 255},
}

// fit is where a picture of w x h pixels stands in a cell.
func fit(w, h int) image.Rectangle {
	side := previewCell - 2*previewFrame
	fw, fh := side, max(1, side*h/w)
	if h > w {
		fw, fh = max(1, side*w/h), side
	}
	return image.Rect(0, 0, fw, fh).Add(image.Pt((previewCell-fw)/2, (previewCell-fh)/2))
}

// cell fits a picture into a square, with a frame unless that is nil. Small
// pictures keep hard pixels.
func cell(m image.Image, frame color.Color) *image.RGBA {
	dst := image.NewRGBA(image.Rect(0, 0, previewCell, previewCell))
	draw.Draw(dst, dst.Bounds(), image.NewUniform(runlog.Paper), image.Point{}, draw.Src)
	b := m.Bounds()
	at := fit(b.Dx(), b.Dy())
	if frame != nil {
		draw.Draw(dst, at.Inset(-previewFrame), image.NewUniform(frame), image.Point{}, draw.Src)
	}
	var scale xdraw.Scaler = xdraw.CatmullRom
	if 2*max(b.Dx(), b.Dy()) <= previewCell {
		scale = xdraw.NearestNeighbor
	}
	scale.Scale(dst, at, m, b, xdraw.Over, nil)
	return dst
}

// outline draws a crop's frame into the cell of its image.
func (p *previewer) outline(dst *image.RGBA, img *imgcodec.Image, crop augment.Rect, c color.Color) {
	at := fit(img.W, img.H)
	x := func(v int) int { return at.Min.X + v*at.Dx()/img.W }
	y := func(v int) int { return at.Min.Y + v*at.Dy()/img.H }
	r := image.Rect(x(crop.Left), y(crop.Top), x(crop.Left+crop.Width), y(crop.Top+crop.Height))
	for _, edge := range []image.Rectangle{
		{r.Min, image.Pt(r.Max.X, r.Min.Y+1)}, {image.Pt(r.Min.X, r.Max.Y-1), r.Max},
		{r.Min, image.Pt(r.Min.X+1, r.Max.Y)}, {image.Pt(r.Max.X-1, r.Min.Y), r.Max},
	} {
		draw.Draw(dst, edge, image.NewUniform(c), image.Point{}, draw.Src)
	}
}
