package runlog

import (
	"bytes"
	"errors"
	"fmt"
	"html/template"
	"os"
	"regexp"
)

// reportMark is the place in a report where evaluations that come later are put.
const reportMark = "<!-- evaluations -->"

var laterTable = template.Must(template.New("later").Parse(`{{.Begin}}<h2>{{.Caption}}</h2><div class="card scroll"><table><tr>{{range .Head}}<th>{{.}}</th>{{end}}</tr>{{range .Rows}}<tr>{{range .}}<td>{{.}}</td>{{end}}</tr>{{end}}</table></div>{{.End}}`))

var plainName = regexp.MustCompile(`^[a-z]+(-[a-z0-9.]+)*$`)

// AddToReport puts a table into a report that WriteReport wrote, in place of an
// earlier one of that name (lower-case words, digits and points, with a - between). A report that is not there, or is of
// another kind, stays as it is.
func AddToReport(path, name string, c *Comparison) error {
	if !plainName.MatchString(name) {
		panic(fmt.Sprintf("runlog: table %q", name))
	}
	page, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("add to report: %w", err)
	}
	begin, end := "<!-- "+name+" -->", "<!-- /"+name+" -->"
	if from, to := bytes.Index(page, []byte(begin)), bytes.Index(page, []byte(end)); from >= 0 && to > from {
		page = append(bytes.Clone(page[:from]), page[to+len(end):]...)
	}
	at := bytes.Index(page, []byte(reportMark))
	if at < 0 {
		return nil
	}
	var table bytes.Buffer
	err = laterTable.Execute(&table, struct {
		*Comparison
		Begin, End template.HTML
	}{c, template.HTML(begin), template.HTML(end)})
	if err != nil {
		return fmt.Errorf("add to report %s: %w", path, err)
	}
	return WriteFile(path, append(append(bytes.Clone(page[:at]), table.Bytes()...), page[at:]...))
}
