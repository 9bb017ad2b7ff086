package loader

import (
	"image"

	"swav/augment"
	"swav/imgcodec"
)

// maker makes the views of one image at a time and keeps the memory for that. It
// belongs to one goroutine.
type maker struct {
	recipe  *augment.Recipe
	norm    *augment.Normalizer
	img     imgcodec.Image
	scratch augment.Scratch

	key    augment.Key      // of the image at hand
	params []augment.Params // of its views, for images of w x h pixels
	w, h   int
}

func newMaker(r *augment.Recipe, norm *augment.Normalizer) *maker {
	m := &maker{recipe: r, norm: norm, params: make([]augment.Params, 0, r.Views())}
	m.img.Region = m.region
	return m
}

// begin makes the image that is read next that of key.
func (m *maker) begin(key augment.Key) { m.key, m.params = key, m.params[:0] }

// draw draws the parameters of all views of an image of w x h pixels, unless
// the decoder has asked for them.
func (m *maker) draw(w, h int) {
	if len(m.params) > 0 && m.w == w && m.h == h {
		return
	}
	m.w, m.h, m.params = w, h, m.params[:0]
	key := m.key
	for g, group := range m.recipe.Groups {
		for range group.Count {
			m.params = append(m.params, m.recipe.Draw(g, key, w, h))
			key.View++
		}
	}
}

// region is the part of an image that its crops need.
func (m *maker) region(w, h int) image.Rectangle {
	m.draw(w, h)
	var r image.Rectangle
	for i := range m.params {
		c := &m.params[i].Crop
		r = r.Union(image.Rect(c.Left, c.Top, c.Left+c.Width, c.Top+c.Height))
	}
	return r
}

// view makes view number v into dst.
func (m *maker) view(dst []float32, v int) {
	augment.Apply(dst, &m.img, &m.params[v], m.norm, &m.scratch)
}
