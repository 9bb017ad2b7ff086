package augment

import (
	"fmt"
	"math"

	"swav/imgcodec"
	"swav/internal/kernel"
)

// Images of 16-bit samples take the path below: the same operations in the same
// order on float32 samples between 0 and 1, never rounded to 8 bits. Their range
// may be a small part of the 16 bits, as that of 12-bit cameras is.

// deepScratch is the working memory of that path.
type deepScratch struct {
	rows []float32 // after the resize along x
	a, b []float32 // the crop and its twin for the blur
}

// applyDeep is Apply for images of 16-bit samples.
func applyDeep(dst []float32, img *imgcodec.Image, p *Params, norm *Normalizer, s *Scratch) {
	c := deepCropResize(img, p.Crop, p.Size, p.Size, window{0, 0, p.Size, p.Size}, p.Flip, norm, s)
	a := s.deep.a
	for _, op := range p.Jitter.Order[:p.Jitter.N] {
		switch {
		case op == OpBrightness:
			deepTowards(a, 0, float32(p.Jitter.Brightness))
		case op == OpContrast:
			deepTowards(a, deepMean(a, c), float32(p.Jitter.Contrast))
		case op == OpSaturation && c == 3:
			deepSaturate(a, float32(p.Jitter.Saturation))
		case op == OpHue && c == 3:
			deepShiftHue(a, p.Jitter.Hue)
		}
	}
	if p.Grayscale && c == 3 {
		deepSaturate(a, 0)
	}
	if f, ok := kernel.BoxFor(p.BlurSigma); ok && p.BlurSigma > 0 {
		s.deep.b = kernel.Grow(s.deep.b, len(a))
		deepBlur(f, a, s.deep.b, p.Size, p.Size, c)
	}
	if p.Solarize {
		for i, v := range a {
			if v >= 0.5 {
				a[i] = 1 - v
			}
		}
	}
	norm.applyDeep(dst, a, c)
}

// deepCropResize is cropResize into s.deep.a.
func deepCropResize(img *imgcodec.Image, crop Rect, w, h int, win window, flip bool, norm *Normalizer, s *Scratch) int {
	checkCrop(img, crop, norm)
	c := img.C
	s.x.Set(crop.Width, w, win.x, win.w, flip)
	s.y.Set(crop.Height, h, win.y, win.h, false)
	first, rows := s.y.Begin, s.y.End-s.y.Begin
	d := &s.deep
	d.rows = kernel.Grow(d.rows, rows*win.w*c)
	const unit = 1.0 / (1 << kernel.WeightBits) / 65535
	for y := range rows {
		in := img.Deep[((crop.Top+first+y)*img.W+crop.Left)*c:]
		out := d.rows[y*win.w*c:][:win.w*c]
		for x := range win.w {
			weights := s.x.W[x*s.x.Width:][:s.x.Count[x]]
			px := in[c*int(s.x.First[x]):]
			for ch := range c {
				var sum float32
				for k, wk := range weights {
					sum += float32(float32(wk) * float32(px[k*c+ch]))
				}
				out[x*c+ch] = sum * unit
			}
		}
	}
	d.a = kernel.Grow(d.a, win.w*win.h*c)
	for y := range win.h {
		out := d.a[y*win.w*c:][:win.w*c]
		clear(out)
		for k, wk := range s.y.W[y*s.y.Width:][:s.y.Count[y]] {
			f := float32(wk) / (1 << kernel.WeightBits)
			in := d.rows[(int(s.y.First[y])-first+k)*win.w*c:][:len(out)]
			for i, v := range in {
				out[i] += float32(f * v)
			}
		}
	}
	if c == 3 && norm.Channels() == 1 {
		grey := d.a[:0]
		for p := d.a; len(p) >= 3; p = p[3:] {
			grey = append(grey, deepLuma(p))
		}
		d.a, c = grey, 1
	}
	return c
}

// deepLuma is ITU-R 601 as luma has it.
func deepLuma(p []float32) float32 {
	return float32(p[0]*0.299) + float32(p[1]*0.587) + float32(p[2]*0.114)
}

