package gallery

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"html/template"
	"net/url"
	"os"
	"path/filepath"
	"slices"

	"swav/dataset"
	"swav/eval"
	"swav/index"
	"swav/runlog"
	"swav/train"
)

// ClusterOptions are what WriteClusters may vary.
type ClusterOptions struct {
	// Copy puts copies of image files into the folders instead of symbolic links.
	// Images within archives are copied, others (idx, CIFAR) written as PNG, either
	// way.
	Copy bool
	// Examples is the number of representative and of outlying images that the
	// page shows of a cluster; 0 means 10.
	Examples int
}

// ClusterSummary is what WriteClusters came to.
type ClusterSummary struct {
	eval.Clusters
	Images int
	Page   string // the file to open
}

// pageFile is the page within the folder.
const pageFile = "clusters.html"

// WriteClusters fills a new folder with a sub-folder for each prototype that has
// images, and clusters.html to browse them.
func WriteClusters(ctx context.Context, dir string, x *index.Index, o ClusterOptions) (*ClusterSummary, error) {
	o.Examples = cmp.Or(o.Examples, 10)
	var labels []int
	if len(x.Source.Classes()) > 1 {
		labels = x.Labels()
	}
	summary, err := eval.Summarize(x.Prototype, x.Prototypes, labels)
	if err != nil {
		return nil, err
	}
	if err := emptyFolder(dir); err != nil {
		return nil, err
	}
	members := make([][]int, x.Prototypes) // rows, most typical first
	for row, p := range x.Prototype {
		members[p] = append(members[p], row)
	}
	page := clustersPage{Source: x.Source.Name(), Images: x.Len(), Summary: summary, Style: template.CSS(style), Side: side}
	for p, rows := range members {
		if len(rows) == 0 {
			continue
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		slices.SortStableFunc(rows, func(a, b int) int { return cmp.Compare(x.Score[b], x.Score[a]) })
		c := cluster{Prototype: p, Folder: fmt.Sprintf("cluster-%04d", p), Size: len(rows), Share: 100 * float64(len(rows)) / float64(x.Len())}
		for _, row := range rows {
			c.Score += float64(x.Score[row]) / float64(len(rows))
		}
		if summary.Labelled && summary.Majority[p] >= 0 {
			c.Label, c.Purity = x.Source.Classes()[summary.Majority[p]], 100*summary.Share[p]
		}
		files, err := place(filepath.Join(dir, c.Folder), x, rows, o.Copy)
		if err != nil {
			return nil, err
		}
		near := min(o.Examples, len(rows))
		far := min(o.Examples, len(rows)-near)
		if c.Typical, err = examples(dir, c.Folder, x, rows[:near], files[:near], 0); err != nil {
			return nil, err
		}
		if c.Outlying, err = examples(dir, c.Folder, x, rows[len(rows)-far:], files[len(rows)-far:], near); err != nil {
			return nil, err
		}
		slices.Reverse(c.Outlying)
		page.Clusters = append(page.Clusters, c)
	}
	slices.SortStableFunc(page.Clusters, func(a, b cluster) int { return b.Size - a.Size })
	var b bytes.Buffer
	if err := clustersTemplate.Execute(&b, page); err != nil {
		return nil, fmt.Errorf("%s: %w", pageFile, err)
	}
	path := filepath.Join(dir, pageFile)
	return &ClusterSummary{summary, x.Len(), path}, os.WriteFile(path, b.Bytes(), 0o644)
}

// place puts the rows' images into a new folder and returns their names there.
func place(dir string, x *index.Index, rows []int, copies bool) ([]string, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	files, _ := x.Source.(interface{ Path(i int) string })
	encoded, _ := x.Source.(dataset.Encoded)
	names := make([]string, len(rows))
	taken := map[string]bool{}
	for i, row := range rows {
		name := safeName(x.ID(row))
		if encoded == nil {
			name += ".png"
		}
		ext := filepath.Ext(name)
		for n, stem := 2, name[:len(name)-len(ext)]; taken[name]; n++ {
			name = fmt.Sprintf("%s-%d%s", stem, n, ext)
		}
		taken[name], names[i] = true, name
	}
	return names, parallel(len(rows), func(i int) error {
		to, image := filepath.Join(dir, names[i]), x.Image[rows[i]]
		switch {
		case encoded == nil:
			img, err := train.Picture(x.Source, image)
			if err != nil {
				return err
			}
			return runlog.WritePNG(to, img)
		case files == nil || copies:
			var data []byte
			if err := encoded.Encoded(image, &data); err != nil {
				return err
			}
			return os.WriteFile(to, data, 0o644)
		}
		from, err := filepath.Abs(files.Path(image))
		if err != nil {
			return err
		}
		return os.Symlink(from, to)
	})
}

// examples writes thumbnails beside the folders, numbered from first on.
func examples(dir, folder string, x *index.Index, rows []int, files []string, first int) ([]example, error) {
	if err := os.MkdirAll(filepath.Join(dir, "thumbnails", folder), 0o755); err != nil {
		return nil, err
	}
	out := make([]example, len(rows))
	return out, parallel(len(rows), func(i int) error {
		row := rows[i]
		img, err := train.Picture(x.Source, x.Image[row])
		if err != nil {
			img = nil // gone since the index was made: an empty square
		}
		data, err := encodeJPEG(thumbnail(img, side))
		if err != nil {
			return err
		}
		e := example{Score: x.Score[row], Label: x.Class(row), ID: x.ID(row),
			File:      folder + "/" + url.PathEscape(files[i]),
			Thumbnail: fmt.Sprintf("thumbnails/%s/%03d.jpg", folder, first+i)}
		out[i] = e
		return os.WriteFile(filepath.Join(dir, filepath.FromSlash(e.Thumbnail)), data, 0o644)
	})
}

type clustersPage struct {
	Source   string
	Images   int
	Side     int
	Summary  eval.Clusters
	Clusters []cluster
	Style    template.CSS
}

type cluster struct {
	Prototype, Size   int
	Folder, Label     string
	Share, Purity     float64 // percent
	Score             float64 // mean
	Typical, Outlying []example
}

type example struct {
	ID, Label, File, Thumbnail string
	Score                      float32
}

var clustersTemplate = template.Must(template.New(pageFile).Parse(`<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src 'self' file: data:">
<title>{{len .Clusters}} clusters</title>
<style>{{.Style}}
main{max-width:1110px;margin:0 auto;padding:28px 18px 60px}
h1{margin:0;font-size:28px}h2{margin:0;font-size:17px}
nav{display:flex;flex-wrap:wrap;gap:10px;align-items:center;margin:18px 0}nav input{flex:1;min-width:140px;max-width:320px}
section{display:grid;grid-template-columns:170px 1fr;gap:4px 18px;background:var(--card);border:1px solid var(--line);border-radius:10px;padding:14px 16px;margin-top:12px}
section[hidden]{display:none}
.bar{height:5px;border-radius:3px;background:var(--line);margin:7px 0}.bar i{display:block;height:5px;border-radius:3px;background:var(--accent)}
.row{display:flex;flex-wrap:wrap;gap:4px}.row a{display:block;line-height:0}.row img{width:80px;height:80px;border-radius:4px;}
.row+small{margin-top:6px}.strips small{display:block;line-height:1.3;margin-bottom:3px}.row.far img{opacity:.92}
@media(max-width:620px){section{grid-template-columns:1fr}.row img{width:56px;height:56px}}
</style></head><body><main>
<h1>{{len .Clusters}} clusters</h1>
<p class="faint">{{.Images}} images of {{.Source}}. Each is in the folder of its nearest prototype.
{{with .Summary}}{{if .Labelled}}Purity {{printf "%.2f" .Purity}}, NMI {{printf "%.2f" .NMI}} against the labels. {{end}}As even as {{printf "%.1f" .Perplexity}} clusters of equal size.{{end}}</p>
<nav><label>order <select id="order"><option value="size">by size</option>{{if .Summary.Labelled}}<option value="purity">by purity</option>{{end}}<option value="score">by mean cosine</option><option value="number">by number</option></select></label>
<input id="filter" type="search" placeholder="filter by number{{if .Summary.Labelled}} or label{{end}}" aria-label="filter"><small id="count"></small></nav>
<div id="all">{{range .Clusters}}<section id="{{.Folder}}" data-number="{{.Prototype}}" data-size="{{.Size}}" data-purity="{{.Purity}}" data-score="{{.Score}}" data-label="{{.Label}}">
<div><h2><a href="{{.Folder}}/">cluster {{.Prototype}}</a></h2>
{{.Size}} image{{if ne .Size 1}}s{{end}}, {{printf "%.1f" .Share}} %<div class="bar"><i style="width:{{printf "%.1f" .Share}}%"></i></div>
{{if .Label}}{{.Label}} <small style="white-space:nowrap">{{printf "%.0f" .Purity}} %</small><br>{{end}}<small>mean cosine {{printf "%.2f" .Score}}</small></div>
<div class="strips"><small>most typical</small><div class="row">{{range .Typical}}<a href="{{.File}}"><img loading="lazy" src="{{.Thumbnail}}" width="80" height="80" alt="{{.ID}}" title="{{.ID}}{{if .Label}} ({{.Label}}){{end}}, cosine {{printf "%.3f" .Score}}"></a>{{end}}</div>
{{if .Outlying}}<small>least typical</small><div class="row far">{{range .Outlying}}<a href="{{.File}}"><img loading="lazy" src="{{.Thumbnail}}" width="80" height="80" alt="{{.ID}}" title="{{.ID}}{{if .Label}} ({{.Label}}){{end}}, cosine {{printf "%.3f" .Score}}"></a>{{end}}</div>{{end}}</div>
</section>{{end}}</div>
</main><script>
const all = document.getElementById('all'), sections = [...all.children], count = document.getElementById('count');
document.getElementById('order').onchange = e => {
  const key = e.target.value, sign = key === 'number' ? 1 : -1;
  sections.sort((a, b) => sign * (a.dataset[key] - b.dataset[key]));
  all.append(...sections);
};
document.getElementById('filter').oninput = e => {
  const want = e.target.value.trim().toLowerCase();
  let shown = 0;
  for (const s of sections) {
    s.hidden = want !== '' && s.dataset.number !== want && !s.dataset.label.toLowerCase().includes(want);
    shown += !s.hidden;
  }
  count.textContent = shown === sections.length ? '' : shown + ' of ' + sections.length;
};
</script></body></html>
`))
