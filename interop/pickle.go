package interop

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"math/big"
)

// maxPickle bounds the bytes of one pickle. Tensors' elements are stored
// elsewhere, so that checkpoints need about 200 bytes a tensor.
const maxPickle = 8 << 20

// A pickle is a program for a stack machine that may import and call anything.
// The values that this machine makes are the ones below, Go's nil, bool, int64,
// float64 and string, and nothing else: names of classes and functions stay names,
// and a call of one that is not known leaves an opaque value.
type (
	// pyDict keeps the pairs as they came; a later one of the same key counts.
	pyDict struct{ pairs []pyPair }
	pyPair struct{ key, value any }
	pyList struct{ items []any } // a set too
	// pyTuple is immutable, so it can stand by value.
	pyTuple []any
	// pyGlobal is the name of a class or function, "module.name".
	pyGlobal string
	// pyOpaque is the outcome of what is not known here.
	pyOpaque struct{}
	pyMark   struct{}
)

// The calls that are known: containers and the rebuilding of tensors.
const (
	pyOrderedDict    pyGlobal = "collections.OrderedDict"
	pyDefaultDict    pyGlobal = "collections.defaultdict"
	pyRebuildTensor  pyGlobal = "torch._utils._rebuild_tensor"
	pyRebuildTensor2 pyGlobal = "torch._utils._rebuild_tensor_v2"
	pyRebuildParam   pyGlobal = "torch._utils._rebuild_parameter"
)

// unpickler runs pickles. Every operation pushes at most one value and takes at
// least one byte, so that memory stays within a small multiple of the input.
type unpickler struct {
	r     *bufio.Reader
	read  int // bytes
	stack []any
	memo  map[uint32]any
	// persistent turns a persistent identifier, a tuple, into a value: a storage.
	persistent func(pyTuple) (any, error)
	// tensor makes a tensor of the arguments of torch's rebuild functions.
	tensor func(args pyTuple) (any, error)
}

// load runs one pickle and returns its value.
func (u *unpickler) load() (any, error) {
	u.stack, u.memo, u.read = u.stack[:0], map[uint32]any{}, 0
	for {
		at := u.read
		c, err := u.byte()
		if err != nil {
			return nil, fmt.Errorf("pickle: %w", noEOF(err))
		}
		if c == '.' {
			v, err := u.pop()
			if err != nil {
				return nil, fmt.Errorf("pickle: %w", err)
			}
			return v, nil
		}
		if err := u.step(c); err != nil {
			return nil, fmt.Errorf("pickle: operation %q at byte %d: %w", c, at, noEOF(err))
		}
	}
}

// step runs one operation: those of protocols 2 to 5 that torch.save and the
// objects it is given to write use.
func (u *unpickler) step(c byte) error {
	switch c {
	case 0x80: // PROTO
		v, err := u.byte()
		if err == nil && (v < 2 || v > 5) {
			err = fmt.Errorf("protocol %d, want 2 to 5", v)
		}
		return err
	case 0x95: // FRAME
		_, err := u.uint(8)
		return err
	case '(':
		u.push(pyMark{})
	case '0':
		_, err := u.pop()
		return err
	case '1':
		_, err := u.toMark()
		return err
	case '2':
		v, err := u.top()
		u.push(v)
		return err
	case 'N':
		u.push(nil)
	case 0x88:
		u.push(true)
	case 0x89:
		u.push(false)
	case '}':
		u.push(&pyDict{})
	case ']', 0x8f: // EMPTY_LIST, EMPTY_SET
		u.push(&pyList{})
	case ')':
		u.push(pyTuple{})
	case 'J', 'K', 'M', 0x8a, 0x8b, 'G':
		return u.number(c)
	case 'X', 0x8c, 0x8d, 'T', 'U', 'B', 'C', 0x8e, 0x96:
		return u.text(c)
	case 't', 'd', 'l', 0x91:
		items, err := u.toMark()
		if err != nil {
			return err
		}
		return u.collect(c, items)
	case 0x85, 0x86, 0x87: // TUPLE1 to TUPLE3
		items, err := u.popN(int(c) - 0x84)
		u.push(pyTuple(items))
		return err
	case 's', 'u', 'a', 'e', 0x90:
		return u.add(c)
	case 'q', 'r', 'h', 'j', 0x94:
		return u.memory(c)
	case 'c', 0x93:
		return u.global(c)
	case 'Q', 'R', 0x81, 0x92, 'b':
		return u.call(c)
	default:
		return errors.New("not known here: this is not a checkpoint that torch.save wrote")
	}
	return nil
}

