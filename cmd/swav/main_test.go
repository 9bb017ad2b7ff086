package main

import (
	"bytes"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What users see of each command when they get it wrong, and of those that
// print: exit code and words.
func TestCommandLine(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "recipe.toml")
	if err := os.WriteFile(file, []byte("[swav]\nepsilom = 0.03\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	empty := filepath.Join(dir, "empty")
	if err := os.Mkdir(empty, 0o755); err != nil {
		t.Fatal(err)
	}
	photos, broken := filepath.Join(dir, "photos"), filepath.Join(dir, "broken")
	for i := range 4 {
		writeFile(t, stripes(t, i+2), photos, fmt.Sprintf("%d.png", i))
	}
	writeFile(t, stripes(t, 2), broken, "whole.png")
	writeFile(t, stripes(t, 2)[:40], broken, "half.png")
	for _, tc := range []struct {
		args   string
		code   int
		stdout string
		stderr []string
	}{
		{args: "--help", stdout: "swav train ~/photos"},
		{args: "train --help", stdout: "--resume"},
		{args: "recipes", stdout: "swav_200ep_bs256"},
		{args: "recipes fashion-mnist", stdout: "in_channels = 1"},
		{args: "recipes --keys", stdout: "swav.epsilon"},
		{args: "recipes nosuch", code: 1, stderr: []string{"nosuch"}},
		{args: "bench data", code: 2, stderr: []string{"--data"}},
		{args: "bench data --data " + empty + " --images 1", code: 2, stderr: []string{"--images 1"}},
		{args: "bench data --data " + empty + " --scales 1:2", code: 1, stderr: []string{"empty"}},
		{args: "train", code: 2, stderr: []string{"--run"}},
		{args: "train --run x", code: 2, stderr: []string{"--data"}},
		{args: "train --data a.tar b.tar --run x", code: 2, stderr: []string{"b.tar", "quotes"}},
		{args: "train --recipe fashion-mnist --set train.steps=0 --set train.epochs=1 --data repeat:" + empty + "/none.tar --run " + dir + "/r7", code: 2, stderr: []string{"data.epoch_images"}},
		{args: "embed --run " + empty + " --data - --out " + dir + "/f.npy", code: 1, stderr: []string{"no checkpoint"}},
		{args: "train " + empty + " --data " + photos + " --run " + dir + "/r8", code: 2, stderr: []string{"given twice"}},
		{args: "train " + empty + " --run " + dir + "/r9", code: 1, stderr: []string{"no images", empty}},
		{args: "train --nosuch", code: 2, stderr: []string{"nosuch", "--help"}},
		{args: "train --recipe " + file + " --data " + empty + " --run " + dir + "/r1", code: 1, stderr: []string{"recipe.toml", "2:", "epsilom", "epsilon"}},
		{args: "train --recipe fashion-mnist --set swav.epsilom=1 --data " + empty + " --run " + dir + "/r2", code: 2, stderr: []string{"epsilom", "swav.epsilon", "--keys"}},
		{args: "train --recipe fashion-mnist --set optim.lr=-1 --data " + empty + " --run " + dir + "/r3", code: 2, stderr: []string{"optim.lr"}},
		{args: "train --recipe fashion-mnist --data " + empty + " --run " + dir + "/r4", code: 1, stderr: []string{"no images", empty}},
		{args: "train --recipe cifar10 --time 5m --data " + empty + " --run " + dir + "/r5", code: 2, stderr: []string{"--time", "auto"}},
		{args: "train --resume --run " + dir + "/r6", code: 1, stderr: []string{"r6"}},
		{args: "embed", code: 2, stderr: []string{"swav embed RUN"}},
		{args: "embed --run " + empty + " --out " + dir + "/f.npy", code: 1, stderr: []string{"no checkpoint"}},
		{args: "embed --run " + empty + " --out " + dir + "/f.txt", code: 2, stderr: []string{".npy"}},
		{args: "cluster --run " + empty + " --out " + dir + "/no/where.csv", code: 1, stderr: []string{"where.csv"}},
		{args: "train --resume --init x --run y", code: 2, stderr: []string{"--init"}},
		{args: "export --help", stdout: "load_state_dict"},
		{args: "export", code: 2, stderr: []string{"--help"}},
		{args: "export x --format onyx", code: 2, stderr: []string{"onyx", "safetensors"}},
		{args: "export x --format hf --head", code: 2, stderr: []string{"--head"}},
		{args: "export x --format onnx --images 5", code: 2, stderr: []string{"--images", "tensorboard"}},
		{args: "export x --format tensorboard --images 99999", code: 2, stderr: []string{"16384"}},
		{args: "export " + empty + " --format tensorboard --out " + dir + "/tb", code: 1, stderr: []string{"no checkpoint"}},
		{args: "embed --run " + empty + " --out " + dir + "/f.parquet", code: 1, stderr: []string{"no checkpoint"}},
		{args: "export x --format pytorch --keep-bn", code: 2, stderr: []string{"--keep-bn"}},
		{args: "export " + empty + " --format onnx --out " + dir + "/e.onnx", code: 1, stderr: []string{"no checkpoint"}},
		{args: "export " + file + " --format onnx --out " + dir + "/e.onnx", code: 1, stderr: []string{file}},
		{args: "cluster --follow --run " + empty + " --data " + empty, code: 2, stderr: []string{"watch:FOLDER"}},
		{args: "cluster --follow --run " + empty + " --data -", code: 1, stdout: "id,prototype,score", stderr: []string{"no checkpoint"}},
		{args: "cluster x --run x", code: 2, stderr: []string{"two runs"}},
		{args: "cluster x --dir d --out f.csv", code: 2, stderr: []string{"--dir", "--out"}},
		{args: "cluster --run " + empty + " --dir " + dir + "/d --examples 0", code: 2, stderr: []string{"--examples 0"}},
		{args: "cluster --run " + empty + " --dir " + dir + "/d", code: 1, stderr: []string{"no checkpoint"}},
		{args: "search x", code: 2, stderr: []string{"--help"}},
		{args: "search x q.jpg --k 0", code: 2, stderr: []string{"--k 0"}},
		{args: "search x q.jpg --out p.gif", code: 2, stderr: []string{".png"}},
		{args: "search " + empty + " q.jpg", code: 1, stderr: []string{"query", "q.jpg"}},
		{args: "search " + empty + " " + file, code: 1, stderr: []string{"no checkpoint"}},
		{args: "search " + empty + " " + file + " --out " + dir + "/no/p.png", code: 1, stderr: []string{"folder"}},
		{args: "map " + empty + " --out " + dir + "/no/m.html", code: 1, stderr: []string{"folder"}},
		{args: "map x --images -1", code: 2, stderr: []string{"--images"}},
		{args: "map " + empty, code: 1, stderr: []string{"no checkpoint"}},
		{args: "serve x --tls-cert c.pem", code: 2, stderr: []string{"--tls-key"}},
		{args: "serve x --max-mb 0", code: 2, stderr: []string{"--max-mb 0"}},
		{args: "serve x --batch-size 0", code: 2, stderr: []string{"--batch-size 0"}},
		{args: "serve x --tls-cert " + file + " --tls-key " + file, code: 1, stderr: []string{"certificate"}},
		{args: "serve x --addr 127.0.0.1:99999", code: 1, stderr: []string{"99999", "--addr HOST:PORT"}},
		{args: "serve " + empty + " --addr 127.0.0.1:0", code: 1, stderr: []string{"no checkpoint"}},
		{args: "bench serve http://127.0.0.1:1/embed " + file + " --requests 0", code: 2, stderr: []string{"--requests 0"}},
		{args: "bench serve http://127.0.0.1:1/embed " + file + " --requests 1", code: 1, stdout: "0 of 1", stderr: []string{"1 requests"}},
		{args: "eval --help", stdout: "retrieval"},
		{args: "eval", code: 2, stderr: []string{"no protocol"}},
		{args: "eval knn", code: 2, stderr: []string{"eval knn RUN"}},
		{args: "eval knn a b c", code: 2, stderr: []string{"--help"}},
		{args: "eval knn --help", stdout: "REFERENCES.npy"},
		{args: "eval linear " + empty, code: 1, stderr: []string{"no checkpoint"}},
		{args: "eval knn " + dir + "/f.npy", code: 2, stderr: []string{"two files"}},
		{args: "eval knn " + dir + "/f.npy " + dir + "/g.npy", code: 1, stderr: []string{"f.npy"}},
		{args: "eval knn --run " + empty + " --data " + photos, code: 1, stderr: []string{"no checkpoint"}},
		{args: "eval linear " + empty + " --pool 6x7", code: 2, stderr: []string{"6x6"}},
		{args: "eval linear a.npy b.npy --pool 6x6", code: 2, stderr: []string{"name a run"}},
		{args: "eval linear a.npy b.npy --augment", code: 2, stderr: []string{"name a run"}},
		{args: "eval linear " + empty + " --augment --c 1", code: 2, stderr: []string{"SGD alone"}},
		{args: "eval linear " + empty + " --min-scale 0.5", code: 2, stderr: []string{"--augment"}},
		{args: "eval linear " + empty + " --augment", code: 1, stderr: []string{"no checkpoint"}},
		{args: "eval finetune", code: 2, stderr: []string{"finetune RUN"}},
		{args: "eval finetune --help", stdout: "--labels-from"},
		{args: "eval finetune " + empty + " --fraction 2", code: 1, stderr: []string{"fraction 2"}},
		{args: "eval finetune " + empty, code: 1, stderr: []string{"no checkpoint"}},
		{args: "eval finetune " + empty + " --fraction 0.1 --labels-from x", code: 2, stderr: []string{"one of them"}},
		{args: "predict", code: 2, stderr: []string{"predict RUN IMAGE"}},
		{args: "predict " + empty, code: 2, stderr: []string{"IMAGE"}},
		{args: "predict " + empty + " a.jpg --top 0", code: 2, stderr: []string{"--top 0"}},
		{args: "predict " + empty + " a.jpg", code: 1, stderr: []string{"swav eval finetune"}},
		{args: "predict " + photos + "/0.png a.jpg", code: 1, stderr: []string{"0.png"}},
		{args: "predict --help", stdout: "--json"},
		{args: "verify", code: 2, stderr: []string{"--help"}},
		{args: "verify " + empty, code: 1, stderr: []string{"case.json", "--augment"}},
		{args: "bench step --crops 2y224", code: 2, stderr: []string{"COUNTxSIZE"}},
		{args: "data --help", stdout: "preview"},
		{args: "data check", code: 2, stderr: []string{"--help"}},
		{args: "data check " + empty, code: 1, stderr: []string{"no images", empty}},
		{args: "data check " + photos, stdout: "png: 4"},
		{args: "data check " + photos + " --json", stdout: `"png": 4`},
		{args: "data check " + broken, code: 1, stdout: "half.png"},
		{args: "data check " + photos + " --exif turn", code: 2, stderr: []string{"--exif", "ignore"}},
		{args: "data stats " + photos + " --images 2", stdout: "mean = [0.509804"},
		{args: "data stats " + broken, stdout: "channels = 3"},
		{args: "data preview " + photos + " --recipe cifar10 --images 2 --out " + dir + "/p.png", stdout: "p.png: "},
		{args: "data preview " + photos + " --recipe cifar10 --set augment.flop=1 --out " + dir + "/p.png", code: 2, stderr: []string{"augment.flip", "--keys"}},
		{args: "data preview " + photos + " --recipe cifar10 --out " + dir + "/no/p.png", code: 1, stderr: []string{"folder"}},
		{args: "data pack " + photos + " " + dir + "/shards --size 4 --shard-images 3", stdout: "2 shards"},
		{args: "data pack " + photos + " " + dir + "/shards --size 4 --shard-images 3", stdout: "0 images written, 2 shards were there"},
		{args: "data pack " + photos + " " + dir + "/shards --size 5", code: 1, stderr: []string{"--restart"}},
		{args: "data pack " + photos + " " + dir + "/other --quality 200", code: 2, stderr: []string{"--quality"}},
		{args: "nosuch", code: 1, stderr: []string{"nosuch"}},
	} {
		t.Run(tc.args, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			code := run(strings.Fields(tc.args), &stdout, &stderr)
			if code != tc.code {
				t.Errorf("exit code %d, want %d", code, tc.code)
			}
			if !strings.Contains(stdout.String(), tc.stdout) {
				t.Errorf("standard output lacks %q:\n%s", tc.stdout, stdout.String())
			}
			for _, want := range tc.stderr {
				if !strings.Contains(stderr.String(), want) {
					t.Errorf("standard error lacks %q:\n%s", want, stderr.String())
				}
			}
			reported := strings.Contains(stdout.String(), tc.stdout) && tc.stdout != "" // what is wrong, already
			if code != 0 && !reported && !strings.HasPrefix(stderr.String(), "swav: error: ") {
				t.Errorf("standard error starts with %q", stderr.String())
			}
		})
	}
}

// stripes is a PNG of 12 x 10 pixels.
func stripes(t *testing.T, period int) []byte {
	t.Helper()
	img := image.NewRGBA(image.Rect(0, 0, 12, 10))
	for p := range 12 * 10 {
		v := byte(100 + 60*(p%period%2))
		img.SetRGBA(p%12, p/12, color.RGBA{v, v / 2, 90, 255})
	}
	var b bytes.Buffer
	if err := png.Encode(&b, img); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func writeFile(t *testing.T, data []byte, dir, name string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
		t.Fatal(err)
	}
}
