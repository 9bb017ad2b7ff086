package kernel

// ShiftHue implements Set. float32 throughout gives what Pillow's mixture with
// float64 gives, for every colour and shift.
func (Plain) ShiftHue(rgb []byte, shift byte) {
	r, g, b := split3(rgb)
	for i := range r {
		r[i], g[i], b[i] = turn(r[i], g[i], b[i], shift)
	}
}

// byte1 is the weight of one step of 8 bits.
const byte1 = float32(1.0 / 255)

// turn turns the hue of one pixel.
func turn(r, g, b, shift byte) (byte, byte, byte) {
	hi, lo := max(r, g, b), min(r, g, b)
	if hi == lo {
		return r, g, b
	}
	v, span := float32(hi), float32(hi-lo)
	s := int32(float32(span/v) * 255) // 8 bits, cut: 0 for a near-grey
	// The hue in sixths of a turn.
	m := float32(int(hi)-(int(r)+int(g)+int(b)-int(hi)-int(lo))) / span
	var h float32
	switch {
	case hi == r && lo == b:
		h = 1 - m
	case hi == r:
		h = m - 1
	case hi == g && lo == b:
		h = 1 + m
	case hi == g:
		h = 3 - m
	case lo == r:
		h = 3 + m
	default:
		h = 5 - m
	}
	x := h / 6
	if h < 0 {
		x++
	}
	hue := byte(int32(x*255)) + shift

	sector := int32(hue) * 6 / 255
	f, fs := float32(float32(int32(hue)*6-sector*255)*byte1), float32(float32(s)*byte1)
	low := part(v, 1-fs)
	down := part(v, 1-float32(fs*f))
	up := part(v, 1-float32(fs*(1-f)))
	switch sector {
	case 1:
		return down, hi, low
	case 2:
		return low, hi, up
	case 3:
		return low, down, hi
	case 4:
		return up, low, hi
	case 5:
		return hi, low, down
	}
	return hi, up, low
}

// part is v times share, rounded.
func part(v, share float32) byte { return byte(int32(float32(v*share) + 0.5)) }
