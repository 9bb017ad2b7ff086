package imgcodec

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"swav/interop"
)

// npyLayout is how the samples of an array lie.
type npyLayout struct {
	w, h, c    int
	x, y, ch   int // samples from one to the next
	bytes      int
	order      binary.ByteOrder
	offset     int
	samplesLen int
}

// readNPYLayout takes arrays [h, w], and [h, w, c] or [c, h, w]: the shorter of
// the outer axes is the channels, the last one where both are equally long.
func readNPYLayout(data []byte) (npyLayout, error) {
	r := bytes.NewReader(data)
	h, err := interop.ReadNPYHeader(r)
	if err != nil {
		return npyLayout{}, early(err)
	}
	l := npyLayout{c: 1, bytes: 1, order: binary.LittleEndian, offset: len(data) - r.Len()}
	switch h.DType {
	case "|u1":
	case "<u2":
		l.bytes = 2
	case ">u2":
		l.bytes, l.order = 2, binary.BigEndian
	default:
		return l, fmt.Errorf("samples of type %s: want uint8 or uint16 (scale others to 0 ... 65535 first)", h.DType)
	}
	if len(h.Shape) != 2 && len(h.Shape) != 3 {
		return l, fmt.Errorf("array with %d axes: want [height, width] or [height, width, channels]", len(h.Shape))
	}
	step := make([]int, len(h.Shape)) // row order
	n := 1
	for i := range h.Shape {
		axis := len(h.Shape) - 1 - i
		if h.Fortran {
			axis = i
		}
		step[axis] = n
		if h.Shape[axis] <= 0 || n > (1<<40)/h.Shape[axis] {
			return l, fmt.Errorf("%w: array of %v", ErrTooLarge, h.Shape)
		}
		n *= h.Shape[axis]
	}
	l.samplesLen = n
	y, x, c := 0, 1, 2
	if len(h.Shape) == 3 {
		if h.Shape[0] < h.Shape[2] {
			c, y, x = 0, 1, 2
		}
		l.c, l.ch = h.Shape[c], step[c]
	}
	l.h, l.w, l.y, l.x = h.Shape[y], h.Shape[x], step[y], step[x]
	return l, nil
}

func readNPYInfo(data []byte) (Info, error) {
	l, err := readNPYLayout(data)
	if err != nil {
		return Info{}, err
	}
	return Info{W: l.w, H: l.h, C: l.c, Depth: 8 * l.bytes, Orientation: 1}, nil
}

func decodeNPY(dst *Image, data []byte, _ Info, o Options) error {
	l, err := readNPYLayout(data)
	if err != nil {
		return err
	}
	pix := data[l.offset:]
	if len(pix)/l.bytes < l.samplesLen {
		return fmt.Errorf("%w: %d bytes of %d", ErrTruncated, len(pix), l.samplesLen*l.bytes)
	}
	deep := l.bytes == 2 && o.Deep
	if deep {
		dst.ResetDeep(l.w, l.h, l.c)
	} else {
		dst.Reset(l.w, l.h, l.c)
	}
	i := 0
	for y := range l.h {
		for x := range l.w {
			for c := range l.c {
				at := y*l.y + x*l.x + c*l.ch
				switch {
				case l.bytes == 1:
					dst.Pix[i] = pix[at]
				case deep:
					dst.Deep[i] = l.order.Uint16(pix[2*at:])
				default:
					dst.Pix[i] = byte(l.order.Uint16(pix[2*at:]) >> 8)
				}
				i++
			}
		}
	}
	return nil
}
