package runlog

import (
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
)

// Bar shows how far a job over many images is: a progress bar on a terminal, a
// line now and then elsewhere. Done may be called from several goroutines.
type Bar struct {
	w        io.Writer
	what     string
	total    int64
	done     atomic.Int64
	last     atomic.Int64 // when a line was written
	progress *mpb.Progress
	bar      *mpb.Bar // nil where there is none
}

// NewBar begins a job, such as "reading", on total images.
func NewBar(w io.Writer, what string, total int) *Bar {
	b := &Bar{w: w, what: what, total: int64(total)}
	b.last.Store(time.Now().UnixNano())
	if interactive(w) {
		b.progress = mpb.New(mpb.WithOutput(w), mpb.WithAutoRefresh(), mpb.WithRefreshRate(200*time.Millisecond))
		b.bar = b.progress.AddBar(b.total, mpb.BarRemoveOnComplete(),
			mpb.PrependDecorators(decor.CountersNoUnit(what+" %d/%d")),
			mpb.AppendDecorators(decor.AverageSpeed(0, "%.0f img/s"), decor.Name("  "), decor.AverageETA(decor.ET_STYLE_GO), decor.Name(" left")))
	}
	return b
}

// Done counts an image.
func (b *Bar) Done() {
	n := b.done.Add(1)
	if b.bar != nil {
		b.bar.Increment()
		return
	}
	now, last := time.Now().UnixNano(), b.last.Load()
	if time.Duration(now-last) >= quiet && b.last.CompareAndSwap(last, now) {
		fmt.Fprintf(b.w, "%s %d/%d\n", b.what, n, b.total)
	}
}

// Close takes the bar away.
func (b *Bar) Close() {
	if b.bar != nil {
		b.bar.Abort(true)
		b.progress.Wait()
	}
}
