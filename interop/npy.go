package interop

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"regexp"
	"strconv"
	"strings"
)

// NPYMagic begins every npy file.
const NPYMagic = "\x93NUMPY"

// NPYWriter writes a matrix of float32 in NumPy's npy format, row by row.
type NPYWriter struct {
	w          io.Writer
	rows, cols int
	written    int // elements
}

// NewNPY writes the header of a matrix [rows, cols] to w.
func NewNPY(w io.Writer, rows, cols int) (*NPYWriter, error) {
	if rows < 0 || cols < 0 {
		return nil, fmt.Errorf("write npy: matrix %d x %d", rows, cols)
	}
	if _, err := w.Write(NPYHeader{DType: "<f4", Shape: []int{rows, cols}}.Append(nil)); err != nil {
		return nil, fmt.Errorf("write npy: %w", err)
	}
	return &NPYWriter{w: w, rows: rows, cols: cols}, nil
}

// Write appends whole rows.
func (n *NPYWriter) Write(rows []float32) error {
	if n.cols > 0 && len(rows)%n.cols != 0 || len(rows) > n.rows*n.cols-n.written {
		return fmt.Errorf("write npy: %d elements after %d of a matrix %d x %d", len(rows), n.written, n.rows, n.cols)
	}
	n.written += len(rows)
	if err := (&Tensor{Data: rows}).write(n.w, 0); err != nil {
		return fmt.Errorf("write npy: %w", err)
	}
	return nil
}

// Close reports rows that are missing. It does not close the underlying writer.
func (n *NPYWriter) Close() error {
	if n.written != n.rows*n.cols {
		return fmt.Errorf("write npy: %d elements of a matrix %d x %d", n.written, n.rows, n.cols)
	}
	return nil
}

var npyDict = regexp.MustCompile(`^\{\s*'descr'\s*:\s*'([^']{1,20})'\s*,\s*'fortran_order'\s*:\s*(True|False)\s*,\s*'shape'\s*:\s*\(\s*((?:\d{1,18}\s*,?\s*){0,32})\)\s*,?\s*\}\s*$`)

// NPYHeader describes the array of an npy file.
type NPYHeader struct {
	DType   string // as NumPy writes it: "<f4", "|u1"
	Fortran bool   // the first axis is the fastest
	Shape   []int
}

// Append appends the header as it stands in a file: magic, version 1.0, length,
// dictionary, spaces up to whole 64 bytes.
func (h NPYHeader) Append(b []byte) []byte {
	order, shape := "False", ""
	if h.Fortran {
		order = "True"
	}
	for i, d := range h.Shape {
		if i > 0 {
			shape += ", "
		}
		shape += strconv.Itoa(d)
	}
	if len(h.Shape) == 1 {
		shape += ","
	}
	dict := fmt.Sprintf("{'descr': '%s', 'fortran_order': %s, 'shape': (%s), }", h.DType, order, shape)
	pad := (64 - (len(NPYMagic)+4+len(dict)+1)%64) % 64
	dict += strings.Repeat(" ", pad) + "\n"
	b = append(append(b, NPYMagic...), 1, 0)
	b = binary.LittleEndian.AppendUint16(b, uint16(len(dict)))
	return append(b, dict...)
}

// ReadNPYHeader reads up to where the elements begin. It says nothing about
// whether they are there.
func ReadNPYHeader(r io.Reader) (NPYHeader, error) {
	var head [12]byte
	if _, err := io.ReadFull(r, head[:10]); err != nil {
		return NPYHeader{}, noEOF(err)
	}
	if string(head[:6]) != NPYMagic {
		return NPYHeader{}, errors.New("not an npy file")
	}
	n := uint32(binary.LittleEndian.Uint16(head[8:]))
	switch head[6] {
	case 1:
	case 2, 3:
		if _, err := io.ReadFull(r, head[10:]); err != nil {
			return NPYHeader{}, noEOF(err)
		}
		n = binary.LittleEndian.Uint32(head[8:])
	default:
		return NPYHeader{}, fmt.Errorf("format %d", head[6])
	}
	if n > 1<<16 {
		return NPYHeader{}, fmt.Errorf("header of %d bytes", n)
	}
	dict := make([]byte, n)
	if _, err := io.ReadFull(r, dict); err != nil {
		return NPYHeader{}, noEOF(err)
	}
	m := npyDict.FindSubmatch(dict)
	if m == nil {
		return NPYHeader{}, fmt.Errorf("header %.200q: want an array of numbers", dict)
	}
	h := NPYHeader{DType: string(m[1]), Fortran: string(m[2]) == "True"}
	for d := range strings.FieldsFuncSeq(string(m[3]), func(r rune) bool { return r < '0' || r > '9' }) {
		v, err := strconv.Atoi(d)
		if err != nil {
			return NPYHeader{}, err
		}
		h.Shape = append(h.Shape, v)
	}
	return h, nil
}

// Matrix is the size of a matrix of float32 in row order, which is what NPYWriter
// writes; other arrays are an error.
func (h NPYHeader) Matrix() (rows, cols int, err error) {
	if h.DType != "<f4" || h.Fortran || len(h.Shape) != 2 {
		return 0, 0, fmt.Errorf("array of type %s and shape %v: want a matrix of <f4 in row order", h.DType, h.Shape)
	}
	if _, ok := byteSize(h.Shape, 4); !ok {
		return 0, 0, fmt.Errorf("matrix %d x %d is too large", h.Shape[0], h.Shape[1])
	}
	return h.Shape[0], h.Shape[1], nil
}

// ReadNPY reads a matrix of little-endian float32 in row order, as NPYWriter and
// numpy.save write it. Memory grows with what r holds, not with what the header
// claims.
func ReadNPY(r io.Reader) (rows, cols int, data []float32, err error) {
	fail := func(err error) (int, int, []float32, error) {
		return 0, 0, nil, fmt.Errorf("read npy: %w", noEOF(err))
	}
	h, err := ReadNPYHeader(r)
	if err != nil {
		return fail(err)
	}
	if rows, cols, err = h.Matrix(); err != nil {
		return fail(err)
	}
	var buf bytes.Buffer
	if _, err := io.CopyN(&buf, r, int64(rows)*int64(cols)*4); err != nil {
		return fail(err)
	}
	data = make([]float32, rows*cols)
	for i := range data {
		data[i] = math.Float32frombits(binary.LittleEndian.Uint32(buf.Bytes()[4*i:]))
	}
	return rows, cols, data, nil
}
