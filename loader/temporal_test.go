package loader

import (
	"fmt"
	"slices"
	"testing"

	"swav/imgcodec"
)

// film is a source of clips whose frames are of one brightness: their number.
type film struct{ *fake }

func newFilm(clips, frames int, broken ...int) film {
	f := newFake(clips*frames, broken...)
	f.broken = map[string]bool{}
	for i := range f.names {
		f.names[i] = fmt.Sprintf("clip-%d/%03d.png", i/frames, i%frames)
	}
	for _, i := range broken {
		f.broken[f.names[i]] = true
	}
	return film{f}
}

func (f film) Load(i int, dst *imgcodec.Image) error {
	if f.broken[f.names[i]] {
		return fmt.Errorf("%s: broken on purpose", f.names[i])
	}
	dst.Reset(16, 16, 3)
	for p := range dst.Pix {
		dst.Pix[p] = byte(i)
	}
	return nil
}

// With Temporal, the large views come from other moments of the same clip, the
// small ones take turns, and nothing hangs on the workers.
func TestViewsFromSeveralMoments(t *testing.T) {
	const frames, span = 30, 6
	src := newFilm(4, frames, 3, 70)
	c := config()
	// Pixels stay what they are: no colour is changed, and 0 to 255 becomes 0 to 1.
	c.Recipe.JitterP, c.Recipe.GrayscaleP, c.Recipe.BlurP = 0, 0, 0
	c.Recipe.Mean, c.Recipe.Std = []float32{0, 0, 0}, []float32{1, 1, 1}
	c.MaxSkip, c.Temporal, c.Workers = 0.2, span, 1
	batches := take(t, src, c, Position{}, 60)
	distances := map[int]int{}
	for _, b := range batches {
		for i, n := range b.index {
			moment := func(g, crop, size int) int {
				return int(b.groups[g][(crop*4+i)*size*size*3]*255 + 0.5)
			}
			first, second := moment(0, 0, 8), moment(0, 1, 8)
			if first != n {
				t.Fatalf("the first view of image %d is of %d", n, first)
			}
			if d := second - n; second/frames != n/frames || d < -span || d > span {
				t.Fatalf("the second view of image %d is of %d", n, second)
			}
			distances[second-n]++
			for crop := range 3 { // views 2, 3, 4
				if got, want := moment(1, crop, 5), []int{first, second}[crop%2]; got != want {
					t.Errorf("small view %d of image %d is of %d, want %d", crop, n, got, want)
				}
			}
		}
	}
	if len(distances) != 2*span+1 {
		t.Errorf("distances %v, want all from -%d to %d", distances, span, span)
	}
	c.Workers = 5
	if again := take(t, src, c, Position{}, 60); !slices.EqualFunc(again, batches, same) {
		t.Error("batches depend on the workers")
	}
	if _, err := NewStream(&tape{}, 10, c); err == nil {
		t.Error("a stream has no clips, and there was no error")
	}
}