func unitRange(v float32) float32 { return min(max(v, 0), 1) }

// deepTowards blends every sample with the constant from.
func deepTowards(pix []float32, from, f float32) {
	for i, v := range pix {
		pix[i] = unitRange(from + float32(f*(v-from)))
	}
}

// deepMean is the mean luma, of other than three channels the mean of all
// samples.
func deepMean(pix []float32, c int) float32 {
	var sum float64
	if c != 3 {
		for _, v := range pix {
			sum += float64(v)
		}
		return float32(sum / float64(len(pix)))
	}
	for p := pix; len(p) >= 3; p = p[3:] {
		sum += float64(deepLuma(p))
	}
	return float32(3 * sum / float64(len(pix)))
}

// deepSaturate blends RGB with its luma; 0 leaves that alone.
func deepSaturate(pix []float32, f float32) {
	for p := pix; len(p) >= 3; p = p[3:] {
		l := deepLuma(p)
		for i := range 3 {
			p[i] = unitRange(l + float32(f*(p[i]-l)))
		}
	}
}

// deepShiftHue turns the hue through HSV.
func deepShiftHue(pix []float32, turns float64) {
	for p := pix; len(p) >= 3; p = p[3:] {
		r, g, b := p[0], p[1], p[2]
		hi, lo := max(r, g, b), min(r, g, b)
		span := hi - lo
		if span == 0 {
			continue
		}
		var h float32 // in sixths of a turn
		switch hi {
		case r:
			h = (g - b) / span
		case g:
			h = 2 + (b-r)/span
		default:
			h = 4 + (r-g)/span
		}
		turned := math.Mod(float64(h)+float64(6*turns)+12, 6)
		sector := math.Floor(turned)
		f := float32(turned - sector)
		down, up := hi-float32(span*f), lo+float32(span*f)
		switch int(sector) {
		case 0:
			p[0], p[1], p[2] = hi, up, lo
		case 1:
			p[0], p[1], p[2] = down, hi, lo
		case 2:
			p[0], p[1], p[2] = lo, hi, up
		case 3:
			p[0], p[1], p[2] = lo, down, hi
		case 4:
			p[0], p[1], p[2] = up, lo, hi
		default:
			p[0], p[1], p[2] = hi, lo, down
		}
	}
}

// deepBlur is blur on float32 samples: three boxes along x, three along y.
func deepBlur(f kernel.Box, a, b []float32, w, h, c int) {
	for range 3 {
		for y := range h {
			for ch := range c {
				deepLine(f, b[y*w*c+ch:], a[y*w*c+ch:], w, c)
			}
		}
		a, b = b, a
	}
	for range 3 {
		for x := range w * c {
			deepLine(f, b[x:], a[x:], h, w*c)
		}
		a, b = b, a
	}
	// Six passes: the result is in the caller's a again.
}

// deepLine filters n samples that are step apart, with repeated borders.
func deepLine(f kernel.Box, out, in []float32, n, step int) {
	at := func(i int) float64 { return float64(in[min(max(i, 0), n-1)*step]) }
	ww, fw := float64(f.Full)/(1<<24), float64(f.Far)/(1<<24)
	var sum float64
	for k := -f.R; k <= f.R; k++ {
		sum += at(k)
	}
	for i := range n {
		next := at(i + f.R + 1)
		out[i*step] = float32(float64(sum*ww) + float64((at(i-f.R-1)+next)*fw))
		sum += next - at(i-f.R)
	}
}

// applyDeep normalises samples between 0 and 1 as Apply does those of 8 bits.
func (n *Normalizer) applyDeep(dst, pix []float32, c int) {
	want := n.Channels()
	if len(dst) != len(pix)/c*want {
		panic(fmt.Sprintf("augment: destination of %d values for %d pixels of %d channels", len(dst), len(pix)/c, want))
	}
	for i := range len(pix) / c {
		for ch := range want {
			v := pix[i*c+min(ch, c-1)] // grey is repeated
			dst[i*want+ch] = float32(v*255*n.scale[ch]) + n.shift[ch]
		}
	}
}
