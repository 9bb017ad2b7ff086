package interop

import (
	"archive/zip"
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
)

// PyTorch is an open checkpoint of torch.save, in the zip format (PyTorch 1.6 and
// later) or the one before. Only tensors are seen, under the path of keys that
// leads to them: "state_dict/module.conv1.weight" is conv1 of the dictionary
// state_dict. Nothing of what the file says is executed. Elements are read when
// asked for. Methods may be called concurrently, but for Close.
type PyTorch struct {
	f       io.ReaderAt
	close   func() error
	path    string
	names   []string
	tensors map[string]*torchTensor
}

// torchStorage is the memory that tensors look into.
type torchStorage struct {
	key    string
	dtype  DType
	len    int64 // elements
	offset int64 // bytes within the file; -1 where it is not there
}

type torchTensor struct {
	storage       *torchStorage
	offset        int64 // elements
	shape, stride []int
}

var storageTypes = map[pyGlobal]DType{
	"torch.DoubleStorage": F64, "torch.FloatStorage": F32, "torch.HalfStorage": F16, "torch.BFloat16Storage": BF16,
	"torch.LongStorage": I64, "torch.IntStorage": I32, "torch.ShortStorage": I16, "torch.CharStorage": I8,
	"torch.ByteStorage": U8, "torch.BoolStorage": Bool,
}

// OpenPyTorch opens a checkpoint and reads all but the tensors' elements.
func OpenPyTorch(path string) (*PyTorch, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err // names the path
	}
	stat, err := f.Stat()
	if err == nil && !stat.Mode().IsRegular() {
		err = errors.New("not a regular file")
	}
	var p *PyTorch
	if err == nil {
		p, err = ReadPyTorch(f, stat.Size())
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("PyTorch checkpoint %s: %w", path, err)
	}
	p.close, p.path = f.Close, path
	return p, nil
}

// ReadPyTorch is OpenPyTorch for size bytes at r.
func ReadPyTorch(r io.ReaderAt, size int64) (*PyTorch, error) {
	p := &PyTorch{f: r, tensors: map[string]*torchTensor{}}
	var magic [4]byte
	if n, err := r.ReadAt(magic[:], 0); n < 4 {
		return nil, fmt.Errorf("%d bytes are too few: %w", size, noEOF(err))
	}
	var root any
	var err error
	switch {
	case string(magic[:]) == "PK\x03\x04":
		root, err = p.zip(size)
	case magic[0] == 0x80:
		root, err = p.legacy(size)
	default:
		err = errors.New("neither a zip file nor a pickle: not written by torch.save, or by a PyTorch before 0.4 (save it again with a newer one)")
	}
	if err != nil {
		return nil, err
	}
	w := walker{found: p.tensors, left: maxWalk}
	if err := w.walk("", root, 0); err != nil {
		return nil, err
	}
	if len(p.tensors) == 0 {
		return nil, errors.New("no tensors in it; a whole module that was pickled holds its class: save its state_dict() instead")
	}
	for name, t := range p.tensors {
		if t.storage.offset < 0 {
			return nil, fmt.Errorf("tensor %.200q: its elements (storage %.50q) are not in the file: truncated?", name, t.storage.key)
		}
		p.names = append(p.names, name)
	}
	slices.Sort(p.names)
	return p, nil
}

