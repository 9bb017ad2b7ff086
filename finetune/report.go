package finetune

import (
	"fmt"
	"path/filepath"

	"swav/eval"
)

// Report is the outcome of Run.
type Report struct {
	Labelled   int     `json:"labelled"` // images that could have been learnt from
	Images     int     `json:"images"`   // that were
	Batch      int     `json:"batch"`
	Epochs     []Epoch `json:"epochs"`
	Classifier string  `json:"classifier"` // file of the last epoch's

	Checkpoint, Dir            string `json:"-"`
	Queries, Features, Classes int    `json:"-"`
	Holdout                    bool   `json:"-"`
	fraction                   float64
	list                       string
}

// Protocol names the evaluation; fine-tunings on different images are told apart.
func (r *Report) Protocol() string { return "finetune" + suffix(r.fraction, r.list) }

// Last is the last epoch, whose classifier is kept.
func (r *Report) Last() Epoch { return r.Epochs[len(r.Epochs)-1] }

// Best is the epoch with the highest accuracy, the first of equal ones.
func (r *Report) Best() Epoch {
	best := r.Epochs[0]
	for _, e := range r.Epochs {
		if e.Top1 > best.Top1 {
			best = e
		}
	}
	return best
}

// Table shows a row for each epoch.
func (r *Report) Table() [][]string {
	rows := [][]string{{"epoch", "lr backbone", "lr classifier", "loss", "top-1", "top-5"}}
	for _, e := range r.Epochs {
		rows = append(rows, []string{fmt.Sprint(e.Epoch), fmt.Sprintf("%.3g", e.BackboneLR), fmt.Sprintf("%.3g", e.HeadLR), fmt.Sprintf("%.4f", e.Loss),
			fmt.Sprintf("%.2f %%", e.Top1), fmt.Sprintf("%.2f %%", e.Top5)})
	}
	return rows
}

// Headline is the accuracy at the end, and the best on the way.
func (r *Report) Headline() string {
	best := r.Best()
	return fmt.Sprintf("fine-tuned on %d of %d labelled images, batches of %d: %.2f %% after %d epochs, at best %.2f %% (epoch %d, chosen by the queries' labels)",
		r.Images, r.Labelled, r.Batch, r.Last().Top1, len(r.Epochs), best.Top1, best.Epoch)
}

// Evaluation is the report as other protocols have it.
func (r *Report) Evaluation(source string, seconds float64) *eval.Report {
	return &eval.Report{Protocol: r.Protocol(), Source: source, Checkpoint: filepath.Base(r.Checkpoint), References: r.Images, Queries: r.Queries,
		Features: r.Features, Classes: r.Classes, Holdout: r.Holdout, Seconds: seconds, Result: r}
}
