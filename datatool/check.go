package datatool

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"path"
	"slices"
	"sort"
	"strings"

	"swav/dataset"
	"swav/imgcodec"
)

// Report is what Check found. Images are named by their IDs.
type Report struct {
	Source   string         `json:"source"`
	Images   int            `json:"images"` // broken ones included
	Classes  []string       `json:"classes,omitempty"`
	Labelled int            `json:"labelled"` // images with a label
	Bytes    int64          `json:"bytes"`    // of the files that could be read
	Formats  map[string]int `json:"formats"`
	Channels map[int]int    `json:"channels"`
	Depths   map[int]int    `json:"bits"` // of a sample
	Width    Spread         `json:"width"`
	Height   Spread         `json:"height"`
	Turned   int            `json:"turned"` // by their EXIF orientation
	// Misnamed are files whose names belong to another format. They are read by
	// their content.
	Misnamed []string `json:"misnamed,omitempty"`
	Broken   []Broken `json:"broken,omitempty"`
	// Duplicates are groups of images with the same pixels, Near groups of images
	// that look alike.
	Duplicates [][]string `json:"duplicates,omitempty"`
	Near       [][]string `json:"near_duplicates,omitempty"`
	// Problems say in words what is wrong with the whole.
	Problems []string `json:"problems,omitempty"`
}

// Spread is where sizes lie, in pixels.
type Spread struct {
	Min    int `json:"min"`
	Median int `json:"median"`
	Max    int `json:"max"`
}

// Broken is an image that cannot be read.
type Broken struct {
	Image string `json:"image"`
	Error string `json:"error"`
}

// OK tells whether all images can be trained on.
func (r *Report) OK() bool { return len(r.Broken) == 0 && len(r.Problems) == 0 }

// seen is what is kept of an image.
type seen struct {
	file
	w, h, c int
	deep    bool
	pixels  [16]byte // a hash of them
	look    look
	err     error
}

// Check reads every image of src once.
func Check(ctx context.Context, src dataset.Source, o Options) (*Report, error) {
	all := make([]seen, src.Len())
	workers := make([]worker, o.workers())
	err := each(ctx, len(all), o, func(n, i int) error {
		w, s := &workers[n], &all[i]
		if s.file, s.err = w.read(src, i); s.err != nil {
			return nil
		}
		s.w, s.h, s.c, s.deep = w.img.W, w.img.H, w.img.C, w.img.IsDeep()
		s.pixels, s.look = hashPixels(&w.img), w.look()
		return nil
	})
	if err != nil {
		return nil, err
	}
	return summarize(src, all), nil
}

// hashPixels tells images apart, however they are stored.
func hashPixels(m *imgcodec.Image) (sum [16]byte) {
	h := sha256.New()
	head := []byte{1}
	if m.IsDeep() {
		head[0] = 2
	}
	for _, v := range []int{m.W, m.H, m.C} {
		head = binary.LittleEndian.AppendUint64(head, uint64(v))
	}
	h.Write(head)
	h.Write(m.Pix)
	var row []byte
	for deep := m.Deep; len(deep) > 0; {
		n := min(len(deep), 4096)
		row = row[:0]
		for _, v := range deep[:n] {
			row = binary.LittleEndian.AppendUint16(row, v)
		}
		h.Write(row)
		deep = deep[n:]
	}
	copy(sum[:], h.Sum(nil))
	return sum
}

func summarize(src dataset.Source, all []seen) *Report {
	r := &Report{Source: src.Name(), Images: len(all), Classes: src.Classes(),
		Formats: map[string]int{}, Channels: map[int]int{}, Depths: map[int]int{}}
	var widths, heights []int
	exact := map[[16]byte][]int{}
	var looks []look
	var index []int // of looks
	for i := range all {
		s := &all[i]
		if src.Label(i) >= 0 {
			r.Labelled++
		}
		if s.err != nil {
			r.Broken = append(r.Broken, Broken{src.ID(i), strings.TrimPrefix(s.err.Error(), src.ID(i)+": ")})
			continue
		}
		r.Bytes += int64(s.bytes)
		r.Formats[s.info.Format]++
		r.Channels[s.c]++
		depth := 8
		if s.deep {
			depth = 16
		}
		r.Depths[depth]++
		widths, heights = append(widths, s.w), append(heights, s.h)
		if s.info.Orientation > 1 {
			r.Turned++
		}
		if misnamed(src.ID(i), s.info.Format) {
			r.Misnamed = append(r.Misnamed, src.ID(i))
		}
		if exact[s.pixels] == nil {
			looks, index = append(looks, s.look), append(index, i)
		}
		exact[s.pixels] = append(exact[s.pixels], i)
	}
	r.Width, r.Height = spread(widths), spread(heights)
	for _, i := range index { // in the source's order
		if same := exact[all[i].pixels]; len(same) > 1 {
			r.Duplicates = append(r.Duplicates, names(src, same))
		}
	}
	for _, group := range alike(looks) {
		for k, n := range group {
			group[k] = index[n]
		}
		r.Near = append(r.Near, names(src, group))
	}
	r.problems()
	return r
}

func names(src dataset.Source, index []int) []string {
	var ids []string
	for _, i := range index {
		ids = append(ids, src.ID(i))
	}
	return ids
}

func spread(x []int) Spread {
	if len(x) == 0 {
		return Spread{}
	}
	sort.Ints(x)
	return Spread{x[0], x[len(x)/2], x[len(x)-1]}
}

// suffixes are the file names of each format.
var suffixes = map[string][]string{
	"jpeg": {".jpg", ".jpeg", ".jpe", ".jfif"}, "png": {".png"}, "webp": {".webp"}, "gif": {".gif"},
	"bmp": {".bmp"}, "tiff": {".tif", ".tiff"}, "npy": {".npy"},
}

// misnamed tells whether a name belongs to another format.
func misnamed(id, format string) bool {
	suffix := strings.ToLower(path.Ext(id))
	own := slices.Contains(suffixes[format], suffix)
	for _, list := range suffixes {
		if slices.Contains(list, suffix) {
			return !own
		}
	}
	return false
}

// problems finds what makes images useless together.
func (r *Report) problems() {
	if len(r.Broken) == r.Images {
		r.Problems = append(r.Problems, "no image can be read")
		return
	}
	// Grey and colour are converted to each other; nothing else is.
	kinds := map[int]int{}
	for c, n := range r.Channels {
		if c == 1 && r.Channels[3] > 0 {
			c = 3
		}
		kinds[c] += n
	}
	if len(kinds) > 1 {
		var parts []string
		for _, c := range sortedKeys(kinds) {
			parts = append(parts, fmt.Sprintf("%d of %d channels", kinds[c], c))
		}
		r.Problems = append(r.Problems, "images that do not go together: "+strings.Join(parts, ", "))
	}
}
