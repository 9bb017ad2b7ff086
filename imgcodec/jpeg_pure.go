//go:build !cgo

package imgcodec

import "image"

// Backend names the JPEG decoder, for run records.
const Backend = "image/jpeg"

func decodeJPEG(dst *Image, data []byte, info Info, _ image.Rectangle) error {
	return decodeJPEGStd(dst, data, info)
}
