package eval

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
)

// Report is the outcome of an evaluation protocol, for people (Write) and machines
// (JSON). Accuracies are in percent.
type Report struct {
	Protocol   string  `json:"protocol"`
	Source     string  `json:"source"`               // run directory, or files of features
	Checkpoint string  `json:"checkpoint,omitempty"` // within the run
	References int     `json:"references"`
	Queries    int     `json:"queries"`
	Features   int     `json:"features"`
	Classes    int     `json:"classes"`
	Holdout    bool    `json:"holdout,omitempty"` // queries are held-out training images
	Seconds    float64 `json:"seconds"`           // of the protocol, without computing features
	Result     Tabular `json:"result"`
}

// Tabular is a result that can be shown as a table.
type Tabular interface {
	// Table is rows of cells, the first row the heads.
	Table() [][]string
	// Headline is the result in one line.
	Headline() string
}

// Title says what was evaluated.
func (r *Report) Title() string {
	held := ""
	if r.Holdout {
		held = " held out of the training images"
	}
	of := r.Source
	if r.Checkpoint != "" {
		of += ", " + r.Checkpoint
	}
	return fmt.Sprintf("%s of %s: %d references, %d queries%s, %d features, %d classes", r.Protocol, of, r.References, r.Queries, held, r.Features, r.Classes)
}

// Write shows the report.
func (r *Report) Write(w io.Writer) error {
	fmt.Fprintf(w, "%s; %.1f s\n\n", r.Title(), r.Seconds)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	for _, row := range r.Result.Table() {
		fmt.Fprintln(t, strings.Join(row, "\t")+"\t")
	}
	if err := t.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "\n%s\n", r.Result.Headline())
	return err
}

// Save writes the report as RUN/eval/PROTOCOL.json and returns the path.
func (r *Report) Save(run string) (string, error) {
	dir := filepath.Join(run, "eval")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("write evaluation: %w", err)
	}
	path := filepath.Join(dir, r.Protocol+".json")
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return "", fmt.Errorf("write evaluation %s: %w", path, err)
	}
	if err := os.WriteFile(path+".tmp", append(b, '\n'), 0o644); err != nil {
		return "", fmt.Errorf("write evaluation: %w", err)
	}
	return path, os.Rename(path+".tmp", path)
}

// percent is a share of 1 in percent.
func percent(share float64) float64 { return 100 * share }

// cell is an accuracy in percent as people read it.
func cell(percent float64) string { return fmt.Sprintf("%.2f %%", percent) }

// KNNReport is the result of the protocol knn.
type KNNReport struct {
	Rows []KNNRow `json:"rows"`
}

// KNNRow is one way to vote.
type KNNRow struct {
	K           int     `json:"k"`
	Votes       string  `json:"votes"`                 // weighted or plain
	Temperature float64 `json:"temperature,omitempty"` // of weighted votes
	Top1        float64 `json:"top1"`
	Top5        float64 `json:"top5"`
}

// NewKNNReport is the report of results by rules, as Votes gives them.
func NewKNNReport(rules []Rule, results []Result) *KNNReport {
	r := &KNNReport{}
	for i, rule := range rules {
		row := KNNRow{K: rule.K, Votes: "weighted", Temperature: rule.Temperature, Top1: percent(results[i].Top1), Top5: percent(results[i].Top5)}
		if rule.Uniform {
			row.Votes, row.Temperature = "plain", 0
		}
		r.Rows = append(r.Rows, row)
	}
	return r
}

// Best is the row of the highest accuracy, the first of equal ones.
func (r *KNNReport) Best() KNNRow {
	best := r.Rows[0]
	for _, row := range r.Rows {
		if row.Top1 > best.Top1 {
			best = row
		}
	}
	return best
}

// Table shows a row for each rule.
func (r *KNNReport) Table() [][]string {
	rows := [][]string{{"k", "votes", "top-1", "top-5"}}
	for _, row := range r.Rows {
		rows = append(rows, []string{fmt.Sprint(row.K), row.Votes, cell(row.Top1), cell(row.Top5)})
	}
	return rows
}

// Headline names the best row.
func (r *KNNReport) Headline() string {
	b := r.Best()
	return fmt.Sprintf("kNN %s (k %d, %s votes)", cell(b.Top1), b.K, b.Votes)
}

// LinearReport is the result of the protocol linear.
type LinearReport struct {
	Rows []LinearRow `json:"rows"`
}

// LinearRow is a fitted classifier.
type LinearRow struct {
	Solver      string  `json:"solver"` // sgd or lbfgs
	LR          float64 `json:"lr,omitempty"`
	WeightDecay float64 `json:"weight_decay,omitempty"`
	C           float64 `json:"c,omitempty"` // of lbfgs
	Top1        float64 `json:"top1"`
	Top5        float64 `json:"top5"`
}

func (r LinearRow) setting() string {
	if r.Solver == "lbfgs" {
		return fmt.Sprintf("C %g", r.C)
	}
	return fmt.Sprintf("lr %g, decay %g", r.LR, r.WeightDecay)
}

