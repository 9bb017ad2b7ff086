package runlog

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"image"
	"image/png"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
)

// record is an event as a reader sees it.
type record struct {
	step    int64
	wall    float64
	version string
	session int64
	values  map[string]float32
	images  map[string][]byte
}

// readEvents reads the TFRecords of a file, from the format's description
// (tensorflow/core/lib/io/record_writer.h): every length and checksum must agree.
func readEvents(t *testing.T, path string) []record {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	masked := func(b []byte) uint32 {
		crc := crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli))
		return (crc>>15 | crc<<(32-15)) + 0xa282ead8
	}
	var all []record
	for len(data) > 0 {
		n := binary.LittleEndian.Uint64(data)
		if got, want := binary.LittleEndian.Uint32(data[8:]), masked(data[:8]); got != want {
			t.Fatalf("checksum of the length %x, want %x", got, want)
		}
		msg := data[12 : 12+n]
		if got, want := binary.LittleEndian.Uint32(data[12+n:]), masked(msg); got != want {
			t.Fatalf("checksum of the message %x, want %x", got, want)
		}
		data = data[16+n:]
		r := record{values: map[string]float32{}, images: map[string][]byte{}}
		fields(t, msg, func(num protowire.Number, v uint64, b []byte) {
			switch num {
			case 1:
				r.wall = math.Float64frombits(v)
			case 2:
				r.step = int64(v)
			case 3:
				r.version = string(b)
			case 5:
				fields(t, b, func(_ protowire.Number, _ uint64, b []byte) {
					var tag string
					fields(t, b, func(num protowire.Number, v uint64, b []byte) {
						switch num {
						case 1:
							tag = string(b)
						case 2:
							r.values[tag] = math.Float32frombits(uint32(v))
						case 4:
							r.images[tag] = b
						}
					})
				})
			case 7:
				fields(t, b, func(num protowire.Number, v uint64, _ []byte) {
					if num == 1 {
						r.session = int64(v)
					}
				})
			default:
				t.Errorf("field %d of an event", num)
			}
		})
		all = append(all, r)
	}
	return all
}

func fields(t *testing.T, msg []byte, f func(num protowire.Number, v uint64, b []byte)) {
	t.Helper()
	for len(msg) > 0 {
		num, typ, n := protowire.ConsumeTag(msg)
		if n < 0 {
			t.Fatal(protowire.ParseError(n))
		}
		msg = msg[n:]
		var v uint64
		var b []byte
		switch typ {
		case protowire.VarintType:
			v, n = protowire.ConsumeVarint(msg)
		case protowire.Fixed32Type:
			var v32 uint32
			v32, n = protowire.ConsumeFixed32(msg)
			v = uint64(v32)
		case protowire.Fixed64Type:
			v, n = protowire.ConsumeFixed64(msg)
		case protowire.BytesType:
			b, n = protowire.ConsumeBytes(msg)
		}
		if n < 0 {
			t.Fatal(protowire.ParseError(n))
		}
		f(num, v, b)
		msg = msg[n:]
	}
}

func TestEvents(t *testing.T) {
	dir := t.TempDir()
	e, err := CreateEvents(dir)
	if err != nil {
		t.Fatal(err)
	}
	for step := range 3 {
		if err := e.Scalars(40+step, 100.5, []Scalar{{"train/loss", float64(step)}, {"train/lr", math.Inf(1)}}); err != nil {
			t.Fatal(err)
		}
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	paths, err := filepath.Glob(filepath.Join(dir, "events.out.tfevents.*"))
	if err != nil || len(paths) != 1 {
		t.Fatalf("%v, %v", paths, err)
	}
	got := readEvents(t, paths[0])
	if len(got) != 5 {
		t.Fatalf("%d events: %+v", len(got), got)
	}
	if got[0].version != "brain.Event:2" {
		t.Errorf("first event %+v", got[0])
	}
	// A start at step 40 makes TensorBoard drop what an earlier session wrote from
	// there on.
	if got[1].session != 1 || got[1].step != 40 {
		t.Errorf("second event %+v", got[1])
	}
	for i, r := range got[2:] {
		if r.step != int64(40+i) || r.wall != 100.5 || r.values["train/loss"] != float32(i) || !math.IsInf(float64(r.values["train/lr"]), 1) {
			t.Errorf("event %+v", r)
		}
	}
	if _, err := CreateEvents(filepath.Join(dir, "no")); err == nil {
		t.Error("no error for a missing directory")
	}
}

// A picture carries its size, and begins a session as a scalar does.
func TestEventsImage(t *testing.T) {
	dir := t.TempDir()
	e, err := CreateEvents(dir)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := png.Encode(&b, image.NewGray(image.Rect(0, 0, 30, 20))); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(e.Image(7, 1, "prototypes", b.Bytes()), e.Close()); err != nil {
		t.Fatal(err)
	}
	paths, _ := filepath.Glob(filepath.Join(dir, "events.out.tfevents.*"))
	got := readEvents(t, paths[0])
	if len(got) != 3 || got[1].session != 1 || got[2].step != 7 {
		t.Fatalf("%+v", got)
	}
	sizes := map[protowire.Number]uint64{}
	var data []byte
	fields(t, got[2].images["prototypes"], func(num protowire.Number, v uint64, b []byte) {
		if sizes[num] = v; num == 4 {
			data = b
		}
	})
	if sizes[1] != 20 || sizes[2] != 30 || sizes[3] != 4 || !bytes.Equal(data, b.Bytes()) {
		t.Errorf("height %d, width %d, colours %d, %d bytes of %d", sizes[1], sizes[2], sizes[3], len(data), b.Len())
	}
	if err := e.Image(8, 1, "text", []byte("no picture")); err == nil {
		t.Error("no error for a picture that is none")
	}
}

// The checksum of "123456789" by the CRC catalogue, and masked as TFRecord says.
func TestMaskedCRC(t *testing.T) {
	text := []byte("123456789")
	if c := crc32.Checksum(text, castagnoli); c != 0xe3069283 {
		t.Fatalf("crc32c %x", c)
	}
	rotated := slices.Concat([]byte(fmt.Sprintf("%032b", 0xe3069283)[17:]), []byte(fmt.Sprintf("%032b", 0xe3069283)[:17]))
	var want uint32
	for _, b := range rotated {
		want = want<<1 | uint32(b-'0')
	}
	if got := maskedCRC(text); got != want+0xa282ead8 {
		t.Errorf("masked %x, want %x", got, want+0xa282ead8)
	}
}
