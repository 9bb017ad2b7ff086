package kernel

// ShiftHue implements Set. It has Pillow's results for every colour and shift,
// though Pillow goes through float64 here and there.
func (Plain) ShiftHue(rgb []byte, shift byte) {
	r, g, b := split3(rgb)
	for i := range r {
		r[i], g[i], b[i] = turn(r[i], g[i], b[i], shift)
	}
}

// turn turns the hue of one pixel.
func turn(r, g, b, shift byte) (byte, byte, byte) {
	hi, lo := max(r, g, b), min(r, g, b)
	if hi == lo {
		return r, g, b
	}
	v, span := float32(hi), float32(hi-lo)
	s := float32(int32(float32(span/v) * 255)) // 8 bits, cut: 0 for a near-grey
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

	six := int(hue) * 6 // 255 to a sixth of a turn
	return fade(v, s, 510-distance(six, 765)), fade(v, s, distance(six, 510)-255), fade(v, s, distance(six, 1020)-255)
}

func distance(a, b int) int { return max(a-b, b-a) }

// fade is what is left of brightness v in one channel: v (1 - s w), rounded, with
// saturation s and weight w, cut to 8 bits, in 255ths.
func fade(v, s float32, w int) byte {
	x := v * (65025 - float32(s*float32(min(max(w, 0), 255))))
	return byte(int32(float32(x*(1.0/65025)) + 0.5))
}
