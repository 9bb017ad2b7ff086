package runlog

import (
	"encoding/xml"
	"io"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func curve(y ...float64) Chart {
	c := Chart{Title: "t", Y: y}
	for i := range y {
		c.X = append(c.X, 10*i)
	}
	return c
}

// wellFormed parses SVG as XML.
func wellFormed(svg string) error {
	d := xml.NewDecoder(strings.NewReader(svg))
	for {
		if _, err := d.Token(); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
	}
}

var coordinate = regexp.MustCompile(`(-?[\d.]+),(-?[\d.]+) `)

// Whatever the values, the picture is well formed and within its frame.
func TestChartAnyValues(t *testing.T) {
	value := rapid.OneOf(rapid.Float64(), rapid.Float64Range(-10, 10), rapid.SampledFrom([]float64{math.NaN(), math.Inf(1), math.Inf(-1), 0, 5e-324}))
	rapid.Check(t, func(t *rapid.T) {
		c := curve(rapid.SliceOfN(value, 0, 800).Draw(t, "y")...)
		c.Zero = rapid.Bool().Draw(t, "zero")
		if rapid.Bool().Draw(t, "line") {
			c.Line, c.LineName = rapid.Float64Range(-100, 100).Draw(t, "at"), `<ln K & "co">`
		}
		svg := c.SVG()
		if err := wellFormed(svg); err != nil {
			t.Fatalf("%v in %.500s", err, svg)
		}
		if strings.Contains(svg, "NaN") || strings.Contains(svg, "Inf") {
			t.Fatalf("not a number in %.500s", svg)
		}
		for _, m := range coordinate.FindAllStringSubmatch(svg, -1) {
			x, err1 := strconv.ParseFloat(m[1], 64)
			y, err2 := strconv.ParseFloat(m[2], 64)
			if err1 != nil || err2 != nil || x < padLeft || x > chartW-padRight || y < padTop || y > chartH-padBottom {
				t.Fatalf("point %s outside of the plot", m[0])
			}
		}
	})
}

func TestChartEmpty(t *testing.T) {
	for _, c := range []Chart{{}, curve(math.NaN(), math.Inf(1))} {
		if svg := c.SVG(); !strings.Contains(svg, "no values") {
			t.Errorf("%s", svg)
		}
	}
}

func TestChartEndsAndLine(t *testing.T) {
	y := make([]float64, 5000)
	for i := range y {
		y[i] = float64(i)
	}
	y[2500] = 1e9 // one outlier must not flatten the curve
	c := curve(y...)
	c.Line, c.LineName = 4000, "K<"
	svg := c.SVG()
	for _, want := range []string{">0</text>", ">step 49990</text>", ">K&lt;</text>", ">6000</text>"} {
		if !strings.Contains(svg, want) {
			t.Errorf("%q is missing in %.500s", want, svg)
		}
	}
	if len(svg) > 40_000 {
		t.Errorf("%d bytes of SVG", len(svg))
	}
}

func TestThin(t *testing.T) {
	y := make([]float64, 1000)
	y[500], y[3] = 7, math.NaN()
	p := curve(y...).thin(0, 7)
	if len(p.x) != maxPoints || p.x[0] != 0 || p.x[maxPoints-1] != 9990 || !slices.IsSorted(p.x) {
		t.Errorf("%d points, %v", len(p.x), p.x)
	}
	if slices.Max(p.hi) != 7 || slices.Max(p.lo) != 0 {
		t.Errorf("the range loses a spike: hi %v, lo %v", slices.Max(p.hi), slices.Max(p.lo))
	}
	p = curve(1, 2, 3).thin(0, 9)
	if !slices.Equal(p.mean, []float64{1, 2, 3}) || !slices.Equal(p.hi, p.lo) {
		t.Errorf("%+v", p)
	}
}

func TestAverage(t *testing.T) {
	if got := average([]float64{1, 2, 6, 2, 1}, 1); !slices.Equal(got, []float64{1, 3, 10.0 / 3, 3, 1}) {
		for i, want := range []float64{1, 3, 10.0 / 3, 3, 1} {
			if math.Abs(got[i]-want) > 1e-12 {
				t.Errorf("%v", got)
			}
		}
	}
}

func TestAxis(t *testing.T) {
	for _, c := range []struct {
		lo, hi float64
		want   string
	}{
		{0, 1, "0 0.5 1"},
		{0, 4.85, "0 2 4 6"},
		{2.1, 4.9, "2 3 4 5"},
		{-1, 1, "-1 -0.5 0 0.5 1"},
		{0, 0.001, "0 5e-4 1e-3"},
		{0, 1.2e-5, "0 5e-6 1e-5 1.5e-5"},
		{0, 3000, "0 1000 2000 3000"},
		{0, 45000, "0 20k 40k 60k"},
		{0, 3e7, "0 1e7 2e7 3e7"},
	} {
		if got := strings.Join(tickNames(axis(c.lo, c.hi, 4)), " "); got != c.want {
			t.Errorf("%v to %v: %s, want %s", c.lo, c.hi, got, c.want)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		lo := rapid.Float64Range(-1e6, 1e6).Draw(t, "lo")
		hi := lo + rapid.Float64Range(1e-3, 1e6).Draw(t, "span")
		ticks := axis(lo, hi, 4)
		slack := 1e-5 * (hi - lo)
		if ticks[0] > lo+slack || ticks[len(ticks)-1] < hi-slack || len(ticks) > 8 {
			t.Fatalf("%v to %v: %v", lo, hi, ticks)
		}
	})
}
