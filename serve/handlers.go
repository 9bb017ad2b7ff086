package serve

import (
	"bytes"
	"cmp"
	"image"
	"image/draw"
	"image/jpeg"
	"net/http"
	"slices"
	"strconv"

	xdraw "golang.org/x/image/draw"

	"swav/index"
	"swav/train"
)

// features is the answer of /embed.
type features struct {
	Features  []float32 `json:"features,omitempty"`
	Embedding []float32 `json:"embedding,omitempty"`
}

// cluster is the answer of /cluster.
type cluster struct {
	Cluster int     `json:"cluster"`
	Score   float32 `json:"score"`
	Top     []score `json:"top,omitempty"`
}

type score struct {
	Cluster int     `json:"cluster"`
	Score   float32 `json:"score"`
}

// found is the answer of /search.
type found struct {
	Nearest []hit `json:"nearest"`
}

type hit struct {
	ID         string  `json:"id"`
	Similarity float32 `json:"similarity"`
	Label      string  `json:"label,omitempty"`
	Cluster    int     `json:"cluster"`
	Image      string  `json:"image"` // path of a thumbnail on this server
}

// images reads a request's images and shows them to a network; ok is false when the
// request has been answered.
func (s *Server) images(w http.ResponseWriter, r *http.Request, b *batcher, npy bool) (all []seen, kind string, ok bool) {
	kind, err := wanted(r, npy)
	if err == nil {
		var files []upload
		if files, err = s.uploads(r); err == nil {
			return s.look(r.Context(), b, files), kind, true
		}
	}
	s.failWith(w, err)
	return nil, "", false
}

func (s *Server) embed(w http.ResponseWriter, r *http.Request) {
	output := r.URL.Query().Get("output")
	if output != "" && output != "features" && output != "embedding" {
		fail(w, http.StatusBadRequest, "output=%.40s: want features or embedding", output)
		return
	}
	all, kind, ok := s.images(w, r, s.batches, true)
	if !ok {
		return
	}
	if kind == typeNPY {
		s.respondNPY(w, all, func(r result) []float32 {
			if output == "embedding" {
				return r.Embedding
			}
			return r.Features
		})
		return
	}
	s.respond(w, all, func(a *answer, r result) error {
		a.features = &features{Features: r.Features}
		if output == "embedding" {
			a.features = &features{Embedding: r.Embedding}
		}
		return nil
	})
}

func (s *Server) cluster(w http.ResponseWriter, r *http.Request) {
	top, err := number(r.URL.Query(), "top", 5, 1000)
	if err != nil {
		s.failWith(w, err)
		return
	}
	all, kind, ok := s.images(w, r, s.batches, true)
	if !ok {
		return
	}
	if kind == typeNPY {
		s.respondNPY(w, all, func(r result) []float32 { return r.Scores })
		return
	}
	s.respond(w, all, func(a *answer, r result) error {
		best := make([]score, len(r.Scores))
		for i, v := range r.Scores {
			best[i] = score{i, v}
		}
		slices.SortStableFunc(best, func(a, b score) int { return cmp.Compare(b.Score, a.Score) })
		a.cluster = &cluster{best[0].Cluster, best[0].Score, best[:min(top, len(best))]}
		return nil
	})
}

func (s *Server) search(w http.ResponseWriter, r *http.Request) {
	x := s.config.Index
	if x == nil {
		fail(w, http.StatusNotFound, "this server has no images to search: start it with swav serve RUN --data SRC")
		return
	}
	k, err := number(r.URL.Query(), "k", 10, s.limits.Nearest)
	if err != nil {
		s.failWith(w, err)
		return
	}
	all, _, ok := s.images(w, r, s.batches, false)
	if !ok {
		return
	}
	s.respond(w, all, func(a *answer, res result) error {
		hits, err := x.Nearest(r.Context(), res.Features, k)
		if err != nil {
			return err
		}
		a.found = &found{Nearest: make([]hit, len(hits[0]))}
		for i, h := range hits[0] {
			a.Nearest[i] = hit{x.ID(h.Row), h.Similarity, x.Class(h.Row), x.Prototype[h.Row], "/images/" + strconv.Itoa(h.Row)}
		}
		return nil
	})
}

// thumbnailSide is the longer side of pictures from /images.
const thumbnailSide = 256

// image shows an image of the index, scaled down.
func (s *Server) image(w http.ResponseWriter, r *http.Request) {
	x := s.config.Index
	row, err := strconv.Atoi(r.PathValue("number"))
	if x == nil || err != nil || row < 0 || row >= x.Len() {
		fail(w, http.StatusNotFound, "there is no such image")
		return
	}
	data, err := s.thumbnail(r, x, row)
	if err != nil {
		s.failWith(w, err)
		return
	}
	w.Header().Set("Content-Type", "image/jpeg")
	w.Header().Set("Content-Length", strconv.Itoa(len(data)))
	w.Header().Set("Cache-Control", "private, max-age=3600")
	_, _ = w.Write(data)
}

func (s *Server) thumbnail(r *http.Request, x *index.Index, row int) ([]byte, error) {
	select {
	case s.decode <- struct{}{}:
		defer func() { <-s.decode }()
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
	img, err := train.Picture(x.Source, x.Image[row])
	if err != nil {
		return nil, failed(http.StatusNotFound, "the image cannot be read any more")
	}
	b := img.Bounds()
	var dst draw.Image
	switch longest := max(b.Dx(), b.Dy()); {
	case longest > thumbnailSide:
		dst = image.NewRGBA(image.Rect(0, 0, max(1, b.Dx()*thumbnailSide/longest), max(1, b.Dy()*thumbnailSide/longest)))
		xdraw.ApproxBiLinear.Scale(dst, dst.Bounds(), img, b, xdraw.Src, nil)
		img = dst
	case longest <= thumbnailSide/2 && longest > 0: // small images by whole pixels, as JPEG would blur them
		f := thumbnailSide / longest
		dst = image.NewRGBA(image.Rect(0, 0, b.Dx()*f, b.Dy()*f))
		xdraw.NearestNeighbor.Scale(dst, dst.Bounds(), img, b, xdraw.Src, nil)
		img = dst
	}
	var out bytes.Buffer
	err = jpeg.Encode(&out, img, &jpeg.Options{Quality: 88})
	return out.Bytes(), err
}
