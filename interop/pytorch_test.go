package interop

import (
	"archive/zip"
	"bytes"
	"encoding/binary"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func torchFile(t testing.TB, tensors ...Tensor) []byte {
	t.Helper()
	var buf bytes.Buffer
	if err := WritePyTorch(&buf, tensors); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

var torchTensors = []Tensor{
	{Name: "module.conv1.weight", Shape: []int{2, 1, 1, 2}, Data: []float32{1, -2, 3.5, 4}},
	{Name: "bn1.num_batches_tracked", Data: []int64{7}},
	{Name: "empty", Shape: []int{0, 3}, Data: []float32{}},
}

func TestPyTorchRoundTrip(t *testing.T) {
	file := torchFile(t, torchTensors...)
	path := filepath.Join(t.TempDir(), "a.pth")
	if err := os.WriteFile(path, file, 0o666); err != nil {
		t.Fatal(err)
	}
	p, err := OpenTensors(path)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if want := []string{"bn1.num_batches_tracked", "empty", "module.conv1.weight"}; !cmp.Equal(p.Names(), want) {
		t.Errorf("names %q", p.Names())
	}
	if shape, ok := p.Shape("module.conv1.weight"); !ok || !cmp.Equal(shape, []int{2, 1, 1, 2}) {
		t.Errorf("shape %v, %v", shape, ok)
	}
	if x, err := p.Float32("module.conv1.weight"); err != nil || !cmp.Equal(x, []float32{1, -2, 3.5, 4}) {
		t.Errorf("%v, %v", x, err)
	}
	if x, err := p.Float32("empty"); err != nil || len(x) != 0 {
		t.Errorf("%v, %v", x, err)
	}
	if _, err := p.Float32("bn1.num_batches_tracked"); err == nil || !strings.Contains(err.Error(), "I64") {
		t.Errorf("integers as float32: %v", err)
	}
	if _, err := p.Float32("nosuch"); err == nil {
		t.Error("no error for a tensor that is not there")
	}
	if !bytes.Equal(file, torchFile(t, torchTensors...)) {
		t.Error("the same tensors give other bytes")
	}
	z, err := zip.NewReader(bytes.NewReader(file), int64(len(file)))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range z.File {
		if at, err := f.DataOffset(); err != nil || at%torchAlign != 0 {
			t.Errorf("%s begins at byte %d, %v", f.Name, at, err)
		}
	}
}

// Files that PyTorch itself wrote, in both of its formats; testdata/make_torch.py is the
// script.
func TestReadPyTorchFiles(t *testing.T) {
	for _, name := range []string{"zip.pth", "legacy.pth", "protocol4.pth"} {
		p, err := OpenPyTorch(filepath.Join("testdata", name))
		if err != nil {
			t.Error(err)
			continue
		}
		defer p.Close()
		want := []string{"list/0", "optimizer/state/0/momentum_buffer", "state_dict/bias", "state_dict/bn.num_batches_tracked",
			"state_dict/half", "state_dict/module.weight", "state_dict/transposed", "state_dict/view"}
		if !cmp.Equal(p.Names(), want) {
			t.Errorf("%s: names %q", name, p.Names())
		}
		for tensor, want := range map[string][]float32{
			"state_dict/module.weight":          {0, 1, 2, 3, 4, 5},
			"state_dict/transposed":             {0, 3, 1, 4, 2, 5},
			"state_dict/view":                   {4, 5},
			"state_dict/half":                   {0.5, -1.5},
			"state_dict/bias":                   {0.25},
			"list/0":                            {9},
			"optimizer/state/0/momentum_buffer": {1, 1},
		} {
			if x, err := p.Float32(tensor); err != nil || !cmp.Equal(x, want) {
				t.Errorf("%s: %s: %v, %v", name, tensor, x, err)
			}
		}
	}
}

// archive is a zip file of torch.save with a pickle of one's own and one storage.
func archive(t testing.TB, pickle string, storage []byte) []byte {
	var buf bytes.Buffer
	z := zip.NewWriter(&buf)
	for _, f := range []struct {
		name string
		data []byte
	}{{"a/data.pkl", []byte(pickle)}, {"a/data/0", storage}} {
		w, err := z.CreateHeader(&zip.FileHeader{Name: f.name, Method: zip.Store})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(f.data); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// tensorPickle is {"x": tensor} with a storage of n elements.
func tensorPickle(n, offset int, shape, stride []int) string {
	tuple := func(v []int) string {
		b := []byte("(")
		for _, x := range v {
			b = pickleInt(b, x)
		}
		return string(append(b, 't'))
	}
	str := func(s string) string { return string(pickleString(nil, s)) }
	num := func(n int) string { return string(pickleInt(nil, n)) }
	return "\x80\x02}(" + str("x") + opRebuild + "((" + str("storage") + "ctorch\nFloatStorage\n" + str("0") + str("cpu") + num(n) + "tQ" +
		num(offset) + tuple(shape) + tuple(stride) + "\x89" + opOrderedDict + "tRu."
}

func TestReadPyTorchRefuses(t *testing.T) {
	four := make([]byte, 16)
	for name, c := range map[string]struct {
		file []byte
		want string
	}{
		"nothing":           {nil, "EOF"},
		"text":              {[]byte("hello world"), "torch.save"},
		"other pickle":      {[]byte("\x80\x04N................................"), "not of torch.save"},
		"other zip":         {archive(t, "", nil)[:20], "zip"},
		"runs a command":    {archive(t, "\x80\x02cos\nsystem\nX\x02\x00\x00\x00ls\x85R.", nil), "no tensors"},
		"storage too short": {archive(t, tensorPickle(5, 0, []int{4}, []int{1}), four), "5 elements"},
		"past the end":      {archive(t, tensorPickle(4, 1, []int{4}, []int{1}), four), "from 1 on"},
		"strides past":      {archive(t, tensorPickle(4, 0, []int{2, 2}, []int{3, 1}), four), "stride [3 1]"},
		"stride overflows":  {archive(t, tensorPickle(4, 0, []int{3}, []int{1 << 62}), four), "stride"},
		"expanded":          {archive(t, tensorPickle(4, 0, []int{1 << 40}, []int{0}), four), "storage of 4"},
		"shape overflows":   {archive(t, tensorPickle(4, 0, []int{1 << 40, 1 << 40}, []int{0, 0}), four), "storage of 4"},
		"negative":          {archive(t, tensorPickle(4, 0, []int{-1}, []int{1}), four), "wants"},
		"huge storage":      {archive(t, tensorPickle(1<<60, 0, []int{4}, []int{1}), four), "length"},
		"stack":             {archive(t, "\x80\x02R.", nil), "stack"},
		"no mark":           {archive(t, "\x80\x02t.", nil), "no mark"},
		"memo":              {archive(t, "\x80\x02h\x05.", nil), "never kept"},
		"operation":         {archive(t, "\x80\x02P1\n.", nil), "not known"},
		"string length":     {archive(t, "\x80\x02X\xff\xff\xff\xff.", nil), "bytes"},
		"cut":               {archive(t, "\x80\x02}", nil), "EOF"},
		"long name":         {archive(t, "\x80\x02c"+strings.Repeat("a", 1<<16), nil), "name"},
		"within itself":     {archive(t, "\x80\x02}q\x00X\x01\x00\x00\x00ah\x00s.", nil), "nested"},
		"legacy, cut":       {append([]byte(legacyMagic), "\x80\x02M\xe9\x03."...), "EOF"},
		"legacy, version":   {append([]byte(legacyMagic), "\x80\x02K\x01."...), "format 1"},
	} {
		if _, err := ReadPyTorch(bytes.NewReader(c.file), int64(len(c.file))); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want it to say %q", name, err, c.want)
		}
	}
	// A list that holds the same list twice, and so on, 60 times: 2^60 places.
	bomb := "\x80\x02]q\x00"
	for i := range 60 {
		bomb += "](h" + string(rune(i)) + "h" + string(rune(i)) + "eq" + string(rune(i+1))
	}
	bomb += "."
	file := archive(t, bomb, nil)
	if _, err := ReadPyTorch(bytes.NewReader(file), int64(len(file))); err == nil {
		t.Error("2^60 lists are walked through")
	}
}

// A file that was cut anywhere gives an error, or its whole content.
func TestReadPyTorchTruncated(t *testing.T) {
	for _, name := range []string{"zip.pth", "legacy.pth"} {
		file, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			t.Fatal(err)
		}
		for n := range len(file) {
			if _, err := ReadPyTorch(bytes.NewReader(file[:n]), int64(n)); err == nil {
				t.Fatalf("%s: the first %d of %d bytes are accepted", name, n, len(file))
			}
		}
	}
}

func FuzzReadPyTorch(f *testing.F) {
	f.Add(torchFile(f, torchTensors...))
	f.Add(archive(f, tensorPickle(4, 0, []int{2, 2}, []int{1, 2}), make([]byte, 16)))
	for _, name := range []string{"zip.pth", "legacy.pth", "protocol4.pth"} {
		file, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(file)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := ReadPyTorch(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			return
		}
		for _, name := range p.Names() {
			if x, err := p.Float32(name); err == nil && len(x) > len(b) {
				t.Fatalf("%d elements from %d bytes", len(x), len(b))
			}
		}
	})
}

// FuzzPickle gives the machine programs that no zip file hides.
func FuzzPickle(f *testing.F) {
	f.Add([]byte(tensorPickle(4, 0, []int{2, 2}, []int{1, 2})))
	f.Add([]byte("\x80\x04\x95\x00\x00\x00\x00\x00\x00\x00\x00}\x94(\x8c\x01a\x94K\x01\x8c\x01b\x88u."))
	f.Add([]byte("\x80\x02]q\x00(K\x01M\x00\x02J\xff\xff\xff\xff\x8a\x01\x80Ne0N."))
	f.Fuzz(func(t *testing.T, b []byte) {
		file := archive(t, string(b), binary.LittleEndian.AppendUint32(nil, 1))
		if p, err := ReadPyTorch(bytes.NewReader(file), int64(len(file))); err == nil {
			for _, name := range p.Names() {
				_, _ = p.Float32(name)
			}
		}
	})
}

func TestWritePyTorchRefuses(t *testing.T) {
	for name, tensors := range map[string][]Tensor{
		"type":  {{Name: "a", Data: []byte{1}}},
		"shape": {{Name: "a", Shape: []int{2}, Data: []float32{1}}},
		"twice": {{Name: "a", Data: []float32{1}}, {Name: "a", Data: []float32{1}}},
	} {
		if err := WritePyTorch(io.Discard, tensors); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
