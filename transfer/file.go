package transfer

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"swav/interop"
	"swav/nn"
)

// File is an open file of weights, whatever tool wrote it, under the names here.
type File struct {
	path   string
	t      interop.Tensors
	names  map[string]string // here -> in the file
	shapes map[string][]int
	// Ignored are the names in the file that have no place in a network here:
	// classifiers, optimizers, other heads.
	Ignored []string
}

// inFolder is where weights lie in folders: a checkpoint or Hugging Face's and
// timm's layout, a run, and Hugging Face's older layout.
var inFolder = []string{"model.safetensors", filepath.Join("latest", "model.safetensors"), "pytorch_model.bin"}

// Open opens a safetensors file, a PyTorch checkpoint, or a folder with one: a run,
// a checkpoint of one, a folder as Hugging Face and timm lay it out.
func Open(path string) (*File, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.IsDir() {
		found := ""
		for _, name := range slices.Backward(inFolder) {
			if _, err := os.Stat(filepath.Join(path, name)); err == nil {
				found = filepath.Join(path, name)
			}
		}
		if found == "" {
			return nil, fmt.Errorf("weights %s: a folder without %s", path, strings.Join(inFolder, ", "))
		}
		path = found
	}
	t, err := interop.OpenTensors(path)
	if err != nil {
		return nil, err
	}
	f := &File{path: path, t: t}
	if err := f.index(); err != nil {
		t.Close()
		return nil, fmt.Errorf("weights %s: %w", path, err)
	}
	return f, nil
}

// index finds out which tensor is which.
func (f *File) index() error {
	f.names, f.shapes = map[string]string{}, map[string][]int{}
	all := f.t.Names()
	short := isShort(all)
	for _, name := range all {
		ours, ok := canonical(name, short)
		if !ok {
			if !strings.HasSuffix(name, "num_batches_tracked") {
				f.Ignored = append(f.Ignored, name)
			}
			continue
		}
		if other, twice := f.names[ours]; twice {
			return fmt.Errorf("both %.200q and %.200q are %s: keep the state dict of one network", other, name, ours)
		}
		f.names[ours] = name
		f.shapes[ours], _ = f.t.Shape(name)
	}
	if f.shapes["conv1.weight"] == nil {
		return fmt.Errorf("no ResNet by any name that is known (the original's, torchvision's, VISSL's, lightly's, solo-learn's, Hugging Face's); it holds %s", some(all))
	}
	return nil
}

// some names a few of many.
func some(names []string) string {
	if len(names) == 0 {
		return "nothing"
	}
	quoted := make([]string, min(3, len(names)))
	for i := range quoted {
		quoted[i] = fmt.Sprintf("%.100q", names[i])
	}
	s := strings.Join(quoted, ", ")
	if more := len(names) - len(quoted); more > 0 {
		s += fmt.Sprintf(" and %d more", more)
	}
	return s
}

// Close closes the file.
func (f *File) Close() error { return f.t.Close() }

// Arch finds out the network's shape from its tensors' shapes. Head tells
// whether projection head and prototypes are there; if not, Arch has the smallest
// ones.
func (f *File) Arch() (arch nn.Arch, head bool, err error) {
	conv := f.shapes["conv1.weight"]
	if len(conv) != 4 {
		return arch, false, fmt.Errorf("weights %s: conv1.weight %v is not a convolution's", f.path, conv)
	}
	arch = nn.Arch{Block: nn.Basic, Width: float64(conv[0]) / 64, InChannels: conv[1], FeatureDim: 1, Prototypes: 2}
	switch conv[2] {
	case 7:
		arch.Stem = nn.ImageNetStem
	case 3:
		arch.Stem = nn.SmallStem
	default:
		return arch, false, fmt.Errorf("weights %s: the first convolution is %dx%d: want 7x7, or 3x3 for small images", f.path, conv[2], conv[3])
	}
	if f.shapes["layer1.0.conv3.weight"] != nil {
		arch.Block = nn.Bottleneck
	}
	for s := 1; ; s++ {
		blocks := 0
		for f.shapes[fmt.Sprintf("layer%d.%d.conv1.weight", s, blocks)] != nil {
			blocks++
		}
		if blocks == 0 {
			break
		}
		arch.Layers = append(arch.Layers, blocks)
	}
	prototypes := f.shapes["prototypes.weight"]
	hidden, last := f.shapes["projection_head.0.weight"], f.shapes["projection_head.3.weight"]
	one := f.shapes["projection_head.weight"]
	if len(prototypes) == 2 {
		switch {
		case len(hidden) == 2 && len(last) == 2:
			arch.Hidden, arch.FeatureDim, arch.Prototypes, head = hidden[0], last[0], prototypes[0], true
		case len(one) == 2:
			arch.FeatureDim, arch.Prototypes, head = one[0], prototypes[0], true
		}
	}
	if err := arch.Validate(); err != nil {
		return arch, false, fmt.Errorf("weights %s: %w", f.path, err)
	}
	return arch, head, nil
}

