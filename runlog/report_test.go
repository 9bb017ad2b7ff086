package runlog

import (
	"image"
	"image/color"
	"image/png"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// hostile are texts as file names and class names may hold them.
const hostile = `<script>alert(1)</script>"'><img src=x onerror=alert(1)>&`

func fullReport() *Report {
	r := &Report{
		Title: "SwAV on " + hostile, Subtitle: hostile,
		Tiles: []Tile{{Value: "86.9 %", Name: hostile, Help: hostile, Good: true}},
		Table: &Comparison{Caption: hostile, Head: []string{hostile, "accuracy"}, Rows: [][]string{{hostile, "86.9 %"}, {"raw pixels", "83.7 %"}}},
		Facts: [][2]string{{hostile, hostile}}, Notes: []string{hostile}, Choices: []string{hostile},
		LnK: math.Log(128), K: 128, Dim: 64, Recipe: hostile + "\n[train]\n", Sheet: []byte("\x89PNG picture"),
	}
	for s := range 100 {
		r.Metrics = append(r.Metrics, *metric(s))
	}
	r.Metrics[50].Loss = Number(math.NaN())
	return r
}

func writeReport(t *testing.T, r *Report) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "report.html")
	if err := WriteReport(path, r); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestReport(t *testing.T) {
	page := writeReport(t, fullReport())
	for _, bad := range []string{"<script", "<img src=x", "onerror=alert(1)>&\"", "http://", "https://", "@import", "url("} {
		if strings.Contains(page, bad) {
			t.Errorf("%q is in the page", bad)
		}
	}
	for what, n := range map[string]int{"&lt;script&gt;": 12, "<svg": 8, "data:image/png;base64,iVBORw==": 0, "<h2>": 7, "86.9 %": 2, ">ln K</text>": 1, "[train]": 1, "Content-Security-Policy": 1} {
		if got := strings.Count(page, what); got < n {
			t.Errorf("%q is there %d times, want %d", what, got, n)
		}
	}
	// Each opened element is closed: the template and the charts fit together.
	for _, tag := range []string{"div", "table", "tr", "td", "th", "ul", "li", "svg", "main", "pre", "h1", "h2", "h3", "small", "style"} {
		open, closed := len(regexp.MustCompile(`<`+tag+`[ >]`).FindAllString(page, -1)), strings.Count(page, "</"+tag+">")
		if open != closed || open == 0 {
			t.Errorf("%d <%s>, %d closed", open, tag, closed)
		}
	}
}

// A run without labels, stopped at once, still has a report.
func TestReportOfLittle(t *testing.T) {
	page := writeReport(t, &Report{Title: "SwAV", LnK: 1, K: 3})
	for _, absent := range []string{"<svg", "<img", "Alarms", "Recipe", "The run", "auto chose", "NaN"} {
		if strings.Contains(page, absent) {
			t.Errorf("%q is in the page", absent)
		}
	}
	page = writeReport(t, &Report{Title: "SwAV", Metrics: []Metric{*metric(0)}})
	if !strings.Contains(page, "<svg") {
		t.Error("no curve of one step")
	}
}

// K as a line would press the curve to the ground where a batch is much smaller.
func TestReportLineOfK(t *testing.T) {
	for _, c := range []struct {
		perplexity Number
		line       bool
	}{{20, false}, {900, true}, {Number(math.NaN()), false}} {
		r := &Report{K: 3000, LnK: 8, Metrics: []Metric{{Perplexity: c.perplexity}, {Step: 1, Perplexity: c.perplexity / 2}}}
		if got := r.charts()[2].LineName == "K"; got != c.line {
			t.Errorf("perplexity %v: line %v", c.perplexity, got)
		}
	}
}

func TestReportCannotBeWritten(t *testing.T) {
	dir := t.TempDir()
	blocked := filepath.Join(dir, "report.html")
	if err := os.Mkdir(blocked, 0o777); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{blocked, filepath.Join(dir, "no", "report.html")} {
		if err := WriteReport(path, &Report{}); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: error %v", path, err)
		}
	}
	if _, err := os.Stat(blocked + ".tmp"); err == nil {
		t.Error("the temporary file is left")
	}
}

func filled(w, h int, c color.Color) image.Image {
	img := image.NewRGBA(image.Rect(3, 5, 3+w, 5+h)) // bounds need not start at 0
	for y := range h {
		for x := range w {
			img.Set(3+x, 5+y, c)
		}
	}
	return img
}

