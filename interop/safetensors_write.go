package interop

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"slices"
	"unicode/utf8"
)

// Tensor is a tensor to be written.
type Tensor struct {
	Name string
	// DType may be left empty where Data tells it: F32 for []float32, F64 for
	// []float64, I64 for []int64, U8 for []byte, BF16 for []uint16.
	DType DType
	Shape []int
	// Data are the elements, row-major: a slice as above, or an io.Reader of
	// exactly their little-endian bytes, for tensors that need not be in memory.
	Data any
}

// WriteSafetensors writes a safetensors file. The data goes to w as it is read;
// nothing but the header is kept. Larger element types come first, so that every
// tensor is aligned; within a type the order is the caller's. The same input
// gives the same bytes.
func WriteSafetensors(w io.Writer, tensors []Tensor, metadata map[string]string) error {
	tensors = slices.Clone(tensors)
	sizes := make(map[string]int64, len(tensors))
	for i := range tensors {
		t := &tensors[i]
		if t.DType == "" {
			t.DType = implied(t.Data)
		}
		if _, twice := sizes[t.Name]; twice || t.Name == "__metadata__" || !utf8.ValidString(t.Name) {
			return fmt.Errorf("write safetensors: tensor name %q: twice, reserved or not UTF-8", t.Name)
		}
		n, err := t.check()
		if err != nil {
			return fmt.Errorf("write safetensors: tensor %q: %w", t.Name, err)
		}
		sizes[t.Name] = n
	}
	slices.SortStableFunc(tensors, func(a, b Tensor) int { return b.DType.Size() - a.DType.Size() })
	header, err := headerOf(tensors, sizes, metadata)
	if err != nil {
		return fmt.Errorf("write safetensors: %w", err)
	}
	if _, err := w.Write(header); err != nil {
		return fmt.Errorf("write safetensors: header: %w", err)
	}
	for _, t := range tensors {
		if err := t.write(w, sizes[t.Name]); err != nil {
			return fmt.Errorf("write safetensors: tensor %q: %w", t.Name, err)
		}
	}
	return nil
}

// headerOf is the length and the JSON, padded with spaces to whole 8 bytes.
func headerOf(tensors []Tensor, sizes map[string]int64, metadata map[string]string) ([]byte, error) {
	buf := bytes.NewBuffer(make([]byte, 8))
	sep := byte('{')
	entry := func(name string, value any) error {
		key, err := json.Marshal(name)
		if err != nil {
			return err
		}
		val, err := json.Marshal(value)
		if err != nil {
			return err
		}
		buf.WriteByte(sep)
		buf.Write(key)
		buf.WriteByte(':')
		buf.Write(val)
		sep = ','
		return nil
	}
	if len(metadata) > 0 {
		if err := entry("__metadata__", metadata); err != nil {
			return nil, err
		}
	}
	type info struct {
		DType   DType    `json:"dtype"`
		Shape   []int    `json:"shape"`
		Offsets [2]int64 `json:"data_offsets"`
	}
	at := int64(0)
	for _, t := range tensors {
		shape := t.Shape
		if shape == nil {
			shape = []int{} // a scalar is [], not null
		}
		end := at + sizes[t.Name]
		if end < at {
			return nil, fmt.Errorf("tensor %q: more than 2^63 bytes", t.Name)
		}
		if err := entry(t.Name, info{t.DType, shape, [2]int64{at, end}}); err != nil {
			return nil, err
		}
		at = end
	}
	if sep == '{' {
		buf.WriteByte('{')
	}
	buf.WriteByte('}')
	for buf.Len()%8 != 0 {
		buf.WriteByte(' ')
	}
	if buf.Len()-8 > maxHeader {
		return nil, fmt.Errorf("header of %d bytes, at most %d are read back", buf.Len()-8, maxHeader)
	}
	binary.LittleEndian.PutUint64(buf.Bytes(), uint64(buf.Len()-8))
	return buf.Bytes(), nil
}

func implied(data any) DType {
	switch data.(type) {
	case []float32:
		return F32
	case []float64:
		return F64
	case []int64:
		return I64
	case []byte:
		return U8
	case []uint16:
		return BF16
	}
	return ""
}

// check returns the tensor's bytes, after its data, type and shape agree.
func (t *Tensor) check() (int64, error) {
	size := int64(t.DType.Size())
	if size == 0 {
		return 0, fmt.Errorf("element type %q of %T", t.DType, t.Data)
	}
	if len(t.Shape) > maxRank {
		return 0, fmt.Errorf("%d dimensions, at most %d", len(t.Shape), maxRank)
	}
	want, ok := byteSize(t.Shape, size)
	if !ok {
		return 0, fmt.Errorf("shape %v", t.Shape)
	}
	var n, width int
	switch x := t.Data.(type) {
	case io.Reader:
		return want, nil
	case []float32:
		n, width, ok = len(x), 4, t.DType == F32
	case []float64:
		n, width, ok = len(x), 8, t.DType == F64
	case []int64:
		n, width, ok = len(x), 8, t.DType == I64
	case []uint16:
		n, width, ok = len(x), 2, t.DType == BF16 || t.DType == F16 || t.DType == U16
	case []byte:
		n, width, ok = len(x), 1, size == 1
	default:
		ok = false
	}
	if !ok {
		return 0, fmt.Errorf("data %T for element type %s", t.Data, t.DType)
	}
	if have := int64(n) * int64(width); have != want {
		return 0, fmt.Errorf("%d elements for shape %v", n, t.Shape)
	}
	return want, nil
}

func (t *Tensor) write(w io.Writer, size int64) error {
	le := binary.LittleEndian
	switch x := t.Data.(type) {
	case []float32:
		return encode(w, x, 4, func(b []byte, v float32) []byte { return le.AppendUint32(b, math.Float32bits(v)) })
	case []float64:
		return encode(w, x, 8, func(b []byte, v float64) []byte { return le.AppendUint64(b, math.Float64bits(v)) })
	case []int64:
		return encode(w, x, 8, func(b []byte, v int64) []byte { return le.AppendUint64(b, uint64(v)) })
	case []uint16:
		return encode(w, x, 2, le.AppendUint16)
	case []byte:
		_, err := w.Write(x)
		return err
	case io.Reader:
		if n, err := io.CopyN(w, x, size); err != nil {
			return fmt.Errorf("%d of %d bytes: %w", n, size, noEOF(err))
		}
		var more [1]byte
		if n, _ := io.ReadFull(x, more[:]); n > 0 {
			return fmt.Errorf("more than the %d bytes of shape %v", size, t.Shape)
		}
	}
	return nil
}

// encode writes x in pieces of 64 KiB.
func encode[T any](w io.Writer, x []T, size int, put func([]byte, T) []byte) error {
	const piece = 64 << 10
	buf := make([]byte, 0, min(piece, len(x)*size))
	for len(x) > 0 {
		n := min(len(x), piece/size)
		buf = buf[:0]
		for _, v := range x[:n] {
			buf = put(buf, v)
		}
		if _, err := w.Write(buf); err != nil {
			return err
		}
		x = x[n:]
	}
	return nil
}
