package runlog

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"fmt"
	"html/template"
	"math"
	"runtime"
	"runtime/debug"
	"slices"
)

// Report is what report.html shows.
type Report struct {
	Title    string
	Subtitle string
	Tiles    []Tile
	Facts    [][2]string // data, network, machine …
	Table    *Comparison
	Notes    []string // alarms and warnings of the run
	Choices  []string // why auto chose what it chose
	Metrics  []Metric
	// Evaluations during training, in order of steps.
	Evaluations []Evaluation
	LnK         float64
	K           int
	Dim         int
	Sheet       []byte // PNG; nil: none
	Recipe      string // TOML
}

// Tile is a large number with its name.
type Tile struct {
	Value, Name, Help string
	Good              bool // drawn in the accent colour
}

// Comparison is a table of text.
type Comparison struct {
	Caption string
	Head    []string
	Rows    [][]string
}

// charts are the curves of a run's metrics.
func (r *Report) charts() []Chart {
	pick := func(title, help string, f func(*Metric) float64) Chart {
		c := Chart{Title: title, Help: help}
		for i := range r.Metrics {
			c.X = append(c.X, r.Metrics[i].Step)
			c.Y = append(c.Y, f(&r.Metrics[i]))
		}
		return c
	}
	loss := pick("Loss", "starts near ln K (chance) and falls; a loss that stays there is a collapse", func(m *Metric) float64 { return float64(m.Loss) })
	loss.Line, loss.LineName = r.LnK, "ln K"
	perplexity := pick("Prototypes in use", "perplexity of the mean code: near K when all prototypes are used (with fewer samples than K, near the samples)", func(m *Metric) float64 { return float64(m.Perplexity) })
	perplexity.Zero = true
	if most := slices.MaxFunc(append(perplexity.Y, 0), cmp.Compare); 4*most > float64(r.K) {
		// Batches that are much smaller than K stay far below the line.
		perplexity.Line, perplexity.LineName = float64(r.K), "K"
	}
	entropy := pick("Entropy of a code", "falls as codes become decided; ln K means that they say nothing", func(m *Metric) float64 { return float64(m.CodeEntropy) })
	entropy.Zero = true
	rank := pick("Effective rank of embeddings", fmt.Sprintf("dimensions in use, of %d; 1 is a collapse", r.Dim), func(m *Metric) float64 { return float64(m.EffectiveRank) })
	rank.Zero = true
	marginal := pick("Marginal error of codes", "distance of the batch's codes from equal use of all prototypes", func(m *Metric) float64 { return float64(m.MarginalError) })
	marginal.Zero = true
	lr := pick("Learning rate", "warm-up, then half a cosine", func(m *Metric) float64 { return float64(m.LR) })
	lr.Zero = true
	speed := pick("Images per second", "a dip means that something else used the machine", func(m *Metric) float64 { return float64(m.Time.ImagesPerSecond) })
	speed.Zero = true
	wait := pick("Waiting for data, % of the step", "near 0: the loader keeps up", func(m *Metric) float64 {
		if m.Time.Seconds <= 0 {
			return math.NaN()
		}
		return 100 * m.Time.Wait / m.Time.Seconds
	})
	wait.Zero = true
	all := []Chart{loss, entropy, perplexity, rank, marginal, lr, speed, wait}
	if clusters := r.clusterCharts(); clusters != nil {
		loss.Help = "falls, with a step where an epoch's new clusters begin; ln K is chance"
		perplexity.Title, perplexity.Help = "Clusters in a batch", "perplexity of the batch's clusters, first head: uneven clusters and small batches make it less than K"
		all = slices.Concat([]Chart{loss}, clusters, []Chart{perplexity, rank, lr, speed, wait})
	}
	if len(r.Evaluations) > 1 {
		worth := Chart{Title: "Evaluation during training", Help: r.Evaluations[0].Protocol + ": accuracy in %, or NMI of cluster"}
		for _, e := range r.Evaluations {
			worth.X = append(worth.X, e.Step)
			worth.Y = append(worth.Y, float64(e.Score))
		}
		all = append([]Chart{worth}, all...)
	}
	return all
}

// environment are facts of this binary and machine.
func environment() [][2]string {
	facts := [][2]string{{"environment", fmt.Sprintf("%s %s/%s, %d processors", runtime.Version(), runtime.GOOS, runtime.GOARCH, runtime.NumCPU())}}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return facts
	}
	revision, modified := "", ""
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			revision = s.Value[:min(len(s.Value), 12)]
		case s.Key == "vcs.modified" && s.Value == "true":
			modified = ", with local changes"
		}
	}
	if revision != "" {
		facts = append(facts, [2]string{"swav", "commit " + revision + modified})
	}
	return facts
}