// Model reads the whole network. Size, mean and deviation are there where the
// folder tells them; weights do not.
func (f *File) Model() (*Model, error) {
	arch, head, err := f.Arch()
	if err != nil {
		return nil, err
	}
	net, err := nn.Build(arch)
	if err != nil {
		return nil, fmt.Errorf("weights %s: %w", f.path, err)
	}
	// Before the memory: a few shapes could claim gigabytes.
	if diffs := f.compare(net, inBackbone); diffs != nil {
		return nil, f.differs(net, diffs)
	}
	m := &Model{Net: net, Weights: make([]float32, net.NumParams), Buffers: make([]float32, net.NumBuffers), Head: head, Source: f.path}
	left, err := f.Into(net, m.Weights, m.Buffers)
	if err != nil {
		return nil, err
	}
	if head && len(left) > 0 {
		return nil, fmt.Errorf("weights %s: %s", f.path, strings.Join(left, "; "))
	}
	return m, m.readPreprocessor(filepath.Dir(f.path))
}

// Into puts the file's weights into the flat buffers of a network. The backbone
// has to be the same. Projection head and prototypes are taken where they fit;
// left tells of what is not, and keeps its values.
func (f *File) Into(net *nn.Network, weights, buffers []float32) (left []string, err error) {
	if diffs := f.compare(net, inBackbone); diffs != nil {
		return nil, f.differs(net, diffs)
	}
	take := map[string]bool{"": true}
	for _, part := range []string{"projection_head", "prototypes"} {
		diffs := f.compare(net, func(name string) bool { return partOf(name) == part })
		if take[part] = diffs == nil; !take[part] {
			left = append(left, fmt.Sprintf("%s: %s", part, diffs[0]))
		}
	}
	for _, set := range []struct {
		params []nn.Param
		flat   []float32
	}{{net.Params, weights}, {net.Buffers, buffers}} {
		for _, p := range set.params {
			if !take[partOf(p.Name)] {
				continue
			}
			if err := f.fill(set.flat[p.Offset:p.Offset+p.Len], p.Name); err != nil {
				return nil, err
			}
		}
	}
	return left, nil
}

// partOf is projection_head or prototypes, empty for the backbone.
func partOf(name string) string { return headName.FindString(name) }

// optional tells of a bias that some tools do without: lightly, before a batch
// norm.
func optional(p nn.Param) bool { return p.Role == nn.LinearBias }

// compare lists how the file differs from some parameters of a network.
func (f *File) compare(net *nn.Network, want func(name string) bool) (diffs []string) {
	for _, p := range slices.Concat(net.Params, net.Buffers) {
		if !want(p.Name) {
			continue
		}
		shape, ok := f.shapes[p.Name]
		switch {
		case !ok && !optional(p):
			diffs = append(diffs, fmt.Sprintf("%s %v is not in the file", p.Name, p.Shape))
		case ok && !slices.Equal(shape, p.Shape):
			diffs = append(diffs, fmt.Sprintf("%s is %v in the file, %v here", p.Name, shape, p.Shape))
		}
	}
	return diffs
}

func (f *File) differs(net *nn.Network, diffs []string) error {
	more := ""
	if n := len(diffs); n > 3 {
		diffs, more = diffs[:3], fmt.Sprintf("; and %d more", n-3)
	}
	return fmt.Errorf("weights %s: not those of %v: %s%s", f.path, net.Arch, strings.Join(diffs, "; "), more)
}

// fill reads one tensor; one that is not there is zero (see optional).
func (f *File) fill(dst []float32, name string) error {
	theirs, ok := f.names[name]
	if !ok {
		clear(dst)
		return nil
	}
	x, err := f.t.Float32(theirs)
	if err != nil {
		return err
	}
	if len(x) != len(dst) {
		return fmt.Errorf("weights %s: %s has %d elements, want %d", f.path, name, len(x), len(dst))
	}
	for _, v := range x {
		if math.IsNaN(float64(v)) || math.IsInf(float64(v), 0) {
			return fmt.Errorf("weights %s: %s: %w", f.path, name, errNotFinite)
		}
	}
	copy(dst, x)
	return nil
}

var errNotFinite = errors.New("holds NaN or infinity: the run that wrote it had failed")
