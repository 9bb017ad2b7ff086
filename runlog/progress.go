package runlog

import (
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
)

// Progress shows how far work of several stages is: a bar for each on a terminal, a
// line now and then elsewhere. Its methods may be called from several goroutines.
type Progress struct {
	mu       sync.Mutex
	w        io.Writer
	bars     *mpb.Progress // nil where there is no terminal
	bar      *mpb.Bar
	lastLine time.Time
}

// NewProgress shows on w.
func NewProgress(w io.Writer) *Progress {
	p := &Progress{w: w, lastLine: time.Now()}
	if interactive(w) {
		p.bars = mpb.New(mpb.WithOutput(w), mpb.WithRefreshRate(200*time.Millisecond))
	}
	return p
}

// Stage begins a stage and returns what is to be told of it. The stage before is over.
func (p *Progress) Stage(name string) func(done, total int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.end()
	if p.bars == nil {
		return func(done, total int) { p.line(name, done, total) }
	}
	bar := p.bars.AddBar(0, mpb.BarRemoveOnComplete(),
		mpb.PrependDecorators(decor.Name(name+" ")),
		mpb.AppendDecorators(decor.CountersNoUnit("%d/%d "), decor.AverageETA(decor.ET_STYLE_GO)))
	p.bar = bar
	return func(done, total int) {
		bar.SetTotal(int64(total), false)
		bar.SetCurrent(int64(done))
	}
}

// Print shows a line that stays.
func (p *Progress) Print(text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	w := p.w
	if p.bars != nil {
		w = p.bars
	}
	fmt.Fprintln(w, text)
}

func (p *Progress) line(name string, done, total int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if time.Since(p.lastLine) >= quiet {
		fmt.Fprintf(p.w, "%s %d/%d\n", name, done, total)
		p.lastLine = time.Now()
	}
}

func (p *Progress) end() {
	if p.bar != nil {
		p.bar.Abort(true)
		p.bar = nil
	}
}

// Close removes the bar.
func (p *Progress) Close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.end()
	if p.bars != nil {
		p.bars.Wait()
		p.bars = nil
	}
}
