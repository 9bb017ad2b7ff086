package serve

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/jpeg"
	"image/png"
	"io"
	"log/slog"
	"math"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"swav/dataset"
	"swav/imgcodec"
	"swav/index"
	"swav/interop"
)

// colours is a network whose features of an image are its mean colour; embedding
// and scores follow from it, so that every answer can be told from the image.
type colours struct {
	batch  int
	pixels int // of the largest image

	diverged bool // it gives no numbers

	runs, seen, widest atomic.Int64
	hold               chan struct{} // if not nil, each Run waits for it
	fault              atomic.Value  // a func() that Run calls
}

func (c *colours) Pixels() int { return 3 }
func (c *colours) Batch() int  { return c.batch }

func (c *colours) View(dst []float32, file []byte) error {
	img, err := imgcodec.Decode(file, imgcodec.Options{MaxPixels: c.pixels})
	if err != nil {
		return err
	}
	var sum [3]float64
	for i, v := range img.Pix {
		sum[min(i%img.C, 2)] += float64(v)
	}
	for j := range sum {
		dst[j] = float32(sum[j] / float64(img.W*img.H) / 255)
	}
	return nil
}

func (c *colours) Run(views []float32, n int, features, embeddings, scores *[]float32) error {
	if c.hold != nil {
		<-c.hold
	}
	c.runs.Add(1)
	c.seen.Add(int64(n))
	for {
		if w := c.widest.Load(); int64(n) <= w || c.widest.CompareAndSwap(w, int64(n)) {
			break
		}
	}
	if f, ok := c.fault.Load().(func() error); ok && f != nil {
		if err := f(); err != nil {
			return err
		}
	}
	for i := range n {
		v := slices.Clone(views[i*3 : i*3+3])
		if c.diverged {
			v[1] = float32(math.NaN())
		}
		*features = append(*features, v...)
		*embeddings = append(*embeddings, v[0], v[1])
		*scores = append(*scores, v[0], v[1], v[2], (v[0]+v[1])/2)
	}
	return nil
}

// picture is a PNG of one colour.
func picture(r, g, b uint8) []byte {
	img := image.NewRGBA(image.Rect(0, 0, 9, 7))
	for p := range 9 * 7 {
		img.SetRGBA(p%9, p/9, color.RGBA{r, g, b, 255})
	}
	var out bytes.Buffer
	if err := png.Encode(&out, img); err != nil {
		panic(err)
	}
	return out.Bytes()
}

// stored is the images that are searched: image i is grey of level 10 i; every
// fourth has no label.
type stored struct{ n int }

func (s stored) Name() string      { return "stored" }
func (s stored) Len() int          { return s.n }
func (s stored) Channels() int     { return 3 }
func (s stored) Classes() []string { return []string{"dark", "bright"} }
func (s stored) ID(i int) string   { return fmt.Sprintf("img/%02d.png", i) }
func (s stored) Label(i int) int {
	if i%4 == 3 {
		return -1
	}
	return i * 2 / s.n
}
func (s stored) Load(i int, dst *imgcodec.Image) error {
	if i == 5 {
		return errors.New("gone")
	}
	dst.Reset(400, 200, 3)
	for p := range dst.Pix {
		dst.Pix[p] = byte(10 * i)
	}
	return nil
}

// indexed has rows that turn from red (row 0) to blue.
func indexed(n int) *index.Index {
	x := &index.Index{Source: dataset.Source(stored{n}), Dim: 3, Prototypes: 4}
	for i := range n {
		a := float64(i) / float64(n) * math.Pi / 2
		x.Features = append(x.Features, float32(math.Cos(a)), 0, float32(math.Sin(a)))
		x.Image, x.Prototype, x.Score = append(x.Image, i), append(x.Prototype, i%4), append(x.Score, 0.5)
	}
	return x
}

// quiet is a log for nobody.
var quiet = slog.New(slog.DiscardHandler)

// fixture is a server under test.
type fixture struct {
	*Server
	net  *colours
	url  string
	http *httptest.Server
}

// start runs a server until the test ends.
func start(t testing.TB, net *colours, c Config) *fixture {
	t.Helper()
	if net == nil {
		net = &colours{batch: 4}
	}
	if c.Log == nil {
		c.Log = quiet
	}
	s, err := New(net, c)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(s.Compute)
	wg.Go(s.ComputeClasses)
	h := httptest.NewServer(s.Handler())
	t.Cleanup(func() {
		h.Close()
		s.Stop()
		wg.Wait()
	})
	return &fixture{s, net, h.URL, h}
}

