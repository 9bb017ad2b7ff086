// Package nn says what a network is: the ResNet family (He et al., 2016, in the
// "v1.5" variant with the stride in the 3x3 convolution) with SwAV's head, as a
// list of layers over numbered values and a table of named parameters.
//
// It holds no weights and computes nothing: package engine compiles the list
// for a backend, a batch and crop sizes. Names and shapes are torchvision's and
// the original's (layer1.0.conv1.weight, projection_head.0.weight,
// prototypes.weight), so that checkpoints travel.
package nn

import (
	"fmt"
	"math"
	"strings"
)

// Block is the kind of residual block.
type Block string

// The two blocks of the family.
const (
	Basic      Block = "basic"      // two 3x3 convolutions, expansion 1
	Bottleneck Block = "bottleneck" // 1x1, 3x3, 1x1, expansion 4
)

func (b Block) expansion() int {
	if b == Bottleneck {
		return 4
	}
	return 1
}

// Stem is the part before the first stage.
type Stem string

// The stems.
const (
	ImageNetStem Stem = "imagenet" // 7x7 stride 2, batch norm, ReLU, 3x3 stride 2 max pooling
	SmallStem    Stem = "small"    // 3x3 stride 1, batch norm, ReLU: for images of about 32 pixels
)

// Arch is the shape of a network.
type Arch struct {
	Block      Block
	Layers     []int   // blocks per stage; stage s is 64*Width*2^s wide, stages after the first halve the resolution
	Width      float64 // multiplies 64 in every stage, the bottleneck's inner width too
	Stem       Stem
	InChannels int // >= 1
	Hidden     int // width of the projection head's hidden layer; 0: the head is one linear layer
	FeatureDim int // of the embedding
	Prototypes int // K, of all heads
	// Heads are the prototypes of each head, Prototypes in all, where there are
	// several (DeepCluster-v2); nil is one head. Their rows lie one below the other
	// in prototypes.weight.
	Heads []int `json:",omitempty"`
	// Classes > 0 has a linear classifier of the pooled features (torchvision's layer
	// fc) in the place of projection head and prototypes; Hidden, FeatureDim and
	// Prototypes are then 0.
	Classes int `json:",omitempty"`
}

// Classifier is the architecture with the same backbone and a linear classifier.
func (a Arch) Classifier(classes int) Arch {
	a.Layers = append([]int(nil), a.Layers...)
	a.Hidden, a.FeatureDim, a.Prototypes, a.Heads, a.Classes = 0, 0, 0, nil, classes
	return a
}

// WithHeads is a with these numbers of prototypes, one head each.
func (a Arch) WithHeads(heads []int) Arch {
	a.Prototypes, a.Heads = 0, nil
	for _, k := range heads {
		a.Prototypes += k
	}
	if len(heads) > 1 {
		a.Heads = append([]int(nil), heads...)
	}
	return a
}

// HeadSizes are the prototypes of each head; there is at least one head.
func (a Arch) HeadSizes() []int {
	if len(a.Heads) > 0 {
		return a.Heads
	}
	return []int{a.Prototypes}
}

// Clusters is the number of prototypes of the first head: those that images are
// sorted by once the network is trained.
func (a Arch) Clusters() int { return a.HeadSizes()[0] }

// named are the depths that have a name.
var named = map[string]Arch{
	"resnet18":   {Block: Basic, Layers: []int{2, 2, 2, 2}, Width: 1},
	"resnet34":   {Block: Basic, Layers: []int{3, 4, 6, 3}, Width: 1},
	"resnet50":   {Block: Bottleneck, Layers: []int{3, 4, 6, 3}, Width: 1},
	"resnet101":  {Block: Bottleneck, Layers: []int{3, 4, 23, 3}, Width: 1},
	"resnet50w2": {Block: Bottleneck, Layers: []int{3, 4, 6, 3}, Width: 2},
	"resnet50w4": {Block: Bottleneck, Layers: []int{3, 4, 6, 3}, Width: 4},
	"resnet50w5": {Block: Bottleneck, Layers: []int{3, 4, 6, 3}, Width: 5},
}

// ResNet returns the backbone of a named depth, with the original's defaults for
// everything else: ImageNet stem, 3 channels, hidden 2048, feature dimension
// 128, 3000 prototypes.
func ResNet(name string) (Arch, error) {
	a, ok := named[name]
	if !ok {
		return Arch{}, fmt.Errorf("unknown network %q: want resnet18, resnet34, resnet50, resnet101, resnet50w2, resnet50w4 or resnet50w5", name)
	}
	a.Layers = append([]int(nil), a.Layers...)
	a.Stem, a.InChannels = ImageNetStem, 3
	a.Hidden, a.FeatureDim, a.Prototypes = 2048, 128, 3000
	return a, nil
}

