package config

import (
	"math"
	"time"

	"swav/nn"
)

// cost is what a recipe's step needs on a machine: a model good enough to choose
// by, not to promise by.
type cost struct {
	image   time.Duration // training on one image: all views, forward and backward, augmentation included
	feature time.Duration // features of one image in the evaluation
	memory  int64         // bytes per image of a batch
	fixed   int64         // bytes for weights, gradients and moments
}

// Rates of the parts that are not products, on one core of a current server.
const (
	decodePixel = 8 * time.Nanosecond   // a pixel of a photo
	viewPixel   = 100 * time.Nanosecond // a pixel of a view: crop, jitter, blur, normalise
	viewCall    = 10 * time.Microsecond // a view, whatever its size
)

// estimate is the cost of a recipe for images of the given size.
func estimate(r *Recipe, d DataFacts, m Machine) (cost, error) {
	arch, err := r.Arch(d.Channels)
	if err != nil {
		return cost{}, err
	}
	net, err := nn.Build(arch)
	if err != nil {
		return cost{}, err
	}
	var macs, elements int64
	var pixels, views float64
	for _, g := range r.Crops {
		n := int64(g.Count)
		macs += n * net.MACs(g.Size)
		elements += n * activations(net, g.Size)
		pixels += float64(g.Count * g.Size * g.Size)
		views += float64(g.Count)
	}
	bytes := int64(4)
	if m.BF16 && r.Train.Precision != "fp32" || r.Train.Precision == "bf16" {
		bytes = 2
	}
	rate := m.GFLOPS * 1e9 * narrow(arch.Width)
	decode := float64(decodePixel) * float64(d.Width) * float64(d.Height)
	if d.Width*d.Height <= smallImage*smallImage {
		decode = 0 // such data sets are stored as plain pixels, or cost little beside the views
	}
	augment := (decode + float64(viewPixel)*pixels + float64(viewCall)*views) / float64(m.Cores)
	// Backward takes twice the products of forward; a product is two operations.
	products := 6 * float64(macs) / rate * 1e9
	first := 2 * float64(net.MACs(r.Crops[0].Size)) / rate * 1e9
	side := float64(r.Crops[0].Size)
	return cost{
		image:   time.Duration(products + augment),
		feature: time.Duration(first + (decode+float64(viewPixel)*side*side)/float64(m.Cores)),
		memory:  2*elements*bytes + int64(pixels)*int64(arch.InChannels)*4*4,
		fixed:   int64(net.NumParams) * 4 * 5,
	}, nil
}

// narrow is the share of the machine's rate that a network of this width
// reaches: with few channels the time goes into memory passes.
func narrow(width float64) float64 {
	switch {
	case width >= 0.5:
		return 1
	case width >= 0.25:
		return 0.65
	}
	return 0.35
}

// activations is the number of intermediate values of one view of the given
// size: what training keeps for the way back.
func activations(n *nn.Network, size int) int64 {
	side := map[nn.Value]int64{0: int64(size)}
	var sum int64
	for _, l := range n.Backbone {
		s := side[l.In]
		if l.Kind == nn.Conv || l.Kind == nn.MaxPool {
			s = (s+int64(2*l.Pad-l.Kernel))/int64(l.Stride) + 1
		}
		side[l.Out] = s
		if l.Kind != nn.AvgPool {
			sum += s * s * int64(l.OutChannels)
		}
	}
	for _, l := range n.Head {
		sum += int64(l.OutChannels)
	}
	return sum
}

// evaluation is the time of everything after the last step: features of
// references and queries by two networks, neighbours by three kinds of features,
// assignments of all images for the pictures.
func evaluation(r *Recipe, d DataFacts, m Machine, c cost) time.Duration {
	assigned := min(d.Images, 20000)
	t := float64(assigned) * float64(c.feature)
	if d.Labeled {
		references, queries := evalImages(r, d)
		t += 2 * float64(references+queries) * float64(c.feature)
		const dimensions, kinds = 512, 3
		t += kinds * 2 * dimensions * float64(references) * float64(queries) / (10 * float64(m.Cores)) // at 10 GFLOP/s a core, plain Go
	}
	return time.Duration(t)
}

// evalImages bounds the numbers of references and queries.
func evalImages(r *Recipe, d DataFacts) (references, queries int) {
	references, queries = d.Images, d.Images
	if n := r.Eval.References; n > 0 {
		references = min(references, n)
	}
	if n := r.Eval.Queries; n > 0 {
		queries = min(queries, n)
	}
	return references, queries
}

// steps is how many steps of a batch fit into a time.
func (c cost) steps(t time.Duration, batch int) int {
	return int(math.Min(1e9, float64(t)/(math.Max(1, float64(c.image))*float64(batch))))
}

// minBatch is the smallest batch that Auto takes.
const minBatch = 8
