//go:build !unix

package checkpoint

// Lock does nothing where the system has no flock.
func Lock(run string) (release func() error, err error) {
	return func() error { return nil }, nil
}
