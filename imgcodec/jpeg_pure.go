//go:build !cgo

package imgcodec

// Backend names the JPEG decoder, for run records.
const Backend = "image/jpeg"

func decodeJPEG(dst *Image, data []byte, info Info) error { return decodeJPEGStd(dst, data, info) }
