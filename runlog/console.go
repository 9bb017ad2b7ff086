package runlog

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
	"golang.org/x/term"
)

// Console tells people how a run is doing: a progress bar on a terminal, one
// aligned line now and then elsewhere. Machines read metrics.jsonl. There are no
// colours, so nothing depends on NO_COLOR. Its methods may be called from several
// goroutines.
type Console struct {
	mu       sync.Mutex
	w        io.Writer
	bar      *mpb.Bar // nil where there is none
	progress *mpb.Progress
	texts    []string // right of the bar, longest first; which one fits is shown
	total    int
	every    int
	from     int              // steps done before this session
	began    time.Time        // of this session, without its first step
	last     time.Time        // of the last line
	images   float64          // since the last line
	spent    float64          // seconds since the last line
	wait     float64          // of them waiting for data
	now      func() time.Time // a clock, for tests
	barText  sync.Mutex       // guards texts: the bar draws while mu is held
}

// quiet is the longest time without a line where there is no bar.
const quiet = 30 * time.Second

// narrowBar is the room that the text leaves to the bar itself.
const narrowBar = 10

// NewConsole writes to w. total and done are steps; a line comes every so many
// steps, and at least every 30 seconds.
func NewConsole(w io.Writer, total, done, every int) *Console {
	c := &Console{w: w, total: total, every: max(1, every), from: done, now: time.Now}
	c.began, c.last = c.now(), c.now()
	if interactive(w) {
		c.draw(mpb.WithOutput(w))
	}
	return c
}

// interactive tells whether w is a terminal on which a bar can move. mpirun gives its
// processes one without a width, and passes on what they write.
func interactive(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok || os.Getenv("TERM") == "dumb" {
		return false
	}
	width, _, err := term.GetSize(int(f.Fd()))
	return err == nil && width > 0
}

// draw starts the bar.
func (c *Console) draw(output mpb.ContainerOption) {
	c.progress = mpb.New(output, mpb.WithAutoRefresh(), mpb.WithRefreshRate(200*time.Millisecond))
	c.bar = c.progress.AddBar(int64(c.total),
		mpb.PrependDecorators(decor.CountersNoUnit("step %d/%d")),
		mpb.AppendDecorators(decor.Any(func(s decor.Statistics) string {
			c.barText.Lock()
			defer c.barText.Unlock()
			return fitting(c.texts, s.AvailableWidth-narrowBar)
		})))
	c.bar.SetCurrent(int64(c.from))
}

// fitting is the first text of at most width characters, else nothing.
func fitting(texts []string, width int) string {
	for _, t := range texts {
		if utf8.RuneCountInString(t) <= width {
			return t
		}
	}
	return ""
}

// Step shows a finished step.
func (c *Console) Step(m *Metric) {
	c.mu.Lock()
	defer c.mu.Unlock()
	done, now := m.Step+1, c.now()
	c.images += float64(m.Time.ImagesPerSecond) * m.Time.Seconds
	c.spent += m.Time.Seconds
	c.wait += m.Time.Wait
	// The first step of a session allocates and warms up; it says nothing about
	// the rest.
	left := "-"
	if n := done - c.from; n <= 1 {
		c.began = now
	} else {
		per := now.Sub(c.began).Seconds() / float64(n-1)
		left = shortDuration(time.Duration(per * float64(c.total-done) * float64(time.Second)))
	}
	if c.bar != nil {
		loss, eta := fmt.Sprintf("loss %.3f", float64(m.Loss)), left+" left"
		speed := fmt.Sprintf("%.0f img/s", float64(m.Time.ImagesPerSecond))
		c.barText.Lock()
		c.texts = []string{
			fmt.Sprintf("epoch %d  %s  %s  %s", m.Epoch, loss, speed, eta),
			fmt.Sprintf("%s  %s  %s", loss, speed, eta),
			fmt.Sprintf("%s  %s", loss, eta),
			loss,
		}
		c.barText.Unlock()
		c.bar.SetCurrent(int64(done))
		return
	}
	if done%c.every != 0 && done != c.total && done != c.from+1 && now.Sub(c.last) < quiet {
		return
	}
	spent := cmp.Or(c.spent, 1)
	c.print(fmt.Sprintf("step %*d/%d  epoch %3d  loss %.4f  lr %.1e  |g| %-8.3g %7.1f img/s  data %2.0f%%  %s left",
		len(fmt.Sprint(c.total)), done, c.total, m.Epoch, float64(m.Loss), float64(m.LR), float64(m.GradNorm), c.images/spent, 100*c.wait/spent, left))
	c.last, c.images, c.spent, c.wait = now, 0, 0, 0
}

