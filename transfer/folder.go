package transfer

import (
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"text/template"

	"swav/interop"
	"swav/nn"
)

// The files of a folder that timm and Hugging Face's transformers load.
const (
	configFile       = "config.json"
	weightsFile      = "model.safetensors"
	preprocessorFile = "preprocessor_config.json"
	cardFile         = "README.md"
)

// Layout is whose classes a folder is for.
type Layout string

// The layouts.
const (
	Timm        Layout = "timm"
	HuggingFace Layout = "hf"
)

// WriteFolder writes the backbone as a folder that timm.create_model
// ("local-dir:PATH") or transformers.AutoModel.from_pretrained loads; dir is made,
// and files of the same names in it are replaced.
func (m *Model) WriteFolder(dir string, layout Layout) error {
	fail := func(err error) error { return fmt.Errorf("write %s: %w", dir, err) }
	config, tensors, err := m.timm()
	if layout == HuggingFace {
		config, tensors, err = m.huggingFace()
	}
	if err != nil {
		return fail(err)
	}
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return err
	}
	for _, f := range []struct {
		name  string
		write func(io.Writer) error
	}{
		{configFile, jsonWriter(config)},
		{preprocessorFile, jsonWriter(m.preprocessor())},
		{cardFile, func(w io.Writer) error { return m.card(w, layout) }},
		{weightsFile, func(w io.Writer) error { return interop.WriteSafetensors(w, tensors, m.metadata()) }},
	} {
		if err := create(filepath.Join(dir, f.name), f.write); err != nil {
			return fail(err)
		}
	}
	return nil
}

// create writes a file under another name and renames it.
func create(path string, write func(io.Writer) error) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	err = write(f)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Chmod(f.Name(), 0o644)
	}
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

func jsonWriter(v any) func(io.Writer) error {
	return func(w io.Writer) error {
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		return e.Encode(v)
	}
}

// object is a JSON object; encoding/json sorts its keys.
type object map[string]any

// timm is the configuration and the weights by timm's names, which are
// torchvision's.
func (m *Model) timm() (object, []interop.Tensor, error) {
	name, ok := torchvisionName(m.Net.Arch)
	if !ok {
		return nil, nil, fmt.Errorf("timm has no %v: take --format hf, pytorch or onnx", m.Net.Arch)
	}
	c := object{
		"architecture": name, "num_classes": 0, "num_features": m.Net.FeatureDim(), "global_pool": "avg",
		"pretrained_cfg": object{
			"tag": "swav", "custom_load": false, "input_size": []int{m.Net.Arch.InChannels, m.Size, m.Size}, "fixed_input_size": false,
			"interpolation": "bilinear", "crop_pct": 224.0 / 256, "crop_mode": "center", "mean": m.Mean, "std": m.Std,
			"num_classes": 0, "pool_size": []int{(m.Size + 31) / 32, (m.Size + 31) / 32}, "first_conv": "conv1", "classifier": "fc",
		},
	}
	if m.Net.Arch.InChannels != 3 {
		c["model_args"] = object{"in_chans": m.Net.Arch.InChannels}
	}
	return c, m.tensors(false), nil
}

// torchvisionName is the name that torchvision and timm give a network.
func torchvisionName(a nn.Arch) (string, bool) {
	if a.Stem != nn.ImageNetStem || a.Width != 1 {
		return "", false
	}
	for _, name := range []string{"resnet18", "resnet34", "resnet50", "resnet101"} {
		if b, err := nn.ResNet(name); err == nil && b.Block == a.Block && fmt.Sprint(b.Layers) == fmt.Sprint(a.Layers) {
			return name, true
		}
	}
	return "", false
}