// reply is an answer as it came.
type reply struct {
	status int
	header http.Header
	body   []byte
}

// call makes a request and holds its answer against the OpenAPI description.
func (f *fixture) call(t testing.TB, method, path string, body io.Reader, header ...string) reply {
	t.Helper()
	req, err := http.NewRequest(method, f.url+path, body)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	r := reply{resp.StatusCode, resp.Header, data}
	described(t, method, req.URL.Path, r)
	return r
}

func (f *fixture) post(t testing.TB, path string, body []byte, header ...string) reply {
	t.Helper()
	return f.call(t, "POST", path, bytes.NewReader(body), header...)
}

// images decodes an answer's list.
func (r reply) images(t testing.TB) []map[string]any {
	t.Helper()
	var a struct{ Images []map[string]any }
	if err := json.Unmarshal(r.body, &a); err != nil {
		t.Fatalf("status %d, %s: %v", r.status, r.body, err)
	}
	return a.Images
}

// message is an answer's error.
func (r reply) message() string {
	var a struct{ Error string }
	_ = json.Unmarshal(r.body, &a)
	return a.Error
}

// form is a multipart body of the given files, and its type.
func form(t testing.TB, names []string, files ...[]byte) (body []byte, kind string) {
	t.Helper()
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	for i, data := range files {
		part, err := w.CreateFormFile("image", names[i])
		if err != nil {
			t.Fatal(err)
		}
		if _, err := part.Write(data); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes(), w.FormDataContentType()
}

func floats(t testing.TB, v any) []float64 {
	t.Helper()
	list, ok := v.([]any)
	if !ok {
		t.Fatalf("%v is no list", v)
	}
	var out []float64
	for _, x := range list {
		out = append(out, x.(float64))
	}
	return out
}

func near(a []float64, b ...float64) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if math.Abs(a[i]-b[i]) > 1e-6 {
			return false
		}
	}
	return true
}

func TestEmbedOne(t *testing.T) {
	f := start(t, nil, Config{})
	for path, want := range map[string]struct {
		key    string
		values []float64
	}{
		"/embed":                  {"features", []float64{1, 0.2, 0}},
		"/embed?output=features":  {"features", []float64{1, 0.2, 0}},
		"/embed?output=embedding": {"embedding", []float64{1, 0.2}},
	} {
		r := f.post(t, path, picture(255, 51, 0), "Content-Type", "image/png")
		if r.status != 200 || r.header.Get("Content-Type") != "application/json" {
			t.Fatalf("%s: status %d, %v: %s", path, r.status, r.header, r.body)
		}
		images := r.images(t)
		if len(images) != 1 || len(images[0]) != 1 || !near(floats(t, images[0][want.key]), want.values...) {
			t.Errorf("%s: %s", path, r.body)
		}
	}
}

// A form's images are answered in order, by name; a bad one among them is an error
// in its own place.
func TestEmbedManyWithABadOne(t *testing.T) {
	f := start(t, nil, Config{})
	body, kind := form(t, []string{"a.png", "b.txt", "c.png"}, picture(255, 0, 0), []byte("hello"), picture(0, 0, 255))
	r := f.post(t, "/embed", body, "Content-Type", kind)
	images := r.images(t)
	if r.status != 200 || len(images) != 3 {
		t.Fatalf("status %d: %s", r.status, r.body)
	}
	if images[0]["name"] != "a.png" || !near(floats(t, images[0]["features"]), 1, 0, 0) {
		t.Errorf("first: %v", images[0])
	}
	if images[1]["name"] != "b.txt" || !strings.Contains(fmt.Sprint(images[1]["error"]), "format") || images[1]["features"] != nil {
		t.Errorf("second: %v", images[1])
	}
	if images[2]["name"] != "c.png" || !near(floats(t, images[2]["features"]), 0, 0, 1) {
		t.Errorf("third: %v", images[2])
	}
	// All bad: the status says so.
	body, kind = form(t, []string{"x", "y"}, []byte("hello"), []byte("you"))
	if r := f.post(t, "/embed", body, "Content-Type", kind); r.status != 415 || len(r.images(t)) != 2 {
		t.Errorf("all bad: status %d: %s", r.status, r.body)
	}
}