// zip reads the format of PyTorch 1.6 and later: a zip file, not compressed, of
// data.pkl and one entry for each storage.
func (p *PyTorch) zip(size int64) (any, error) {
	z, err := zip.NewReader(p.f, size)
	if err != nil {
		return nil, err
	}
	files := make(map[string]*zip.File, len(z.File))
	var pickle *zip.File
	for _, f := range z.File {
		_, name, _ := strings.Cut(f.Name, "/")
		if files[name] != nil {
			return nil, fmt.Errorf("two entries %.100q", name)
		}
		files[name] = f
	}
	if pickle = files["data.pkl"]; pickle == nil {
		return nil, errors.New("a zip file without data.pkl: not written by torch.save (TorchScript files are not read)")
	}
	if err := littleEndian(files["byteorder"]); err != nil {
		return nil, err
	}
	r, err := pickle.Open()
	if err != nil {
		return nil, fmt.Errorf("data.pkl: %w", err)
	}
	defer r.Close()
	storages := map[string]*torchStorage{}
	return newUnpickler(bufio.NewReader(r), func(s *torchStorage) (*torchStorage, error) {
		if known := storages[s.key]; known != nil {
			return known, known.same(s)
		}
		f := files["data/"+s.key]
		switch {
		case f == nil:
			return nil, fmt.Errorf("storage %.50q is not in the file", s.key)
		case f.Method != zip.Store:
			return nil, fmt.Errorf("storage %.50q is compressed, which torch.save never does", s.key)
		case f.UncompressedSize64 != uint64(s.len)*uint64(s.dtype.Size()):
			return nil, fmt.Errorf("storage %.50q: %d elements of %s in %d bytes", s.key, s.len, s.dtype, f.UncompressedSize64)
		}
		at, err := f.DataOffset()
		if err != nil {
			return nil, fmt.Errorf("storage %.50q: %w", s.key, err)
		}
		if uint64(at)+f.UncompressedSize64 > uint64(size) {
			return nil, fmt.Errorf("storage %.50q ends after the file", s.key)
		}
		s.offset = at
		storages[s.key] = s
		return s, nil
	}).load()
}

func littleEndian(f *zip.File) error {
	if f == nil {
		return nil
	}
	r, err := f.Open()
	if err != nil {
		return fmt.Errorf("byteorder: %w", err)
	}
	defer r.Close()
	text, err := io.ReadAll(io.LimitReader(r, 16))
	if err == nil && string(text) != "little" {
		err = fmt.Errorf("%q: only little-endian files are read", text)
	}
	return err
}

// The head of the format before zip: three pickles.
const (
	legacyMagic   = "\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19." // LONG1 0x1950a86a20f9469cfc6c
	legacyVersion = int64(1001)
)

// legacy reads the format before PyTorch 1.6, in which the original's published
// networks are: pickles of a magic number, a version, facts about the machine,
// the object, and the storages' keys; then each storage, its length before it.
func (p *PyTorch) legacy(size int64) (any, error) {
	counted := &counter{r: io.NewSectionReader(p.f, 0, size)}
	buf := bufio.NewReader(counted)
	head := make([]byte, len(legacyMagic))
	if _, err := io.ReadFull(buf, head); err != nil || string(head) != legacyMagic {
		return nil, errors.New("a pickle, but not of torch.save: save the state dict by torch.save")
	}
	storages := map[string]*torchStorage{}
	u := newUnpickler(buf, func(s *torchStorage) (*torchStorage, error) {
		if known := storages[s.key]; known != nil {
			return known, known.same(s)
		}
		storages[s.key] = s
		return s, nil
	})
	var parts [4]any // version, machine, object, keys
	for i := range parts {
		v, err := u.load()
		if err != nil {
			return nil, err
		}
		parts[i] = v
		if i == 0 && v != legacyVersion {
			return nil, fmt.Errorf("format %v, want %d", v, legacyVersion)
		}
	}
	if info, ok := parts[1].(*pyDict); ok {
		for _, pair := range info.pairs {
			if pair.key == "little_endian" && pair.value == false {
				return nil, errors.New("only little-endian files are read")
			}
		}
	}
	keys, ok := parts[3].(*pyList)
	if !ok {
		return nil, errors.New("no list of storages after the pickle")
	}
	at := counted.n - int64(buf.Buffered())
	for _, key := range keys.items {
		name, _ := key.(string)
		s := storages[name]
		if s == nil || s.offset >= 0 {
			return nil, fmt.Errorf("storage %.50q is listed, but not used, or twice", name)
		}
		var n [8]byte
		if _, err := p.f.ReadAt(n[:], at); err != nil {
			return nil, fmt.Errorf("storage %.50q: %w", name, noEOF(err))
		}
		if have := binary.LittleEndian.Uint64(n[:]); have != uint64(s.len) {
			return nil, fmt.Errorf("storage %.50q has %d elements, its tensors want %d", name, have, s.len)
		}
		bytes := s.len * int64(s.dtype.Size())
		if at += 8; bytes > size-at {
			return nil, fmt.Errorf("storage %.50q of %d bytes ends after the file: truncated?", name, bytes)
		}
		s.offset = at
		at += bytes
	}
	return parts[2], nil
}

