package dataset

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"swav/imgcodec"
)

func TestLists(t *testing.T) {
	dir := t.TempDir()
	write(t, onePixel(t, 7, 0, 0), dir, "images", "a b.png")
	write(t, onePixel(t, 8, 0, 0), dir, "images", "c,d.png")
	abs := filepath.Join(dir, "images", "c,d.png")
	for name, tc := range map[string]struct {
		file, text string
		want       []string
	}{
		"paths":             {"l.txt", "images/a b.png\n\n# a remark\nimages/c,d.png\r\n", []string{"images/a b.png -", "images/c,d.png -"}},
		"labels by space":   {"l.lst", "images/a b.png 10\nimages/c,d.png 9\n", []string{"images/a b.png 10", "images/c,d.png 9"}},
		"labels by tab":     {"l.txt", "images/a b.png\ttabby cat\nimages/c,d.png\n", []string{"images/a b.png tabby cat", "images/c,d.png -"}},
		"labels by comma":   {"l.txt", "images/a b.png,dog\n" + abs + ",cat", []string{"images/a b.png dog", abs + " cat"}},
		"table with a head": {"l.csv", "path,label,size\nimages/a b.png,x,3\n\"images/c,d.png\",y,4\n", []string{"images/a b.png x", "images/c,d.png y"}},
		"table by tabs":     {"l.tsv", "images/a b.png\tx\nimages/c,d.png\ty\n", []string{"images/a b.png x", "images/c,d.png y"}},
	} {
		t.Run(name, func(t *testing.T) {
			write(t, []byte(tc.text), dir, tc.file)
			src, err := Open(filepath.Join(dir, tc.file), Options{})
			if err != nil {
				t.Fatal(err)
			}
			if got := ids(src); !slices.Equal(got, tc.want) {
				t.Errorf("%q, want %q", got, tc.want)
			}
			for i := range src.Len() {
				var img imgcodec.Image
				if err := src.Load(i, &img); err != nil || img.Pix[0] != byte(7+i) {
					t.Errorf("image %d: %v %v", i, img.Pix, err)
				}
			}
		})
	}
	// Numbers are classes by value.
	write(t, []byte("a.png 10\nb.png 9\n"), dir, "n.txt")
	if src, err := Open(filepath.Join(dir, "n.txt"), Options{}); err != nil || !slices.Equal(src.Classes(), []string{"9", "10"}) {
		t.Errorf("classes %v, %v", src.Classes(), err)
	}
	for text, want := range map[string]string{
		"":                          "no images",
		"a.png\nnotes about cats\n": "line 2",
		strings.Repeat("x", 70000):  "line 1",
		"a.png\n" + strings.Repeat("y", 200) + ".doc": "…",
	} {
		write(t, []byte(text), dir, "bad.txt")
		if _, err := Open(filepath.Join(dir, "bad.txt"), Options{}); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "bad.txt") {
			t.Errorf("%.20q: %v, want %q", text, err, want)
		}
	}
}

// Whatever the bytes, every image that a list yields has an image's name.
func FuzzList(f *testing.F) {
	f.Add([]byte("a.png 3\nb c.jpg\tx\n"), false)
	f.Add([]byte("path,label\n\"a,b.png\",\"x\ny\"\n"), true)
	f.Fuzz(func(t *testing.T, data []byte, table bool) {
		suffix := ".txt"
		if table {
			suffix = ".csv"
		}
		_ = readList(strings.NewReader(string(data)), suffix, 1<<16, func(image, _ string) {
			if !imageName(image) {
				t.Fatalf("%q is no image", image)
			}
		})
	})
}

func TestFiles(t *testing.T) {
	if _, err := Files(nil, Options{}); err == nil {
		t.Error("no error without files")
	}
	src, err := Files([]string{"/nowhere/b.png", "a.jpg"}, Options{Channels: 1})
	if err != nil {
		t.Fatal(err)
	}
	if src.Len() != 2 || src.ID(0) != "/nowhere/b.png" || src.ID(1) != "a.jpg" || src.Label(0) != -1 || src.Channels() != 1 {
		t.Errorf("%d files, %s, %s, label %d, %d channels", src.Len(), src.ID(0), src.ID(1), src.Label(0), src.Channels())
	}
	var img imgcodec.Image
	if err := src.Load(0, &img); err == nil || !strings.Contains(err.Error(), "/nowhere/b.png") {
		t.Errorf("error %v", err)
	}
}
