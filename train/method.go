package train

import (
	"context"

	"swav/checkpoint"
	"swav/op"
)

// Method is what a run learns from: it makes a loss, and its gradient, of the
// scores of a batch. *SwAV and *DeepCluster are the methods; both are settings
// until NewStepper attaches them to a plan, and belong to that stepper then.
type Method interface {
	// attach checks the settings against the plan and allocates what the method
	// keeps. NewStepper returns alloc's first failure; tensors from it on have no
	// memory.
	attach(s *Stepper, alloc func(d op.DType, shape ...int) op.Tensor) error
	// begin is called at the start of every step.
	begin()
	// targets computes, after the forward pass, what the views are to predict.
	targets()
	// loss writes the loss of the scores, and their gradient.
	loss()
	// thaw is the first step at which gradients move the prototypes.
	thaw() int

	// prepare is called by a run before each step; what it returns, if not nil,
	// goes into the step's record.
	prepare(ctx context.Context, t *run) (*Clusters, error)
	// batch tells which images the inputs of the next Accumulate hold, as part of
	// a step of an epoch.
	batch(epochStep, part int, images []int)
	// watch adds what a step's health is measured on.
	watch(w *watched)
	// save copies what a checkpoint must hold beside weights and moments, into
	// tensors or the state, of all ranks together; only rank 0 gets the data. load
	// takes on every rank tensors of the same names and shapes, and picks its own.
	save(st *State) ([]checkpoint.Tensor, error)
	load(ts []checkpoint.Tensor, st *State) error
}

// watched are codes, scores and embeddings of some samples of a step.
type watched struct {
	codes, scores []float32 // [samples, clusters]
	embeddings    []float32 // [samples, dim]
	clusters      int
	chance        float64 // loss of a network that is constant
	queue         int     // rows in the queue, of one rank
	queueOn       bool    // they took part
}

func (w *watched) clear() {
	w.codes, w.scores, w.embeddings = w.codes[:0], w.scores[:0], w.embeddings[:0]
}
