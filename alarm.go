package swav

import (
	"fmt"
	"math"
	"strings"
)

// Sign is something unhealthy that an Alarm can see.
type Sign string

// The signs.
const (
	StuckAtChance     Sign = "loss at chance"
	LossAboveChance   Sign = "loss above chance"
	AlikeEmbeddings   Sign = "embeddings alike"
	FewDimensions     Sign = "few dimensions in use"
	FewPrototypes     Sign = "few prototypes in use"
	UniformCodes      Sign = "codes say nothing"
	UnbalancedCodes   Sign = "codes unbalanced"
	LossRoseWithQueue Sign = "loss rose with the queue"
)

// Setting is what an alarm's advice depends on: it does not suggest what is so
// already.
type Setting struct {
	Epsilon     float64
	Hard        bool
	FreezeSteps int
	Hidden      bool // the projection head has a hidden layer with batch norm
	Queue       int  // rows over all ranks; 0: none
	Batch       int  // images over all ranks
	// Clustering tells that the method is DeepCluster-v2: codes are clusters, as
	// uneven as the data makes them, and prototypes never move.
	Clustering bool
}

// concerns tells whether a sign means anything for such a run.
func (s Setting) concerns(sign Sign) bool { return !s.Clustering || sign != UnbalancedCodes }

// Notice tells that a sign has appeared, or that it is over.
type Notice struct {
	Sign Sign
	Step int
	Over bool
	Saw  string   // what was measured, with its usual value
	Try  []string // what helped others, likeliest first; empty when over
}

// String is one line, without what to try.
func (n Notice) String() string {
	if n.Over {
		return fmt.Sprintf("step %d: %s: over (%s)", n.Step, n.Sign, n.Saw)
	}
	return fmt.Sprintf("step %d: %s: %s", n.Step, n.Sign, n.Saw)
}

// Alarm watches the health of a run and says when it looks like collapse. A
// sign must be there for Patience observations in a row before it is raised, and
// gone by a margin for as many before it is over, so that noise neither raises
// an alarm nor ends one.
type Alarm struct {
	// Warmup is the number of steps that are not judged: an untrained network
	// shows every sign. It should cover the learning rate's warm-up and the
	// frozen prototypes.
	Warmup int
	// Patience is in observations; 0 means 20.
	Patience int
	Setting  Setting
	// State is all that the alarm remembers, to be kept with a checkpoint.
	State AlarmState
}

// AlarmState is an alarm's memory; its zero value is a fresh one.
type AlarmState struct {
	LossRatio   float64 // moving average over the observations
	Observed    int     // of which there were so many
	QueueOn     bool
	BeforeQueue float64 // LossRatio when the queue came on; 0: not known
	Signs       map[Sign]SignState
}

// SignState is what an alarm remembers of a sign.
type SignState struct {
	Raised bool
	Count  int // observations in a row that speak for a change
}

// rule is how a sign is read: raised where value is at or beyond raise, over
// where it is at or beyond clear on the other side. Values in between leave
// things as they are.
type rule struct {
	sign         Sign
	raise, clear float64
	value        func(s AlarmState, h Health) (v float64, ok bool)
	saw          func(v float64, h Health) string
	try          func(s Setting, h Health) []string
}

// The thresholds are wide of what training shows when it works (the original's
// loss falls from 8.0 = ln 3000 to between 3 and 4): an alarm that is believed is
// worth more than one that is early.
var rules = []rule{
	{StuckAtChance, 0.985, 0.96,
		func(s AlarmState, h Health) (float64, bool) { return s.LossRatio, h.Prototypes > 1 },
		func(v float64, h Health) string {
			return fmt.Sprintf("loss %.3f is %.3f of ln %d, what a constant network has", v*math.Log(float64(h.Prototypes)), v, h.Prototypes)
		}, againstCollapse},
	{LossAboveChance, 1.15, 1.05,
		func(s AlarmState, h Health) (float64, bool) { return s.LossRatio, h.Prototypes > 1 },
		func(v float64, h Health) string {
			return fmt.Sprintf("loss %.3f is %.2f of ln %d, worse than guessing", v*math.Log(float64(h.Prototypes)), v, h.Prototypes)
		},
		func(s Setting, _ Health) []string {
			try := []string{"a lower learning rate", "a longer learning-rate warm-up"}
			if !s.Clustering {
				try = append(try, "freezing the prototypes longer")
			}
			return append(try, "a higher temperature")
		}},
	{AlikeEmbeddings, 0.05, 0.1,
		func(_ AlarmState, h Health) (float64, bool) { return h.Spread(), h.Samples > 1 },
		func(v float64, _ Health) string {
			return fmt.Sprintf("embeddings spread %.3f as far as all around the sphere would be", v)
		}, againstCollapse},
	{FewDimensions, 2, 3,
		func(_ AlarmState, h Health) (float64, bool) { return h.EffectiveRank, min(h.Dim, h.Samples-1) >= 8 },
		func(v float64, h Health) string {
			return fmt.Sprintf("effective rank of the embeddings is %.1f of at most %d", v, min(h.Dim, h.Samples-1))
		}, againstCollapse},
	{FewPrototypes, 0.05, 0.1,
		func(_ AlarmState, h Health) (float64, bool) {
			n := min(h.Prototypes, h.Samples)
			return float64(h.UsedPrototypes) / float64(n), n >= 16
		},
		func(_ float64, h Health) string {
			return fmt.Sprintf("%d of %d prototypes are nearest to any of %d samples", h.UsedPrototypes, h.Prototypes, h.Samples)
		}, forPrototypes},
	{UniformCodes, 0.99, 0.97,
		func(_ AlarmState, h Health) (float64, bool) {
			return h.CodeEntropy / math.Log(float64(h.Prototypes)), h.Prototypes > 1
		},
		func(v float64, _ Health) string {
			return fmt.Sprintf("mean entropy of the codes is %.3f of the largest: the codes prefer no prototype", v)
		}, againstCollapse},
	{UnbalancedCodes, 0.6, 0.4,
		func(_ AlarmState, h Health) (float64, bool) { return h.MarginalError, h.Samples >= 2*h.Prototypes },
		func(v float64, _ Health) string {
			return fmt.Sprintf("marginal error of the codes is %.2f (balanced 0, at worst 2)", v)
		},
		func(s Setting, h Health) []string {
			return append([]string{"more Sinkhorn iterations (10)"}, forPrototypes(s, h)...)
		}},
	{LossRoseWithQueue, 1.05, 1,
		func(s AlarmState, _ Health) (float64, bool) {
			return s.LossRatio / s.BeforeQueue, s.QueueOn && s.BeforeQueue > 0
		},
		func(v float64, _ Health) string {
			return fmt.Sprintf("loss is %.2f of what it was when the queue came on; it should fall", v)
		},
		func(Setting, Health) []string {
			return []string{"starting the queue later", "a shorter queue", "a lower learning rate when it starts"}
		}},
}

