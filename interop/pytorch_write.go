package interop

import (
	"archive/zip"
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"strconv"
	"strings"
)

// torchAlign is where PyTorch puts the elements of a storage, so that a file can
// be mapped into memory.
const torchAlign = 64

// zipHeader is the size of an entry's header without name and extra field.
const zipHeader = 30

// The pickle operations that WritePyTorch uses.
const (
	opOrderedDict = "ccollections\nOrderedDict\n)R"
	opRebuild     = "ctorch._utils\n_rebuild_tensor_v2\n"
)

// WritePyTorch writes a state dict as torch.save does, in the zip format: an
// OrderedDict of tensors in the given order, which torch.load takes with
// weights_only=True. Elements are F32 ([]float32) or I64 ([]int64). The same input
// gives the same bytes.
func WritePyTorch(w io.Writer, tensors []Tensor) error {
	fail := func(err error) error { return fmt.Errorf("write PyTorch checkpoint: %w", err) }
	pickle, err := statePickle(tensors)
	if err != nil {
		return fail(err)
	}
	at := &writeCounter{w: w}
	z := zip.NewWriter(at)
	entry := func(name string, write func(io.Writer) error) error {
		sum := crc32.NewIEEE()
		size := &writeCounter{w: sum}
		if err := write(size); err != nil {
			return err
		}
		if err := z.Flush(); err != nil { // so that at tells where the entry begins
			return err
		}
		header := &zip.FileHeader{Name: "archive/" + name, Method: zip.Store, CRC32: sum.Sum32(),
			CompressedSize64: uint64(size.n), UncompressedSize64: uint64(size.n)}
		// Padding in the header's extra field, as PyTorch does it.
		data := at.n + zipHeader + int64(len(header.Name)) + 4
		pad := int((torchAlign - data%torchAlign) % torchAlign)
		header.Extra = append([]byte{'F', 'B', byte(pad), 0}, bytes.Repeat([]byte{'Z'}, pad)...)
		f, err := z.CreateRaw(header)
		if err != nil {
			return err
		}
		return write(f)
	}
	text := func(name string, s []byte) error {
		return entry(name, func(w io.Writer) error {
			_, err := w.Write(s)
			return err
		})
	}
	if err := text("data.pkl", pickle); err != nil {
		return fail(err)
	}
	if err := text("byteorder", []byte("little")); err != nil {
		return fail(err)
	}
	for i, t := range tensors {
		err := entry("data/"+strconv.Itoa(i), func(w io.Writer) error { return t.write(w, 0) })
		if err != nil {
			return fail(err)
		}
	}
	if err := text("version", []byte("3\n")); err != nil {
		return fail(err)
	}
	if err := z.Close(); err != nil {
		return fail(err)
	}
	return nil
}

// statePickle is data.pkl: protocol 2, without a memo.
func statePickle(tensors []Tensor) ([]byte, error) {
	b := []byte("\x80\x02" + opOrderedDict + "(")
	seen := map[string]bool{}
	for i, t := range tensors {
		class := "FloatStorage"
		switch implied(t.Data) {
		case F32:
			t.DType = F32
		case I64:
			t.DType, class = I64, "LongStorage"
		default:
			return nil, fmt.Errorf("tensor %q: data %T, want []float32 or []int64", t.Name, t.Data)
		}
		n, err := t.check()
		if err != nil {
			return nil, fmt.Errorf("tensor %q: %w", t.Name, err)
		}
		if seen[t.Name] {
			return nil, fmt.Errorf("tensor %q twice", t.Name)
		}
		seen[t.Name] = true
		b = pickleString(b, t.Name)
		b = append(b, opRebuild+"(("...)
		b = pickleString(b, "storage")
		b = append(b, "ctorch\n"+class+"\n"...)
		b = pickleString(b, strconv.Itoa(i))
		b = pickleString(b, "cpu")
		b = pickleInt(b, int(n)/t.DType.Size())
		b = append(b, "tQ"...)
		b = pickleInt(b, 0)
		stride := make([]int, len(t.Shape))
		step := 1
		for d := len(stride) - 1; d >= 0; d-- {
			stride[d] = step
			step *= max(1, t.Shape[d])
		}
		for _, list := range [][]int{t.Shape, stride} {
			b = append(b, '(')
			for _, v := range list {
				b = pickleInt(b, v)
			}
			b = append(b, 't')
		}
		b = append(b, "\x89"+opOrderedDict+"tR"...) // no gradient, no hooks
	}
	return append(b, "u."...), nil
}

func pickleString(b []byte, s string) []byte {
	s = strings.ToValidUTF8(s, "?")
	return append(binary.LittleEndian.AppendUint32(append(b, 'X'), uint32(len(s))), s...)
}

func pickleInt(b []byte, n int) []byte {
	if n == int(int32(n)) {
		return binary.LittleEndian.AppendUint32(append(b, 'J'), uint32(n))
	}
	return binary.LittleEndian.AppendUint64(append(b, 0x8a, 8), uint64(n))
}

// writeCounter counts the bytes written through it.
type writeCounter struct {
	w io.Writer
	n int64
}

func (c *writeCounter) Write(b []byte) (int, error) {
	n, err := c.w.Write(b)
	c.n += int64(n)
	return n, err
}
