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

const npyMagic = "\x93NUMPY"

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
	dict := fmt.Sprintf("{'descr': '<f4', 'fortran_order': False, 'shape': (%d, %d), }", rows, cols)
	// Magic, version 1.0, length (2 bytes), dictionary, line feed: whole 64 bytes.
	pad := (64 - (len(npyMagic)+4+len(dict)+1)%64) % 64
	dict += strings.Repeat(" ", pad) + "\n"
	header := append([]byte(npyMagic), 1, 0)
	header = binary.LittleEndian.AppendUint16(header, uint16(len(dict)))
	if _, err := w.Write(append(header, dict...)); err != nil {
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

var npyDict = regexp.MustCompile(`^\{\s*'descr'\s*:\s*'([^']{1,20})'\s*,\s*'fortran_order'\s*:\s*(True|False)\s*,\s*'shape'\s*:\s*\(\s*(\d{1,18})\s*,\s*(\d{1,18})\s*,?\s*\)\s*,?\s*\}\s*$`)

// ReadNPY reads a matrix of little-endian float32 in row order, as NPYWriter and
// numpy.save write it. Memory grows with what r holds, not with what the header
// claims.
func ReadNPY(r io.Reader) (rows, cols int, data []float32, err error) {
	rows, cols, _, err = ReadNPYHeader(r)
	if err != nil {
		return 0, 0, nil, err
	}
	size, _ := byteSize([]int{rows, cols}, 4)
	var buf bytes.Buffer
	if _, err := io.CopyN(&buf, r, size); err != nil {
		return 0, 0, nil, fmt.Errorf("read npy: %w", noEOF(err))
	}
	data = make([]float32, size/4)
	for i := range data {
		data[i] = math.Float32frombits(binary.LittleEndian.Uint32(buf.Bytes()[4*i:]))
	}
	return rows, cols, data, nil
}

// ReadNPYHeader reads up to the data of such a matrix and returns its size and the
// place where the data begins. That the data is there, and no more, is not checked.
func ReadNPYHeader(r io.Reader) (rows, cols, offset int, err error) {
	fail := func(err error) (int, int, int, error) {
		return 0, 0, 0, fmt.Errorf("read npy: %w", noEOF(err))
	}
	var head [12]byte
	if _, err := io.ReadFull(r, head[:10]); err != nil {
		return fail(err)
	}
	if string(head[:6]) != npyMagic {
		return fail(errors.New("not an npy file"))
	}
	n := uint32(binary.LittleEndian.Uint16(head[8:]))
	offset = 10
	switch head[6] {
	case 1:
	case 2, 3:
		if _, err := io.ReadFull(r, head[10:]); err != nil {
			return fail(err)
		}
		n = binary.LittleEndian.Uint32(head[8:])
		offset = 12
	default:
		return fail(fmt.Errorf("format %d", head[6]))
	}
	if n > 1<<16 {
		return fail(fmt.Errorf("header of %d bytes", n))
	}
	dict := make([]byte, n)
	if _, err := io.ReadFull(r, dict); err != nil {
		return fail(err)
	}
	m := npyDict.FindSubmatch(dict)
	if m == nil || string(m[1]) != "<f4" || string(m[2]) != "False" {
		return fail(fmt.Errorf("header %.200q: want a matrix of '<f4' in row order", dict))
	}
	rows, err1 := strconv.Atoi(string(m[3]))
	cols, err2 := strconv.Atoi(string(m[4]))
	if _, ok := byteSize([]int{rows, cols}, 4); errors.Join(err1, err2) != nil || !ok {
		return fail(fmt.Errorf("matrix %s x %s is too large", m[3], m[4]))
	}
	return rows, cols, offset + int(n), nil
}