// maxParams bounds what Build accepts (w5 has 0.6e9), so that a hostile
// description cannot overflow a size.
const maxParams = 4 << 30

// maxHeads bounds the heads of prototypes; the original has 3.
const maxHeads = 64

// Validate checks the ranges that Build relies on.
func (a Arch) Validate() error {
	switch {
	case a.Block != Basic && a.Block != Bottleneck:
		return fmt.Errorf("network: block %q: want basic or bottleneck", a.Block)
	case a.Stem != ImageNetStem && a.Stem != SmallStem:
		return fmt.Errorf("network: stem %q: want imagenet or small", a.Stem)
	case len(a.Layers) < 1 || len(a.Layers) > 8:
		return fmt.Errorf("network: %d stages: want 1 to 8", len(a.Layers))
	case !(a.Width >= 1.0/64 && a.Width <= 16):
		return fmt.Errorf("network: width %v: want 0.125 to 5", a.Width)
	case a.InChannels < 1 || a.InChannels > 1024:
		return fmt.Errorf("network: %d input channels: want 1 to 1024", a.InChannels)
	case a.Classes < 0 || a.Classes > 1<<20:
		return fmt.Errorf("network: %d classes: want 1 to 1048576", a.Classes)
	case a.Classes > 0 && (a.Hidden != 0 || a.FeatureDim != 0 || a.Prototypes != 0):
		return fmt.Errorf("network: a classifier of %d classes has no head %d-%d with %d prototypes", a.Classes, a.Hidden, a.FeatureDim, a.Prototypes)
	case a.Classes > 0: // the head is that classifier
	case a.Hidden < 0 || a.Hidden > 1<<16:
		return fmt.Errorf("network: hidden width %d: want 0 to 65536", a.Hidden)
	case a.FeatureDim < 1 || a.FeatureDim > 1<<14:
		return fmt.Errorf("network: feature dimension %d: want 1 to 16384", a.FeatureDim)
	case a.Prototypes < 2 || a.Prototypes > 1<<20:
		return fmt.Errorf("network: %d prototypes: want 2 to 1048576", a.Prototypes)
	case len(a.Heads) > maxHeads:
		return fmt.Errorf("network: %d heads of prototypes: want at most %d", len(a.Heads), maxHeads)
	}
	if len(a.Heads) > 0 {
		sum := 0
		for h, k := range a.Heads {
			if k < 2 || k > a.Prototypes {
				return fmt.Errorf("network: %d prototypes in head %d: want 2 to %d", k, h, a.Prototypes)
			}
			sum += k
		}
		if sum != a.Prototypes {
			return fmt.Errorf("network: heads of %v prototypes are %d, not %d", a.Heads, sum, a.Prototypes)
		}
	}
	for s, n := range a.Layers {
		if n < 1 || n > 200 {
			return fmt.Errorf("network: stage %d has %d blocks: want 1 to 200", s+1, n)
		}
	}
	return nil
}

// planes is the base width of stage s, counted from 0.
func (a Arch) planes(s int) int {
	return int(math.Round(64*a.Width)) << s
}

// OutChannels is the dimension of the pooled backbone features.
func (a Arch) OutChannels() int {
	return a.planes(len(a.Layers)-1) * a.Block.expansion()
}

// MinSize is the smallest image side that reaches the last stage with at least
// one pixel by halving, not by padding alone.
func (a Arch) MinSize() int {
	n := 1 << (len(a.Layers) - 1)
	if a.Stem == ImageNetStem {
		n *= 4
	}
	return n
}

func (a Arch) String() string {
	name := fmt.Sprintf("%s%v", a.Block, a.Layers)
	for n, k := range named {
		if k.Width == 1 && k.Block == a.Block && fmt.Sprint(k.Layers) == fmt.Sprint(a.Layers) {
			name = n
		}
	}
	if a.Width != 1 {
		name += fmt.Sprintf(" width %g", a.Width)
	}
	if a.Classes > 0 {
		return fmt.Sprintf("%s, %s stem, %d channel(s), %d classes", name, a.Stem, a.InChannels, a.Classes)
	}
	prototypes := fmt.Sprint(a.Prototypes)
	if len(a.Heads) > 0 {
		prototypes = strings.Trim(strings.ReplaceAll(fmt.Sprint(a.Heads), " ", " + "), "[]")
	}
	return fmt.Sprintf("%s, %s stem, %d channel(s), head %d-%d, %s prototypes", name, a.Stem, a.InChannels, a.Hidden, a.FeatureDim, prototypes)
}

