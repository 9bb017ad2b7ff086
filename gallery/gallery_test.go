package gallery

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"html"
	"image"
	"image/png"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"

	"swav/dataset"
	"swav/imgcodec"
	"swav/index"
	"swav/internal/runtest"
)

// coloured is a source of images of one colour each, held in memory.
type coloured struct {
	names   []string
	classes []string
	gone    int // image that cannot be read, counted from 1
}

func (s coloured) Name() string      { return "coloured <b>images</b>" }
func (s coloured) Len() int          { return len(s.names) }
func (s coloured) Channels() int     { return 3 }
func (s coloured) Classes() []string { return s.classes }
func (s coloured) Label(i int) int   { return i % max(1, len(s.classes)) }
func (s coloured) ID(i int) string   { return s.names[i] }
func (s coloured) Load(i int, dst *imgcodec.Image) error {
	if i == s.gone-1 {
		return errors.New("gone")
	}
	dst.Reset(8, 6, 3)
	for p := range dst.Pix {
		dst.Pix[p] = byte(17*i + 40*(p%3))
	}
	return nil
}

// archived is the same with encoded files to be had.
type archived struct{ coloured }

func (s archived) Encoded(i int, buf *[]byte) error {
	*buf = append((*buf)[:0], fmt.Sprintf("file %d", i)...)
	return nil
}

func (s archived) Decode(i int, _ []byte, dst *imgcodec.Image) error { return s.Load(i, dst) }

var _ dataset.Encoded = archived{}

// indexOf spreads the images of a source over prototypes.
func indexOf(src dataset.Source, prototypes int) *index.Index {
	x := &index.Index{Source: src, Dim: 3, Prototypes: prototypes}
	for i := range src.Len() {
		x.Image, x.Prototype, x.Score = append(x.Image, i), append(x.Prototype, i%prototypes), append(x.Score, 1-float32(i)/100)
		row := []float32{float32(i % 7), 1, float32(i) / 10}
		index.Normalize(row)
		x.Features = append(x.Features, row...)
	}
	return x
}

func numbered(n int) coloured {
	s := coloured{classes: []string{"even", "odd"}}
	for i := range n {
		s.names = append(s.names, fmt.Sprintf("part/%03d.png", i))
	}
	return s
}