// againstCollapse is what helped people whose network became constant. Sharper
// codes are the surest: uniform codes are trivially predicted.
func againstCollapse(s Setting, _ Health) []string {
	var try []string
	if s.Epsilon > 0.03 && !s.Clustering {
		try = append(try, fmt.Sprintf("epsilon 0.03 (is %v)", s.Epsilon))
	}
	if !s.Clustering {
		try = append(try, fmt.Sprintf("freezing the prototypes longer (is %d steps)", s.FreezeSteps))
	}
	try = append(try, "a lower learning rate")
	if !s.Hard && !s.Clustering {
		try = append(try, "hard assignment")
	}
	try = append(try, "softer augmentation: larger crops, less colour jitter, fewer small crops")
	if s.Hidden {
		try = append(try, "a projection head without batch norm (no hidden layer)")
	}
	if s.Queue > 0 {
		try = append(try, "starting the queue later, or a shorter one")
	}
	return append(try, "about 10 prototypes for each class that you expect")
}

// forPrototypes is what helped where prototypes stay unused or unevenly used.
func forPrototypes(s Setting, h Health) []string {
	var try []string
	if s.Batch < h.Prototypes {
		try = append(try, fmt.Sprintf("fewer prototypes, about 10 for each class that you expect (%d, with %d images a step)", h.Prototypes, s.Batch))
	} else {
		try = append(try, fmt.Sprintf("about 10 prototypes for each class that you expect (is %d)", h.Prototypes))
	}
	if s.Clustering {
		return append(try, "a lower learning rate")
	}
	try = append(try, "a larger batch")
	if s.Queue == 0 {
		try = append(try, "a queue")
	}
	return append(try, fmt.Sprintf("freezing the prototypes longer (is %d steps)", s.FreezeSteps), "a lower learning rate")
}

// Observe takes a step's health, at every step or every few, and returns what
// has changed: mostly nothing. queueOn tells whether the queue took part in the
// step's assignment. A loss that is not finite is passed over; training stops at
// it anyway.
func (a *Alarm) Observe(step int, h Health, queueOn bool) []Notice {
	if math.IsNaN(h.LossRatio) || math.IsInf(h.LossRatio, 0) {
		return nil
	}
	patience := a.Patience
	if patience <= 0 {
		patience = 20
	}
	s := &a.State
	if s.Signs == nil {
		s.Signs = map[Sign]SignState{}
	}
	if queueOn && !s.QueueOn && step >= a.Warmup {
		s.BeforeQueue = s.LossRatio
	}
	s.QueueOn = queueOn
	// A plain mean at first, then an exponential one.
	s.Observed++
	s.LossRatio += (h.LossRatio - s.LossRatio) / float64(min(s.Observed, 10))
	if step < a.Warmup {
		return nil
	}
	var notices []Notice
	for _, r := range rules {
		if !a.Setting.concerns(r.sign) {
			continue
		}
		v, ok := r.value(*s, h)
		state := s.Signs[r.sign]
		if !ok || !r.speaks(v, state.Raised) {
			state.Count = 0
		} else if state.Count++; state.Count >= patience {
			state = SignState{Raised: !state.Raised}
			n := Notice{Sign: r.sign, Step: step, Over: !state.Raised, Saw: r.saw(v, h)}
			if state.Raised {
				n.Try = r.try(a.Setting, h)
			}
			notices = append(notices, n)
		}
		s.Signs[r.sign] = state
	}
	return notices
}

// speaks tells whether v is for a change: for raising the sign, or for ending it.
func (r rule) speaks(v float64, raised bool) bool {
	limit, upward := r.raise, r.raise > r.clear
	if raised {
		limit, upward = r.clear, !upward
	}
	if upward {
		return v >= limit
	}
	return v <= limit
}

// Raised are the signs that are there now, in the order of their weight.
func (a *Alarm) Raised() []Sign {
	var signs []Sign
	for _, r := range rules {
		if a.State.Signs[r.sign].Raised {
			signs = append(signs, r.sign)
		}
	}
	return signs
}

// Advice is Try as one sentence.
func (n Notice) Advice() string {
	if len(n.Try) == 0 {
		return ""
	}
	return "try, one at a time: " + strings.Join(n.Try, "; ")
}