// counter counts the bytes read through it.
type counter struct {
	r io.Reader
	n int64
}

func (c *counter) Read(b []byte) (int, error) {
	n, err := c.r.Read(b)
	c.n += int64(n)
	return n, err
}

// same checks that two mentions of a storage agree.
func (s *torchStorage) same(t *torchStorage) error {
	if s.dtype != t.dtype || s.len != t.len {
		return fmt.Errorf("storage %.50q is %d of %s here, %d of %s there", s.key, s.len, s.dtype, t.len, t.dtype)
	}
	return nil
}

// newUnpickler reads checkpoints; place finds a storage within the file.
func newUnpickler(r *bufio.Reader, place func(*torchStorage) (*torchStorage, error)) *unpickler {
	return &unpickler{r: r, tensor: rebuildTensor, persistent: func(id pyTuple) (any, error) {
		s, err := storageOf(id)
		if err != nil || s == nil {
			return pyOpaque{}, err
		}
		return place(s)
	}}
}

// storageOf reads ("storage", class, key, device, elements, view).
func storageOf(id pyTuple) (*torchStorage, error) {
	if len(id) > 0 && id[0] == "module" {
		return nil, nil // source text of a pickled module
	}
	if len(id) < 5 || len(id) > 6 || id[0] != "storage" {
		return nil, errors.New("a storage wants a class, a key, a device and a length")
	}
	class, _ := id[1].(pyGlobal)
	key, ok := id[2].(string)
	n, ok2 := id[4].(int64)
	dtype, known := storageTypes[class]
	switch {
	case !ok || !ok2 || n < 0 || n > 1<<56:
		return nil, errors.New("a storage wants a class, a key, a device and a length")
	case len(id) == 6 && id[5] != nil:
		return nil, fmt.Errorf("storage %.50q is a view of another, as only PyTorch before 0.4 wrote: save it again with a newer one", key)
	case !known:
		return nil, nil // complex or quantised: no network's here
	}
	return &torchStorage{key: key, dtype: dtype, len: n, offset: -1}, nil
}

// rebuildTensor makes a tensor of storage, offset, size and stride, all within
// the storage.
func rebuildTensor(args pyTuple) (any, error) {
	if len(args) < 4 {
		return nil, fmt.Errorf("a tensor of %d arguments", len(args))
	}
	s, ok := args[0].(*torchStorage)
	if !ok {
		return pyOpaque{}, nil // of an element type that is not read
	}
	offset, ok := args[1].(int64)
	shape, ok2 := ints(args[2])
	stride, ok3 := ints(args[3])
	if !ok || !ok2 || !ok3 || offset < 0 || len(shape) != len(stride) || len(shape) > maxRank {
		return nil, errors.New("a tensor wants an offset, a size and a stride")
	}
	// A tensor longer than its storage repeats elements; no parameter does.
	n, fits := byteSize(shape, 1)
	if !fits || n > s.len {
		return nil, fmt.Errorf("a tensor %v in a storage of %d elements", shape, s.len)
	}
	if n > 0 && !within(s.len, offset, shape, stride) {
		return nil, fmt.Errorf("a tensor %v with stride %v from %d on in a storage of %d elements", shape, stride, offset, s.len)
	}
	return &torchTensor{storage: s, offset: offset, shape: shape, stride: stride}, nil
}

// within tells whether all elements of a tensor that is not empty are among the
// first n.
func within(n, offset int64, shape, stride []int) bool {
	last := offset
	for i, d := range shape {
		if last >= n || d > 1 && int64(stride[i]) > (n-last)/int64(d-1) {
			return false
		}
		last += int64(d-1) * int64(stride[i])
	}
	return last < n
}