func (u *unpickler) number(c byte) error {
	switch c {
	case 'J':
		n, err := u.uint(4)
		u.push(int64(int32(n)))
		return err
	case 'K':
		n, err := u.uint(1)
		u.push(int64(n))
		return err
	case 'M':
		n, err := u.uint(2)
		u.push(int64(n))
		return err
	case 'G':
		var b [8]byte
		err := u.full(b[:])
		u.push(math.Float64frombits(binary.BigEndian.Uint64(b[:])))
		return err
	}
	width := 1 // LONG1
	if c == 0x8b {
		width = 4
	}
	n, err := u.uint(width)
	if err != nil {
		return err
	}
	if n > 1<<10 {
		return fmt.Errorf("integer of %d bytes", n)
	}
	b, err := u.bytes(n)
	if err != nil {
		return err
	}
	u.push(integer(b))
	return nil
}

// integer is a little-endian two's complement number: an int64, or opaque where
// it does not fit.
func integer(b []byte) any {
	be := make([]byte, len(b))
	for i, x := range b {
		be[len(b)-1-i] = x
	}
	n := new(big.Int).SetBytes(be)
	if len(be) > 0 && be[0] >= 0x80 {
		n.Sub(n, new(big.Int).Lsh(big.NewInt(1), uint(8*len(b))))
	}
	if !n.IsInt64() {
		return pyOpaque{}
	}
	return n.Int64()
}

// text reads strings; bytes become strings as well.
func (u *unpickler) text(c byte) error {
	width := 4
	switch c {
	case 0x8c, 'U', 'C':
		width = 1
	case 0x8d, 0x8e, 0x96:
		width = 8
	}
	n, err := u.uint(width)
	if err != nil {
		return err
	}
	b, err := u.bytes(n)
	u.push(string(b))
	return err
}

func (u *unpickler) collect(c byte, items []any) error {
	switch c {
	case 't':
		u.push(pyTuple(items))
	case 'd':
		d := &pyDict{}
		u.push(d)
		return d.set(items)
	default: // LIST, FROZENSET
		u.push(&pyList{items})
	}
	return nil
}

// add puts items into the container below them.
func (u *unpickler) add(c byte) error {
	var items []any
	var err error
	switch c {
	case 's':
		items, err = u.popN(2)
	case 'a':
		items, err = u.popN(1)
	default:
		items, err = u.toMark()
	}
	if err != nil {
		return err
	}
	to, err := u.top()
	if err != nil {
		return err
	}
	switch to := to.(type) {
	case *pyDict:
		return to.set(items)
	case *pyList:
		to.items = append(to.items, items...)
	case pyOpaque:
	default:
		return fmt.Errorf("items for a %T", to)
	}
	return nil
}

func (d *pyDict) set(items []any) error {
	if len(items)%2 != 0 {
		return errors.New("a key without a value")
	}
	for i := 0; i < len(items); i += 2 {
		d.pairs = append(d.pairs, pyPair{items[i], items[i+1]})
	}
	return nil
}

func (u *unpickler) memory(c byte) error {
	index := uint64(len(u.memo)) // MEMOIZE
	var err error
	switch c {
	case 'q', 'h':
		index, err = u.uint(1)
	case 'r', 'j':
		index, err = u.uint(4)
	}
	if err != nil {
		return err
	}
	if c == 'h' || c == 'j' {
		v, ok := u.memo[uint32(index)]
		if !ok {
			return fmt.Errorf("value %d was never kept", index)
		}
		u.push(v)
		return nil
	}
	v, err := u.top()
	u.memo[uint32(index)] = v
	return err
}

func (u *unpickler) global(c byte) error {
	if c == 'c' {
		module, err := u.line()
		if err != nil {
			return err
		}
		name, err := u.line()
		u.push(pyGlobal(module + "." + name))
		return err
	}
	names, err := u.popN(2)
	if err != nil {
		return err
	}
	module, ok1 := names[0].(string)
	name, ok2 := names[1].(string)
	if !ok1 || !ok2 {
		return errors.New("a name that is not a string")
	}
	u.push(pyGlobal(module + "." + name))
	return nil
}

