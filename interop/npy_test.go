package interop

import (
	"bytes"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/sbinet/npyio"
)

func TestNPYRoundTrip(t *testing.T) {
	var buf bytes.Buffer
	w, err := NewNPY(&buf, 3, 2)
	if err != nil {
		t.Fatal(err)
	}
	for _, rows := range [][]float32{{1, 2}, {3, 4, -5, 6.5}} {
		if err := w.Write(rows); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	want := []float32{1, 2, 3, 4, -5, 6.5}
	rows, cols, got, err := ReadNPY(bytes.NewReader(buf.Bytes()))
	if err != nil || rows != 3 || cols != 2 || !cmp.Equal(got, want) {
		t.Errorf("%d x %d, %v, %v", rows, cols, got, err)
	}
	// Another implementation reads the same.
	var other []float32
	if err := npyio.Read(bytes.NewReader(buf.Bytes()), &other); err != nil || !cmp.Equal(other, want) {
		t.Errorf("npyio: %v, %v", other, err)
	}
	if at := bytes.IndexByte(buf.Bytes(), '\n') + 1; at%64 != 0 {
		t.Errorf("data begins at byte %d", at)
	}
}

func TestNPYWriterCountsRows(t *testing.T) {
	w, err := NewNPY(io.Discard, 2, 3)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Write([]float32{1, 2}); err == nil {
		t.Error("part of a row is accepted")
	}
	if err := w.Write(make([]float32, 9)); err == nil {
		t.Error("more rows than promised are accepted")
	}
	if err := w.Write(make([]float32, 3)); err != nil {
		t.Error(err)
	}
	if err := w.Close(); err == nil {
		t.Error("a missing row goes unnoticed")
	}
}

func npy(dict, data string) []byte {
	return append([]byte{0x93, 'N', 'U', 'M', 'P', 'Y', 1, 0, byte(len(dict)), byte(len(dict) >> 8)}, dict+data...)
}

func TestReadNPYRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		file []byte
		want string
	}{
		"nothing":       {nil, "EOF"},
		"other file":    {[]byte("hello world"), "not an npy"},
		"version":       {[]byte("\x93NUMPY\x09\x00\x00\x00"), "format 9"},
		"header cut":    {[]byte("\x93NUMPY\x01\x00\xff\x00{"), "EOF"},
		"header length": {[]byte("\x93NUMPY\x02\x00\xff\xff\xff\xff"), "header of"},
		"doubles":       {npy("{'descr': '<f8', 'fortran_order': False, 'shape': (1, 1), }", "12345678"), "<f8"},
		"fortran":       {npy("{'descr': '<f4', 'fortran_order': True, 'shape': (1, 1), }", "1234"), "row order"},
		"vector":        {npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1,), }", "1234"), "matrix"},
		"cut":           {npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1, 1), }", "123"), "EOF"},
		"claims much":   {npy("{'descr': '<f4', 'fortran_order': False, 'shape': (999999999999, 1), }", "1234"), "EOF"},
		"overflows":     {npy("{'descr': '<f4', 'fortran_order': False, 'shape': (999999999999999999, 99), }", "1234"), "too large"},
	} {
		if _, _, _, err := ReadNPY(bytes.NewReader(c.file)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want it to say %q", name, err, c.want)
		}
	}
}

func FuzzReadNPY(f *testing.F) {
	f.Add(npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1, 1), }", "1234"))
	f.Add([]byte("\x93NUMPY\x02\x00\x02\x00\x00\x00{}"))
	f.Fuzz(func(t *testing.T, b []byte) {
		rows, cols, data, err := ReadNPY(bytes.NewReader(b))
		if err == nil && (len(data) != rows*cols || len(data)*4 > len(b)) {
			t.Fatalf("%d elements, %d x %d, from %d bytes", len(data), rows, cols, len(b))
		}
	})
}
