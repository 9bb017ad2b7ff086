package transfer

import (
	"bytes"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"swav/internal/onnxpb"
	"swav/interop"
	"swav/nn"
)

// tiny is a network of random weights, batch norms included.
func tiny(t testing.TB, arch nn.Arch) *Model {
	t.Helper()
	net, err := nn.Build(arch)
	if err != nil {
		t.Fatal(err)
	}
	m := &Model{Net: net, Head: true, Size: 32, Mean: []float32{0.5, 0.5, 0.5}, Std: []float32{0.25, 0.25, 0.25}, Source: "tiny"}
	m.Weights, m.Buffers = net.Init(3)
	for i := range m.Buffers {
		m.Buffers[i] = 0.5 + float32(i%7)/10
	}
	return m
}

func bottleneck() nn.Arch {
	return nn.Arch{Block: nn.Bottleneck, Layers: []int{1, 2, 1, 1}, Width: 0.125, Stem: nn.ImageNetStem, InChannels: 3, Hidden: 12, FeatureDim: 6, Prototypes: 5}
}

// write saves tensors under other names as a PyTorch checkpoint.
func write(t testing.TB, m *Model, rename func(name string) string) string {
	t.Helper()
	var ts []interop.Tensor
	for _, x := range m.tensors(true) {
		if x.Name = rename(x.Name); x.Name != "" {
			ts = append(ts, x)
		}
	}
	path := filepath.Join(t.TempDir(), "weights.pth")
	var buf bytes.Buffer
	if err := interop.WritePyTorch(&buf, ts); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, buf.Bytes(), 0o666); err != nil {
		t.Fatal(err)
	}
	return path
}

func read(t testing.TB, path string) *Model {
	t.Helper()
	f, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	m, err := f.Model()
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func sameBits(a, b []float32) bool {
	for i := range a {
		if math.Float32bits(a[i]) != math.Float32bits(b[i]) {
			return false
		}
	}
	return len(a) == len(b)
}

// The names of each repository lead to the same network.
func TestOpenKnowsLayouts(t *testing.T) {
	m := tiny(t, bottleneck())
	sequence := strings.NewReplacer("conv1.", "0.", "bn1.", "1.", "layer1.", "4.", "layer2.", "5.", "layer3.", "6.", "layer4.", "7.")
	for name, rename := range map[string]func(string) string{
		"torchvision": func(s string) string { return s },
		"original":    func(s string) string { return "module." + s },
		"several prototypes": func(s string) string {
			return "module." + strings.Replace(s, "prototypes.", "prototypes.prototypes0.", 1)
		},
		"vissl": func(s string) string {
			if headName.MatchString(s) {
				return "heads.0." + strings.Replace(s, "prototypes.", "prototypes0.", 1)
			}
			return "trunk._feature_blocks." + s
		},
		"lightly": func(s string) string {
			s = strings.Replace(s, "prototypes.", "prototypes.heads.0.", 1)
			s = strings.Replace(s, "projection_head.", "projection_head.layers.", 1)
			if headName.MatchString(s) {
				return s
			}
			first, rest, _ := strings.Cut(s, ".")
			return "backbone." + sequence.Replace(first+".") + rest
		},
		"solo-learn": func(s string) string {
			if !inBackbone(s) {
				return strings.Replace(s, "projection_head.", "projector.", 1)
			}
			return "backbone." + s
		},
		"hugging face": func(s string) string {
			if !inBackbone(s) {
				return s
			}
			return "resnet." + huggingFaceName(s)
		},
	} {
		got := read(t, write(t, m, rename))
		if got.Net.Arch.String() != m.Net.Arch.String() || !got.Head || !sameBits(got.Weights, m.Weights) || !sameBits(got.Buffers, m.Buffers) {
			t.Errorf("%s: another network: %v", name, got.Net.Arch)
		}
	}
	// lightly's own ResNet for small images, without a bias before the batch norm.
	small := bottleneck()
	small.Stem, small.Block = nn.SmallStem, nn.Basic
	m = tiny(t, small)
	places := map[string]string{"conv1": "0", "bn1": "1", "layer1": "2", "layer2": "3", "layer3": "4", "layer4": "5"}
	got := read(t, write(t, m, func(s string) string {
		if s == "projection_head.0.bias" {
			return ""
		}
		if first, rest, _ := strings.Cut(s, "."); places[first] != "" {
			return "backbone." + places[first] + "." + strings.Replace(rest, "downsample", "shortcut", 1)
		}
		return s
	}))
	bias := m.Net.Param("projection_head.0.bias")
	clear(m.param(bias))
	if got.Net.Arch.String() != small.String() || !sameBits(got.Weights, m.Weights) {
		t.Errorf("lightly, small images: another network: %v", got.Net.Arch)
	}
}

func TestOpenRefuses(t *testing.T) {
	m := tiny(t, bottleneck())
	for name, c := range map[string]struct {
		rename func(string) string
		want   string
	}{
		"no network":     {func(s string) string { return "x" + s }, "no ResNet"},
		"layer missing":  {func(s string) string { return strings.Replace(s, "layer2.1.conv2.", "layer2.1.conv9.", 1) }, "layer2.1.conv2.weight"},
		"a stage hidden": {func(s string) string { return strings.Replace(s, "layer3", "other3", 1) }, ""},
	} {
		f, err := Open(write(t, m, c.rename))
		if err == nil {
			var got *Model
			got, err = f.Model()
			if name == "a stage hidden" && err == nil && len(got.Net.Arch.Layers) == 2 {
				f.Close() // two stages are a network too
				continue
			}
			f.Close()
		}
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want it to say %q", name, err, c.want)
		}
	}
	if _, err := Open(t.TempDir()); err == nil || !strings.Contains(err.Error(), "model.safetensors") {
		t.Errorf("an empty folder: %v", err)
	}
	m.Weights[5] = float32(math.NaN())
	f, err := Open(write(t, m, func(s string) string { return s }))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Model(); err == nil || !strings.Contains(err.Error(), "NaN") {
		t.Errorf("NaN among the weights: %v", err)
	}
}

