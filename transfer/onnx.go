package transfer

import (
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"slices"

	"google.golang.org/protobuf/proto"

	"swav"
	"swav/internal/onnxpb"
	"swav/nn"
)

// The versions of what is written: operators and file format. Runtimes of 2022
// and later read them.
const (
	onnxOpset = 17
	onnxIR    = onnxpb.Version_IR_VERSION_2021_7_30
)

// Constants of the network, PyTorch's.
const (
	batchNormEps = 1e-5
	normEps      = 1e-12 // least length that a row is divided by
)

// maxONNX is what a protobuf message may have; weights beyond it would have to lie
// in a file of their own.
const maxONNX = math.MaxInt32

// ONNXOptions say what a graph holds.
type ONNXOptions struct {
	// Head adds the outputs "embeddings" (on the unit sphere) and "scores" (cosines
	// with the prototypes) to "features".
	Head bool
	// KeepBatchNorm keeps batch norms as nodes, as for fine-tuning; otherwise they
	// are folded into the convolutions and linear layers before them.
	KeepBatchNorm bool
}

// WriteONNX writes the network as an ONNX graph in evaluation mode: "images"
// [batch, channels, size, size], normalised, to "features" [batch, n].
func (m *Model) WriteONNX(w io.Writer, o ONNXOptions) error {
	if o.Head {
		if err := m.needHead(); err != nil {
			return err
		}
	}
	g := &graph{m: m, fold: !o.KeepBatchNorm, pb: &onnxpb.GraphProto{Name: proto.String("swav")}}
	g.network(o.Head)
	model := &onnxpb.ModelProto{
		IrVersion: proto.Int64(int64(onnxIR)), ProducerName: proto.String("swav"), Graph: g.pb,
		DocString:   proto.String(m.Net.Arch.String()),
		OpsetImport: []*onnxpb.OperatorSetIdProto{{Domain: proto.String(""), Version: proto.Int64(onnxOpset)}},
	}
	meta := m.metadata()
	for _, key := range []string{"network", "image_size", "resize", "mean", "std"} {
		model.MetadataProps = append(model.MetadataProps, &onnxpb.StringStringEntryProto{Key: proto.String(key), Value: proto.String(meta[key])})
	}
	if size := proto.Size(model); size > maxONNX {
		return fmt.Errorf("write ONNX: the graph has %d bytes with its weights, the format allows %d: take --format safetensors", size, maxONNX)
	}
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(model)
	if err == nil {
		_, err = w.Write(b)
	}
	if err != nil {
		return fmt.Errorf("write ONNX: %w", err)
	}
	return nil
}

// graph is an ONNX graph in the making.
type graph struct {
	m    *Model
	fold bool
	pb   *onnxpb.GraphProto
}

// network adds all nodes; values are named after the layer that makes them.
func (g *graph) network(head bool) {
	arch := g.m.Net.Arch
	side := int64(g.m.Size)
	g.pb.Input = append(g.pb.Input, value("images", int64(arch.InChannels), side, side))
	features := g.layers(g.m.Net.Backbone, "images")
	g.node("Identity", "features", []string{features})
	g.pb.Output = append(g.pb.Output, value("features", int64(g.m.Net.FeatureDim())))
	if !head {
		return
	}
	scores := g.layers(g.m.Net.Head, "features")
	g.node("Identity", "scores", []string{scores})
	g.pb.Output = append(g.pb.Output, value("embeddings", int64(arch.FeatureDim)), value("scores", int64(arch.Prototypes)))
}

// layers adds a list of layers and returns the name of its last value.
func (g *graph) layers(list []nn.Layer, input string) string {
	norms := map[nn.Value]*nn.Layer{} // by their input: the batch norm behind a layer
	for i, l := range list {
		if l.Kind == nn.BatchNorm {
			norms[l.In] = &list[i]
		}
	}
	names := map[nn.Value]string{0: input}
	last := input
	for _, l := range list {
		last = g.layer(l, norms[l.Out], names)
		names[l.Out] = last
	}
	return last
}

// layer adds the nodes of one layer and returns the name of its value. Norm is
// the batch norm that reads the value, nil where none does.
func (g *graph) layer(l nn.Layer, norm *nn.Layer, names map[nn.Value]string) string {
	x := names[l.In]
	switch l.Kind {
	case nn.Conv:
		in := append([]string{x}, g.weights(l, norm)...)
		return g.node("Conv", l.Name, in, ints("kernel_shape", l.Kernel, l.Kernel), ints("strides", l.Stride, l.Stride), ints("pads", l.Pad, l.Pad, l.Pad, l.Pad))
	case nn.Linear:
		return g.node("Gemm", l.Name, append([]string{x}, g.weights(l, norm)...), integer("transB", 1))
	case nn.Scores:
		p := g.m.Net.Params[l.Weight]
		unit := slices.Clone(g.m.param(l.Weight))
		swav.NormalizeRows(unit, p.Shape[0], p.Shape[1])
		return g.node("Gemm", l.Name, []string{x, g.constant(p.Name, p.Shape, unit)}, integer("transB", 1))
	case nn.MaxPool:
		return g.node("MaxPool", l.Name, []string{x}, ints("kernel_shape", l.Kernel, l.Kernel), ints("strides", l.Stride, l.Stride), ints("pads", l.Pad, l.Pad, l.Pad, l.Pad))
	case nn.AvgPool:
		pooled := g.node("GlobalAveragePool", l.Name, []string{x})
		return g.node("Flatten", l.Name+".flat", []string{pooled}, integer("axis", 1))
	case nn.Normalize:
		length := g.node("ReduceL2", l.Name+".length", []string{x}, ints("axes", 1), integer("keepdims", 1))
		least := g.constant(l.Name+".least", nil, []float32{normEps})
		return g.node("Div", "embeddings", []string{x, g.node("Max", l.Name+".divisor", []string{length, least})})
	case nn.BatchNorm:
		y := x
		if !g.fold {
			y = g.node("BatchNormalization", l.Name, []string{x, g.param(l.Weight), g.param(l.Bias), g.buffer(l.Mean), g.buffer(l.Var)}, float("epsilon", batchNormEps))
		}
		if l.Residual != nn.None {
			y = g.node("Add", l.Name+".add", []string{y, names[l.Residual]})
		}
		if l.ReLU {
			y = g.node("Relu", l.Name+".relu", []string{y})
		}
		return y
	}
	panic(fmt.Sprintf("transfer: layer %s of unknown kind %d", l.Name, l.Kind))
}

