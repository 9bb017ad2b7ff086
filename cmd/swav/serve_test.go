package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"swav/internal/runtest"
)

// From a run to all that people look at: what was found is the image itself, and
// every file that is printed is there.
func TestSearchMapAndFolders(t *testing.T) {
	data := runtest.Photos(t, 14)
	dir := runtest.Run(t, data)
	query := filepath.Join(data, "bands", "03.jpg")
	command := func(args ...string) (stdout, stderr string) {
		t.Helper()
		var out, notes bytes.Buffer
		if code := run(args, &out, &notes); code != 0 {
			t.Fatalf("swav %s: exit code %d\n%s%s", strings.Join(args, " "), code, out.String(), notes.String())
		}
		return out.String(), notes.String()
	}
	picture := filepath.Join(t.TempDir(), "nearest.png")
	out, notes := command("search", dir, query, "--k", "3", "--out", picture)
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if len(lines) != 3 || strings.Join(strings.Fields(lines[0]), " ") != "1 1.0000 bands bands/03.jpg" {
		t.Errorf("found\n%s", out)
	}
	if !strings.Contains(notes, "features of 14 images") || !exists(picture) {
		t.Errorf("noted %q, picture there: %v", notes, exists(picture))
	}
	out, notes = command("search", dir, query, filepath.Join(data, "stripes", "04.png"), "--json", "--k", "2")
	var found []struct {
		Query   string
		Nearest []struct{ ID, Label string }
	}
	if err := json.Unmarshal([]byte(out), &found); err != nil || len(found) != 2 || len(found[1].Nearest) != 2 || found[1].Nearest[0].ID != "stripes/04.png" || found[1].Nearest[0].Label != "stripes" {
		t.Errorf("%v: %s", err, out)
	}
	if notes != "" {
		t.Errorf("computed again: %s", notes)
	}
	page := filepath.Join(t.TempDir(), "map.html")
	if out, _ = command("map", dir, "--out", page); out != page+": 14 of 14 images\n" || !exists(page) {
		t.Errorf("map says %q", out)
	}
	sorted := filepath.Join(t.TempDir(), "sorted")
	out, _ = command("cluster", "--run", dir, "--dir", sorted, "--copy")
	if !strings.HasPrefix(out, filepath.Join(sorted, "clusters.html")+": 14 images in ") || !strings.Contains(out, "purity") || !exists(filepath.Join(sorted, "clusters.html")) {
		t.Errorf("cluster says %q", out)
	}
}

// The server says where it is, answers, and ends on SIGTERM with nothing left
// undone.
func TestServe(t *testing.T) {
	data := runtest.Photos(t, 14)
	dir := runtest.Run(t, data)
	t.Setenv(tokenVariable, "s3cret")
	var screen bytes.Buffer
	if code := run([]string{"eval", "finetune", dir, "--epochs", "1"}, &screen, &screen); code != 0 {
		t.Fatalf("finetune: exit code %d\n%s", code, screen.String())
	}
	r, w := io.Pipe()
	var notes lockedBuffer
	ended := make(chan int, 1)
	go func() {
		ended <- run([]string{"serve", dir, "--addr", "127.0.0.1:0", "--batch-size", "4"}, w, &notes)
		w.Close()
	}()
	line, err := bufio.NewReader(r).ReadString('\n')
	url, ok := strings.CutPrefix(strings.TrimSuffix(line, "/ (Ctrl-C ends)\n"), "serving ")
	if err != nil || !ok {
		t.Fatalf("printed %q, %v\n%s", line, err, notes.String())
	}
	post := func(path string, image int, token string) (int, string) {
		t.Helper()
		req, err := http.NewRequest("POST", url+path, bytes.NewReader(runtest.Photo(t, image)))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+token)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(body)
	}
	for i := range 14 {
		status, body := post("/search?k=1", i, "s3cret")
		want := fmt.Sprintf(`"id":"%s/%02d.`, []string{"stripes", "bands"}[i%2], i)
		if status != 200 || !strings.Contains(body, want) {
			t.Errorf("image %d: status %d: %s", i, status, body)
		}
	}
	for path, want := range map[string]string{"/embed": `"features":[`, "/cluster": `"cluster":`, "/predict": `"method":"classifier"`} {
		if status, body := post(path, 2, "s3cret"); status != 200 || !strings.Contains(body, want) {
			t.Errorf("%s: status %d: %s", path, status, body)
		}
	}
	if status, _ := post("/embed", 2, "wrong"); status != 401 {
		t.Errorf("wrong token: status %d", status)
	}
	var out, complaints bytes.Buffer
	if code := run([]string{"bench", "serve", url + "/embed", filepath.Join(data, "bands", "03.jpg"), "--requests", "40", "--mixed"}, &out, &complaints); code != 0 || !strings.Contains(out.String(), "40 of 40") {
		t.Errorf("load: exit code %d\n%s%s", code, out.String(), complaints.String())
	}
	if err := syscall.Kill(os.Getpid(), syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if code := <-ended; code != exitOK || !strings.Contains(notes.String(), "all requests are answered") {
		t.Errorf("exit code %d, noted\n%s", code, notes.String())
	}
}

// lockedBuffer is written by the server and read by the test.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
