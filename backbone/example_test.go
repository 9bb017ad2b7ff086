package backbone_test

import (
	"context"
	"fmt"
	"image"
	"image/color"
	"os"
	"path/filepath"

	"swav/backbone"
	"swav/internal/runtest"
)

// trained is a run of a tiny network; yours comes from swav train.
func trained() (run string, remove func()) {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		panic(err)
	}
	photos, run := filepath.Join(dir, "photos"), filepath.Join(dir, "run")
	for _, d := range []string{photos, run} {
		if err := os.Mkdir(d, 0o755); err != nil {
			panic(err)
		}
	}
	if err := runtest.WritePhotos(photos, 12); err != nil {
		panic(err)
	}
	if err := runtest.Train(run, photos); err != nil {
		panic(err)
	}
	return run, func() { os.RemoveAll(dir) }
}

// Features of images that a program has in memory.
func Example() {
	run, remove := trained()
	defer remove()

	b, err := backbone.Open(run, backbone.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer b.Close()
	fmt.Printf("%+v\n", b.Shape())

	sky := image.NewUniform(color.RGBA{90, 140, 250, 255})
	out, err := b.Embed(context.Background(), part{sky, image.Rect(0, 0, 64, 48)})
	if err != nil {
		fmt.Println(err)
		return
	}
	k, _ := out[0].Prototype()
	fmt.Println(len(out[0].Features), "features;", 0 <= k && k < b.Shape().Prototypes)
	// Output:
	// {Size:12 Channels:3 Features:16 EmbeddingDim:8 Prototypes:6}
	// 16 features; true
}

// part is a part of an image.
type part struct {
	image.Image
	rect image.Rectangle
}

func (p part) Bounds() image.Rectangle { return p.rect }
