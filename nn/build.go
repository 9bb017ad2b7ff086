package nn

import "fmt"

// Build lists the layers and parameters of a network. The error names what is
// out of range.
func Build(a Arch) (*Network, error) {
	if err := a.Validate(); err != nil {
		return nil, err
	}
	b := &builder{net: &Network{Arch: a}, next: 1}
	b.backbone(a)
	b.net.Values = int(b.next)
	b.head(a)
	if b.net.NumParams > maxParams {
		return nil, fmt.Errorf("network: %d parameters: want at most %d", b.net.NumParams, maxParams)
	}
	return b.net, nil
}

type builder struct {
	net    *Network
	next   Value
	inHead bool
}

func (b *builder) backbone(a Arch) {
	width := a.planes(0)
	var x Value
	if a.Stem == ImageNetStem {
		x = b.conv("conv1", 0, a.InChannels, width, 7, 2, 3)
		x = b.norm("bn1", x, None, width, true)
		out := b.value()
		b.add(Layer{Kind: MaxPool, Name: "maxpool", In: x, Out: out, InChannels: width, OutChannels: width, Kernel: 3, Stride: 2, Pad: 1})
		x = out
	} else {
		x = b.conv("conv1", 0, a.InChannels, width, 3, 1, 1)
		x = b.norm("bn1", x, None, width, true)
	}
	in := width
	for s, blocks := range a.Layers {
		for i := range blocks {
			stride := 1
			if i == 0 && s > 0 {
				stride = 2
			}
			name := fmt.Sprintf("layer%d.%d", s+1, i)
			x = b.block(a.Block, name, x, in, a.planes(s), stride)
			in = a.planes(s) * a.Block.expansion()
		}
	}
	b.add(Layer{Kind: AvgPool, Name: "avgpool", In: x, Out: b.value(), InChannels: in, OutChannels: in})
}

// block appends one residual block. Parameters are listed in torchvision's
// order, with the shortcut's last, although the shortcut runs before the last
// batch norm, which adds it.
func (b *builder) block(kind Block, name string, x Value, in, planes, stride int) Value {
	out := planes * kind.expansion()
	var y Value
	var bn string
	if kind == Basic {
		y = b.conv(name+".conv1", x, in, planes, 3, stride, 1)
		y = b.norm(name+".bn1", y, None, planes, true)
		y = b.conv(name+".conv2", y, planes, planes, 3, 1, 1)
		bn = name + ".bn2"
	} else {
		y = b.conv(name+".conv1", x, in, planes, 1, 1, 0)
		y = b.norm(name+".bn1", y, None, planes, true)
		y = b.conv(name+".conv2", y, planes, planes, 3, stride, 1)
		y = b.norm(name+".bn2", y, None, planes, true)
		y = b.conv(name+".conv3", y, planes, out, 1, 1, 0)
		bn = name + ".bn3"
	}
	last := b.normParams(bn, out)
	shortcut := x
	if stride != 1 || in != out {
		shortcut = b.conv(name+".downsample.0", x, in, out, 1, stride, 0)
		shortcut = b.norm(name+".downsample.1", shortcut, None, out, false)
	}
	last.In, last.Residual, last.ReLU, last.Out = y, shortcut, true, b.value()
	b.add(last)
	return last.Out
}

