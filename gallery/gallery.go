// Package gallery makes what people look at once a network is trained: folders
// of images by cluster with a page to browse them, a map of all images, the
// picture of a search. Pages are plain files without any script or font from
// elsewhere, so that they open without a network and can be passed on.
//
// Names of files and classes come from the data and may hold anything: pages
// escape them, and no name leads out of the folder that is written.
package gallery

import (
	"bytes"
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"image/jpeg"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/sync/errgroup"

	"swav/runlog"
)

// style is shared by the pages.
const style = `
:root{color-scheme:light dark;--bg:#fafaf8;--card:#fff;--ink:#1c1e22;--faint:#6b6f78;--line:#e3e4e7;--accent:#0b6e4f}
@media(prefers-color-scheme:dark){:root{--bg:#15171a;--card:#1e2125;--ink:#e8e9eb;--faint:#9aa0a9;--line:#33373d;--accent:#4cc38a}}
*{box-sizing:border-box}
body{margin:0;background:var(--bg);color:var(--ink);font:16px/1.5 system-ui,sans-serif;overflow-wrap:anywhere}
a{color:var(--accent)}small,.faint{color:var(--faint)}
button,select,input{font:inherit;color:inherit;background:var(--card);border:1px solid var(--line);border-radius:7px;padding:4px 9px}
:focus-visible{outline:2px solid var(--accent);outline-offset:1px}
`

// side of a thumbnail on pages, in pixels.
const side = 96

// thumbnail draws the middle square of an image; nil gives an empty square.
func thumbnail(img image.Image, side int) *image.RGBA {
	dst := image.NewRGBA(image.Rect(0, 0, side, side))
	draw.Draw(dst, dst.Bounds(), image.NewUniform(color.Gray{Y: 0xe4}), image.Point{}, draw.Src)
	if img != nil {
		runlog.Thumbnail(dst, dst.Bounds(), img)
	}
	return dst
}

func encodeJPEG(img image.Image) ([]byte, error) {
	var b bytes.Buffer
	err := jpeg.Encode(&b, img, &jpeg.Options{Quality: 85})
	return b.Bytes(), err
}

// parallel calls do for 0 to n-1 on all processors until one fails.
func parallel(n int, do func(i int) error) error {
	var g errgroup.Group
	g.SetLimit(runtime.GOMAXPROCS(0))
	for i := range n {
		g.Go(func() error { return do(i) })
	}
	return g.Wait()
}

// safeName makes a file name of an image's ID: no separators, no control
// characters, not hidden, at most 150 bytes with the extension kept.
func safeName(id string) string {
	name := strings.Map(func(r rune) rune {
		if r == utf8.RuneError || unicode.IsControl(r) || unicode.Is(unicode.Cf, r) || strings.ContainsRune(`/\:*?"<>|`, r) {
			return '_'
		}
		return r
	}, id)
	name = strings.TrimLeft(name, ". ")
	const most = 150
	ext := filepath.Ext(name)
	if len(ext) > 10 {
		ext = ""
	}
	stem := strings.TrimSuffix(name, ext)
	for len(stem)+len(ext) > most {
		_, size := utf8.DecodeLastRuneInString(stem)
		stem = stem[:len(stem)-size]
	}
	if stem == "" {
		stem = "image"
	}
	return stem + ext
}

// emptyFolder makes a folder, or takes one that is there and holds nothing.
func emptyFolder(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	entries, err := os.ReadDir(dir)
	if err == nil && len(entries) > 0 {
		err = fmt.Errorf("folder %s is not empty: name a new one, or remove it first", dir)
	}
	return err
}
