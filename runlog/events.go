package runlog

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"image/png"
	"math"
	"os"
	"path/filepath"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
)

// Events writes scalars and images for TensorBoard: TFRecords of Event messages
// (tensorflow/core/util/event.proto, framework/summary.proto).
type Events struct {
	f       *os.File
	msg     []byte
	rec     []byte
	started bool // the session has told where it begins
}

// CreateEvents starts a new events file in a run directory; TensorBoard merges
// those of several sessions in the order of their names.
func CreateEvents(dir string) (*Events, error) {
	name := fmt.Sprintf("events.out.tfevents.%d.swav.%d", time.Now().Unix(), os.Getpid())
	f, err := os.OpenFile(filepath.Join(dir, name), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return nil, err
	}
	e := &Events{f: f}
	e.start(0, float64(time.Now().UnixNano())/1e9)
	e.msg = protowire.AppendTag(e.msg, 3, protowire.BytesType) // file_version
	e.msg = protowire.AppendString(e.msg, "brain.Event:2")
	return e, e.flush()
}

// Scalar is a named value.
type Scalar struct {
	Name  string
	Value float64
}

// Scalars writes values of a step; wall is the time in Unix seconds.
func (e *Events) Scalars(step int, wall float64, values []Scalar) error {
	var summary []byte
	for _, v := range values {
		var value []byte
		value = protowire.AppendTag(value, 1, protowire.BytesType) // tag
		value = protowire.AppendString(value, v.Name)
		value = protowire.AppendTag(value, 2, protowire.Fixed32Type) // simple_value
		value = protowire.AppendFixed32(value, math.Float32bits(float32(v.Value)))
		summary = protowire.AppendTag(summary, 1, protowire.BytesType) // value
		summary = protowire.AppendBytes(summary, value)
	}
	return e.summary(step, wall, summary)
}

// Image writes a picture, as PNG.
func (e *Events) Image(step int, wall float64, name string, data []byte) error {
	c, err := png.DecodeConfig(bytes.NewReader(data))
	if err != nil {
		return fmt.Errorf("write %s: picture %s: %w", e.f.Name(), name, err)
	}
	var picture []byte
	for i, v := range []int{c.Height, c.Width, 4} { // and the colour space: RGBA
		picture = protowire.AppendTag(picture, protowire.Number(1+i), protowire.VarintType)
		picture = protowire.AppendVarint(picture, uint64(v))
	}
	picture = protowire.AppendTag(picture, 4, protowire.BytesType) // encoded_image_string
	picture = protowire.AppendBytes(picture, data)
	var value []byte
	value = protowire.AppendTag(value, 1, protowire.BytesType) // tag
	value = protowire.AppendString(value, name)
	value = protowire.AppendTag(value, 4, protowire.BytesType) // image
	value = protowire.AppendBytes(value, picture)
	summary := protowire.AppendTag(nil, 1, protowire.BytesType) // value
	return e.summary(step, wall, protowire.AppendBytes(summary, value))
}

// summary writes a Summary message.
func (e *Events) summary(step int, wall float64, summary []byte) error {
	if !e.started {
		// Tells TensorBoard to forget this step and later ones of a session that got
		// further than its last checkpoint.
		e.started = true
		e.start(step, wall)
		e.msg = protowire.AppendTag(e.msg, 7, protowire.BytesType) // session_log
		e.msg = protowire.AppendBytes(e.msg, []byte{1 << 3, 1})    // status: START
		if err := e.flush(); err != nil {
			return err
		}
	}
	e.start(step, wall)
	e.msg = protowire.AppendTag(e.msg, 5, protowire.BytesType) // summary
	e.msg = protowire.AppendBytes(e.msg, summary)
	return e.flush()
}

// start begins an Event with its time and step.
func (e *Events) start(step int, wall float64) {
	e.msg = protowire.AppendTag(e.msg[:0], 1, protowire.Fixed64Type) // wall_time
	e.msg = protowire.AppendFixed64(e.msg, math.Float64bits(wall))
	e.msg = protowire.AppendTag(e.msg, 2, protowire.VarintType) // step
	e.msg = protowire.AppendVarint(e.msg, uint64(step))
}

// flush writes the message as a TFRecord: length, its checksum, data, its
// checksum.
func (e *Events) flush() error {
	e.rec = binary.LittleEndian.AppendUint64(e.rec[:0], uint64(len(e.msg)))
	e.rec = binary.LittleEndian.AppendUint32(e.rec, maskedCRC(e.rec))
	e.rec = append(e.rec, e.msg...)
	e.rec = binary.LittleEndian.AppendUint32(e.rec, maskedCRC(e.msg))
	if _, err := e.f.Write(e.rec); err != nil {
		return fmt.Errorf("write %s: %w", e.f.Name(), err)
	}
	return nil
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// maskedCRC is the checksum of TFRecords: rotated, so that checksums of
// checksums are not degenerate.
func maskedCRC(b []byte) uint32 {
	c := crc32.Checksum(b, castagnoli)
	return (c>>15 | c<<17) + 0xa282ead8
}

// Close closes the file.
func (e *Events) Close() error { return e.f.Close() }
