package train

import (
	"swav/dist"
	"swav/op"
)

// bucketElems is how many gradients at least are summed over the ranks at a time: 25 MB,
// as in PyTorch's DistributedDataParallel. Tests change it.
var bucketElems = 25 << 18

// bucket is a run of the flat gradient that is summed over the ranks as soon as the
// backward pass is through with it, beside what is left of the pass.
type bucket struct {
	grads  op.Tensor
	from   int // its first element
	handle dist.Handle
}

// makeBuckets divides the flat gradient, from its end, at the borders of parameters.
func (s *Stepper) makeBuckets() {
	m := s.Model
	to := m.Net.NumParams
	for i := len(m.Net.Params) - 1; i >= 0; i-- {
		if from := m.Net.Params[i].Offset; to-from >= bucketElems || i == 0 {
			s.buckets = append(s.buckets, bucket{grads: m.Grads.Part(from, to-from), from: from})
			to = from
		}
	}
}

// start begins to sum the buckets of which all gradients from some element on are final.
func (s *Stepper) start(from int) {
	for ; s.started < len(s.buckets) && s.buckets[s.started].from >= from; s.started++ {
		b := &s.buckets[s.started]
		b.handle = s.b.StartAllReduce(b.grads, s.wire)
	}
}

// finish waits until all gradients are summed.
func (s *Stepper) finish() error {
	s.start(0)
	var first error
	for i := range s.buckets {
		if err := s.buckets[i].handle.Wait(); first == nil {
			first = err
		}
		s.buckets[i].handle = nil
	}
	return first
}