// WriteReport writes report.html: one file that needs no network.
func WriteReport(path string, r *Report) error {
	type view struct {
		*Report
		Charts      []Chart
		Image       template.URL
		Later       template.HTML
		Environment [][2]string
	}
	v := view{Report: r, Environment: environment(), Later: reportMark}
	if len(r.Metrics) > 0 {
		v.Charts = r.charts()
	}
	if len(r.Sheet) > 0 {
		v.Image = template.URL("data:image/png;base64," + base64.StdEncoding.EncodeToString(r.Sheet))
	}
	var b bytes.Buffer
	if err := page.Execute(&b, v); err != nil {
		return fmt.Errorf("report: %w", err)
	}
	return WriteFile(path, b.Bytes())
}

var page = template.Must(template.New("report").Funcs(template.FuncMap{
	"svg": func(c Chart) template.HTML { return template.HTML(c.SVG()) }, // built from numbers and escaped text
}).Parse(`<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<title>{{.Title}}</title>
<style>
:root{color-scheme:light dark;--bg:#fafaf8;--card:#fff;--ink:#1c1e22;--faint:#6b6f78;--line:#e3e4e7;--accent:#0b6e4f;--mark:#b3541e}
@media(prefers-color-scheme:dark){:root{--bg:#15171a;--card:#1e2125;--ink:#e8e9eb;--faint:#9aa0a9;--line:#33373d;--accent:#4cc38a;--mark:#e2884c}}
*{box-sizing:border-box}
body{margin:0;overflow-wrap:anywhere;background:var(--bg);color:var(--ink);font:16px/1.5 system-ui,sans-serif}
main{max-width:980px;margin:0 auto;padding:28px 18px 60px}
h1{margin:0;font-size:28px}h2{margin:36px 0 12px;font-size:19px}
p.sub{margin:4px 0 0;color:var(--faint)}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:12px;margin-top:22px}
.tile,.card{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:14px 16px}
.tile b{display:block;font-size:clamp(20px,5.6vw,28px);line-height:1.2;white-space:nowrap;font-variant-numeric:tabular-nums}
.tile.good b{color:var(--accent)}.tile small,.card small{color:var(--faint);display:block}
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,400px),1fr));gap:12px}
.card h3{margin:0;font-size:15px}
svg{width:100%;height:auto;display:block;margin-top:6px}
svg text{font-size:11px;fill:var(--faint)}svg text.mark{fill:var(--mark)}
.grid{stroke:var(--line)}line.mark{stroke:var(--mark);stroke-dasharray:4 3}
.curve{fill:none;stroke:var(--accent);stroke-width:1.8;stroke-linejoin:round}.range{fill:var(--accent);stroke:var(--accent);stroke-width:.5;opacity:.22}
table{overflow-wrap:normal;border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
th,td{text-align:left;padding:7px 10px;border-bottom:1px solid var(--line);vertical-align:top}
th{color:var(--faint);font-weight:500}.facts{overflow-wrap:anywhere}.facts th,td+td.n{white-space:nowrap}tr:last-child>*{border-bottom:0}
.scroll{overflow-x:auto}img{width:100%;min-width:760px;height:auto;border-radius:10px;border:1px solid var(--line);display:block}
pre{margin:0;overflow-x:auto;font:13px/1.5 ui-monospace,monospace}
ul{margin:0;padding-left:20px}li{margin:4px 0}.none{color:var(--faint)}
</style></head><body><main>
<h1>{{.Title}}</h1><p class="sub">{{.Subtitle}}</p>
{{if .Tiles}}<div class="tiles">{{range .Tiles}}<div class="tile{{if .Good}} good{{end}}"><b>{{.Value}}</b>{{.Name}}<small>{{.Help}}</small></div>{{end}}</div>{{end}}
{{with .Table}}<h2>{{.Caption}}</h2><div class="card scroll"><table><tr>{{range .Head}}<th>{{.}}</th>{{end}}</tr>{{range .Rows}}<tr>{{range $i, $cell := .}}<td{{if $i}} class="n"{{end}}>{{$cell}}</td>{{end}}</tr>{{end}}</table></div>{{end}}
{{.Later}}
{{if .Notes}}<h2>Alarms and warnings</h2><div class="card"><ul>{{range .Notes}}<li>{{.}}</li>{{end}}</ul></div>{{end}}
{{if .Image}}<h2>Prototypes and their nearest images</h2><div class="scroll"><img src="{{.Image}}" alt="Each row is a prototype with its nearest images"></div>{{end}}
{{if .Charts}}<h2>The run</h2><div class="charts">{{range .Charts}}<div class="card"><h3>{{.Title}}</h3><small>{{.Help}}</small>{{svg .}}</div>{{end}}</div>{{end}}
<h2>Set-up</h2><div class="card"><table class="facts">{{range .Facts}}<tr><th>{{index . 0}}</th><td>{{index . 1}}</td></tr>{{end}}{{range .Environment}}<tr><th>{{index . 0}}</th><td>{{index . 1}}</td></tr>{{end}}</table></div>
{{if .Choices}}<h2>What auto chose</h2><div class="card"><ul>{{range .Choices}}<li>{{.}}</li>{{end}}</ul></div>{{end}}
{{if .Recipe}}<h2>Recipe</h2><div class="card"><pre>{{.Recipe}}</pre></div>{{end}}
</main></body></html>
`))
