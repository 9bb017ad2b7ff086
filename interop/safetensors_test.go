package interop

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func file(header, data string) []byte {
	b := binary.LittleEndian.AppendUint64(nil, uint64(len(header)))
	return append(append(b, header...), data...)
}

func read(b []byte) (*Safetensors, error) {
	return ReadSafetensors(bytes.NewReader(b), int64(len(b)))
}

func TestSafetensorsRoundTrip(t *testing.T) {
	nan := math.Float32frombits(0x7fc12345)
	tensors := []Tensor{
		{Name: "bytes", Shape: []int{3}, Data: []byte{1, 2, 255}},
		{Name: "weights", Shape: []int{2, 3}, Data: []float32{0, -1.5, float32(math.Inf(1)), nan, 1e-45, 3}},
		{Name: "scalar", Data: []float64{math.Pi}},
		{Name: "steps", Shape: []int{2}, Data: []int64{-1, math.MaxInt64}},
		{Name: "brain", Shape: []int{2}, Data: []uint16{0x3f80, 0xc000}},
		{Name: "half", DType: F16, Shape: []int{5}, Data: []uint16{0x3c00, 0xc000, 0x0001, 0x7c00, 0x8000}},
		{Name: "none", Shape: []int{0, 7}, Data: []float32{}},
		{Name: "stream <&>", DType: F32, Shape: []int{1, 2}, Data: strings.NewReader("\x00\x00\x80\x3f\x00\x00\x00\x40")},
	}
	metadata := map[string]string{"format": "pt", "note": "ä\n\""}
	path := filepath.Join(t.TempDir(), "x.safetensors")
	var buf bytes.Buffer
	if err := WriteSafetensors(&buf, tensors, metadata); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, buf.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := OpenSafetensors(path)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if diff := cmp.Diff([]string{"brain", "bytes", "half", "none", "scalar", "steps", "stream <&>", "weights"}, s.Names()); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(metadata, s.Metadata); diff != "" {
		t.Error(diff)
	}
	for name, want := range map[string][]float32{
		"weights":    {0, -1.5, float32(math.Inf(1)), nan, 1e-45, 3},
		"scalar":     {math.Pi},
		"brain":      {1, -2},
		"half":       {1, -2, 0x1p-24, float32(math.Inf(1)), float32(math.Copysign(0, -1))},
		"none":       {},
		"stream <&>": {1, 2},
	} {
		got, err := s.Float32(name)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(bits(want), bits(got)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	if x, err := s.Float64("scalar"); err != nil || !cmp.Equal(x, []float64{math.Pi}) {
		t.Error(x, err)
	}
	if x, err := s.Int64("steps"); err != nil || !cmp.Equal(x, []int64{-1, math.MaxInt64}) {
		t.Error(x, err)
	}
	if x, err := s.Bytes("bytes"); err != nil || !bytes.Equal(x, []byte{1, 2, 255}) {
		t.Error(x, err)
	}
	if info, ok := s.Info("weights"); !ok || info.DType != F32 || !cmp.Equal(info.Shape, []int{2, 3}) || info.Len() != 6 {
		t.Error(info, ok)
	}
	if info, ok := s.Info("scalar"); !ok || len(info.Shape) != 0 || info.Len() != 1 {
		t.Error(info, ok)
	}
	for name, info := range s.infos {
		if info.begin%int64(info.DType.Size()) != 0 {
			t.Errorf("%s begins at byte %d", name, info.begin)
		}
	}
}

func bits(x []float32) []uint32 {
	b := make([]uint32, len(x))
	for i, v := range x {
		b[i] = math.Float32bits(v)
	}
	return b
}

func TestSafetensorsWrongReads(t *testing.T) {
	s, err := read(file(`{"a":{"dtype":"I64","shape":[1],"data_offsets":[0,8]}}`, "12345678"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Float32("a"); err == nil || !strings.Contains(err.Error(), "I64") {
		t.Error(err)
	}
	if _, err := s.Float64("a"); err == nil || !strings.Contains(err.Error(), "I64, want F64") {
		t.Error(err)
	}
	if _, err := s.Bytes("b"); err == nil || !strings.Contains(err.Error(), `"b": no such tensor`) {
		t.Error(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

func TestSafetensorsHostileHeaders(t *testing.T) {
	entry := func(dtype, shape, offsets string) string {
		return fmt.Sprintf(`{"a":{"dtype":%q,"shape":%s,"data_offsets":%s}}`, dtype, shape, offsets)
	}
	two := func(a, b string) string {
		return fmt.Sprintf(`{"a":{"dtype":"U8","shape":[4],"data_offsets":%s},"b":{"dtype":"U8","shape":[4],"data_offsets":%s}}`, a, b)
	}
	for name, c := range map[string]struct {
		file []byte
		want string
	}{
		"nothing":            {nil, "too few"},
		"short":              {[]byte("1234567"), "too few"},
		"length overflows":   {[]byte("\xff\xff\xff\xff\xff\xff\xff\xff{}"), "not this format"},
		"length above limit": {binary.LittleEndian.AppendUint64(nil, maxHeader+1), "at most"},
		"length beyond file": {[]byte("\x10\x00\x00\x00\x00\x00\x00\x00{}"), "truncated"},
		"no header":          {file("", ""), "unexpected EOF"},
		"not json":           {file("hello", ""), "invalid character"},
		"array":              {file("[]", ""), "object is expected"},
		"two values":         {file("{} {}", ""), "more than one"},
		"cut off":            {file(`{"a":{"dtype":"F32"`, ""), "unexpected EOF"},
		"same name twice": {file(`{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}`,
			"12"), "twice"},
		"same key twice":       {file(`{"a":{"dtype":"U8","dtype":"I8","shape":[1],"data_offsets":[0,1]}}`, "1"), "twice"},
		"unknown key":          {file(`{"a":{"type":"U8"}}`, ""), "unknown key"},
		"key missing":          {file(`{"a":{"dtype":"U8","shape":[0]}}`, ""), "missing"},
		"null":                 {file(`{"a":null}`, ""), "object is expected"},
		"unknown type":         {file(entry("F4", "[1]", "[0,1]"), "1"), "not supported"},
		"one offset":           {file(entry("U8", "[1]", "[0]"), "1"), "want 2"},
		"negative offset":      {file(entry("U8", "[1]", "[-1,0]"), "1"), "offsets"},
		"backward offsets":     {file(entry("U8", "[1]", "[1,0]"), "1"), "offsets"},
		"fractional offset":    {file(entry("U8", "[1]", "[0,1.5]"), "1"), "1.5"},
		"huge offset":          {file(entry("U8", "[1]", "[0,99999999999999999999]"), "1"), "99999999999999999999"},
		"negative dimension":   {file(entry("U8", "[-1,-1]", "[0,1]"), "1"), "fill"},
		"shape too small":      {file(entry("F32", "[1]", "[0,8]"), "12345678"), "fill"},
		"shape overflows":      {file(entry("U8", "[4294967296,4294967296,4294967296,4294967296]", "[0,0]"), ""), "fill"},
		"many dimensions":      {file(entry("U8", "[1"+strings.Repeat(",1", 100)+"]", "[0,1]"), "1"), "dimensions"},
		"overlap":              {file(two("[0,4]", "[2,6]"), "123456"), "ends at 4"},
		"same bytes":           {file(two("[0,4]", "[0,4]"), "1234"), "ends at 4"},
		"gap":                  {file(two("[0,4]", "[5,9]"), "123456789"), "ends at 4"},
		"beyond the end":       {file(entry("U8", "[4]", "[0,4]"), "123"), "truncated"},
		"data left over":       {file(entry("U8", "[4]", "[0,4]"), "12345"), "no tensor"},
		"metadata not strings": {file(`{"__metadata__":{"a":1}}`, ""), "number"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := read(c.file)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want it to say %q", err, c.want)
			}
		})
	}
}

// A shape may hold a zero beside any dimension: no bytes, no overflow.
func TestSafetensorsEmptyTensors(t *testing.T) {
	s, err := read(file(`{"b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[9223372036854775807,0],"data_offsets":[0,0]}}  `, "1234"))
	if err != nil {
		t.Fatal(err)
	}
	if x, err := s.Float32("a"); err != nil || len(x) != 0 {
		t.Error(x, err)
	}
}

func TestOpenSafetensorsNamesTheFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "bad.safetensors")
	if err := os.WriteFile(path, []byte("hello"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{path, dir, filepath.Join(dir, "absent")} {
		if _, err := OpenSafetensors(p); err == nil || !strings.Contains(err.Error(), p) {
			t.Errorf("%s: %v", p, err)
		}
	}
}

func TestWriteSafetensorsRefuses(t *testing.T) {
	x := []float32{1, 2}
	for name, tensors := range map[string][]Tensor{
		"name twice":     {{Name: "a", Shape: []int{2}, Data: x}, {Name: "a", Shape: []int{2}, Data: x}},
		"reserved name":  {{Name: "__metadata__", Shape: []int{2}, Data: x}},
		"not UTF-8":      {{Name: "\xff", Shape: []int{2}, Data: x}},
		"shape":          {{Name: "a", Shape: []int{3}, Data: x}},
		"negative shape": {{Name: "a", Shape: []int{-1, -2}, Data: x}},
		"type":           {{Name: "a", DType: F64, Shape: []int{2}, Data: x}},
		"unknown type":   {{Name: "a", DType: "F4", Shape: []int{2}, Data: []byte{1, 2}}},
		"unknown data":   {{Name: "a", Shape: []int{2}, Data: []string{"x", "y"}}},
		"short stream":   {{Name: "a", DType: F32, Shape: []int{2}, Data: strings.NewReader("1234567")}},
		"long stream":    {{Name: "a", DType: F32, Shape: []int{2}, Data: strings.NewReader("123456789")}},
	} {
		if err := WriteSafetensors(io.Discard, tensors, nil); err == nil || !strings.HasPrefix(err.Error(), "write safetensors:") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// failing accepts n bytes, as a disk that fills up.
type failing struct{ n int }

var errFull = errors.New("disk full")

func (f *failing) Write(b []byte) (int, error) {
	if f.n -= len(b); f.n < 0 {
		return 0, errFull
	}
	return len(b), nil
}

func TestWriteSafetensorsReportsTheDisk(t *testing.T) {
	tensors := []Tensor{{Name: "a", Shape: []int{100000}, Data: make([]float32, 100000)}}
	for _, n := range []int{0, 100, 300000} {
		if err := WriteSafetensors(&failing{n}, tensors, nil); !errors.Is(err, errFull) {
			t.Errorf("full after %d bytes: %v", n, err)
		}
	}
}

func TestSafetensorsAnyTensorsRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		names := rapid.SliceOfDistinct(rapid.StringMatching(`[a-zé"\\.0-9]{0,8}`), rapid.ID[string]).Draw(t, "names")
		want := map[string][]byte{}
		var tensors []Tensor
		for _, name := range names {
			d := rapid.SampledFrom([]DType{F64, F32, F16, BF16, I64, I32, U8, Bool}).Draw(t, "dtype")
			shape := rapid.SliceOfN(rapid.IntRange(0, 4), 0, 3).Draw(t, "shape")
			n, _ := byteSize(shape, int64(d.Size()))
			data := rapid.SliceOfN(rapid.Byte(), int(n), int(n)).Draw(t, "data")
			tensors = append(tensors, Tensor{name, d, shape, bytes.NewReader(data)})
			want[name] = data
		}
		var buf bytes.Buffer
		if err := WriteSafetensors(&buf, tensors, nil); err != nil {
			t.Fatal(err)
		}
		s, err := read(buf.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		if len(s.Names()) != len(names) {
			t.Fatalf("names %q, wrote %q", s.Names(), names)
		}
		for name, data := range want {
			if got, err := s.Bytes(name); err != nil || !bytes.Equal(got, data) {
				t.Fatalf("%q: %v, %v, want %v", name, got, err, data)
			}
		}
	})
}

// FuzzSafetensors looks for headers that crash the reader or make it read
// outside the file; what it accepts can be read whole.
func FuzzSafetensors(f *testing.F) {
	f.Add(file(`{}`, ""))
	f.Add(file(`{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"__metadata__":{"k":"v"}}`, "1234"))
	f.Add(file(`{"a":{"dtype":"BF16","shape":[2,0],"data_offsets":[0,0]},"b":{"dtype":"F64","shape":[],"data_offsets":[0,8]}}`, "12345678"))
	f.Add(file(`{"a":{"dtype":"U8","shape":[9223372036854775807,2],"data_offsets":[0,-2]}}`, ""))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := read(b)
		if err != nil {
			return
		}
		total := 0
		for _, name := range s.Names() {
			raw, err := s.Bytes(name)
			if err != nil {
				t.Fatal(err)
			}
			total += len(raw)
			info, _ := s.Info(name)
			if x, err := s.Float32(name); err == nil && len(x) != info.Len() {
				t.Fatalf("%q: %d elements, want %d", name, len(x), info.Len())
			}
		}
		if total > len(b) {
			t.Fatalf("%d bytes of tensors in a file of %d", total, len(b))
		}
	})
}
