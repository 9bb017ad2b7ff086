package ref_test

import (
	"testing"

	"swav/op"
	"swav/op/optest"
	"swav/op/ref"
)

func TestBackend(t *testing.T) {
	optest.Run(t, func(*testing.T) op.Backend { return ref.New() })
}