// Value numbers the outputs of layers. Value 0 is the input of the layer list.
type Value int

// None stands for an operand that is not there.
const None Value = -1

// Kind is what a layer does.
type Kind uint8

// The layer kinds.
const (
	Conv      Kind = iota // square convolution without bias
	BatchNorm             // batch norm, plus Residual where present, then ReLU where set
	MaxPool               // square max pooling
	AvgPool               // global average, float32 out
	Linear                // matrix product with bias where Bias is set
	Normalize             // rows to unit length
	Scores                // product with the prototypes, or, with a bias, the classes' scores
)

// Layer is one entry of the list: Out is computed from In.
type Layer struct {
	Kind     Kind
	Name     string // torchvision's module name
	In, Out  Value
	Residual Value // BatchNorm: added before the ReLU; None otherwise
	ReLU     bool  // BatchNorm

	InChannels, OutChannels int // of Conv and Linear; BatchNorm has both alike
	Kernel, Stride, Pad     int // of Conv and MaxPool

	Weight, Bias int // indices into Network.Params; -1 where absent
	Mean, Var    int // BatchNorm: indices into Network.Buffers
}

// Param is one named tensor of a flat buffer.
type Param struct {
	Name   string
	Shape  []int
	Offset int // elements from the start of the flat buffer
	Len    int // elements
	Role   Role
	FanIn  int // inputs of one output element: bounds the default initialisation
	FanOut int // convolutions: outputs that one input element reaches
}

// Role tells what a parameter is, for initialisation and for optimizers that
// treat some tensors apart.
type Role uint8

// The roles.
const (
	ConvWeight Role = iota
	NormWeight
	NormBias
	LinearWeight
	LinearBias
	PrototypeWeight
	RunningMean
	RunningVar
)

// Network is a compiled description: what package engine turns into a plan.
type Network struct {
	Arch     Arch
	Backbone []Layer // from an image batch to pooled features
	Head     []Layer // from pooled features (value 0 of this list) to scores; of a classifier the last layer alone
	Values   int     // number of values in Backbone
	HeadVals int     // number of values in Head

	Params     []Param // trainable, in torchvision's order
	Buffers    []Param // running statistics
	NumParams  int     // elements of the flat weight buffer
	NumBuffers int     // elements of the flat buffer of running statistics

	Embedding  Value // in Head: the normalised embedding; None in a classifier
	Prototypes int   // index into Params of prototypes.weight; -1 in a classifier
}

// FeatureDim is the dimension of the pooled backbone features.
func (n *Network) FeatureDim() int { return n.Arch.OutChannels() }

// Outputs is the number of scores of an image: prototypes, or classes.
func (n *Network) Outputs() int {
	if n.Arch.Classes > 0 {
		return n.Arch.Classes
	}
	return n.Arch.Prototypes
}

// Param returns the index of a trainable parameter by name, or -1.
func (n *Network) Param(name string) int { return find(n.Params, name) }

// Buffer returns the index of a running statistic by name, or -1.
func (n *Network) Buffer(name string) int { return find(n.Buffers, name) }

func find(ps []Param, name string) int {
	for i := range ps {
		if ps[i].Name == name {
			return i
		}
	}
	return -1
}

// MACs is the number of multiply-accumulates of the backbone's convolutions
// for one image of size x size pixels, and of the head for one row.
func (n *Network) MACs(size int) int64 {
	side := map[Value]int{0: size}
	var sum int64
	for _, l := range n.Backbone {
		s := side[l.In]
		if l.Kind == Conv || l.Kind == MaxPool {
			s = (s+2*l.Pad-l.Kernel)/l.Stride + 1
		}
		side[l.Out] = s
		if l.Kind == Conv {
			sum += int64(s) * int64(s) * int64(l.InChannels) * int64(l.OutChannels) * int64(l.Kernel*l.Kernel)
		}
	}
	for _, l := range n.Head {
		if l.Kind == Linear || l.Kind == Scores {
			sum += int64(l.InChannels) * int64(l.OutChannels)
		}
	}
	return sum
}