func ints(v any) ([]int, bool) {
	tuple, ok := v.(pyTuple)
	if !ok {
		return nil, false
	}
	out := make([]int, len(tuple))
	for i, x := range tuple {
		n, ok := x.(int64)
		if !ok || n < 0 {
			return nil, false
		}
		out[i] = int(n)
	}
	return out, true
}

// walker finds the tensors in what a pickle made. A container may occur in
// several places, even in itself; depth and steps are bounded.
type walker struct {
	found map[string]*torchTensor
	left  int
}

const (
	maxWalk  = 1 << 20
	maxDepth = 32
	maxName  = 1 << 12
)

func (w *walker) walk(path string, v any, depth int) error {
	if w.left--; w.left < 0 || depth > maxDepth || len(path) > maxName {
		return errors.New("too many or too deeply nested objects")
	}
	below := func(key string) string {
		if path == "" {
			return key
		}
		return path + "/" + key
	}
	switch v := v.(type) {
	case *torchTensor:
		w.found[path] = v
	case *pyDict:
		for _, p := range v.pairs {
			var key string
			switch k := p.key.(type) {
			case string:
				key = k
			case int64:
				key = strconv.FormatInt(k, 10)
			default:
				continue
			}
			if err := w.walk(below(key), p.value, depth+1); err != nil {
				return err
			}
		}
	case *pyList:
		return w.items(below, v.items, depth)
	case pyTuple:
		return w.items(below, v, depth)
	}
	return nil
}

func (w *walker) items(below func(string) string, items []any, depth int) error {
	for i, x := range items {
		if err := w.walk(below(strconv.Itoa(i)), x, depth+1); err != nil {
			return err
		}
	}
	return nil
}

// Names are the tensors' paths, sorted.
func (p *PyTorch) Names() []string { return slices.Clone(p.names) }

// Shape is a tensor's shape; ok is false if there is none of that name.
func (p *PyTorch) Shape(name string) (shape []int, ok bool) {
	t := p.tensors[name]
	if t == nil {
		return nil, false
	}
	return slices.Clone(t.shape), true
}

// Float32 returns a tensor of floating point numbers as float32, row-major.
func (p *PyTorch) Float32(name string) ([]float32, error) {
	fail := func(err error) ([]float32, error) {
		return nil, fmt.Errorf("PyTorch checkpoint %s: tensor %.200q: %w", p.path, name, err)
	}
	t := p.tensors[name]
	if t == nil {
		return fail(errors.New("no such tensor"))
	}
	dtype := t.storage.dtype
	if !dtype.float() {
		return fail(fmt.Errorf("element type %s, want floating point", dtype))
	}
	n, _ := byteSize(t.shape, 1)
	if n == 0 {
		return []float32{}, nil
	}
	span := int64(1) // elements from the first to the last
	for i, d := range t.shape {
		span += int64(d-1) * int64(t.stride[i])
	}
	size := int64(dtype.Size())
	r := io.NewSectionReader(p.f, t.storage.offset+t.offset*size, span*size)
	flat := make([]float32, 0, span)
	buf := make([]byte, 64<<10)
	for int64(len(flat)) < span {
		b := buf[:min(int64(len(buf)), (span-int64(len(flat)))*size)]
		if _, err := io.ReadFull(r, b); err != nil {
			return fail(noEOF(err))
		}
		flat = appendFloat32(flat, dtype, b)
	}
	if t.contiguous() {
		return flat, nil
	}
	return gather(make([]float32, 0, n), flat, t.shape, t.stride), nil
}

func (t *torchTensor) contiguous() bool {
	want := 1
	for i := len(t.shape) - 1; i >= 0; i-- {
		if t.shape[i] != 1 && t.stride[i] != want {
			return false
		}
		want *= t.shape[i]
	}
	return true
}

// gather appends the elements of a tensor with strides in row order.
func gather(dst, src []float32, shape, stride []int) []float32 {
	if len(shape) == 0 {
		return append(dst, src[0])
	}
	for i := range shape[0] {
		dst = gather(dst, src[i*stride[0]:], shape[1:], stride[1:])
	}
	return dst
}

// Close closes the file.
func (p *PyTorch) Close() error {
	if p.close == nil {
		return nil
	}
	return p.close()
}
