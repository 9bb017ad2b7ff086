package eval

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// Files of features may come from anywhere: they are read or refused, and what is read
// is what they hold.
func FuzzOpenFeatures(f *testing.F) {
	dir := f.TempDir()
	for _, ext := range []string{".npy", ".safetensors"} {
		path := filepath.Join(dir, "seed"+ext)
		w, err := CreateFeatures(path, 2, 3, []string{"cat", "dog"})
		if err != nil {
			f.Fatal(err)
		}
		if err := w.Append([]float32{1, 2, 3, 4, 5, 6}, []Row{{"a,b.png", 1}, {"c\n.png", -1}}); err != nil {
			f.Fatal(err)
		}
		if err := w.Close(); err != nil {
			f.Fatal(err)
		}
		features, err1 := os.ReadFile(path)
		index, err2 := os.ReadFile(filepath.Join(dir, "seed.csv"))
		if err1 != nil || err2 != nil {
			f.Fatal(err1, err2)
		}
		f.Add(ext == ".npy", features, index)
		f.Add(ext == ".npy", features[:len(features)-4], index)
		f.Add(ext == ".npy", features, index[:len(index)-3])
		f.Add(ext == ".npy", bytes.ReplaceAll(features, []byte("(2, 3)"), []byte("(3, 2)")), []byte{})
	}
	f.Fuzz(func(t *testing.T, npy bool, features, index []byte) {
		path := filepath.Join(t.TempDir(), "f.safetensors")
		if npy {
			path = filepath.Join(filepath.Dir(path), "f.npy")
		}
		if err := os.WriteFile(path, features, 0o644); err != nil {
			t.Fatal(err)
		}
		if len(index) > 0 {
			if err := os.WriteFile(filepath.Join(filepath.Dir(path), "f.csv"), index, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		file, err := OpenFeatures(path)
		if err != nil {
			return
		}
		defer file.Close()
		rows := file.Rows()
		if rows < 1 || len(file.Features) != rows*file.Dim || len(file.Features) > 2*len(features) {
			t.Fatalf("%d features in %d rows of %d, from %d bytes", len(file.Features), rows, file.Dim, len(features))
		}
		if file.Names != nil && (len(file.Names) != rows || len(file.IDs) != rows) {
			t.Fatalf("%d names, %d IDs of %d rows", len(file.Names), len(file.IDs), rows)
		}
		var sum float32
		for _, v := range file.Features { // the mapped pages are there
			sum += v
		}
		refs, _, classes, err := LabelledSets(file, nil)
		if err == nil && refs.check("fuzz", len(classes)) == nil && refs.Len() > rows {
			t.Fatalf("%d labelled of %d rows, sum %v", refs.Len(), rows, sum)
		}
	})
}
