package runlog

import (
	"bytes"
	"fmt"
	"math"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/vbauerster/mpb/v8"
	"pgregory.net/rapid"
)

// plain is a console whose clock the test turns.
func plain(total, done, every int) (c *Console, out *bytes.Buffer, clock *time.Time) {
	out, clock = new(bytes.Buffer), new(time.Time)
	c = NewConsole(out, total, done, every)
	c.now = func() time.Time { return *clock }
	c.began, c.last = *clock, *clock
	return c, out, clock
}

func TestConsoleLines(t *testing.T) {
	c, out, clock := plain(400, 100, 100)
	for s := 100; s < 400; s++ {
		*clock = clock.Add(time.Second / 2)
		c.Step(metric(s))
		if s == 150 {
			c.Print("swav: warning: skipped %s", "a\x1b[2J\rb.jpg")
		}
	}
	want := []string{
		"step 101/400  epoch  10  loss 0.0388  lr 1.0e-03  |g| 0          100.0 img/s  data 20%  - left",
		`swav: warning: skipped a\u001b[2J\u000db.jpg`,
		"step 161/400  epoch  16  loss 0.0245  lr 1.0e-03  |g| 0          100.0 img/s  data 20%  2m00s left", // 30 seconds without a line
		"step 200/400  epoch  19  loss 0.0198  lr 1.0e-03  |g| 0          100.0 img/s  data 20%  1m40s left",
		"step 260/400  epoch  25  loss 0.0153  lr 1.0e-03  |g| 0          100.0 img/s  data 20%  1m10s left",
		"step 300/400  epoch  29  loss 0.0132  lr 1.0e-03  |g| 0          100.0 img/s  data 20%  50s left",
		"step 360/400  epoch  35  loss 0.0110  lr 1.0e-03  |g| 0          100.0 img/s  data 20%  20s left",
		"step 400/400  epoch  39  loss 0.0100  lr 1.0e-03  |g| 0          100.0 img/s  data 20%  0s left",
	}
	if got := strings.Split(strings.TrimSpace(out.String()), "\n"); strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// A line shows the speed since the one before, not that of a single step.
func TestConsoleAveragesSpeed(t *testing.T) {
	c, out, _ := plain(100, 0, 2)
	for s, m := range []Metric{
		{Time: Timing{ImagesPerSecond: 1, Seconds: 1}},
		{Time: Timing{ImagesPerSecond: 64, Seconds: 1}},
		{Time: Timing{ImagesPerSecond: 64, Seconds: 1, Wait: 1}},
		{Time: Timing{ImagesPerSecond: 16, Seconds: 4, Wait: 4}},
	} {
		m.Step = s
		c.Step(&m)
	}
	lines := strings.Split(out.String(), "\n")
	if len(lines) != 4 || !strings.Contains(lines[2], " 25.6 img/s  data 100%") {
		t.Errorf("%s", out)
	}
}

func TestConsoleOddNumbers(t *testing.T) {
	c, out, _ := plain(1, 0, 0)
	c.Step(&Metric{Loss: Number(math.NaN()), GradNorm: Number(math.Inf(1))})
	if s := out.String(); !strings.Contains(s, "loss NaN") || !strings.Contains(s, "|g| +Inf") || !strings.Contains(s, "data  0%") {
		t.Errorf("%q", s)
	}
}

// syncBuffer is a buffer for several goroutines.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

// With a bar, lines come from loader goroutines while it is drawn and closed.
func TestConsoleBar(t *testing.T) {
	var out syncBuffer
	c := NewConsole(&out, 50, 0, 10)
	c.draw(mpb.WithOutput(&out))
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for j := range 5 {
				c.Print("warning %d.%d", i, j)
				time.Sleep(time.Millisecond)
			}
		})
	}
	for s := range 30 {
		c.Step(metric(s))
		time.Sleep(time.Millisecond)
	}
	c.Close() // before the last step, as when interrupted
	wg.Wait()
	c.Print("after")
	c.Close()
	text := out.b.String()
	for i := range 4 {
		for j := range 5 {
			if want := fmt.Sprintf("warning %d.%d", i, j); strings.Count(text, want) != 1 {
				t.Errorf("%q is there %d times", want, strings.Count(text, want))
			}
		}
	}
	for _, want := range []string{"step 30/50", "epoch 2  loss 0.125  100 img/s  ", "after\n"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing in %q", want, text)
		}
	}
}

func TestFitting(t *testing.T) {
	texts := []string{"epoch 1  loss 2", "loss 2", "…"}
	for width, want := range map[int]string{99: texts[0], 15: texts[0], 14: texts[1], 6: texts[1], 5: "…", 1: "…", 0: "", -5: ""} {
		if got := fitting(texts, width); got != want {
			t.Errorf("width %d: %q, want %q", width, got, want)
		}
	}
}

func TestTable(t *testing.T) {
	var out bytes.Buffer
	table(&out, [][2]string{{"data", "a\nb\x1b]0;x\a"}, {"größe", "one two three four five six seven"}, {"x", strings.Repeat("w", 40) + " end"}}, 30)
	want := `data   a b\u001b]0;x\u0007
größe  one two three four five
       six seven
x      ` + strings.Repeat("w", 40) + `
       end
`
	if out.String() != want {
		t.Errorf("got\n%swant\n%s", &out, want)
	}
	out.Reset()
	Table(&out, [][2]string{{"k", strings.Repeat("word ", 50)}})
	if strings.Count(out.String(), "\n") != 1 {
		t.Errorf("broken where there is no terminal: %s", &out)
	}
}

func TestBroken(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		words := rapid.SliceOf(rapid.StringMatching(`[a-zé]{1,30}`)).Draw(t, "words")
		width := rapid.IntRange(20, 60).Draw(t, "width")
		lines := broken(strings.Join(words, " "), width)
		if got := strings.Join(lines, " "); got != strings.Join(words, " ") {
			t.Fatalf("%q", got)
		}
		for _, l := range lines {
			if utf8.RuneCountInString(l) > width && strings.Contains(l, " ") {
				t.Fatalf("line of %d characters: %q", len(l), l)
			}
		}
	})
}

func TestShortDuration(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0s", 44600 * time.Millisecond: "45s", 59999 * time.Millisecond: "1m00s", 750 * time.Second: "12m30s", 185 * time.Minute: "3h05m", 100 * time.Hour: "100h00m",
	} {
		if got := shortDuration(d); got != want {
			t.Errorf("%v: %s, want %s", d, got, want)
		}
	}
}

func TestPrintable(t *testing.T) {
	for s, want := range map[string]string{
		"plain ü 漢": "plain ü 漢", "two\nlines": "two\nlines", "\x1b[31m": `\u001b[31m`, "a\u202egpj.exe": `a\u202egpj.exe`,
		"\u009b2J": `\u009b2J`, "\xff": `\ufffd`, "tab\t": `tab\u0009`,
	} {
		if got := Printable(s); got != want {
			t.Errorf("%q: %q, want %q", s, got, want)
		}
	}
}