// Best is the row of the highest accuracy, the first of equal ones.
func (r *LinearReport) Best() LinearRow {
	best := r.Rows[0]
	for _, row := range r.Rows {
		if row.Top1 > best.Top1 {
			best = row
		}
	}
	return best
}

// Table shows a row for each classifier.
func (r *LinearReport) Table() [][]string {
	rows := [][]string{{"solver", "setting", "top-1", "top-5"}}
	for _, row := range r.Rows {
		rows = append(rows, []string{row.Solver, row.setting(), cell(row.Top1), cell(row.Top5)})
	}
	return rows
}

// Headline names the best row.
func (r *LinearReport) Headline() string {
	b := r.Best()
	return fmt.Sprintf("linear %s (%s, %s), the best of %d by the queries' labels", cell(b.Top1), b.Solver, b.setting(), len(r.Rows))
}

// ClusterReport is the result of the protocol cluster.
type ClusterReport struct {
	Rows []ClusterRow `json:"rows"`
}

// ClusterRow is one clustering.
type ClusterRow struct {
	Clusters   string   `json:"clusters"` // prototypes or k-means
	Used       int      `json:"used"`
	Perplexity float64  `json:"perplexity"`
	Purity     float64  `json:"purity"` // percent
	NMI        float64  `json:"nmi"`
	ARI        float64  `json:"ari"`
	Hungarian  float64  `json:"hungarian"`            // accuracy, percent
	Silhouette *float64 `json:"silhouette,omitempty"` // of a sample
}

func newClusterRow(name string, a Agreement) ClusterRow {
	return ClusterRow{Clusters: name, Used: a.Clusters, Perplexity: a.Perplexity, Purity: percent(a.Purity), NMI: a.NMI, ARI: a.ARI, Hungarian: percent(a.Hungarian)}
}

// Table shows a row for each clustering.
func (r *ClusterReport) Table() [][]string {
	rows := [][]string{{"clusters", "used", "perplexity", "NMI", "ARI", "Hungarian", "purity", "silhouette"}}
	for _, c := range r.Rows {
		silhouette := "-"
		if c.Silhouette != nil {
			silhouette = fmt.Sprintf("%.4f", *c.Silhouette)
		}
		rows = append(rows, []string{c.Clusters, fmt.Sprint(c.Used), fmt.Sprintf("%.1f", c.Perplexity), fmt.Sprintf("%.4f", c.NMI), fmt.Sprintf("%.4f", c.ARI),
			cell(c.Hungarian), cell(c.Purity), silhouette})
	}
	return rows
}

// Headline compares the clusterings' NMI.
func (r *ClusterReport) Headline() string {
	var parts []string
	for _, c := range r.Rows {
		parts = append(parts, fmt.Sprintf("%s NMI %.3f, ARI %.3f", c.Clusters, c.NMI, c.ARI))
	}
	return strings.Join(parts, "; ")
}

// RetrievalReport is the result of the protocol retrieval.
type RetrievalReport struct {
	MAP               float64            `json:"map"`    // mean average precision, percent
	Recall            map[string]float64 `json:"recall"` // by k: share of queries with one of their class among the first k, percent
	WithoutReferences int                `json:"without_references,omitempty"`
}

// Table shows the measures.
func (r *RetrievalReport) Table() [][]string {
	return [][]string{{"mAP", "recall@1", "recall@5", "recall@10"}, {cell(r.MAP), cell(r.Recall["1"]), cell(r.Recall["5"]), cell(r.Recall["10"])}}
}

// Headline is the mean average precision.
func (r *RetrievalReport) Headline() string {
	text := fmt.Sprintf("mAP %s, recall@1 %s", cell(r.MAP), cell(r.Recall["1"]))
	if r.WithoutReferences > 0 {
		text += fmt.Sprintf("; %d queries of classes without references left out", r.WithoutReferences)
	}
	return text
}

// ProbeReport is the result of the protocol probe.
type ProbeReport struct {
	Rows []ProbeRow `json:"rows"`
}

// ProbeRow is the accuracy of a classifier over draws.
type ProbeRow struct {
	Shots      int     `json:"shots"` // images a class
	Draws      int     `json:"draws"`
	Classifier string  `json:"classifier"`
	Top1       float64 `json:"top1"`      // mean
	Deviation  float64 `json:"deviation"` // standard, of one draw
}

// Table shows a row for each number of images and classifier.
func (r *ProbeReport) Table() [][]string {
	rows := [][]string{{"images a class", "classifier", "top-1", "deviation", "draws"}}
	for _, p := range r.Rows {
		rows = append(rows, []string{fmt.Sprint(p.Shots), p.Classifier, cell(p.Top1), fmt.Sprintf("%.2f", p.Deviation), fmt.Sprint(p.Draws)})
	}
	return rows
}

// Headline is the accuracy of the logistic regression by images a class.
func (r *ProbeReport) Headline() string {
	var parts []string
	for _, p := range r.Rows {
		if p.Classifier == "logistic" {
			parts = append(parts, fmt.Sprintf("%s with %d", cell(p.Top1), p.Shots))
		}
	}
	return "few-shot " + strings.Join(parts, ", ") + " image(s) a class"
}
