package train

import (
	"swav/dist"
	"swav/nn"
	"swav/op"
)

// bucketElems is how many gradients are summed over the ranks at a time, if parameters'
// borders allow: 25 MB, as in PyTorch's DistributedDataParallel. Tests change it.
var bucketElems = 25 << 18

// lastElems is the same of the sum that begins last, when nothing is left of the backward
// pass to hide it: 1 MB.
var lastElems = 1 << 18

// bucket is a run of the flat gradient that is summed over the ranks as soon as the
// backward pass is through with it, beside what is left of the pass.
type bucket struct {
	grads  op.Tensor
	from   int // its first element
	handle dist.Handle
}

// makeBuckets divides the flat gradient.
func (s *Stepper) makeBuckets() {
	to := s.Model.Net.NumParams
	for _, from := range bucketStarts(s.Model.Net) {
		s.buckets = append(s.buckets, bucket{grads: s.Model.Grads.Part(from, to-from), from: from})
		to = from
	}
}

// bucketStarts are the first elements of the buckets, from the end of the flat gradient,
// at the borders of parameters.
//
// What belongs to the head is final before the backward pass of any crops begins, so it
// does not share a bucket with what is final only in that of the last. And none takes
// more than half of what is left, so that the last ones are small.
func bucketStarts(net *nn.Network) []int {
	head := net.NumParams
	for _, l := range net.Head {
		if l.Kind != nn.Normalize {
			head = min(head, net.Params[l.Weight].Offset)
		}
	}
	var starts []int
	to := net.NumParams
	for i := len(net.Params) - 1; i >= 0; i-- {
		from := net.Params[i].Offset
		if to-from >= min(bucketElems, max(lastElems, to/2)) || from == head || i == 0 {
			starts = append(starts, from)
			to = from
		}
	}
	return starts
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
	return s.settle()
}

// settle waits for the sums that have begun, and begins none. A step that fails ends with
// it: nothing may be on its way into memory that is given back.
func (s *Stepper) settle() error {
	var first error
	for i := range s.buckets[:s.started] {
		b := &s.buckets[i]
		if b.handle == nil {
			continue
		}
		if err := b.handle.Wait(); first == nil {
			first = err
		}
		b.handle = nil
	}
	return first
}