// call stands where Python would call something.
func (u *unpickler) call(c byte) error {
	if c == 'Q' { // BINPERSID
		id, err := u.pop()
		if err != nil {
			return err
		}
		tuple, ok := id.(pyTuple)
		if !ok {
			return errors.New("a storage is not named by a tuple")
		}
		v, err := u.persistent(tuple)
		u.push(v)
		return err
	}
	n := 2
	if c == 0x92 { // NEWOBJ_EX: keyword arguments too
		n = 3
	}
	args, err := u.popN(n)
	if err != nil {
		return err
	}
	if c == 'b' { // BUILD: attributes, such as a state dict's metadata
		u.push(args[0])
		return nil
	}
	f, _ := args[0].(pyGlobal)
	tuple, _ := args[1].(pyTuple)
	var v any = pyOpaque{}
	switch f {
	case pyOrderedDict, pyDefaultDict:
		v = &pyDict{}
	case pyRebuildTensor, pyRebuildTensor2:
		v, err = u.tensor(tuple)
	case pyRebuildParam:
		if len(tuple) > 0 {
			v = tuple[0]
		}
	}
	u.push(v)
	return err
}

func (u *unpickler) push(v any) { u.stack = append(u.stack, v) }

var errStack = errors.New("the stack is empty")

func (u *unpickler) top() (any, error) {
	if len(u.stack) == 0 {
		return nil, errStack
	}
	return u.stack[len(u.stack)-1], nil
}

func (u *unpickler) pop() (any, error) {
	v, err := u.top()
	if err == nil {
		u.stack = u.stack[:len(u.stack)-1]
	}
	return v, err
}

func (u *unpickler) popN(n int) ([]any, error) {
	at := len(u.stack) - n
	if at < 0 {
		return nil, errStack
	}
	items := append([]any(nil), u.stack[at:]...)
	u.stack = u.stack[:at]
	return items, nil
}

// toMark pops all down to the last mark, and the mark.
func (u *unpickler) toMark() ([]any, error) {
	for i := len(u.stack) - 1; i >= 0; i-- {
		if _, ok := u.stack[i].(pyMark); ok {
			items, err := u.popN(len(u.stack) - 1 - i)
			u.stack = u.stack[:i]
			return items, err
		}
	}
	return nil, errors.New("no mark on the stack")
}

func (u *unpickler) count(n int) error {
	u.read += n
	if u.read > maxPickle {
		return fmt.Errorf("longer than %d bytes", maxPickle)
	}
	return nil
}

func (u *unpickler) byte() (byte, error) {
	c, err := u.r.ReadByte()
	if err == nil {
		err = u.count(1)
	}
	return c, err
}

func (u *unpickler) full(b []byte) error {
	if _, err := io.ReadFull(u.r, b); err != nil {
		return err
	}
	return u.count(len(b))
}

// uint reads a little-endian number of width bytes.
func (u *unpickler) uint(width int) (uint64, error) {
	var b [8]byte
	err := u.full(b[:width])
	return binary.LittleEndian.Uint64(b[:]), err
}

// bytes reads n bytes; memory grows with what is there.
func (u *unpickler) bytes(n uint64) ([]byte, error) {
	if n > maxPickle {
		return nil, fmt.Errorf("%d bytes, at most %d are read", n, maxPickle)
	}
	if err := u.count(int(n)); err != nil {
		return nil, err
	}
	if n <= 1<<12 {
		b := make([]byte, n)
		_, err := io.ReadFull(u.r, b)
		return b, err
	}
	b, err := io.ReadAll(io.LimitReader(u.r, int64(n)))
	if err == nil && uint64(len(b)) < n {
		err = io.ErrUnexpectedEOF
	}
	return b, err
}

// line reads up to a line feed: a name of a class.
func (u *unpickler) line() (string, error) {
	b, err := u.r.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		err = errors.New("a name without an end")
	}
	if err != nil {
		return "", err
	}
	return string(b[:len(b)-1]), u.count(len(b))
}
