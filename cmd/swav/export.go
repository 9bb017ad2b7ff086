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
	"tensorboard": "tensorboard",
}

// maxPoints is how many images TensorBoard's projector shows at most: their thumbnails
// are one picture of bounded size.
const maxPoints = 16384

func newExport() *cobra.Command {
	var format, out, data string
	var head, keep bool
	var images int
	var set []string
	c := &cobra.Command{
		Use:   "export RUN --format safetensors|pytorch|onnx|timm|hf|tensorboard [--out PATH]",
		Short: "Write the network for other tools",
		Long: `Writes the backbone of a run (or of one checkpoint in it, or of weights from
another tool, which converts them) in the format of --format:

  safetensors  torchvision's names, one file
  pytorch      a state dict: torchvision.models.resnet50().load_state_dict(torch.load(PATH))
  onnx         a graph of opset 17: "images" [batch, channels, size, size] to "features";
               batch norm is folded into the convolutions
  timm         a folder for timm.create_model("local-dir:PATH", pretrained=True)
  hf           a folder for transformers.AutoModel.from_pretrained("PATH")
  tensorboard  a folder for tensorboard --logdir PATH: all curves of the run, its sheet
               of prototypes, and the projector with some of its images. A run with
               log.tensorboard has these in its own directory already

Without --head, safetensors and pytorch have torchvision's classifier fc, all
zero, since load_state_dict asks for it. With --head they have the original's
projection_head and prototypes instead; onnx then gives "embeddings" and "scores"
too. Images are to be normalised by the recipe's augment.mean and augment.std: they
are in the metadata (safetensors, onnx) or preprocessor_config.json (timm, hf).`,
		Example: `  swav export runs/photos --format pytorch --out resnet50.pth
  swav export runs/photos --format onnx --head --out swav.onnx
  swav export runs/photos --format tensorboard --images 5000 --data ~/more-photos`,
		Args: withUsage(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			name, ok := exportFormats[format]
			if !ok {
				return usageError{hint(fmt.Errorf("--format %q", format), "want safetensors, pytorch, onnx, timm, hf or tensorboard")}
			}
			if head && (format == "timm" || format == "hf" || format == "tensorboard") {
				return usageError{fmt.Errorf("--head with --format %s: it is for safetensors, pytorch and onnx; folders for timm and hf hold a backbone", format)}
			}
			if format != "tensorboard" && (data != "" || c.Flags().Changed("images")) {
				return usageError{errors.New("--data and --images belong to --format tensorboard: the others hold no images")}
			}
			if images < 0 || images > maxPoints {
				return usageError{fmt.Errorf("--images %d: want 0 to %d", images, maxPoints)}
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
			if format == "tensorboard" {
				steps, points, err := train.TensorBoard(c.Context(), train.TensorBoardOptions{Dir: out,
					EmbedOptions: train.EmbedOptions{Run: args[0], Data: data, Set: set, Images: images, Skip: reportSkip(c), Note: reportNote(c)}})
				if err != nil {
					return err
				}
				fmt.Fprintf(c.OutOrStdout(), "%s: %d steps, %d images in the projector; see them by: tensorboard --logdir %s\n", out, steps, points, out)
				return nil
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
	f.StringVar(&format, "format", "", "safetensors, pytorch, onnx, timm, hf or tensorboard (required)")
	f.StringVar(&out, "out", "", "file or folder to write (default backbone.EXT)")
	f.BoolVar(&head, "head", false, "with projection head and prototypes")
	f.BoolVar(&keep, "keep-bn", false, "onnx: keep batch norms as nodes of their own")
	f.StringVar(&data, "data", "", "tensorboard: images of the projector (default: the run's)")
	f.IntVar(&images, "images", 1000, "tensorboard: how many of them; 0: no projector")
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
