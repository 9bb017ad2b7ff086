package imgcodec

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"image"

	"golang.org/x/image/webp"
)

const riffHeader = 12 // "RIFF", length, "WEBP"

func isWebP(data []byte) bool {
	return len(data) >= riffHeader && string(data[:4]) == "RIFF" && string(data[8:12]) == "WEBP"
}

// chunks calls f with the chunks of a RIFF body until f returns false.
func chunks(data []byte, f func(id string, body []byte) bool) {
	for len(data) >= 8 {
		id, n := string(data[:4]), uint64(binary.LittleEndian.Uint32(data[4:]))
		data = data[8:]
		if !f(id, data[:min(n, uint64(len(data)))]) {
			return
		}
		data = data[min(n+n%2, uint64(len(data))):]
	}
}

// readWebPInfo reads the size and, after the pixels, the EXIF chunk.
func readWebPInfo(data []byte) (Info, error) {
	// The byte that fills up the last chunk is often missing.
	if n := uint64(binary.LittleEndian.Uint32(data[4:])); n+8 > uint64(len(data))+1 {
		return Info{}, fmt.Errorf("%w: %d bytes of %d", ErrTruncated, len(data), n+8)
	}
	c, err := webp.DecodeConfig(bytes.NewReader(data))
	if err != nil {
		return Info{}, early(err, "short chunk", "missing chunk")
	}
	info := Info{W: c.Width, H: c.Height, C: 3, Depth: 8, Orientation: 1, Subsampled: true}
	chunks(data[riffHeader:], func(id string, body []byte) bool {
		switch id {
		case "VP8L":
			info.Subsampled = false
		case "EXIF":
			info.Orientation = exifOrientation(bytes.TrimPrefix(body, []byte("Exif\x00\x00")))
		}
		return true
	})
	return info, nil
}

func decodeWebP(dst *Image, data []byte, info Info, _ Options) error {
	still, at, err := stillWebP(data, info)
	if err != nil {
		return err
	}
	c, err := webp.DecodeConfig(bytes.NewReader(still))
	if err != nil {
		return early(err, "short chunk")
	}
	if c.Width != at.Dx() || c.Height != at.Dy() {
		return fmt.Errorf("two sizes: %d x %d and %d x %d pixels", at.Dx(), at.Dy(), c.Width, c.Height)
	}
	m, err := webp.Decode(bytes.NewReader(still))
	if err != nil {
		return early(err, "short chunk", "unexpected EOF")
	}
	dst.Reset(info.W, info.H, 3)
	if at.Dx() < info.W || at.Dy() < info.H {
		clear(dst.Pix)
	}
	switch m := m.(type) {
	case *image.YCbCr:
		webpRGB(dst, at, m)
	case *image.NRGBA:
		for y := range at.Dy() {
			in, out := m.Pix[y*m.Stride:][:4*at.Dx()], dst.Pix[((at.Min.Y+y)*dst.W+at.Min.X)*3:]
			for ; len(in) >= 4; in, out = in[4:], out[3:] {
				copy(out[:3], in)
			}
		}
	default:
		return fmt.Errorf("pixels of type %T", m)
	}
	return nil
}

// stillWebP makes a file of the colours alone, of an animation those of the first
// frame, and says where they stand on the canvas. Alpha is left out unread.
func stillWebP(data []byte, info Info) (still []byte, at image.Rectangle, err error) {
	at = image.Rect(0, 0, info.W, info.H)
	var body []byte
	var kind string
	colours := func(id string, b []byte) bool {
		if id == "VP8 " || id == "VP8L" {
			kind, body = id, b
		}
		return body == nil
	}
	const header = 16 // of a frame: place, size, duration, flags
	u24 := func(p []byte) int { return int(p[0]) | int(p[1])<<8 | int(p[2])<<16 }
	chunks(data[riffHeader:], func(id string, b []byte) bool {
		if id == "ANMF" && len(b) >= header {
			x, y := 2*u24(b), 2*u24(b[3:])
			at = image.Rect(x, y, x+u24(b[6:])+1, y+u24(b[9:])+1)
			chunks(b[header:], colours)
			return false
		}
		return colours(id, b)
	})
	switch {
	case body == nil:
		return nil, at, fmt.Errorf("%w: no pixels", ErrTruncated)
	case !at.In(image.Rect(0, 0, info.W, info.H)):
		return nil, at, errors.New("frame leaves the canvas")
	}
	still = append(still, "RIFF\x00\x00\x00\x00WEBP"...)
	still = append(still, kind...)
	still = binary.LittleEndian.AppendUint32(still, uint32(len(body)))
	still = append(still, body...)
	still = append(still, make([]byte, len(body)%2)...)
	binary.LittleEndian.PutUint32(still[4:], uint32(len(still)-8))
	return still, at, nil
}

// webpRGB converts as libwebp does: chroma is weighted 9:3:3:1 from the four
// nearest samples, and brightness runs from 16 to 235.
func webpRGB(dst *Image, at image.Rectangle, m *image.YCbCr) {
	w, h := at.Dx(), at.Dy()
	cw, ch := (w+1)/2, (h+1)/2
	for y := range h {
		j := y / 2
		far := min(max(j-1+y%2*2, 0), ch-1)
		uNear, uFar := m.Cb[j*m.CStride:][:cw], m.Cb[far*m.CStride:][:cw]
		vNear, vFar := m.Cr[j*m.CStride:][:cw], m.Cr[far*m.CStride:][:cw]
		luma, out := m.Y[y*m.YStride:][:w], dst.Pix[((at.Min.Y+y)*dst.W+at.Min.X)*3:]
		for x, l := range luma {
			i := x / 2
			k := min(max(i-1+x%2*2, 0), cw-1)
			u := (9*int32(uNear[i]) + 3*int32(uNear[k]) + 3*int32(uFar[i]) + int32(uFar[k]) + 8) >> 4
			v := (9*int32(vNear[i]) + 3*int32(vNear[k]) + 3*int32(vFar[i]) + int32(vFar[k]) + 8) >> 4
			// BT.601 in libwebp's fixed point: factors times 2^14, each product cut to 6 bits.
			b := int32(l) * 19077 >> 8
			out[3*x] = clamp((b + v*26149>>8 - 14234) >> 6)
			out[3*x+1] = clamp((b - u*6419>>8 - v*13320>>8 + 8708) >> 6)
			out[3*x+2] = clamp((b + u*33050>>8 - 17685) >> 6)
		}
	}
}
