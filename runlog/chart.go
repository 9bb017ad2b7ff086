package runlog

import (
	"fmt"
	"html"
	"math"
	"slices"
	"strconv"
	"strings"
)

// Chart is a curve over steps.
type Chart struct {
	Title string
	Help  string // one line: what a healthy run shows
	Y     []float64
	X     []int
	// Line is a horizontal line with a name, such as ln K; empty LineName: none.
	Line     float64
	LineName string
	// Zero starts the vertical axis at zero.
	Zero bool
}

// Size of a chart in SVG units.
const (
	chartW, chartH            = 420, 190
	padLeft, padRight         = 52, 10
	padTop, padBottom         = 10, 24
	plotW                     = chartW - padLeft - padRight
	plotH                     = chartH - padTop - padBottom
	maxPoints                 = 360  // about one a unit of width
	smoothing                 = 0.02 // of the run, to either side
	outliers                  = 0.005
	labelRoom         float64 = 14 // above a named line
)

// points are the values of a curve, thinned to what a picture can show.
type points struct {
	x            []int
	mean, lo, hi []float64 // of the values that a point stands for
}

// SVG draws the chart: the range of the values faintly, their moving average
// strongly. Colours come from the page's style sheet, so that it can be light or
// dark. A few extreme values may lie beyond the edge; they would flatten the rest.
func (c Chart) SVG() string {
	low, high, ok := c.usual()
	if !ok {
		return `<p class="none">no values</p>`
	}
	p := c.thin(low, high)
	curve := average(p.mean, int(float64(len(p.mean))*smoothing))
	lo, hi := c.limits(low, high)
	ticks := axis(lo, hi, 4)
	lo, hi = min(lo, ticks[0]), max(hi, ticks[len(ticks)-1])
	first, last := p.x[0], max(p.x[len(p.x)-1], p.x[0]+1)
	px := func(step int) float64 { return padLeft + plotW*float64(step-first)/float64(last-first) }
	py := func(v float64) float64 { return padTop + plotH*(1-(v-lo)/(hi-lo)) }

	var b strings.Builder
	fmt.Fprintf(&b, `<svg viewBox="0 0 %d %d" role="img" aria-label="%s">`, chartW, chartH, html.EscapeString(c.Title))
	for i, name := range tickNames(ticks) {
		y := py(ticks[i])
		fmt.Fprintf(&b, `<line class="grid" x1="%d" x2="%d" y1="%.1f" y2="%.1f"/><text x="%d" y="%.1f" text-anchor="end">%s</text>`,
			padLeft, chartW-padRight, y, y, padLeft-6, y+4, name)
	}
	fmt.Fprintf(&b, `<text x="%d" y="%d">%d</text><text x="%d" y="%d" text-anchor="end">step %d</text>`,
		padLeft, chartH-8, first, chartW-padRight, chartH-8, last)
	if c.LineName != "" {
		y := py(c.Line)
		name := y - 4
		if y-labelRoom < 0 {
			name = y + labelRoom
		}
		fmt.Fprintf(&b, `<line class="mark" x1="%d" x2="%d" y1="%.1f" y2="%.1f"/><text class="mark" x="%d" y="%.1f" text-anchor="end">%s</text>`,
			padLeft, chartW-padRight, y, y, chartW-padRight-2, name, html.EscapeString(c.LineName))
	}
	fmt.Fprint(&b, `<polygon class="range" points="`)
	for i, v := range p.hi {
		fmt.Fprintf(&b, "%.1f,%.1f ", px(p.x[i]), py(v))
	}
	for i := len(p.lo) - 1; i >= 0; i-- {
		fmt.Fprintf(&b, "%.1f,%.1f ", px(p.x[i]), py(p.lo[i]))
	}
	fmt.Fprint(&b, `"/><polyline class="curve" points="`)
	for i, v := range curve {
		fmt.Fprintf(&b, "%.1f,%.1f ", px(p.x[i]), py(v))
	}
	b.WriteString(`"/></svg>`)
	return b.String()
}

