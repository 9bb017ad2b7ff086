package imgcodec

import (
	"bytes"

	"golang.org/x/image/bmp"
)

func readBMPInfo(data []byte) (Info, error) {
	c, err := bmp.DecodeConfig(bytes.NewReader(data))
	if err != nil {
		return Info{}, early(err)
	}
	return Info{W: c.Width, H: c.Height, C: 3, Depth: 8, Orientation: 1}, nil
}

func decodeBMP(dst *Image, data []byte, info Info, o Options) error {
	m, err := bmp.Decode(bytes.NewReader(data))
	if err != nil {
		return early(err)
	}
	return fromGo(dst, m, info, o)
}