// weights adds a layer's weight and bias, with the batch norm behind it folded in
// where there is one: the outputs are scaled by gamma / sqrt(variance + eps) and
// shifted to beta - mean of that.
func (g *graph) weights(l nn.Layer, norm *nn.Layer) []string {
	if !g.fold || norm == nil {
		names := []string{g.param(l.Weight)}
		if l.Bias >= 0 {
			names = append(names, g.param(l.Bias))
		}
		return names
	}
	m := g.m
	gamma, beta, mean, variance := m.param(norm.Weight), m.param(norm.Bias), m.buffer(norm.Mean), m.buffer(norm.Var)
	w := m.param(l.Weight)
	folded, bias := make([]float32, len(w)), make([]float32, l.OutChannels)
	each := len(w) / l.OutChannels
	for o := range bias {
		scale := float64(gamma[o]) / math.Sqrt(float64(variance[o])+batchNormEps)
		shift := -float64(mean[o])
		if l.Bias >= 0 {
			shift += float64(m.param(l.Bias)[o])
		}
		bias[o] = float32(float64(beta[o]) + shift*scale)
		for i := o * each; i < (o+1)*each; i++ {
			folded[i] = float32(float64(w[i]) * scale)
		}
	}
	return []string{g.constant(l.Name+".weight", m.Net.Params[l.Weight].Shape, folded), g.constant(l.Name+".bias", []int{l.OutChannels}, bias)}
}

func (g *graph) param(i int) string {
	p := g.m.Net.Params[i]
	return g.constant(p.Name, p.Shape, g.m.param(i))
}

func (g *graph) buffer(i int) string {
	p := g.m.Net.Buffers[i]
	return g.constant(p.Name, p.Shape, g.m.buffer(i))
}

// constant adds a tensor and returns its name.
func (g *graph) constant(name string, shape []int, data []float32) string {
	t := &onnxpb.TensorProto{Name: proto.String(name), DataType: proto.Int32(int32(onnxpb.TensorProto_FLOAT))}
	for _, d := range shape {
		t.Dims = append(t.Dims, int64(d))
	}
	t.RawData = make([]byte, 0, 4*len(data))
	for _, v := range data {
		t.RawData = binary.LittleEndian.AppendUint32(t.RawData, math.Float32bits(v))
	}
	g.pb.Initializer = append(g.pb.Initializer, t)
	return name
}

// node adds an operator with one output, of the same name, and returns it.
func (g *graph) node(op, name string, in []string, attrs ...*onnxpb.AttributeProto) string {
	g.pb.Node = append(g.pb.Node, &onnxpb.NodeProto{OpType: proto.String(op), Name: proto.String(name), Input: in, Output: []string{name}, Attribute: attrs})
	return name
}

// value describes an input or output [batch, dims...].
func value(name string, dims ...int64) *onnxpb.ValueInfoProto {
	shape := &onnxpb.TensorShapeProto{Dim: []*onnxpb.TensorShapeProto_Dimension{{Value: &onnxpb.TensorShapeProto_Dimension_DimParam{DimParam: "batch"}}}}
	for _, d := range dims {
		shape.Dim = append(shape.Dim, &onnxpb.TensorShapeProto_Dimension{Value: &onnxpb.TensorShapeProto_Dimension_DimValue{DimValue: d}})
	}
	return &onnxpb.ValueInfoProto{Name: proto.String(name), Type: &onnxpb.TypeProto{Value: &onnxpb.TypeProto_TensorType{
		TensorType: &onnxpb.TypeProto_Tensor{ElemType: proto.Int32(int32(onnxpb.TensorProto_FLOAT)), Shape: shape}}}}
}

func ints(name string, v ...int) *onnxpb.AttributeProto {
	a := &onnxpb.AttributeProto{Name: proto.String(name), Type: onnxpb.AttributeProto_INTS.Enum()}
	for _, x := range v {
		a.Ints = append(a.Ints, int64(x))
	}
	return a
}

func integer(name string, v int64) *onnxpb.AttributeProto {
	return &onnxpb.AttributeProto{Name: proto.String(name), Type: onnxpb.AttributeProto_INT.Enum(), I: proto.Int64(v)}
}

func float(name string, v float32) *onnxpb.AttributeProto {
	return &onnxpb.AttributeProto{Name: proto.String(name), Type: onnxpb.AttributeProto_FLOAT.Enum(), F: proto.Float32(v)}
}