// A head of another size keeps its values, and the user is told.
func TestIntoTakesWhatFits(t *testing.T) {
	m := tiny(t, bottleneck())
	f, err := Open(write(t, m, func(s string) string { return s }))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	arch := bottleneck()
	arch.Prototypes = 9
	other := tiny(t, arch)
	clear(other.Weights)
	left, err := f.Into(other.Net, other.Weights, other.Buffers)
	if err != nil || len(left) != 1 || !strings.Contains(left[0], "prototypes.weight is [5 6] in the file, [9 6] here") {
		t.Errorf("left %q, %v", left, err)
	}
	n := other.Net.Params[other.Net.Prototypes].Offset
	if !sameBits(other.Weights[:n], m.Weights[:n]) || other.Weights[n] != 0 {
		t.Error("backbone and projection head are not the file's, or the prototypes are")
	}
	arch.Layers = []int{1, 1, 1, 1}
	wrong, err := nn.Build(arch)
	if err != nil {
		t.Fatal(err)
	}
	arch.InChannels = 1
	if gray, err := nn.Build(arch); err != nil {
		t.Fatal(err)
	} else if _, err := f.Into(gray, make([]float32, gray.NumParams), make([]float32, gray.NumBuffers)); err == nil || !strings.Contains(err.Error(), "conv1.weight") {
		t.Errorf("gray images: %v", err)
	}
	if _, err := f.Into(wrong, make([]float32, wrong.NumParams), make([]float32, wrong.NumBuffers)); err != nil {
		t.Errorf("a shallower backbone: %v", err)
	}
}

func TestStateDict(t *testing.T) {
	m := tiny(t, bottleneck())
	names := func(head bool) (s []string) {
		ts, err := m.StateDict(head)
		if err != nil {
			t.Fatal(err)
		}
		for _, x := range ts {
			s = append(s, x.Name)
		}
		return s
	}
	want := "conv1.weight bn1.weight bn1.bias bn1.running_mean bn1.running_var bn1.num_batches_tracked layer1.0.conv1.weight"
	if got := names(false); strings.Join(got[:7], " ") != want || got[len(got)-1] != "fc.bias" {
		t.Errorf("%v … %v", got[:7], got[len(got)-1])
	}
	if got := names(true); got[len(got)-1] != "prototypes.weight" {
		t.Errorf("… %v", got[len(got)-1])
	}
	m.Head = false
	if _, err := m.StateDict(true); err == nil {
		t.Error("a head that is not there is written")
	}
}

