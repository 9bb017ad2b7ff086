package runlog

import (
	"bytes"
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"os"

	xdraw "golang.org/x/image/draw"
	"golang.org/x/image/font"
	"golang.org/x/image/font/gofont/gobold"
	"golang.org/x/image/font/gofont/goregular"
	"golang.org/x/image/font/opentype"
	"golang.org/x/image/math/fixed"
)

// SheetRow is a row of a contact sheet: a prototype with its images, or an image
// with its views.
type SheetRow struct {
	Title  string        // "prototype 17"
	Lines  []string      // below it: share of the images, label
	Images []image.Image // nearest first; nil where one could not be read
}

// Measures of the sheet in pixels.
const (
	gap    = 4
	margin = 20
	label  = 176 // column of titles
	header = 64

	photoCell  = 96
	smallImage = 48 // images up to this side are enlarged by whole pixels
	smallCell  = 72 // to at least this
)

// Paper is the ground of a contact sheet.
var Paper = color.RGBA{250, 250, 248, 255}

var (
	ink   = color.RGBA{28, 30, 34, 255}
	faint = color.RGBA{96, 100, 108, 255}
	rule  = color.RGBA{228, 229, 231, 255}
)

// Sheet draws the contact sheet: a row for each prototype with its nearest
// images.
func Sheet(title, subtitle string, rows []SheetRow) (image.Image, error) {
	return SheetOf(title, subtitle, rows, cellSide(rows))
}

// SheetOf draws a contact sheet with cells of the given side.
func SheetOf(title, subtitle string, rows []SheetRow, side int) (image.Image, error) {
	bold, err := face(gobold.TTF, 15)
	if err != nil {
		return nil, err
	}
	heading, err := face(gobold.TTF, 20)
	if err != nil {
		return nil, err
	}
	small, err := face(goregular.TTF, 13)
	if err != nil {
		return nil, err
	}
	columns := 1
	for _, r := range rows {
		columns = max(columns, len(r.Images))
	}
	// Wide enough for the heading, however few the images.
	w := 2*margin + max(label+columns*(side+gap)-gap, width(heading, title), width(small, subtitle))
	h := 2*margin + header + len(rows)*(side+gap) - gap
	dst := image.NewRGBA(image.Rect(0, 0, w, max(h, 2*margin+header)))
	draw.Draw(dst, dst.Bounds(), image.NewUniform(Paper), image.Point{}, draw.Src)
	text(dst, heading, ink, margin, margin+18, title, w)
	text(dst, small, faint, margin, margin+42, subtitle, w)
	for i, r := range rows {
		y := margin + header + i*(side+gap)
		if i > 0 { // between the titles, so that the eye keeps to its row
			draw.Draw(dst, image.Rect(margin, y-gap/2, margin+label-12, y-gap/2+1), image.NewUniform(rule), image.Point{}, draw.Src)
		}
		top := y + (side-18-17*len(r.Lines))/2 + 14
		text(dst, bold, ink, margin, top, r.Title, label-12)
		for j, line := range r.Lines {
			text(dst, small, faint, margin, top+18+17*j, line, label-12)
		}
		for j, img := range r.Images {
			at := image.Rect(0, 0, side, side).Add(image.Pt(margin+label+j*(side+gap), y))
			draw.Draw(dst, at, image.NewUniform(rule), image.Point{}, draw.Src)
			if img != nil {
				Thumbnail(dst, at, img)
			}
		}
	}
	return dst, nil
}

// cellSide is the side of a cell: a multiple of small images' side, so that all
// their pixels come out alike.
func cellSide(rows []SheetRow) int {
	largest := 1
	for _, r := range rows {
		for _, img := range r.Images {
			if img != nil {
				largest = max(largest, img.Bounds().Dx(), img.Bounds().Dy())
			}
		}
	}
	if largest > smallImage {
		return photoCell
	}
	return (smallCell + largest - 1) / largest * largest
}

// Thumbnail fills a square. Small images are enlarged by whole pixels, so that
// what the network saw stays visible; of larger ones it shows the middle square,
// as the network sees it in evaluation.
func Thumbnail(dst draw.Image, at image.Rectangle, img image.Image) {
	b := img.Bounds()
	if b.Empty() {
		return
	}
	if largest := max(b.Dx(), b.Dy()); largest <= smallImage {
		scale := max(1, at.Dx()/largest)
		w, h := b.Dx()*scale, b.Dy()*scale
		r := image.Rect(0, 0, w, h).Add(at.Min).Add(image.Pt((at.Dx()-w)/2, (at.Dy()-h)/2))
		xdraw.NearestNeighbor.Scale(dst, r, img, b, xdraw.Over, nil)
		return
	}
	side := min(b.Dx(), b.Dy())
	middle := image.Rect(0, 0, side, side).Add(b.Min).Add(image.Pt((b.Dx()-side)/2, (b.Dy()-side)/2))
	xdraw.CatmullRom.Scale(dst, at, img, middle, xdraw.Over, nil)
}

func face(ttf []byte, size float64) (font.Face, error) {
	f, err := opentype.Parse(ttf)
	if err != nil {
		return nil, err
	}
	return opentype.NewFace(f, &opentype.FaceOptions{Size: size, DPI: 72, Hinting: font.HintingFull})
}

func width(f font.Face, s string) int { return font.MeasureString(f, Printable(s)).Ceil() }

// text draws a line from x on, y being its base; what is wider than room ends in
// an ellipsis.
func text(dst draw.Image, f font.Face, c color.Color, x, y int, s string, room int) {
	s = Printable(s)
	if font.MeasureString(f, s) > fixed.I(room) {
		runes := []rune(s)
		for len(runes) > 0 && font.MeasureString(f, string(runes)+"…") > fixed.I(room) {
			runes = runes[:len(runes)-1]
		}
		s = string(runes) + "…"
	}
	d := font.Drawer{Dst: dst, Src: image.NewUniform(c), Face: f, Dot: fixed.P(x, y)}
	d.DrawString(s)
}

// WritePNG writes a picture under a temporary name and renames it.
func WritePNG(path string, img image.Image) error {
	var b bytes.Buffer
	if err := png.Encode(&b, img); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return WriteFile(path, b.Bytes())
}

// WriteFile writes a file whole or not at all.
func WriteFile(path string, data []byte) error {
	tmp := path + ".tmp"
	err := os.WriteFile(tmp, data, 0o644)
	if err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		_ = os.Remove(tmp)
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}
