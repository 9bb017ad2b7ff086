package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"swav/finetune"
)

func newPredict() *cobra.Command {
	var o finetune.PredictOptions
	var asJSON bool
	c := &cobra.Command{
		Use:   "predict RUN IMAGE...",
		Short: "Tell the classes of images",
		Long: `Tells the class of each image, with its probability, by the classifier that
swav eval finetune has learnt: RUN/classifier.safetensors, or a classifier's file
in the place of RUN. Images are files, or a folder, or the source of --data.

Each line has the image, a tab, and its likeliest classes; with --json it is an
object. Images that cannot be read are reported, and the exit code is then 1.`,
		Example: `  swav predict runs/photos new/*.jpg
  swav predict runs/photos new/ --top 1
  swav predict runs/photos/classifier-0.1.safetensors --data test.tar --json`,
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usageError{hint(errors.New("no run directory given"), "name it and images: %s RUN IMAGE...", c.CommandPath())}
			}
			if o.Files = args[1:]; o.Data == "" && len(o.Files) == 1 {
				if info, err := os.Stat(o.Files[0]); err == nil && info.IsDir() {
					o.Data, o.Files = o.Files[0], nil
				}
			}
			if (o.Data == "") == (len(o.Files) == 0) {
				return usageError{hint(errors.New("want images, or --data"), "name image files or a folder: %s RUN IMAGE...", c.CommandPath())}
			}
			if o.Top < 1 {
				return usageError{fmt.Errorf("--top %d: want 1 or more", o.Top)}
			}
			if o.Split != "" && o.Split != "train" && o.Split != "test" {
				return usageError{fmt.Errorf("--split %s: want train or test", o.Split)}
			}
			file, err := finetune.Find(args[0])
			if err != nil {
				return err
			}
			classifier, err := finetune.Open(file)
			if err != nil {
				return err
			}
			o.Skip, o.Note = reportSkip(c), reportNote(c)
			told := 0
			out := json.NewEncoder(c.OutOrStdout())
			images, err := classifier.Predict(c.Context(), o, func(g finetune.Guess) error {
				told++
				if asJSON {
					return out.Encode(g)
				}
				return g.Write(c.OutOrStdout())
			})
			if err == nil && told < images {
				err = fmt.Errorf("%d of %d images cannot be read", images-told, images)
			}
			return err
		},
	}
	f := c.Flags()
	f.IntVar(&o.Top, "top", 3, "classes that are told, the likeliest first")
	f.StringVar(&o.Data, "data", "", "images: folder, list, shards, idx files, CIFAR batches, in the place of files")
	f.StringVar(&o.Split, "split", "", "part of --data, where it has parts: train or test (default train)")
	f.BoolVar(&asJSON, "json", false, "print a JSON object a line")
	return c
}