func TestNPYAnswers(t *testing.T) {
	f := start(t, nil, Config{})
	files := [][]byte{picture(255, 0, 0), picture(0, 51, 255), picture(0, 0, 0), picture(255, 255, 255), picture(102, 0, 0)}
	body, kind := form(t, []string{"a", "b", "c", "d", "e"}, files...)
	for path, want := range map[string][]float32{
		"/embed":                  {1, 0, 0, 0, 0.2, 1, 0, 0, 0, 1, 1, 1, 0.4, 0, 0},
		"/embed?output=embedding": {1, 0, 0, 0.2, 0, 0, 1, 1, 0.4, 0},
		"/cluster":                {1, 0, 0, 0.5, 0, 0.2, 1, 0.1, 0, 0, 0, 0, 1, 1, 1, 1, 0.4, 0, 0, 0.2},
	} {
		r := f.post(t, path, body, "Content-Type", kind, "Accept", "text/html, application/x-npy;q=0.9")
		if r.status != 200 || r.header.Get("Content-Type") != "application/x-npy" {
			t.Fatalf("%s: status %d, %v", path, r.status, r.header)
		}
		rows, cols, data, err := interop.ReadNPY(bytes.NewReader(r.body))
		if err != nil || rows != 5 || rows*cols != len(want) {
			t.Fatalf("%s: %d x %d, %v", path, rows, cols, err)
		}
		for i := range want {
			if math.Abs(float64(data[i]-want[i])) > 1e-6 {
				t.Fatalf("%s: %v, want %v", path, data, want)
			}
		}
	}
	// A matrix has no place for an error.
	body, kind = form(t, []string{"a.png", "b.txt"}, picture(1, 2, 3), []byte("hello"))
	if r := f.post(t, "/embed", body, "Content-Type", kind, "Accept", "application/x-npy"); r.status != 415 || !strings.Contains(r.message(), "image 1 b.txt") {
		t.Errorf("a bad image: status %d: %s", r.status, r.body)
	}
}

func TestCluster(t *testing.T) {
	f := start(t, nil, Config{})
	r := f.post(t, "/cluster?top=2", picture(51, 204, 0))
	one := r.images(t)[0]
	if r.status != 200 || one["cluster"] != 1.0 || math.Abs(one["score"].(float64)-0.8) > 1e-6 {
		t.Fatalf("status %d: %s", r.status, r.body)
	}
	top := one["top"].([]any)
	if len(top) != 2 || top[1].(map[string]any)["cluster"] != 3.0 {
		t.Errorf("top %v", top)
	}
	if r := f.post(t, "/cluster?top=900", picture(1, 2, 3)); len(r.images(t)[0]["top"].([]any)) != 4 {
		t.Errorf("more than there are: %s", r.body)
	}
}

func TestSearch(t *testing.T) {
	f := start(t, nil, Config{Index: indexed(20)})
	r := f.post(t, "/search?k=3", picture(255, 0, 0))
	hits := r.images(t)[0]["nearest"].([]any)
	if r.status != 200 || len(hits) != 3 {
		t.Fatalf("status %d: %s", r.status, r.body)
	}
	for i, h := range hits {
		hit := h.(map[string]any)
		if hit["id"] != fmt.Sprintf("img/%02d.png", i) || hit["label"] != "dark" || hit["cluster"] != float64(i) || hit["image"] != fmt.Sprintf("/images/%d", i) {
			t.Errorf("hit %d: %v", i, hit)
		}
	}
	if r := f.post(t, "/search?k=500", picture(0, 0, 255)); len(r.images(t)[0]["nearest"].([]any)) != 20 {
		t.Errorf("more than there are: %s", r.body)
	}
	without := start(t, nil, Config{})
	if r := without.post(t, "/search", picture(1, 2, 3)); r.status != 404 || !strings.Contains(r.message(), "--data") {
		t.Errorf("nothing to search: status %d: %s", r.status, r.body)
	}
}

func TestPictures(t *testing.T) {
	f := start(t, nil, Config{Index: indexed(20)})
	r := f.call(t, "GET", "/images/7", nil)
	img, err := jpeg.Decode(bytes.NewReader(r.body))
	if r.status != 200 || r.header.Get("Content-Type") != "image/jpeg" || err != nil {
		t.Fatalf("status %d, %v, %v", r.status, r.header, err)
	}
	if b := img.Bounds(); b.Dx() != 256 || b.Dy() != 128 {
		t.Errorf("bounds %v", b)
	}
	if v, _, _, _ := img.At(100, 60).RGBA(); v>>8 < 66 || v>>8 > 74 {
		t.Errorf("level %d, want 70", v>>8)
	}
	for _, number := range []string{"20", "-1", "x", "99999999999999999999", "5", "%2e%2e"} {
		if r := f.call(t, "GET", "/images/"+number, nil); r.status != 404 {
			t.Errorf("image %s: status %d", number, r.status)
		}
	}
}

