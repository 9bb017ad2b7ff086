package serve

import (
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"swav/internal/browser"
)

// dropped drops an image on the page, as a user does.
func dropped(name string, file []byte) string {
	return fmt.Sprintf(`(() => {
		const bytes = Uint8Array.from(atob(%q), c => c.charCodeAt(0)), data = new DataTransfer();
		data.items.add(new File([bytes], %q, { type: 'image/png' }));
		document.dispatchEvent(new DragEvent('drop', { dataTransfer: data, bubbles: true, cancelable: true }));
		return true; })()`, base64.StdEncoding.EncodeToString(file), name)
}

func TestPageInABrowser(t *testing.T) {
	f := start(t, nil, Config{Name: "photos", Index: indexed(30)})
	p := browser.Open(t, f.url)
	p.Allow("404") // one image is gone
	p.Wait(`$('about').textContent.includes('30 images')`)
	p.Picture("serve-empty")

	// By the file dialog.
	path := filepath.Join(t.TempDir(), "red.png")
	if err := os.WriteFile(path, picture(255, 40, 0), 0o644); err != nil {
		t.Fatal(err)
	}
	p.Choose("#file", path)
	p.Wait(`!$('near').hidden && $('grid').querySelectorAll('img').length === 11`)
	var tiles, bars, found string
	p.Get(`$('tiles').innerText`, &tiles)
	p.Get(`$('bars').innerText`, &bars)
	p.Get(`$('grid').innerText`, &found)
	if !strings.HasPrefix(tiles, "0\n") || !strings.Contains(tiles, "cosine 1.000") {
		t.Errorf("clusters: %q", tiles)
	}
	if !strings.Contains(bars, "dark") || !strings.Contains(bars, "%") {
		t.Errorf("classes: %q", bars)
	}
	if !strings.Contains(found, "img/00.png") || !strings.Contains(found, "img/11.png") {
		t.Errorf("found: %q", found)
	}
	var loaded bool
	p.Get(`Promise.all([...document.images].map(i => i.decode())).then(() => true)`, &loaded)
	p.Picture("serve-answer")

	// By dropping it.
	p.Get(dropped("blue.png", picture(0, 0, 255)), &loaded)
	p.Wait(`$('tiles').innerText.startsWith('2\n')`)

	// A file that is no image.
	p.Allow("415")
	p.Get(dropped("hello.png", []byte("hello")), &loaded)
	p.Wait(`!$('problem').hidden && $('problem').textContent.includes('format')`)
	p.Picture("serve-problem")
}

func TestPageWithAToken(t *testing.T) {
	f := start(t, nil, Config{Name: "photos", Token: "s3cret", Index: indexed(30)})
	p := browser.Open(t, f.url)
	p.Wait(`$('about').textContent.includes('30 images')`)
	p.Allow("401")
	p.Allow("404")
	var ok bool
	p.Get(dropped("red.png", picture(255, 0, 0)), &ok)
	p.Wait(`!$('secret').hidden && $('problem').textContent.includes('token')`)
	p.Picture("serve-token")
	p.Type("#token", "s3cret\r")
	p.Wait(`!$('near').hidden && $('grid').querySelectorAll('img').length === 11`)
}
