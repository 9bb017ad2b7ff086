package kernel

import "encoding/binary"

// Blur implements Set.
func (Plain) Blur(pix, tmp []byte, w, h, planes int, b Box) {
	pad := b.R + 1
	rows := tmp[w*h:]
	one, two := rows[:w+2*pad], rows[w+2*pad:][:w+2*pad]
	tmp = tmp[:w*h]
	for ; planes > 0; planes, pix = planes-1, pix[w*h:] {
		for y := range h {
			copy(one[pad:], pix[y*w:][:w])
			b.row(two[pad:][:w], one)
			b.row(one[pad:][:w], two)
			b.row(tmp[y*w:][:w], one)
		}
		b.columns(pix[:w*h], tmp, w, h)
		b.columns(tmp, pix[:w*h], w, h)
		b.columns(pix[:w*h], tmp, w, h)
	}
}

// row filters a row that stands R+1 samples after in's beginning and repeats its
// ends into what is before and behind.
func (b Box) row(out, in []byte) {
	n, pad := len(out), b.R+1
	for k := range pad {
		in[k], in[pad+n+k] = in[pad], in[pad+n-1]
	}
	switch b.R {
	case 0:
		b.three(out, in, in[1:], in[2:])
	case 1:
		b.five(out, in, in[1:], in[2:], in[3:], in[4:])
	default:
		var acc uint32
		for _, v := range in[1 : 2*pad] {
			acc += uint32(v)
		}
		for i := range out {
			out[i] = b.mix(acc, uint32(in[i])+uint32(in[i+2*pad]))
			acc += uint32(in[i+2*pad]) - uint32(in[i+1])
		}
	}
}

// columns filters h rows of w samples along y.
func (b Box) columns(out, in []byte, w, h int) {
	row := func(y int) []byte { return in[min(max(y, 0), h-1)*w:][:w] }
	switch b.R {
	case 0:
		for y := range h {
			b.three(out[y*w:][:w], row(y-1), row(y), row(y+1))
		}
	case 1:
		for y := range h {
			b.five(out[y*w:][:w], row(y-2), row(y-1), row(y), row(y+1), row(y+2))
		}
	default:
		for x := range w {
			var acc uint32
			for k := -b.R; k <= b.R; k++ {
				acc += uint32(row(k)[x])
			}
			for y := range h {
				out[y*w+x] = b.mix(acc, uint32(row(y - b.R - 1)[x])+uint32(row(y + b.R + 1)[x]))
				acc += uint32(row(y + b.R + 1)[x]) - uint32(row(y - b.R)[x])
			}
		}
	}
}

// three filters with R = 0: l and r are the neighbours of m. Eight samples go
// through words of two 32-bit lanes; weights sum to 2^24 at most, so lanes do
// not overflow.
func (b Box) three(out, l, m, r []byte) {
	n := len(out)
	l, m, r = l[:n], m[:n], r[:n]
	i := 0
	for ; i+8 <= n; i += 8 {
		vl := binary.LittleEndian.Uint64(l[i : i+8])
		vm := binary.LittleEndian.Uint64(m[i : i+8])
		vr := binary.LittleEndian.Uint64(r[i : i+8])
		even := b.words(vm&bytes16, vl&bytes16+vr&bytes16)
		odd := b.words(vm>>8&bytes16, vl>>8&bytes16+vr>>8&bytes16)
		binary.LittleEndian.PutUint64(out[i:i+8], even|odd<<8)
	}
	for ; i < n; i++ {
		out[i] = b.mix(uint32(m[i]), uint32(l[i])+uint32(r[i]))
	}
}

// five filters with R = 1 over five neighbours in order.
func (b Box) five(out, p, q, r, s, t []byte) {
	n := len(out)
	p, q, r, s, t = p[:n], q[:n], r[:n], s[:n], t[:n]
	i := 0
	for ; i+8 <= n; i += 8 {
		vp := binary.LittleEndian.Uint64(p[i : i+8])
		vq := binary.LittleEndian.Uint64(q[i : i+8])
		vr := binary.LittleEndian.Uint64(r[i : i+8])
		vs := binary.LittleEndian.Uint64(s[i : i+8])
		vt := binary.LittleEndian.Uint64(t[i : i+8])
		even := b.words(vq&bytes16+vr&bytes16+vs&bytes16, vp&bytes16+vt&bytes16)
		odd := b.words(vq>>8&bytes16+vr>>8&bytes16+vs>>8&bytes16, vp>>8&bytes16+vt>>8&bytes16)
		binary.LittleEndian.PutUint64(out[i:i+8], even|odd<<8)
	}
	for ; i < n; i++ {
		out[i] = b.mix(uint32(q[i])+uint32(r[i])+uint32(s[i]), uint32(p[i])+uint32(t[i]))
	}
}

const (
	bytes16 = 0x00ff00ff00ff00ff // the low byte of each 16-bit lane
	words32 = 0x0000ffff0000ffff // the low half of each 32-bit lane
)

// words mixes four samples that stand in 16-bit lanes.
func (b Box) words(full, far uint64) uint64 {
	const round = 1<<55 | 1<<23
	ww, fw := uint64(b.Full), uint64(b.Far)
	lo := (full&words32)*ww + (far&words32)*fw + round
	hi := (full>>16&words32)*ww + (far>>16&words32)*fw + round
	return lo>>24&lanes | hi>>24&lanes<<16
}
