package dist

import "fmt"

// mostBytes bounds what a rank takes from another.
const mostBytes = 1 << 28

// BroadcastBytes returns rank root's bytes, of whatever length, on all ranks.
func BroadcastBytes(c Comm, b []byte, root int) ([]byte, error) {
	if c.Size() == 1 {
		return b, nil
	}
	// Two bytes an element, as a whole number: engines need not keep the bits of others.
	head := []float32{float32(len(b) >> 16), float32(len(b) & 0xffff)}
	if err := c.Broadcast(head, root); err != nil {
		return nil, err
	}
	n := int(head[0])<<16 + int(head[1])
	if n > mostBytes {
		return nil, fmt.Errorf("broadcast of %d bytes from rank %d: at most %d", n, root, mostBytes)
	}
	pairs := make([]float32, (n+1)/2)
	if c.Rank() == root {
		for i, x := range b {
			pairs[i/2] += float32(int(x) << (8 * (i % 2)))
		}
	}
	if err := c.Broadcast(pairs, root); err != nil {
		return nil, err
	}
	out := make([]byte, n)
	for i := range out {
		out[i] = byte(int(pairs[i/2]) >> (8 * (i % 2)))
	}
	return out, nil
}
