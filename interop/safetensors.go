package interop

import (
	"cmp"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strings"
)

// maxHeader bounds the header of a safetensors file. A tensor takes about 100
// bytes there, so this is room for 300,000 of them.
const maxHeader = 32 << 20

// maxRank bounds a tensor's dimensions; the header alone could claim millions.
const maxRank = 32

// Info describes a tensor of a file.
type Info struct {
	DType      DType
	Shape      []int // row-major; empty for a scalar
	begin, end int64 // bytes, within the file
}

// Len is the number of elements.
func (i Info) Len() int { return int((i.end - i.begin) / int64(i.DType.Size())) }

// Safetensors is an open safetensors file: the header is in memory, tensors are
// read when asked for. Its methods may be called concurrently, but for Close.
type Safetensors struct {
	// Metadata is the file's free text, by key; never nil.
	Metadata map[string]string

	r     io.ReaderAt
	close func() error
	path  string
	names []string // sorted
	infos map[string]Info
}

// OpenSafetensors opens the file and checks its whole header: lengths, types,
// shapes, and that the tensors tile the data without gap or overlap, as the
// format demands.
func OpenSafetensors(path string) (*Safetensors, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err // names the path
	}
	stat, err := f.Stat()
	if err == nil && !stat.Mode().IsRegular() {
		err = errors.New("not a regular file")
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("safetensors %s: %w", path, err)
	}
	s, err := ReadSafetensors(f, stat.Size())
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("safetensors %s: %w", path, err)
	}
	s.close, s.path = f.Close, path
	return s, nil
}

// ReadSafetensors is OpenSafetensors for size bytes at r.
func ReadSafetensors(r io.ReaderAt, size int64) (*Safetensors, error) {
	var prefix [8]byte
	if size < 8 {
		return nil, fmt.Errorf("%d bytes are too few: truncated, or not this format", size)
	}
	if _, err := r.ReadAt(prefix[:], 0); err != nil {
		return nil, fmt.Errorf("header length: %w", err)
	}
	n := binary.LittleEndian.Uint64(prefix[:])
	if n > maxHeader {
		return nil, fmt.Errorf("header of %d bytes (at most %d are read): not this format?", n, maxHeader)
	}
	if n > uint64(size-8) {
		return nil, fmt.Errorf("header of %d bytes in a file of %d: truncated, or not this format", n, size)
	}
	s := &Safetensors{r: r, infos: map[string]Info{}, Metadata: map[string]string{}}
	header := make([]byte, n)
	if err := s.read(header, 8); err != nil {
		return nil, fmt.Errorf("header: %w", err)
	}
	if err := s.parse(header); err != nil {
		return nil, fmt.Errorf("header: %w", err)
	}
	if err := s.place(8+int64(n), size); err != nil {
		return nil, err
	}
	return s, nil
}

// parse reads the header's JSON. It goes token by token, since decoding into a
// map would let a key appear twice and other readers see another tensor.
func (s *Safetensors) parse(header []byte) error {
	dec := json.NewDecoder(strings.NewReader(string(header)))
	err := object(dec, func(name string) error {
		if name == "__metadata__" {
			return object(dec, func(key string) error {
				var value string
				err := dec.Decode(&value)
				s.Metadata[key] = value
				return err
			})
		}
		info, err := parseInfo(dec)
		if err != nil {
			return fmt.Errorf("tensor %.200q: %w", name, err)
		}
		s.names = append(s.names, name)
		s.infos[name] = info
		return nil
	})
	if err != nil {
		return err
	}
	// The writer may pad with spaces; nothing else may follow.
	if _, err := dec.Token(); err != io.EOF {
		return errors.New("more than one JSON value")
	}
	return nil
}

func parseInfo(dec *json.Decoder) (Info, error) {
	var info Info
	var offsets []int64
	seen := 0
	err := object(dec, func(key string) error {
		seen++
		switch key {
		case "dtype":
			return dec.Decode(&info.DType)
		case "shape":
			return dec.Decode(&info.Shape)
		case "data_offsets":
			return dec.Decode(&offsets)
		}
		return fmt.Errorf("unknown key %.100q", key)
	})
	if err != nil {
		return Info{}, err
	}
	size := int64(info.DType.Size())
	switch {
	case seen != 3:
		return Info{}, errors.New("dtype, shape or data_offsets missing")
	case size == 0:
		return Info{}, fmt.Errorf("element type %.20q is not supported", info.DType)
	case len(offsets) != 2:
		return Info{}, fmt.Errorf("%d data offsets, want 2", len(offsets))
	case len(info.Shape) > maxRank:
		return Info{}, fmt.Errorf("%d dimensions, at most %d are read", len(info.Shape), maxRank)
	}
	info.begin, info.end = offsets[0], offsets[1]
	if info.begin < 0 || info.end < info.begin {
		return Info{}, fmt.Errorf("data offsets %v", offsets)
	}
	bytes, ok := byteSize(info.Shape, size)
	if !ok || bytes != info.end-info.begin {
		return Info{}, fmt.Errorf("shape %v of %s does not fill its %d bytes", info.Shape, info.DType, info.end-info.begin)
	}
	return info, nil
}

// byteSize is the product of shape and size; ok is false for negative
// dimensions and where the product does not fit.
func byteSize(shape []int, size int64) (n int64, ok bool) {
	n = size
	if slices.Contains(shape, 0) {
		n = 0
	}
	for _, d := range shape {
		if d < 0 || d > 0 && n > math.MaxInt64/int64(d) {
			return 0, false
		}
		n *= int64(d)
	}
	return n, true
}