// logits is a network whose scores of an image are the logs of its colours.
type logits struct{ *colours }

func (l logits) Run(views []float32, n int, features, embeddings, scores *[]float32) error {
	if features != nil || embeddings != nil {
		return errors.New("a classifier has scores alone")
	}
	for _, v := range views[:n*3] {
		*scores = append(*scores, float32(math.Log(float64(v))))
	}
	return nil
}

func TestPredict(t *testing.T) {
	f := start(t, nil, Config{Classifier: &Classifier{Network: logits{&colours{batch: 3}}, Classes: []string{"red", "green", "blue"}, Method: "certainty"}})
	one := f.post(t, "/predict?top=2", picture(40, 50, 160)).images(t)[0]
	list, _ := one["classes"].([]any)
	for i, want := range []Class{{"blue", 0.64}, {"green", 0.2}} {
		if got := list[i].(map[string]any); len(list) != 2 || got["label"] != want.Label || !near([]float64{got["probability"].(float64)}, want.Probability) || one["method"] != "certainty" {
			t.Errorf("%v, want %v first", one, want)
		}
	}
	if r := f.post(t, "/embed", picture(255, 51, 0)); !near(floats(t, r.images(t)[0]["features"]), 1, 0.2, 0) {
		t.Errorf("features beside a classifier: %s", r.body)
	}
	// A class of probability zero has no finite logit: that is a fault of the network.
	if r := f.post(t, "/predict", picture(0, 255, 0)); r.status != 500 || strings.Contains(string(r.body), "classes") {
		t.Errorf("status %d: %s", r.status, r.body)
	}
	// Labels of the index vote where there is no classifier.
	votes := start(t, nil, Config{Index: indexed(60)})
	one = votes.post(t, "/predict", picture(255, 0, 0)).images(t)[0]
	first := one["classes"].([]any)[0].(map[string]any)
	if first["label"] != "dark" || first["probability"].(float64) < 0.99 || one["method"] != "20 nearest neighbours" {
		t.Errorf("%v", one)
	}
	without := start(t, nil, Config{})
	if r := without.post(t, "/predict", picture(1, 2, 3)); r.status != 404 || !strings.Contains(r.message(), "--data") || !strings.Contains(r.message(), "swav eval finetune") {
		t.Errorf("no classes: status %d: %s", r.status, r.body)
	}
}

func TestHealthPageAndMetrics(t *testing.T) {
	f := start(t, nil, Config{Name: "photos", Index: indexed(8)})
	r := f.call(t, "GET", "/healthz", nil)
	if r.status != 200 || !strings.Contains(string(r.body), `"run":"photos"`) || !strings.Contains(string(r.body), `"indexed":8`) {
		t.Errorf("health: status %d: %s", r.status, r.body)
	}
	r = f.call(t, "GET", "/", nil)
	if r.status != 200 || !strings.HasPrefix(r.header.Get("Content-Type"), "text/html") || !strings.Contains(r.header.Get("Content-Security-Policy"), "default-src 'none'") {
		t.Errorf("page: status %d, %v", r.status, r.header)
	}
	for _, part := range []string{"/page.css", "/page.js", "/openapi.json"} {
		if !bytes.Contains(r.body, []byte(part)) {
			t.Errorf("the page does not name %s", part)
		}
		if r := f.call(t, "GET", part, nil); r.status != 200 || len(r.body) == 0 {
			t.Errorf("%s: status %d", part, r.status)
		}
	}
	f.post(t, "/embed", picture(1, 2, 3))
	f.post(t, "/embed", []byte("hello"))
	f.call(t, "GET", "/some/thing", nil)
	text := string(f.call(t, "GET", "/metrics", nil).body)
	for _, want := range []string{
		`swav_requests_total{path="/embed",status="200"} 1`, `swav_requests_total{path="/embed",status="415"} 1`, `swav_requests_total{path="other",status="404"} 1`,
		`swav_images_total{outcome="answered"} 1`, `swav_images_total{outcome="refused"} 1`, "swav_batch_images_count 1", "swav_requests_in_flight 0", "go_goroutines",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("metrics lack %s", want)
		}
	}
	if strings.Contains(text, "/some/thing") {
		t.Error("what clients send has become a label")
	}
}

func TestNewRefuses(t *testing.T) {
	if _, err := New(&colours{}, Config{}); err == nil {
		t.Error("a network without batches: no error")
	}
	if _, err := New(&colours{batch: 1}, Config{Classifier: &Classifier{Network: &colours{}}}); err == nil {
		t.Error("a classifier without batches: no error")
	}
}
