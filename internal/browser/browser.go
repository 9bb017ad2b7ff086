// Package browser opens pages in a headless Chromium, for the tests of packages
// that write pages. What a page throws or logs as an error fails the test.
package browser

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/chromedp"
)

// Pictures is the environment variable that names a folder for the pictures of
// Page.Picture; without it none are kept.
const Pictures = "SWAV_PICTURES"

// Required is the environment variable that makes a missing browser a failure.
const Required = "SWAV_BROWSER_REQUIRED"

// patience bounds all that a test does with its page; the machine may be busy.
const patience = 2 * time.Minute

// Page is a page under test.
type Page struct {
	t   testing.TB
	ctx context.Context

	mu      sync.Mutex
	allowed []string
}

// Allow has the page log errors that contain a text, such as the answer to a request
// that the test wants to fail.
func (p *Page) Allow(text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.allowed = append(p.allowed, text)
}

// Open shows a page of 1200 x 800 pixels, or skips the test where there is no
// Chromium.
func Open(t testing.TB, url string) *Page {
	t.Helper()
	path := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "chrome"} {
		if found, err := exec.LookPath(name); err == nil {
			path = found
			break
		}
	}
	if path == "" {
		if os.Getenv(Required) != "" {
			t.Fatal("no chromium or google-chrome in PATH, and " + Required + " is set")
		}
		t.Skip("no chromium or google-chrome in PATH to open the page in")
	}
	options := []chromedp.ExecAllocatorOption{chromedp.ExecPath(path), chromedp.WindowSize(1200, 800), chromedp.WSURLReadTimeout(time.Minute)}
	if os.Geteuid() == 0 {
		options = append(options, chromedp.NoSandbox) // root has none
	}
	ctx, end := chromedp.NewContext(context.Background(), chromedp.WithAllocatorOptions(options...))
	p := &Page{t: t}
	var console sync.WaitGroup
	t.Cleanup(func() {
		end()
		console.Wait()
	})
	messages := chromedp.Console(ctx) // starts the browser
	console.Go(func() {
		for m, err := range messages {
			if err == nil && (m.Type == chromedp.ConsoleError || m.Type == chromedp.ConsoleException) {
				p.complain(m.Text + " " + m.URL)
			}
		}
	})
	limited, stop := context.WithTimeout(ctx, patience)
	t.Cleanup(stop)
	p.ctx = limited
	p.do(chromedp.Navigate(url))
	return p
}

// OpenFile shows a page on disk.
func OpenFile(t testing.TB, path string) *Page {
	t.Helper()
	path, err := filepath.Abs(path)
	if err != nil {
		t.Fatal(err)
	}
	return Open(t, "file://"+path)
}

func (p *Page) complain(text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, part := range p.allowed {
		if strings.Contains(text, part) {
			return
		}
	}
	p.t.Errorf("the page says: %s", text)
}

func (p *Page) do(action chromedp.Action[chromedp.Void]) {
	p.t.Helper()
	if err := chromedp.Do(p.ctx, action); err != nil {
		p.t.Fatal(err)
	}
}

// Click clicks on the element that a CSS selector finds.
func (p *Page) Click(selector string) {
	p.t.Helper()
	p.do(chromedp.Click(chromedp.CSS(selector)))
}

// Type types keys into an element; \r is Enter.
func (p *Page) Type(selector, keys string) {
	p.t.Helper()
	p.do(chromedp.SendKeys(chromedp.CSS(selector), keys))
}

// Choose gives a file to a file input.
func (p *Page) Choose(selector, path string) {
	p.t.Helper()
	p.do(chromedp.SetUploadFiles(chromedp.CSS(selector), []string{path}))
}

// Point moves the pointer.
func (p *Page) Point(x, y float64) {
	p.t.Helper()
	p.do(chromedp.MouseEvent(chromedp.MouseMoved, x, y))
}

// Wheel turns the wheel at a place; negative is away from the user.
func (p *Page) Wheel(x, y, delta float64) {
	p.t.Helper()
	p.do(chromedp.MouseEvent(chromedp.MouseWheel, x, y, func(m *input.DispatchMouseEventParams) {
		m.DeltaX, m.DeltaY = 1e-3, delta // an exact zero would be left out
	}))
}

// Get evaluates an expression, awaits it where it is a promise, and stores its value
// in *to.
func (p *Page) Get(expression string, to any) {
	p.t.Helper()
	text, err := chromedp.Run(p.ctx, chromedp.Evaluate[string]("(async () => JSON.stringify(await ("+expression+")))()", chromedp.EvalAwaitPromise))
	if err != nil {
		p.t.Fatalf("%s: %v", expression, err)
	}
	if err := json.Unmarshal([]byte(text), to); err != nil {
		p.t.Fatalf("%s: %s: %v", expression, text, err)
	}
}

// Wait waits until an expression is true.
func (p *Page) Wait(expression string) {
	p.t.Helper()
	for {
		var ok bool
		p.Get("Boolean("+expression+")", &ok)
		if ok {
			return
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-p.ctx.Done():
			p.t.Fatalf("never: %s", expression)
		}
	}
}

// Picture keeps a picture of the page under a name.
func (p *Page) Picture(name string) {
	p.t.Helper()
	png, err := chromedp.Run(p.ctx, chromedp.CaptureScreenshot())
	if err != nil {
		p.t.Fatal(err)
	}
	if dir := os.Getenv(Pictures); dir != "" {
		if err := os.WriteFile(filepath.Join(dir, name+".png"), png, 0o644); err != nil {
			p.t.Fatal(err)
		}
	}
}