func graphOf(t *testing.T, m *Model, o ONNXOptions) *onnxpb.ModelProto {
	t.Helper()
	var buf bytes.Buffer
	if err := m.WriteONNX(&buf, o); err != nil {
		t.Fatal(err)
	}
	model := &onnxpb.ModelProto{}
	if err := proto.Unmarshal(buf.Bytes(), model); err != nil {
		t.Fatal(err)
	}
	return model
}

// Every value is made once, before it is used; what it computes is checked by
// scripts/interop-test.
func TestWriteONNXIsWhole(t *testing.T) {
	small := bottleneck()
	small.Stem, small.Block, small.Hidden = nn.SmallStem, nn.Basic, 0
	for _, arch := range []nn.Arch{bottleneck(), small} {
		m := tiny(t, arch)
		for _, o := range []ONNXOptions{{}, {Head: true}, {Head: true, KeepBatchNorm: true}} {
			model := graphOf(t, m, o)
			made := map[string]bool{"images": true}
			make := func(name string) {
				if made[name] {
					t.Errorf("%v: %s is made twice", o, name)
				}
				made[name] = true
			}
			for _, c := range model.Graph.Initializer {
				make(c.GetName())
			}
			norms := 0
			for _, n := range model.Graph.Node {
				for _, in := range n.Input {
					if !made[in] {
						t.Errorf("%v: %s reads %s before it is made", o, n.GetName(), in)
					}
				}
				make(n.Output[0])
				if n.GetOpType() == "BatchNormalization" {
					norms++
				}
			}
			if (norms > 0) != o.KeepBatchNorm {
				t.Errorf("%v: %d batch norms", o, norms)
			}
			for _, out := range model.Graph.Output {
				if !made[out.GetName()] {
					t.Errorf("%v: output %s is not made", o, out.GetName())
				}
			}
			if want := map[bool]int{false: 1, true: 3}[o.Head]; len(model.Graph.Output) != want {
				t.Errorf("%v: %d outputs", o, len(model.Graph.Output))
			}
			if dim := model.Graph.Input[0].GetType().GetTensorType().GetShape().Dim[0]; dim.GetDimParam() == "" {
				t.Errorf("%v: the batch dimension is %v", o, dim)
			}
		}
	}
}

func TestFolders(t *testing.T) {
	arch := bottleneck()
	arch.Layers, arch.Width = []int{3, 4, 6, 3}, 1
	m := tiny(t, arch)
	for _, layout := range []Layout{Timm, HuggingFace} {
		dir := filepath.Join(t.TempDir(), "out")
		if err := m.WriteFolder(dir, layout); err != nil {
			t.Fatal(err)
		}
		got := read(t, dir)
		n := m.Net.Params[m.Net.Param("projection_head.0.weight")].Offset
		if got.Head || !sameBits(got.Weights[:n], m.Weights[:n]) {
			t.Errorf("%s: other weights, or a head", layout)
		}
		if got.Size != 32 || !sameBits(got.Mean, m.Mean) || !sameBits(got.Std, m.Std) {
			t.Errorf("%s: images of %d, mean %v, deviation %v", layout, got.Size, got.Mean, got.Std)
		}
		card, err := os.ReadFile(filepath.Join(dir, "README.md"))
		if err != nil || !bytes.Contains(card, []byte("2048 features")) {
			t.Errorf("%s: card %s, %v", layout, card, err)
		}
	}
	small := bottleneck()
	small.Stem = nn.SmallStem
	for _, layout := range []Layout{Timm, HuggingFace} {
		if err := tiny(t, small).WriteFolder(t.TempDir(), layout); err == nil || !strings.Contains(err.Error(), "--format") {
			t.Errorf("%s has no small stem: %v", layout, err)
		}
	}
}

func FuzzCanonical(f *testing.F) {
	for _, s := range []string{"state_dict/module.layer1.0.conv1.weight", "backbone.4.0.bn1.bias", "0.prototypes0.weight", "encoder.stages.8.layers.0.shortcut.convolution.weight", "9.x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, name string) {
		for _, short := range []bool{false, true} {
			if ours, ok := canonical(name, short); ok && !known.MatchString(ours) {
				t.Fatalf("%q becomes %q", name, ours)
			}
		}
	})
}
