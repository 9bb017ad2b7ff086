package datatool

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"swav/imgcodec"
	"swav/interop"
)

// contents are the files of all shards, by name, and the names in order.
func contents(t *testing.T, dir string) (map[string][]byte, []string) {
	t.Helper()
	shards, err := filepath.Glob(filepath.Join(dir, "*.tar"))
	if err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{}
	var order []string
	for _, s := range shards {
		f, err := os.Open(s)
		if err != nil {
			t.Fatal(err)
		}
		r := tar.NewReader(f)
		for {
			h, err := r.Next()
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			if files[h.Name] != nil {
				t.Errorf("%s is there twice", h.Name)
			}
			if files[h.Name], err = io.ReadAll(r); err != nil {
				t.Fatal(err)
			}
			order = append(order, h.Name)
		}
		f.Close()
	}
	return files, order
}

func TestPack(t *testing.T) {
	dir := t.TempDir()
	var files [][]byte
	for i := range 20 {
		files = append(files, encoded(t, scene(60+i, 40, float64(i)), 80*(i%2)))
		write(t, files[i], dir, []string{"cat", "dog"}[i%2], fmt.Sprintf("p.%d.%s", i, []string{"png", "jpg"}[i%2]))
	}
	write(t, npy(50, 45, 5, 3), dir, "cat", "many.npy")
	write(t, files[1][:100], dir, "dog", "broken.jpg")
	write(t, files[2], dir, "cat", "p_2.png") // the same key as p.2.png
	src, out := open(t, dir), filepath.Join(t.TempDir(), "new", "shards")
	o := PackOptions{PerShard: 6, Quality: 90, MaxSkip: 0.1, Options: Options{Workers: 3}}
	p, err := Pack(context.Background(), src, out, o)
	if err != nil {
		t.Fatal(err)
	}
	if p.Shards != 4 || p.Images != 22 || p.Kept != 0 || len(p.Skipped) != 1 || p.Skipped[0].Image != "dog/broken.jpg" {
		t.Fatalf("%+v", p)
	}
	all, order := contents(t, out)
	if len(all) != 44 || !bytes.Equal(all["cat/p_4.png"], files[4]) || !bytes.Equal(all["dog/p_5.jpg"], files[5]) {
		t.Errorf("%d files: %v", len(all), order)
	}
	if string(all["cat/p_4.cls"]) != "0" || string(all["dog/p_5.cls"]) != "1" || all["cat/p_2-2.png"] == nil {
		t.Errorf("labels: %q, %q", all["cat/p_4.cls"], all["dog/p_5.cls"])
	}
	if c, err := os.ReadFile(filepath.Join(out, "classes.txt")); err != nil || string(c) != "cat\ndog\n" {
		t.Errorf("classes: %q, %v", c, err)
	}
	if c, err := os.ReadFile(filepath.Join(out, "skipped.jsonl")); err != nil || !strings.Contains(string(c), "dog/broken.jpg") {
		t.Errorf("skipped: %q, %v", c, err)
	}
	dogs := 0
	for _, name := range order[:20] { // mixed, not a class after the other
		if strings.HasPrefix(name, "dog") {
			dogs++
		}
	}
	if dogs == 0 || dogs == 20 {
		t.Errorf("the first shards hold one class: %v", order)
	}

	// A missing shard is made again, bit for bit; what is there stays.
	third := filepath.Join(out, "data-000002.tar")
	want, err := os.ReadFile(third)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(third); err != nil {
		t.Fatal(err)
	}
	write(t, []byte("half"), third+".tmp") // as a kill leaves it
	if p, err = Pack(context.Background(), src, out, o); err != nil || p.Kept != 3 {
		t.Fatalf("%+v, %v", p, err)
	}
	if got, err := os.ReadFile(third); err != nil || !bytes.Equal(got, want) {
		t.Errorf("another shard than before: %v", err)
	}
	if left, _ := filepath.Glob(filepath.Join(out, "*.tmp")); len(left) > 0 {
		t.Errorf("left over: %v", left)
	}

	// Other settings are refused, or start anew.
	o.Size = 32
	if _, err = Pack(context.Background(), src, out, o); err == nil || !strings.Contains(err.Error(), "size 0 there, 32 now") {
		t.Errorf("other settings: %v", err)
	}
	o.Restart = true
	if p, err = Pack(context.Background(), src, out, o); err != nil || p.Kept != 0 || p.Images != 22 {
		t.Fatalf("%+v, %v", p, err)
	}
	all, _ = contents(t, out)
	for name, c := range map[string]int{"cat/p_4.png": 3, "dog/p_5.jpg": 3, "cat/many.npy": 5} {
		m, err := imgcodec.Decode(all[name], imgcodec.Options{Deep: true})
		if err != nil || min(m.W, m.H) != 32 || m.C != c || m.IsDeep() != (c == 5) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestPackStops(t *testing.T) {
	dir := t.TempDir()
	for i := range 10 {
		write(t, nil, dir, fmt.Sprintf("%d.jpg", i))
	}
	write(t, encoded(t, scene(9, 9, 1), 0), dir, "good.png")
	out := t.TempDir()
	o := PackOptions{PerShard: 100, Quality: 90, MaxSkip: 0.2}
	_, err := Pack(context.Background(), open(t, dir), out, o)
	if err == nil || !strings.Contains(err.Error(), "of 11 images cannot be read") || !strings.Contains(err.Error(), ".jpg: image data ends early") {
		t.Errorf("broken images: %v", err)
	}
	if left, _ := filepath.Glob(filepath.Join(out, "data*")); len(left) > 0 {
		t.Errorf("left over: %v", left)
	}
	others := t.TempDir()
	write(t, nil, others, "data-000000.tar")
	if _, err := Pack(context.Background(), open(t, dir), others, o); err == nil || !strings.Contains(err.Error(), "choose another folder") {
		t.Errorf("a folder of somebody else's shards: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Pack(ctx, open(t, dir), t.TempDir(), o); !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted: %v", err)
	}
}

// What is written reads back as it was.
func TestEncodersLoseNothing(t *testing.T) {
	for _, c := range []int{1, 3, 4} {
		for _, deep := range []bool{false, true} {
			m := new(imgcodec.Image)
			m.Reset(6, 5, c)
			if deep {
				m.ResetDeep(6, 5, c)
			}
			for i := range m.Pix {
				m.Pix[i] = byte(i * 7)
			}
			for i := range m.Deep {
				m.Deep[i] = uint16(i * 1999)
			}
			file := npyFile(m)
			if c != 4 {
				file = encoded(t, goImage(m), 0)
			}
			back, err := imgcodec.Decode(file, imgcodec.Options{Deep: true})
			if err != nil || back.C != c || !bytes.Equal(back.Pix, m.Pix) || !slices.Equal(back.Deep, m.Deep) {
				t.Errorf("%d channels, deep %v: %v", c, deep, err)
			}
		}
	}
	if h, err := interop.ReadNPYHeader(bytes.NewReader(npy(3, 2, 7, 0))); err != nil || !slices.Equal(h.Shape, []int{2, 3, 7}) {
		t.Errorf("%+v, %v", h, err)
	}
}
