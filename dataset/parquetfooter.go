package dataset

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// maxFooter bounds the metadata at the end of a parquet file.
const maxFooter = 256 << 20

// errFooter says that a footer claims what is not there.
var errFooter = errors.New("damaged metadata: it claims more than it holds")

// checkFooter walks through the metadata of a parquet file: the library sets
// aside as many elements as a list claims, whether or not they follow.
func checkFooter(r io.ReaderAt, size int64) error {
	const tail = 8 // length and magic
	var end [tail]byte
	if size < tail+4 {
		return errors.New("too short for a parquet file")
	}
	if _, err := r.ReadAt(end[:], size-tail); err != nil {
		return err
	}
	if string(end[4:]) != "PAR1" {
		return errors.New("not a parquet file, or one that ends early")
	}
	length := int64(binary.LittleEndian.Uint32(end[:]))
	if length > size-tail || length > maxFooter {
		return fmt.Errorf("metadata of %d bytes in a file of %d: at most %d are read", length, size, maxFooter)
	}
	footer := make([]byte, length)
	if _, err := r.ReadAt(footer, size-tail-length); err != nil {
		return err
	}
	w := compactWalker{footer}
	return w.structure(0)
}

// compactWalker steps over values of Thrift's compact protocol.
type compactWalker struct{ rest []byte }

// The types of the compact protocol.
const (
	compactTrue byte = iota + 1
	compactFalse
	compactByte
	compactI16
	compactI32
	compactI64
	compactDouble
	compactBinary
	compactList
	compactSet
	_ // map
	compactStruct
)

// maxNesting bounds recursion; parquet's own metadata nests about ten deep.
const maxNesting = 64

func (w *compactWalker) structure(depth int) error {
	for {
		head, err := w.take(1)
		if err != nil {
			return err
		}
		if head[0] == 0 {
			return nil
		}
		if head[0]>>4 == 0 { // the field's number follows
			if _, err := w.varint(); err != nil {
				return err
			}
		}
		kind := head[0] & 15
		if kind == compactTrue || kind == compactFalse {
			continue // the value is the type
		}
		if err := w.value(kind, depth); err != nil {
			return err
		}
	}
}

func (w *compactWalker) value(kind byte, depth int) error {
	if depth > maxNesting {
		return errFooter
	}
	switch kind {
	case compactTrue, compactFalse, compactByte:
		_, err := w.take(1)
		return err
	case compactI16, compactI32, compactI64:
		_, err := w.varint()
		return err
	case compactDouble:
		_, err := w.take(8)
		return err
	case compactBinary:
		n, err := w.varint()
		if err != nil {
			return err
		}
		_, err = w.take(n)
		return err
	case compactList, compactSet:
		return w.list(depth)
	case compactStruct:
		return w.structure(depth + 1)
	}
	return errFooter // parquet has no maps
}

func (w *compactWalker) list(depth int) error {
	head, err := w.take(1)
	if err != nil {
		return err
	}
	n := uint64(head[0] >> 4)
	if n == 15 {
		if n, err = w.varint(); err != nil {
			return err
		}
	}
	if n > uint64(len(w.rest)) { // an element takes a byte at least
		return errFooter
	}
	for range n {
		if err := w.value(head[0]&15, depth+1); err != nil {
			return err
		}
	}
	return nil
}

func (w *compactWalker) take(n uint64) ([]byte, error) {
	if n > uint64(len(w.rest)) {
		return nil, errFooter
	}
	taken := w.rest[:n]
	w.rest = w.rest[n:]
	return taken, nil
}

func (w *compactWalker) varint() (uint64, error) {
	v, n := binary.Uvarint(w.rest)
	if n <= 0 {
		return 0, errFooter
	}
	w.rest = w.rest[n:]
	return v, nil
}