// Print shows a line, above the bar where there is one. Control characters, such
// as those of a hostile file name, are shown and not obeyed.
func (c *Console) Print(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.print(fmt.Sprintf(format, args...))
}

func (c *Console) print(line string) {
	line = Printable(line)
	if c.progress != nil {
		if _, err := fmt.Fprintln(c.progress, line); err == nil {
			return
		}
	}
	fmt.Fprintln(c.w, line)
}

// Close ends the bar. Lines may follow.
func (c *Console) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.progress == nil {
		return
	}
	if !c.bar.Completed() {
		c.bar.Abort(false)
	}
	c.progress.Wait()
	c.progress, c.bar = nil, nil
}

// Printable replaces what would move a terminal's cursor or change its state:
// control characters, and characters that turn the direction of writing. Line
// feeds stay.
func Printable(s string) string {
	odd := func(r rune) bool {
		return unicode.IsControl(r) && r != '\n' || unicode.Is(unicode.Cf, r) || r == utf8.RuneError
	}
	if strings.IndexFunc(s, odd) < 0 {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if odd(r) {
			fmt.Fprintf(&b, `\u%04x`, r)
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}

// shortDuration is 3h05m, 12m30s or 45s.
func shortDuration(d time.Duration) string {
	d = d.Round(time.Second)
	switch {
	case d >= time.Hour:
		return fmt.Sprintf("%dh%02dm", d/time.Hour, d%time.Hour/time.Minute)
	case d >= time.Minute:
		return fmt.Sprintf("%dm%02ds", d/time.Minute, d%time.Minute/time.Second)
	}
	return fmt.Sprintf("%ds", d/time.Second)
}

// Table aligns rows of key and value for the start of a run. On a terminal, long
// values go on below themselves.
func Table(w io.Writer, rows [][2]string) {
	width := 0
	if f, ok := w.(*os.File); ok {
		if columns, _, err := term.GetSize(int(f.Fd())); err == nil {
			width = columns
		}
	}
	table(w, rows, width)
}

// table breaks lines at width; 0: never.
func table(w io.Writer, rows [][2]string, width int) {
	keys := 0
	for _, r := range rows {
		keys = max(keys, utf8.RuneCountInString(r[0]))
	}
	room := width - keys - 2
	for _, r := range rows {
		key := r[0]
		for _, line := range broken(Printable(strings.ReplaceAll(r[1], "\n", " ")), room) {
			fmt.Fprintf(w, "%-*s  %s\n", keys, key, line)
			key = ""
		}
	}
}

// broken splits s at spaces into lines of at most width characters; a longer word
// has a line of its own. Widths too small to help leave s whole.
func broken(s string, width int) []string {
	if width < 20 {
		return []string{s}
	}
	var lines []string
	for utf8.RuneCountInString(s) > width {
		runes := []rune(s)
		at := strings.LastIndex(string(runes[:width+1]), " ")
		if at <= 0 {
			if at = strings.Index(s, " "); at <= 0 {
				break
			}
		}
		lines = append(lines, s[:at])
		s = strings.TrimLeft(s[at:], " ")
	}
	return append(lines, s)
}