// huggingFace is the configuration and the weights of transformers' ResNetModel.
func (m *Model) huggingFace() (object, []interop.Tensor, error) {
	a := m.Net.Arch
	if a.Stem != nn.ImageNetStem {
		return nil, nil, fmt.Errorf("transformers' ResNet always has the 7x7 stem, this is %v: take --format pytorch or onnx", a)
	}
	expansion := m.Net.FeatureDim() / (width(m.Net) << (len(a.Layers) - 1))
	sizes := make([]int, len(a.Layers))
	for s := range sizes {
		sizes[s] = width(m.Net) * expansion << s
	}
	c := object{
		"architectures": []string{"ResNetModel"}, "model_type": "resnet", "num_channels": a.InChannels,
		"embedding_size": width(m.Net), "hidden_sizes": sizes, "depths": a.Layers, "layer_type": a.Block, "hidden_act": "relu",
		"downsample_in_first_stage": false, "downsample_in_bottleneck": false, "torch_dtype": "float32",
	}
	ts := m.tensors(false)
	for i := range ts {
		ts[i].Name = huggingFaceName(ts[i].Name)
	}
	return c, ts, nil
}

// width is the number of channels after the stem.
func width(net *nn.Network) int { return net.Backbone[0].OutChannels }

var blockName = regexp.MustCompile(`^layer(\d+)\.(\d+)\.(?:(conv|bn)(\d)|downsample\.([01]))\.(.+)$`)

// huggingFaceName is the reverse of canonical for transformers' ResNetModel.
func huggingFaceName(name string) string {
	part := map[string]string{"conv": "convolution", "bn": "normalization", "0": "convolution", "1": "normalization"}
	if module, rest, _ := strings.Cut(name, "."); module == "conv1" || module == "bn1" {
		return "embedder.embedder." + part[module[:len(module)-1]] + "." + rest
	}
	b := blockName.FindStringSubmatch(name)
	stage, _ := strconv.Atoi(b[1])
	prefix := fmt.Sprintf("encoder.stages.%d.layers.%s.", stage-1, b[2])
	if b[3] == "" {
		return prefix + "shortcut." + part[b[5]] + "." + b[6]
	}
	layer, _ := strconv.Atoi(b[4])
	return prefix + fmt.Sprintf("layer.%d.%s.%s", layer-1, part[b[3]], b[6])
}

// preprocessor says how images become pixels, in transformers' words.
func (m *Model) preprocessor() object {
	return object{
		"image_processor_type": "BitImageProcessor", "do_convert_rgb": m.Net.Arch.InChannels == 3,
		"do_resize": true, "size": object{"shortest_edge": m.resize()}, "resample": 2, // bilinear
		"do_center_crop": true, "crop_size": object{"height": m.Size, "width": m.Size},
		"do_rescale": true, "rescale_factor": 1.0 / 255, "do_normalize": true, "image_mean": m.Mean, "image_std": m.Std,
	}
}

// readPreprocessor takes size, mean and deviation from a folder that says them.
func (m *Model) readPreprocessor(dir string) error {
	path := filepath.Join(dir, preprocessorFile)
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	var p struct {
		Crop struct{ Height, Width int } `json:"crop_size"`
		Mean []float32                   `json:"image_mean"`
		Std  []float32                   `json:"image_std"`
	}
	// Where other tools write other types, what they say is another processor's.
	if err := json.NewDecoder(io.LimitReader(f, 1<<20)).Decode(&p); err != nil {
		return fmt.Errorf("%s: %w: remove it, and give size and normalisation by --set", path, err)
	}
	if c := p.Crop; c.Height == c.Width && c.Height > 0 && c.Height <= 4096 {
		m.Size = c.Height
	}
	if n := m.Net.Arch.InChannels; len(p.Mean) == n && len(p.Std) == n && !slices.Contains(p.Std, 0) {
		m.Mean, m.Std = p.Mean, p.Std
	}
	return nil
}

//go:embed card.md
var cardText string

var cardTemplate = template.Must(template.New(cardFile).Parse(cardText))

// card writes the model card.
func (m *Model) card(w io.Writer, layout Layout) error {
	return cardTemplate.Execute(w, map[string]any{
		"HuggingFace": layout == HuggingFace, "Arch": m.Net.Arch.String(), "Source": m.Source, "Features": m.Net.FeatureDim(),
		"Size": m.Size, "Resize": m.resize(), "Mean": m.Mean, "Std": m.Std,
	})
}