func TestSheet(t *testing.T) {
	red, blue := color.RGBA{255, 0, 0, 255}, color.RGBA{0, 0, 255, 255}
	checker := image.NewGray(image.Rect(0, 0, 28, 28))
	for i := range checker.Pix {
		checker.Pix[i] = uint8((i + i/28) % 2 * 255)
	}
	wide := image.NewRGBA(image.Rect(0, 0, 400, 100)) // blue in the middle, red beside it
	for i := range 400 * 100 {
		c := red
		if x := i % 400; x >= 150 && x < 250 {
			c = blue
		}
		wide.SetRGBA(i%400, i/400, c)
	}
	at := func(img image.Image, side, row, column, x, y int) color.RGBA {
		return color.RGBAModel.Convert(img.At(margin+label+column*(side+gap)+x, margin+header+row*(side+gap)+y)).(color.RGBA)
	}
	t.Run("small", func(t *testing.T) {
		img, err := Sheet("title", "subtitle", []SheetRow{
			{Title: "prototype 1", Lines: []string{"1 % of the images", "long class name " + strings.Repeat("x", 500)}, Images: []image.Image{checker, nil, filled(14, 28, red)}},
			{Title: "prototype 2"},
		})
		if err != nil {
			t.Fatal(err)
		}
		const side = 84 // three pixels for each of 28
		for x := range side {
			want := color.RGBA{A: 255}
			if x/3%2 == 1 {
				want = color.RGBA{255, 255, 255, 255}
			}
			if got := at(img, side, 0, 0, x, 0); got != want {
				t.Fatalf("pixel %d: %v, want %v", x, got, want)
			}
		}
		if got := at(img, side, 0, 1, 40, 40); got != rule {
			t.Errorf("an image that could not be read: %v", got)
		}
		if l, m := at(img, side, 0, 2, 0, 40), at(img, side, 0, 2, 42, 40); l != rule || m != red {
			t.Errorf("tall image: %v at the edge, %v in the middle", l, m)
		}
		if got := at(img, side, 0, 0, -5, 40); got != Paper {
			t.Errorf("text runs into the images: %v", got)
		}
		if h := img.Bounds().Dy(); h != 2*margin+header+2*side+gap {
			t.Errorf("height %d", h)
		}
	})
	t.Run("photos", func(t *testing.T) {
		img, err := Sheet("title", "", []SheetRow{{Images: []image.Image{wide, filled(20, 20, red)}}})
		if err != nil {
			t.Fatal(err)
		}
		for _, x := range []int{2, photoCell / 2, photoCell - 3} {
			if got := at(img, photoCell, 0, 0, x, 50); got != blue {
				t.Errorf("middle of a wide image at %d: %v", x, got)
			}
		}
		// A small image among photos keeps its pixels and stands in the middle.
		if e, m := at(img, photoCell, 0, 1, 1, 1), at(img, photoCell, 0, 1, 48, 48); e != rule || m != red {
			t.Errorf("small image: %v at the edge, %v in the middle", e, m)
		}
	})
	t.Run("little", func(t *testing.T) {
		for _, rows := range [][]SheetRow{nil, {{}}, {{Images: []image.Image{image.NewGray(image.Rectangle{})}}}, {{Images: []image.Image{filled(1, 1, red)}}}, {{Images: []image.Image{filled(5000, 1, red)}}}} {
			if _, err := Sheet("", "", rows); err != nil {
				t.Errorf("%v: %v", rows, err)
			}
		}
	})
}

func TestSheetIsWideEnoughForItsHeading(t *testing.T) {
	long := strings.Repeat("heading ", 20)
	img, err := Sheet(long, "", []SheetRow{{Images: []image.Image{filled(28, 28, color.Black)}}})
	if err != nil {
		t.Fatal(err)
	}
	for y := range margin + header {
		if got := img.At(img.Bounds().Dx()-2, y); got != Paper {
			t.Fatalf("text reaches the edge at height %d", y)
		}
	}
}

func TestWritePNG(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.png")
	if err := WritePNG(path, filled(4, 3, color.Black)); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if img, err := png.Decode(f); err != nil || img.Bounds().Dx() != 4 {
		t.Errorf("%v, %v", img, err)
	}
	if err := WritePNG(path, image.NewGray(image.Rectangle{})); err == nil {
		t.Error("no error for an image of no size")
	}
}
