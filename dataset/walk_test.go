package dataset

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// An index is used where nothing changed, and every change is noticed.
func TestTreeIndex(t *testing.T) {
	root, cache := t.TempDir(), t.TempDir()
	o := Options{CacheDir: cache}
	const dirs, files = 4, 40
	age := func() {
		for d := range dirs {
			past := time.Now().Add(-time.Hour)
			if err := os.Chtimes(filepath.Join(root, fmt.Sprint(d)), past, past); err != nil {
				t.Fatal(err)
			}
		}
	}
	for d := range dirs {
		for i := range files / dirs {
			write(t, nil, root, fmt.Sprint(d), fmt.Sprintf("%05d.jpg", i))
		}
	}
	age()
	walk := func() *walker {
		t.Helper()
		w := newWalker(root, o)
		w.worth = files
		if err := w.walk("", root); err != nil {
			t.Fatal(err)
		}
		w.save()
		slices.Sort(w.files)
		return w
	}
	few := newWalker(root, o)
	if err := few.walk("", root); err != nil {
		t.Fatal(err)
	}
	if few.save(); readCache(few.path, new(treeIndex)) == nil {
		t.Error("an index of a few files was kept")
	}
	first := walk()
	if len(first.files) != files || first.old != 0 {
		t.Fatalf("%d files, %d directories from an index that is not there", len(first.files), first.old)
	}
	if again := walk(); again.old < dirs || !slices.Equal(again.files, first.files) {
		t.Errorf("%d directories of the index used, files equal: %v", again.old, slices.Equal(again.files, first.files))
	}
	write(t, nil, root, "2", "new.png")
	if err := os.Remove(filepath.Join(root, "3", "00000.jpg")); err != nil {
		t.Fatal(err)
	}
	write(t, nil, root, "4", "other.png")
	w := walk()
	if !slices.Contains(w.files, "2/new.png") || slices.Contains(w.files, "3/00000.jpg") || !slices.Contains(w.files, "4/other.png") || len(w.files) != files+1 {
		t.Errorf("changes went unnoticed: %d files", len(w.files))
	}
	// A damaged index costs time, no more, and neither does one that cannot be kept.
	if err := os.WriteFile(w.path, []byte("no index"), 0o644); err != nil {
		t.Fatal(err)
	}
	if w := walk(); w.old != 0 || len(w.files) != files+1 {
		t.Errorf("a damaged index: %d directories taken from it, %d files", w.old, len(w.files))
	}
	o.CacheDir = filepath.Join(root, "0", "00001.jpg") // not a folder
	if w := walk(); len(w.files) != files+1 {
		t.Errorf("without an index: %d files", len(w.files))
	}
}
