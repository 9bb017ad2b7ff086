package datatool

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/binary"
	"image"
	"image/jpeg"
	"image/png"
	"os"
	"strconv"
	"time"

	"swav/augment"
	"swav/dataset"
	"swav/imgcodec"
	"swav/interop"
)

// packChunk is how many images are made ready at a time.
const packChunk = 64

// shard writes the images of the given numbers under a temporary name and renames
// it when it is whole. It returns how many there are in it.
func (p *packer) shard(ctx context.Context, path string, numbers []int) (written int, err error) {
	tmp := path + ".tmp"
	f, err := os.Create(tmp)
	if err != nil {
		return 0, err
	}
	defer func() {
		if err != nil {
			f.Close()
			_ = os.Remove(tmp)
		}
	}()
	w := tar.NewWriter(f)
	ready := make([]packed, packChunk)
	workers := make([]packWorker, p.o.workers())
	for from := 0; from < len(numbers); from += packChunk {
		some := numbers[from:min(from+packChunk, len(numbers))]
		err := each(ctx, len(some), p.o.Options, func(n, i int) error {
			ready[i].data = ready[i].data[:0]
			if err := workers[n].encode(p.src, some[i], p.o, &ready[i]); err != nil {
				ready[i].data = nil
				return p.skip(some[i], err)
			}
			return nil
		})
		if err != nil {
			return 0, err
		}
		for k, i := range some {
			if ready[k].data == nil {
				continue
			}
			if err := entry(w, p.keys[i]+ready[k].suffix, ready[k].data); err != nil {
				return 0, err
			}
			if l := p.src.Label(i); l >= 0 {
				if err := entry(w, p.keys[i]+".cls", []byte(strconv.Itoa(l))); err != nil {
					return 0, err
				}
			}
			written++
		}
	}
	if err := w.Close(); err != nil {
		return 0, err
	}
	if err := f.Sync(); err != nil {
		return 0, err
	}
	if err := f.Close(); err != nil {
		return 0, err
	}
	return written, os.Rename(tmp, path)
}

// entry writes a file. Its time is fixed: the same images make the same shards.
func entry(w *tar.Writer, name string, data []byte) error {
	if err := w.WriteHeader(&tar.Header{Name: name, Size: int64(len(data)), Mode: 0o644, ModTime: time.Unix(0, 0), Typeflag: tar.TypeReg}); err != nil {
		return err
	}
	_, err := w.Write(data)
	return err
}

// packed is an image as it goes into a shard.
type packed struct {
	suffix string
	data   []byte // nil where it cannot be read
}

type packWorker struct {
	worker
	buf bytes.Buffer
}

// encode makes image i ready: as it is where it is a file and small enough,
// otherwise shrunk and, as JPEG files stay lossy and others lossless, stored anew.
func (w *packWorker) encode(src dataset.Source, i int, o PackOptions, out *packed) error {
	f, err := w.read(src, i) // the copy is to be readable too
	if err != nil {
		return err
	}
	m := &w.img
	short := min(m.W, m.H)
	shrink := o.Size > 0 && short > o.Size
	if _, isFile := src.(dataset.Encoded); isFile && !shrink {
		out.suffix = suffixes[f.info.Format][0]
		out.data = append(out.data, w.file...)
		return nil
	}
	if shrink {
		side := func(n int) int { return max(1, (n*o.Size+short/2)/short) }
		augment.Resize(&w.small, m, side(m.W), side(m.H), &w.scratch)
		m = &w.small
	}
	w.buf.Reset()
	switch {
	case m.C != 1 && m.C != 3:
		out.suffix = ".npy"
		w.buf.Write(npyFile(m))
	case f.info.Format == "jpeg":
		out.suffix = ".jpg"
		err = jpeg.Encode(&w.buf, goImage(m), &jpeg.Options{Quality: o.Quality})
	default:
		out.suffix = ".png"
		err = png.Encode(&w.buf, goImage(m))
	}
	out.data = append(out.data, w.buf.Bytes()...)
	return err
}

// npyFile is an image as an array [height, width, channels].
func npyFile(m *imgcodec.Image) []byte {
	shape := []int{m.H, m.W, m.C}
	if !m.IsDeep() {
		return append(interop.NPYHeader{DType: "|u1", Shape: shape}.Append(nil), m.Pix...)
	}
	out := interop.NPYHeader{DType: "<u2", Shape: shape}.Append(nil)
	for _, v := range m.Deep {
		out = binary.LittleEndian.AppendUint16(out, v)
	}
	return out
}

// goImage is a grey or RGB image as the standard library's encoders take it.
func goImage(m *imgcodec.Image) image.Image {
	r := image.Rect(0, 0, m.W, m.H)
	switch {
	case m.C == 1 && m.IsDeep():
		g := image.NewGray16(r)
		for i, v := range m.Deep {
			binary.BigEndian.PutUint16(g.Pix[2*i:], v)
		}
		return g
	case m.C == 1:
		return &image.Gray{Pix: m.Pix, Stride: m.W, Rect: r}
	case m.IsDeep():
		g := image.NewRGBA64(r)
		for i := range m.W * m.H {
			for c := range 3 {
				binary.BigEndian.PutUint16(g.Pix[8*i+2*c:], m.Deep[3*i+c])
			}
			binary.BigEndian.PutUint16(g.Pix[8*i+6:], 0xffff)
		}
		return g
	}
	g := image.NewRGBA(r)
	for i := range m.W * m.H {
		copy(g.Pix[4*i:], m.Pix[3*i:][:3])
		g.Pix[4*i+3] = 255
	}
	return g
}