// place turns offsets within the data into offsets within the file and checks
// that the tensors tile the data from start to size.
func (s *Safetensors) place(start, size int64) error {
	slices.SortStableFunc(s.names, func(a, b string) int {
		x, y := s.infos[a], s.infos[b]
		// Empty tensors come before the one that begins where they do.
		return cmp.Or(cmp.Compare(x.begin, y.begin), cmp.Compare(x.end, y.end))
	})
	at := int64(0)
	for _, name := range s.names {
		info := s.infos[name]
		if info.begin != at {
			return fmt.Errorf("tensor %.200q begins at byte %d of the data, the one before ends at %d", name, info.begin, at)
		}
		if info.end > size-start {
			return fmt.Errorf("tensor %.200q ends at byte %d of %d: truncated?", name, info.end, size-start)
		}
		at = info.end
		info.begin += start
		info.end += start
		s.infos[name] = info
	}
	if at != size-start {
		return fmt.Errorf("%d bytes of data belong to no tensor", size-start-at)
	}
	slices.Sort(s.names)
	return nil
}

// object reads a JSON object and calls value for each key, which reads the value.
// A key may not appear twice.
func object(dec *json.Decoder, value func(key string) error) error {
	open, err := dec.Token()
	if err != nil {
		return noEOF(err)
	}
	if open != json.Delim('{') {
		return fmt.Errorf("%.20v where an object is expected", open)
	}
	seen := map[string]bool{}
	for dec.More() {
		token, err := dec.Token()
		if err != nil {
			return noEOF(err)
		}
		key := token.(string) // the decoder accepts nothing else here
		if seen[key] {
			return fmt.Errorf("%.200q appears twice", key)
		}
		seen[key] = true
		if err := value(key); err != nil {
			return noEOF(err)
		}
	}
	_, err = dec.Token()
	return noEOF(err)
}

func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// Names are the tensors' names, sorted.
func (s *Safetensors) Names() []string { return slices.Clone(s.names) }

// Info describes a tensor; ok is false if there is none of that name.
func (s *Safetensors) Info(name string) (info Info, ok bool) {
	info, ok = s.infos[name]
	info.Shape = slices.Clone(info.Shape)
	return info, ok
}

// Shape is a tensor's shape; ok is false if there is none of that name.
func (s *Safetensors) Shape(name string) (shape []int, ok bool) {
	info, ok := s.Info(name)
	return info.Shape, ok
}

// Bytes returns a tensor as it is in the file: little-endian, row-major.
func (s *Safetensors) Bytes(name string) ([]byte, error) {
	info, err := s.find(name)
	if err != nil {
		return nil, err
	}
	data := make([]byte, info.end-info.begin)
	if err := s.read(data, info.begin); err != nil {
		return nil, s.wrap(name, err)
	}
	return data, nil
}

// Float32 returns a tensor of F32, F64, F16 or BF16 as float32.
func (s *Safetensors) Float32(name string) ([]float32, error) {
	info, err := s.find(name)
	if err != nil {
		return nil, err
	}
	if !info.DType.float() {
		return nil, s.wrap(name, fmt.Errorf("element type %s, want floating point", info.DType))
	}
	x := make([]float32, 0, info.Len())
	err = s.chunks(info, func(b []byte) { x = appendFloat32(x, info.DType, b) })
	return x, s.wrap(name, err)
}

// Float64 returns a tensor of F64.
func (s *Safetensors) Float64(name string) ([]float64, error) {
	info, err := s.want(name, F64)
	if err != nil {
		return nil, err
	}
	x := make([]float64, 0, info.Len())
	err = s.chunks(info, func(b []byte) {
		for ; len(b) > 0; b = b[8:] {
			x = append(x, math.Float64frombits(binary.LittleEndian.Uint64(b)))
		}
	})
	return x, s.wrap(name, err)
}

// Int64 returns a tensor of I64.
func (s *Safetensors) Int64(name string) ([]int64, error) {
	info, err := s.want(name, I64)
	if err != nil {
		return nil, err
	}
	x := make([]int64, 0, info.Len())
	err = s.chunks(info, func(b []byte) {
		for ; len(b) > 0; b = b[8:] {
			x = append(x, int64(binary.LittleEndian.Uint64(b)))
		}
	})
	return x, s.wrap(name, err)
}

// chunks calls f for the tensor's bytes in whole elements, in order.
func (s *Safetensors) chunks(info Info, f func(b []byte)) error {
	buf := make([]byte, min(64<<10, info.end-info.begin))
	for at := info.begin; at < info.end; {
		b := buf[:min(int64(len(buf)), info.end-at)]
		if err := s.read(b, at); err != nil {
			return err
		}
		f(b)
		at += int64(len(b))
	}
	return nil
}

func (s *Safetensors) read(b []byte, at int64) error {
	if n, err := s.r.ReadAt(b, at); n < len(b) {
		return noEOF(err) // the file has shrunk since it was opened
	}
	return nil
}

func (s *Safetensors) find(name string) (Info, error) {
	info, ok := s.infos[name]
	if !ok {
		return Info{}, s.wrap(name, errors.New("no such tensor"))
	}
	return info, nil
}

func (s *Safetensors) want(name string, d DType) (Info, error) {
	info, err := s.find(name)
	if err == nil && info.DType != d {
		err = s.wrap(name, fmt.Errorf("element type %s, want %s", info.DType, d))
	}
	return info, err
}

func (s *Safetensors) wrap(name string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("safetensors %s: tensor %.200q: %w", s.path, name, err)
}

// Close closes the file.
func (s *Safetensors) Close() error {
	if s.close == nil {
		return nil
	}
	return s.close()
}
