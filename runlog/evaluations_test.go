package runlog

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

func TestEvaluations(t *testing.T) {
	dir := t.TempDir()
	if all, err := ReadEvaluations(dir); err != nil || all != nil {
		t.Errorf("%v, %v of a run without", all, err)
	}
	add := func(step int, score Number) Evaluation {
		e := Evaluation{Step: step, Protocol: "knn", Score: score}
		if err := AppendEvaluation(dir, e); err != nil {
			t.Fatal(err)
		}
		return e
	}
	first := add(5, 50)
	add(10, 55)
	if f, err := os.OpenFile(filepath.Join(dir, EvaluationsFile), os.O_APPEND|os.O_WRONLY, 0); err != nil {
		t.Fatal(err)
	} else if _, err := f.WriteString("{\"step\":15,\"sc\n"); err != nil || f.Close() != nil {
		t.Fatal(err)
	}
	again := add(10, 56)
	all, err := ReadEvaluations(dir)
	if err != nil || !reflect.DeepEqual(all, []Evaluation{first, again}) {
		t.Errorf("%+v, %v", all, err)
	}
}

func TestAddToReport(t *testing.T) {
	path := filepath.Join(t.TempDir(), "report.html")
	table := func(value string) *Comparison {
		return &Comparison{Caption: "kNN <b>", Head: []string{"k", "top-1"}, Rows: [][]string{{"20", value}}}
	}
	if err := AddToReport(path, "knn", table("50 %")); err != nil {
		t.Errorf("without a report: %v", err)
	}
	if err := WriteReport(path, &Report{Title: "run", Notes: []string{"a note"}}); err != nil {
		t.Fatal(err)
	}
	if err := AddToReport(path, "linear", table("60 %")); err != nil {
		t.Fatal(err)
	}
	for _, value := range []string{"51 %", "52 %"} {
		if err := AddToReport(path, "knn", table(value)); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	page := string(b)
	for _, want := range []string{"60 %", "52 %", "kNN &lt;b&gt;", "a note", "</html>"} {
		if strings.Count(page, want) < 1 {
			t.Errorf("lacks %q", want)
		}
	}
	if strings.Contains(page, "51 %") || strings.Count(page, "52 %") != 1 {
		t.Error("the table before is still there")
	}
}
