package serve

import (
	"cmp"
	"fmt"
	"math"
	"net/http"
	"slices"
)

// classes is the answer of /predict.
type classes struct {
	Classes []Class `json:"classes"`
	Method  string  `json:"method"`
}

// votingNeighbours vote for a class where there is no classifier (Wu et al. 2018 use
// 200 on ImageNet, where classes have 1,300 images; 20 serves small data too).
const votingNeighbours = 20

// predicts says whether /predict can answer.
func (s *Server) predicts() bool { return s.classes != nil || s.votes() }

// votes says whether there are labels to tell apart.
func (s *Server) votes() bool {
	x := s.config.Index
	return x != nil && len(x.Source.Classes()) > 1
}

func (s *Server) predict(w http.ResponseWriter, r *http.Request) {
	if !s.predicts() {
		fail(w, http.StatusNotFound, "this server has no classes to tell apart: `swav eval finetune RUN` makes a classifier, or start it with labelled images to compare with (swav serve RUN --data SRC)")
		return
	}
	top, err := number(r.URL.Query(), "top", 5, 1000)
	if err != nil {
		s.failWith(w, err)
		return
	}
	b := s.batches
	if s.classes != nil {
		b = s.classes
	}
	all, _, ok := s.images(w, r, b, false)
	if !ok {
		return
	}
	s.respond(w, all, func(a *answer, res result) error {
		var list []Class
		method := fmt.Sprintf("%d nearest neighbours", votingNeighbours)
		if s.classes != nil {
			list, method = s.config.Classifier.classes(res.Scores), s.config.Classifier.Method
		} else {
			hits, err := s.config.Index.Nearest(r.Context(), res.Features, votingNeighbours)
			if err != nil {
				return err
			}
			for _, v := range s.config.Index.Votes(hits[0]) {
				list = append(list, Class{s.config.Index.Source.Classes()[v.Class], v.Share})
			}
		}
		if len(list) == 0 {
			return failed(http.StatusUnprocessableEntity, "none of the %d most similar images has a label", votingNeighbours)
		}
		a.classes = &classes{list[:min(top, len(list))], method}
		return nil
	})
}

// classes turns logits into probabilities, best first.
func (c *Classifier) classes(logits []float32) []Class {
	logits = logits[:min(len(logits), len(c.Classes))]
	out := make([]Class, len(logits))
	sum, most := 0.0, float64(slices.Max(logits))
	for i, v := range logits {
		p := math.Exp(float64(v) - most)
		out[i] = Class{c.Classes[i], p}
		sum += p
	}
	for i := range out {
		out[i].Probability /= sum
	}
	slices.SortStableFunc(out, func(a, b Class) int { return cmp.Compare(b.Probability, a.Probability) })
	return out
}
