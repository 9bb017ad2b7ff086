package gallery

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"swav/internal/browser"
)

// painted counts the pixels of a canvas that are not empty.
const painted = `(c => { const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data; let n = 0; for (let i = 3; i < d.length; i += 4) n += d[i] > 0; return n; })`

func TestMapInABrowser(t *testing.T) {
	path := filepath.Join(t.TempDir(), "map.html")
	x := indexOf(numbered(120), 3)
	if _, err := WriteMap(context.Background(), path, x, MapOptions{Seed: 1}); err != nil {
		t.Fatal(err)
	}
	p := browser.OpenFile(t, path)
	p.Wait(`sheets.every(s => s.complete && s.naturalWidth > 0) && !pending`)
	var pixels int
	p.Get(painted+`($('canvas'))`, &pixels)
	if pixels < 1000 {
		t.Errorf("%d pixels are painted", pixels)
	}
	p.Picture("map")

	// The wheel zooms where the pointer is.
	var before, after float64
	p.Get("scale", &before)
	p.Wheel(500, 400, -400)
	p.Wait(fmt.Sprintf("scale > %v", before*1.2))
	p.Click("#home")
	p.Get("scale", &after)
	if after != before {
		t.Errorf("all again: scale %v, was %v", after, before)
	}

	// Pictures stand at their points: what is under the pointer is shown large.
	var at []float64
	p.Get(`(() => { const r = canvas.getBoundingClientRect(); return [r.left + px[7] * scale + shiftX, r.top + py[7] * scale + shiftY]; })()`, &at)
	p.Point(at[0], at[1])
	p.Wait(`tip.style.display === 'block'`)
	var text string
	p.Get(`$('what').textContent`, &text)
	if !strings.Contains(text, "part/007.png") || !strings.Contains(text, "odd") || !strings.Contains(text, "cluster 1") {
		t.Errorf("under the pointer: %q", text)
	}
	p.Get(painted+`($('big'))`, &pixels)
	if pixels != 192*192 {
		t.Errorf("%d pixels of the large picture are painted", pixels)
	}
	p.Picture("map-hover")

	// Dots instead of pictures, other places, other colours, fewer groups.
	p.Click("#pictures")
	p.Get(`['axes=0,1', 'colour=cluster'].forEach(c => { const [id, value] = c.split('='); $(id).value = value; $(id).dispatchEvent(new Event('change')); }) || true`, new(bool))
	var groups int
	p.Get(`$('legend').children.length`, &groups)
	if groups != 3 {
		t.Errorf("%d clusters in the legend", groups)
	}
	p.Click("#legend button:first-child")
	p.Wait(`off.size === 1 && !pending`)
	p.Get(`$('note').textContent`, &text)
	if !strings.Contains(text, "All 120 images") || !strings.Contains(text, "principal components 1 and 2") {
		t.Errorf("note: %q", text)
	}
	p.Picture("map-dots")
}

func TestClustersInABrowser(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "sorted")
	_, x := folderIndex(t, 30)
	if _, err := WriteClusters(context.Background(), dir, x, ClusterOptions{Examples: 4}); err != nil {
		t.Fatal(err)
	}
	p := browser.OpenFile(t, filepath.Join(dir, "clusters.html"))
	var images, sections int
	p.Get(`document.querySelectorAll('section').length`, &sections)
	p.Get(`(async () => { const all = [...document.images]; for (const i of all) i.loading = 'eager'; await Promise.all(all.map(i => i.decode())); return all.filter(i => i.naturalWidth === 96).length; })()`, &images)
	if sections != 4 || images != 30 {
		t.Errorf("%d clusters with %d images that load", sections, images)
	}
	p.Picture("clusters")
	p.Type("#filter", "3")
	p.Wait(`sections.filter(s => !s.hidden).length === 1 && count.textContent === '1 of 4'`)
	var order string
	p.Get(`(() => { const o = document.getElementById('order'); o.value = 'number'; o.dispatchEvent(new Event('change')); return [...document.querySelectorAll('section')].map(s => s.dataset.number).join(' '); })()`, &order)
	if order != "0 1 2 3" {
		t.Errorf("by number: %s", order)
	}
}
