package eval

import (
	"context"
	"encoding/json"
	"math"
	"os"
	"testing"
)

// golden is what scikit-learn says of small data (testdata/sklearn.py).
type golden struct {
	Dim         int
	Classes     int
	Ref         []float32
	RefLabels   []int `json:"ref_labels"`
	Query       []float32
	QueryLabels []int `json:"query_labels"`
	Clusterings []struct {
		K                   int
		Assign              []int
		NMI, ARI, Hungarian float64
		Silhouette          *float64
	}
	Logistic []struct {
		C, Accuracy float64
		LogLoss     float64 `json:"log_loss"`
	}
	Retrieval struct {
		MAP    float64
		Recall map[string]float64
	}
}

func readGolden(t *testing.T) (g golden, ref, query Set) {
	t.Helper()
	b, err := os.ReadFile("testdata/sklearn.json")
	if err == nil {
		err = json.Unmarshal(b, &g)
	}
	if err != nil {
		t.Fatal(err)
	}
	return g, Set{g.Dim, g.Ref, g.RefLabels}, Set{g.Dim, g.Query, g.QueryLabels}
}

// near fails unless got is within tolerance of want.
func near(t *testing.T, what string, got, want, tolerance float64) {
	t.Helper()
	if !(math.Abs(got-want) <= tolerance) {
		t.Errorf("%s: %v, scikit-learn %v", what, got, want)
	}
}

func TestAgreementIsScikitLearns(t *testing.T) {
	g, ref, _ := readGolden(t)
	for _, c := range g.Clusterings {
		a, err := Agree(c.Assign, c.K, g.RefLabels)
		if err != nil {
			t.Fatal(err)
		}
		near(t, "NMI", a.NMI, c.NMI, 1e-9)
		near(t, "ARI", a.ARI, c.ARI, 1e-9)
		near(t, "Hungarian accuracy", a.Hungarian, c.Hungarian, 1e-12)
		s, err := Silhouette(context.Background(), ref, c.Assign, Options{})
		if c.Silhouette == nil {
			if err == nil {
				t.Errorf("silhouette %v of one cluster", s)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		near(t, "silhouette", s, *c.Silhouette, 1e-6)
	}
}

func TestLogisticIsScikitLearns(t *testing.T) {
	g, ref, query := readGolden(t)
	i := 0
	var cs []float64
	for _, l := range g.Logistic {
		cs = append(cs, l.C)
	}
	err := logistic(context.Background(), ref, cs, g.Classes, Gemm(nil).orDefault(), func(c float64, h *head) error {
		want := g.Logistic[i]
		i++
		var loss float64
		for q := range query.Len() {
			scores := make([]float32, g.Classes)
			for k := range scores {
				scores[k] = float32(dot(query.Row(q), h.w[k*g.Dim:][:g.Dim]))
			}
			loss += softmaxGradient(scores, h.b, query.Labels[q], 1) / float64(query.Len())
		}
		near(t, "cross-entropy", loss, want.LogLoss, 1e-4)
		top1, top5, err := h.accuracy(query, Gemm(nil).orDefault())
		near(t, "accuracy", top1, want.Accuracy, 1e-12)
		if top5 != 1 {
			t.Errorf("top-5 %v of %d classes", top5, g.Classes)
		}
		return err
	})
	if err != nil || i != len(cs) {
		t.Fatal(i, err)
	}
}

func TestRetrievalIsScikitLearns(t *testing.T) {
	g, ref, query := readGolden(t)
	r, err := Retrieval(context.Background(), ref, query, Options{})
	if err != nil {
		t.Fatal(err)
	}
	near(t, "mAP", r.MAP, 100*g.Retrieval.MAP, 1e-6)
	for k, want := range g.Retrieval.Recall {
		near(t, "recall@"+k, r.Recall[k], 100*want, 1e-9)
	}
}
