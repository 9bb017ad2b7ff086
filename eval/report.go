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

// Write shows the report.
func (r *Report) Write(w io.Writer) error {
	fmt.Fprintf(w, "%s of %s: %d references, %d queries", r.Protocol, r.Source, r.References, r.Queries)
	if r.Holdout {
		fmt.Fprint(w, " held out of the training images")
	}
	fmt.Fprintf(w, ", %d features, %d classes; %.1f s\n\n", r.Features, r.Classes, r.Seconds)
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
