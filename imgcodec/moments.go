package imgcodec

import "math"

// Moments add up the channels of images, each of which counts alike however
// large it is, as each gives as many views. The zero value is ready for use.
type Moments struct {
	n            float64
	mean, square []float64
}

// Add takes in an image. All images must have the same number of channels.
func (s *Moments) Add(m *Image) {
	if s.n == 0 {
		s.mean, s.square = make([]float64, m.C), make([]float64, m.C)
	}
	if m.IsDeep() {
		addMoments(s, m.Deep, 65535)
	} else {
		addMoments(s, m.Pix, 255)
	}
	s.n++
}

func addMoments[T byte | uint16](s *Moments, pix []T, most float64) {
	c := len(s.mean)
	pixels := float64(len(pix) / c)
	for ch := range c {
		var sum, squares float64
		for i := ch; i < len(pix); i += c {
			v := float64(pix[i])
			sum += v
			squares += v * v
		}
		s.mean[ch] += sum / pixels / most
		s.square[ch] += squares / pixels / (most * most)
	}
}

// leastStd stands for the deviation of a channel that says nothing: recipes divide
// by it.
const leastStd = 1e-4

// MeanStd are mean and standard deviation, at least 1e-4, of each channel, of
// samples as shares of the largest one that 8 or 16 bits hold. Without images both
// are empty.
func (s *Moments) MeanStd() (mean, std []float64) {
	for c := range s.mean {
		m := s.mean[c] / s.n
		mean = append(mean, m)
		std = append(std, max(leastStd, math.Sqrt(max(0, s.square[c]/s.n-m*m))))
	}
	return mean, std
}

// Merge adds what other has taken in.
func (s *Moments) Merge(other *Moments) {
	if other.n == 0 {
		return
	}
	if s.n == 0 {
		s.mean, s.square = make([]float64, len(other.mean)), make([]float64, len(other.mean))
	}
	s.n += other.n
	for c := range s.mean {
		s.mean[c] += other.mean[c]
		s.square[c] += other.square[c]
	}
}

// Repeat is what a single channel gives when it is repeated c times.
func (s *Moments) Repeat(c int) *Moments {
	r := &Moments{n: s.n}
	for range c {
		r.mean, r.square = append(r.mean, s.mean[0]), append(r.square, s.square[0])
	}
	return r
}