func (b *builder) head(a Arch) {
	b.inHead, b.next = true, 1
	var x Value
	in := a.OutChannels()
	if a.Classes > 0 {
		b.net.Embedding, b.net.Prototypes = None, -1
		w, bias := b.param("fc.weight", LinearWeight, in, a.Classes, in), b.param("fc.bias", LinearBias, in, a.Classes)
		b.add(Layer{Kind: Scores, Name: "fc", In: x, Out: b.value(), InChannels: in, OutChannels: a.Classes, Weight: w, Bias: bias})
		b.net.HeadVals = int(b.next)
		return
	}
	if a.Hidden > 0 {
		x = b.linear("projection_head.0", x, in, a.Hidden)
		x = b.norm("projection_head.1", x, None, a.Hidden, true)
		x = b.linear("projection_head.3", x, a.Hidden, a.FeatureDim)
	} else {
		x = b.linear("projection_head", x, in, a.FeatureDim)
	}
	b.net.Embedding = b.value()
	b.add(Layer{Kind: Normalize, Name: "normalize", In: x, Out: b.net.Embedding, InChannels: a.FeatureDim, OutChannels: a.FeatureDim})
	b.net.Prototypes = b.param("prototypes.weight", PrototypeWeight, a.FeatureDim, a.Prototypes, a.FeatureDim)
	b.add(Layer{Kind: Scores, Name: "prototypes", In: b.net.Embedding, Out: b.value(), InChannels: a.FeatureDim, OutChannels: a.Prototypes, Weight: b.net.Prototypes, Bias: -1})
	b.net.HeadVals = int(b.next)
}

func (b *builder) value() Value {
	v := b.next
	b.next++
	return v
}

func (b *builder) add(l Layer) {
	if l.Kind != BatchNorm {
		l.Residual = None
	}
	if l.Kind == MaxPool || l.Kind == AvgPool || l.Kind == Normalize {
		l.Weight, l.Bias = -1, -1
	}
	if l.Kind != BatchNorm {
		l.Mean, l.Var = -1, -1
	}
	if b.inHead {
		b.net.Head = append(b.net.Head, l)
	} else {
		b.net.Backbone = append(b.net.Backbone, l)
	}
}

func (b *builder) conv(name string, x Value, in, out, kernel, stride, pad int) Value {
	w := b.param(name+".weight", ConvWeight, in*kernel*kernel, out, in, kernel, kernel)
	b.net.Params[w].FanOut = out * kernel * kernel
	y := b.value()
	b.add(Layer{Kind: Conv, Name: name, In: x, Out: y, InChannels: in, OutChannels: out, Kernel: kernel, Stride: stride, Pad: pad, Weight: w, Bias: -1})
	return y
}

func (b *builder) norm(name string, x, residual Value, c int, relu bool) Value {
	l := b.normParams(name, c)
	l.In, l.Residual, l.ReLU, l.Out = x, residual, relu, b.value()
	b.add(l)
	return l.Out
}

func (b *builder) normParams(name string, c int) Layer {
	return Layer{
		Kind: BatchNorm, Name: name, InChannels: c, OutChannels: c,
		Weight: b.param(name+".weight", NormWeight, c, c),
		Bias:   b.param(name+".bias", NormBias, c, c),
		Mean:   b.buffer(name+".running_mean", RunningMean, c),
		Var:    b.buffer(name+".running_var", RunningVar, c),
	}
}

func (b *builder) linear(name string, x Value, in, out int) Value {
	y := b.value()
	w := b.param(name+".weight", LinearWeight, in, out, in)
	bias := b.param(name+".bias", LinearBias, in, out)
	b.add(Layer{Kind: Linear, Name: name, In: x, Out: y, InChannels: in, OutChannels: out, Weight: w, Bias: bias})
	return y
}

func (b *builder) param(name string, role Role, fanIn int, shape ...int) int {
	n := product(shape)
	b.net.Params = append(b.net.Params, Param{Name: name, Shape: shape, Offset: b.net.NumParams, Len: n, Role: role, FanIn: fanIn})
	b.net.NumParams += n
	return len(b.net.Params) - 1
}

func (b *builder) buffer(name string, role Role, c int) int {
	b.net.Buffers = append(b.net.Buffers, Param{Name: name, Shape: []int{c}, Offset: b.net.NumBuffers, Len: c, Role: role})
	b.net.NumBuffers += c
	return len(b.net.Buffers) - 1
}

func product(shape []int) int {
	n := 1
	for _, d := range shape {
		n *= d
	}
	return n
}