// A folder of photos, all the way from a run.
func folderIndex(t *testing.T, n int) (data string, x *index.Index) {
	t.Helper()
	data = runtest.Photos(t, n)
	src, err := dataset.Open(data, dataset.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return data, indexOf(src, 4)
}

var reference = regexp.MustCompile(`(?:src|href)="([^"]*)"`)

// references are what a page links to.
func references(t *testing.T, page string) (links []string) {
	t.Helper()
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range reference.FindAllStringSubmatch(string(text), -1) {
		link, err := url.PathUnescape(html.UnescapeString(m[1]))
		if err != nil {
			t.Fatalf("link %q: %v", m[1], err)
		}
		links = append(links, link)
	}
	return links
}

// checkLinks says which links of a page lead nowhere, or out of its folder.
func checkLinks(t *testing.T, page string) {
	t.Helper()
	links := references(t, page)
	if len(links) == 0 {
		t.Error("the page has no links")
	}
	for _, link := range links {
		if !filepath.IsLocal(link) {
			t.Errorf("link %q leads out of the folder", link)
			continue
		}
		if _, err := os.Stat(filepath.Join(filepath.Dir(page), link)); err != nil {
			t.Errorf("link %q: %v", link, err)
		}
	}
}

func TestClustersOfAFolder(t *testing.T) {
	for _, copies := range []bool{false, true} {
		t.Run(fmt.Sprintf("copy=%v", copies), func(t *testing.T) {
			data, x := folderIndex(t, 14)
			dir := filepath.Join(t.TempDir(), "sorted")
			s, err := WriteClusters(context.Background(), dir, x, ClusterOptions{Copy: copies, Examples: 2})
			if err != nil {
				t.Fatal(err)
			}
			if s.Images != 14 || s.Used != 4 || !s.Labelled || s.Page != filepath.Join(dir, "clusters.html") {
				t.Errorf("summary %+v", s)
			}
			for row := range x.Len() {
				name := strings.ReplaceAll(x.ID(row), "/", "_")
				path := filepath.Join(dir, fmt.Sprintf("cluster-%04d", x.Prototype[row]), name)
				info, err := os.Lstat(path)
				if err != nil {
					t.Errorf("row %d: %v", row, err)
					continue
				}
				if link := info.Mode()&os.ModeSymlink != 0; link == copies {
					t.Errorf("%s: link %v, copies %v", name, link, copies)
				}
				got, err := os.ReadFile(path)
				want, _ := os.ReadFile(filepath.Join(data, x.ID(row)))
				if err != nil || !bytes.Equal(got, want) {
					t.Errorf("%s is not the image: %v", name, err)
				}
			}
			// The folder can be passed on.
			moved := filepath.Join(t.TempDir(), "elsewhere")
			if err := os.Rename(dir, moved); err != nil {
				t.Fatal(err)
			}
			checkLinks(t, filepath.Join(moved, "clusters.html"))
		})
	}
}

func TestClustersOfOtherSources(t *testing.T) {
	for name, src := range map[string]dataset.Source{"memory": numbered(9), "archive": archived{numbered(9)}} {
		x := indexOf(src, 3)
		dir := t.TempDir()
		if _, err := WriteClusters(context.Background(), dir, x, ClusterOptions{}); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		checkLinks(t, filepath.Join(dir, "clusters.html"))
		want, ext := []byte("file 4"), ""
		if name == "memory" {
			ext = ".png"
		}
		got, err := os.ReadFile(filepath.Join(dir, "cluster-0001", "part_004.png"+ext))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if name == "archive" && !bytes.Equal(got, want) {
			t.Errorf("archive: %q, want %q", got, want)
		}
		if name == "memory" {
			img, err := png.Decode(bytes.NewReader(got))
			if err != nil || img.Bounds() != image.Rect(0, 0, 8, 6) {
				t.Errorf("memory: %v, %v", img, err)
			}
		}
	}
}

// Names are data: none becomes markup, leaves the folder, or covers another.
func TestHostileNames(t *testing.T) {
	src := coloured{classes: []string{`<img src=x onerror=alert(1)>`, `</script><script>alert(2)</script>`}, names: []string{
		`<script>alert(1)</script>.png`, `"><script>alert(3)</script>`, "../../escape.png", "/etc/passwd", "..", "a/b.png", "a_b.png", "a:b.png",
		".hidden", strings.Repeat("long", 100) + ".jpeg", strings.Repeat("long", 100) + "2.jpeg", "bad\xff\xfeutf8.png", "line\nbreak.png", "", "50%.png", "q?x#y.png", "turn\u202egnp.exe", "&amp;.png"}}
	x := indexOf(src, 1)
	dir := filepath.Join(t.TempDir(), "out")
	if _, err := WriteClusters(context.Background(), dir, x, ClusterOptions{Examples: 50}); err != nil {
		t.Fatal(err)
	}
	page := filepath.Join(dir, "clusters.html")
	checkLinks(t, page)
	noScripts(t, page)
	files, err := os.ReadDir(filepath.Join(dir, "cluster-0000"))
	if err != nil || len(files) != len(src.names) {
		t.Errorf("%d files for %d images, %v", len(files), len(src.names), err)
	}
	around, err := os.ReadDir(filepath.Dir(dir))
	if err != nil || len(around) != 1 {
		t.Errorf("beside the folder: %v, %v", around, err)
	}
	mapped := filepath.Join(t.TempDir(), "map.html")
	if _, err := WriteMap(context.Background(), mapped, x, MapOptions{}); err != nil {
		t.Fatal(err)
	}
	noScripts(t, mapped)
}

// noScripts fails if a page has a script beside its own, or markup of the data's.
func noScripts(t *testing.T, page string) {
	t.Helper()
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	if n := bytes.Count(text, []byte("<script")); n != 1 {
		t.Errorf("%s has %d scripts", page, n)
	}
	for _, bad := range []string{"<img src=x", "<b>images", "alert(1)</script>", "alert(2)</script>"} {
		if bytes.Contains(text, []byte(bad)) {
			t.Errorf("%s has %s unescaped", page, bad)
		}
	}
}

func TestSafeName(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		id := string(rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, "id"))
		if rapid.Bool().Draw(t, "text") {
			id = rapid.String().Draw(t, "text id")
		}
		name := safeName(id)
		if name == "" || len(name) > 150 || strings.ContainsAny(name, "/\\\x00\n") || strings.HasPrefix(name, ".") || !filepath.IsLocal(name) || !utf8.ValidString(name) {
			t.Fatalf("safeName(%q) = %q", id, name)
		}
	})
	for id, want := range map[string]string{"cats/a.jpg": "cats_a.jpg", "Größe 1.png": "Größe 1.png", "..": "image", "": "image"} {
		if got := safeName(id); got != want {
			t.Errorf("safeName(%q) = %q, want %q", id, got, want)
		}
	}
}

func TestClustersLeaveFullFoldersAlone(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "mine.txt"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	_, err := WriteClusters(context.Background(), dir, indexOf(numbered(4), 2), ClusterOptions{})
	if err == nil || !strings.Contains(err.Error(), "not empty") {
		t.Errorf("%v, want a refusal", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := WriteClusters(ctx, filepath.Join(dir, "new"), indexOf(numbered(4), 2), ClusterOptions{}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// The page orders images of a cluster by how typical they are, and shows none twice.
func TestExamplesAreTypicalAndOutlying(t *testing.T) {
	x := indexOf(numbered(20), 2)
	dir := t.TempDir()
	if _, err := WriteClusters(context.Background(), dir, x, ClusterOptions{Examples: 3}); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, "clusters.html"))
	if err != nil {
		t.Fatal(err)
	}
	var shown []string
	for _, m := range regexp.MustCompile(`alt="part/(\d+)\.png"`).FindAllSubmatch(text, -1) {
		shown = append(shown, string(m[1]))
	}
	want := "000 002 004 018 016 014 001 003 005 019 017 015"
	if got := strings.Join(shown, " "); got != want {
		t.Errorf("shown %s, want %s", got, want)
	}
}

func TestNearestDrawsWhatWasFound(t *testing.T) {
	x := indexOf(coloured{names: numbered(30).names, gone: 3}, 2)
	query := image.NewRGBA(image.Rect(0, 0, 40, 30))
	img, err := Nearest(x, []Query{{Name: "q.jpg", Image: query, Hits: []index.Hit{{Row: 0, Similarity: 1}, {Row: 2, Similarity: 0.5}}}})
	if err != nil || img.Bounds().Dx() < 200 {
		t.Fatalf("%v, %v", img, err)
	}
	more := make([]index.Hit, 25)
	for i := range more {
		more[i] = index.Hit{Row: i}
	}
	taller, err := Nearest(x, []Query{{Name: "q.jpg", Image: query, Hits: more}, {Name: "none.jpg", Image: query}})
	if err != nil || taller.Bounds().Dy() <= img.Bounds().Dy() {
		t.Errorf("more images, no more room: %v, %v", taller, err)
	}
}