// usual is the range of all values but a few extremes; ok is false if there are
// no values.
func (c Chart) usual() (lo, hi float64, ok bool) {
	var sorted []float64
	for _, v := range c.Y {
		if drawable(v) {
			sorted = append(sorted, v)
		}
	}
	if len(sorted) == 0 {
		return 0, 0, false
	}
	slices.Sort(sorted)
	few := int(float64(len(sorted)) * outliers)
	return sorted[few], sorted[len(sorted)-1-few], true
}

// limits is the range of the vertical axis.
func (c Chart) limits(lo, hi float64) (float64, float64) {
	if c.LineName != "" {
		lo, hi = min(lo, c.Line), max(hi, c.Line)
	}
	if c.Zero {
		lo = min(lo, 0)
	}
	if hi-lo < 1e-12*max(1, math.Abs(hi)) {
		pad := max(1e-9, math.Abs(lo)*0.05)
		lo, hi = lo-pad, hi+pad
	}
	return lo, hi
}

// drawable tells whether v is finite and small enough to compute a picture with.
func drawable(v float64) bool { return math.Abs(v) < 1e100 }

// thin gathers neighbouring values until there are few enough for a picture, as if
// none were beyond lo and hi; values that are not drawable are left out. The ends
// keep their steps.
func (c Chart) thin(lo, hi float64) points {
	var x []int
	var y []float64
	for i, v := range c.Y {
		if drawable(v) {
			x, y = append(x, c.X[i]), append(y, min(max(v, lo), hi))
		}
	}
	n := min(len(y), maxPoints)
	var p points
	for i := range n {
		from, to := i*len(y)/n, (i+1)*len(y)/n
		at := x[(from+to)/2]
		switch i {
		case 0:
			at = x[0]
		case n - 1:
			at = x[len(x)-1]
		}
		mean := 0.0
		for _, v := range y[from:to] {
			mean += v / float64(to-from)
		}
		p.x, p.mean = append(p.x, at), append(p.mean, mean)
		p.lo, p.hi = append(p.lo, slices.Min(y[from:to])), append(p.hi, slices.Max(y[from:to]))
	}
	return p
}

// average is the centred moving average over 2r+1 values; at the ends over as
// many as there are on both sides, so that they stay in place.
func average(y []float64, r int) []float64 {
	out := make([]float64, len(y))
	for i := range y {
		r := min(r, i, len(y)-1-i)
		for _, v := range y[i-r : i+r+1] {
			out[i] += v / float64(2*r+1)
		}
	}
	return out
}

// axis is about n round numbers that span lo to hi.
func axis(lo, hi float64, n int) []float64 {
	step := math.Pow(10, math.Floor(math.Log10((hi-lo)/float64(n))))
	for _, m := range []float64{1, 2, 5, 10} {
		if (hi-lo)/(step*m) <= float64(n) {
			step *= m
			break
		}
	}
	var ticks []float64
	// Multiples, not sums, so that zero is zero; the slack is for rounding.
	for k := math.Floor(lo/step + 1e-6); len(ticks) < 2*n+2; k++ {
		ticks = append(ticks, k*step)
		if k*step >= hi-1e-6*step {
			break
		}
	}
	return ticks
}

// tickNames are numbers as an axis shows them, all in the same way.
func tickNames(ticks []float64) []string {
	most := 0.0
	for _, t := range ticks {
		most = max(most, math.Abs(t))
	}
	names := make([]string, len(ticks))
	for i, t := range ticks {
		switch {
		case math.Abs(t) < 1e-9*most || t == 0:
			names[i] = "0"
		case most < 0.01 || most >= 1e6:
			// 5e-4, not 5.000e-04.
			mantissa, e, _ := strings.Cut(strconv.FormatFloat(t, 'e', 3, 64), "e")
			exponent, _ := strconv.Atoi(e)
			names[i] = strings.TrimRight(strings.TrimRight(mantissa, "0"), ".") + "e" + strconv.Itoa(exponent)
		case most >= 10000:
			names[i] = strconv.FormatFloat(t/1000, 'g', 4, 64) + "k"
		default:
			names[i] = strconv.FormatFloat(t, 'g', 4, 64)
		}
	}
	return names
}
