package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"swav/train"
	"swav/transfer"
)

// exportFormats are the values of --format; the default name of what is written.
var exportFormats = map[string]string{
	"safetensors": "backbone.safetensors", "pytorch": "backbone.pth", "onnx": "backbone.onnx", "timm": "backbone-timm", "hf": "backbone-hf",
}

func newExport() *cobra.Command {
	var format, out string
	var head, keep bool
	var set []string
	c := &cobra.Command{
		Use:   "export RUN --format safetensors|pytorch|onnx|timm|hf [--out PATH]",
		Short: "Write the network for other tools",
		Long: `Writes the backbone of a run (or of one checkpoint in it, or of weights from
another tool, which converts them) in the format of --format:

  safetensors  torchvision's names, one file
  pytorch      a state dict: torchvision.models.resnet50().load_state_dict(torch.load(PATH))
  onnx         a graph of opset 17: "images" [batch, channels, size, size] to "features";
               batch norm is folded into the convolutions
  timm         a folder for timm.create_model("local-dir:PATH", pretrained=True)
  hf           a folder for transformers.AutoModel.from_pretrained("PATH")

Without --head, safetensors and pytorch have torchvision's classifier fc, all
zero, since load_state_dict asks for it. With --head they have the original's
projection_head and prototypes instead; onnx then gives "embeddings" and "scores"
too. Images are to be normalised by the recipe's augment.mean and augment.std: they
are in the metadata (safetensors, onnx) or preprocessor_config.json (timm, hf).`,
		Example: `  swav export runs/photos --format pytorch --out resnet50.pth
  swav export runs/photos --format onnx --head --out swav.onnx`,
		Args: withUsage(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			name, ok := exportFormats[format]
			if !ok {
				return usageError{hint(fmt.Errorf("--format %q", format), "want safetensors, pytorch, onnx, timm or hf")}
			}
			if head && (format == "timm" || format == "hf") {
				return usageError{fmt.Errorf("--head with --format %s: these folders hold a backbone; take safetensors, pytorch or onnx", format)}
			}
			if keep && format != "onnx" {
				return usageError{errors.New("--keep-bn belongs to --format onnx: the others always keep batch norms")}
			}
			if out == "" {
				out = name
			}
			if dir := filepath.Dir(out); !exists(dir) {
				return fmt.Errorf("write %s: folder %s does not exist", out, dir)
			}
			m, err := train.Portable(args[0], set...)
			if err != nil {
				return err
			}
			switch format {
			case "safetensors":
				err = createFile(out, func(w io.Writer) error { return m.WriteSafetensors(w, head) })
			case "pytorch":
				err = createFile(out, func(w io.Writer) error { return m.WritePyTorch(w, head) })
			case "onnx":
				err = createFile(out, func(w io.Writer) error { return m.WriteONNX(w, transfer.ONNXOptions{Head: head, KeepBatchNorm: keep}) })
			default:
				err = m.WriteFolder(out, transfer.Layout(format))
			}
			if err != nil {
				return err
			}
			fmt.Fprintf(c.OutOrStdout(), "%s: %v; images of %d x %d\n", out, m.Net.Arch, m.Size, m.Size)
			return nil
		},
	}
	f := c.Flags()
	f.StringVar(&format, "format", "", "safetensors, pytorch, onnx, timm or hf (required)")
	f.StringVar(&out, "out", "", "file or folder to write (default backbone.EXT)")
	f.BoolVar(&head, "head", false, "with projection head and prototypes")
	f.BoolVar(&keep, "keep-bn", false, "onnx: keep batch norms as nodes of their own")
	f.StringArrayVar(&set, "set", nil, "change a key of the run's recipe for this: KEY=VALUE, such as crops=1x160@0.1-1; may be repeated")
	return c
}

// createFile writes a file aside and renames it, so that a failure leaves what was
// there before.
func createFile(path string, write func(io.Writer) error) error {
	f, err := os.Create(path + ".tmp")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	err = errors.Join(write(f), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	return err
}
