package augment

import "swav/imgcodec"

// Resize makes dst the image src in w x h pixels, by the filter that views are
// resized with.
func Resize(dst, src *imgcodec.Image, w, h int, s *Scratch) {
	ones := make([]float32, src.C)
	for c := range ones {
		ones[c] = 1
	}
	norm := NewNormalizer(ones, ones) // for the channels; nothing is normalised
	whole, win := Rect{Height: src.H, Width: src.W}, window{0, 0, w, h}
	if src.IsDeep() {
		deepCropResize(src, whole, w, h, win, false, norm, s)
		dst.ResetDeep(w, h, src.C)
		for i, v := range s.deep.a {
			dst.Deep[i] = uint16(unitRange(v)*65535 + 0.5)
		}
		return
	}
	cropResize(src, whole, w, h, win, false, norm, s)
	dst.Reset(w, h, src.C)
	plane := w * h
	for i := range plane { // s.a has a plane for each channel
		for c := range src.C {
			dst.Pix[i*src.C+c] = s.a[c*plane+i]
		}
	}
}
