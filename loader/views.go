package loader

import (
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
	return &maker{recipe: r, norm: norm, params: make([]augment.Params, 0, r.Views())}
}

// draw draws the parameters of all views of an image of w x h pixels.
func (m *maker) draw(w, h int) {
	m.w, m.h, m.params = w, h, m.params[:0]
	key := m.key
	for g, group := range m.recipe.Groups {
		for range group.Count {
			m.params = append(m.params, m.recipe.Draw(g, key, w, h))
			key.View++
		}
	}
}

// view makes view number v into dst.
func (m *maker) view(dst []float32, v int) {
	augment.Apply(dst, &m.img, &m.params[v], m.norm, &m.scratch)
}
