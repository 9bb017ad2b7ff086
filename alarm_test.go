package swav

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const alarmK = 128

// well is the health of a run that goes well; step goes from 0, ratio is its loss.
func well(ratio float64) Health {
	return Health{Prototypes: alarmK, Dim: 32, Samples: 256, Loss: ratio * math.Log(alarmK), LossRatio: ratio,
		Perplexity: 110, MarginalError: 0.1, CodeEntropy: 0.4 * math.Log(alarmK), UsedPrototypes: 80,
		EffectiveRank: 20, EmbeddingStd: 0.8 / math.Sqrt(32)}
}

// collapsed is the health of a constant network.
func collapsed() Health {
	return Health{Prototypes: alarmK, Dim: 32, Samples: 256, Loss: math.Log(alarmK), LossRatio: 1,
		Perplexity: alarmK, CodeEntropy: math.Log(alarmK), UsedPrototypes: 1}
}

func newAlarm() *Alarm {
	return &Alarm{Warmup: 100, Patience: 10, Setting: Setting{Epsilon: 0.05, FreezeSteps: 50, Hidden: true, Batch: 256}}
}

// feed observes health(step) at steps from to to-1 and returns the notices.
func feed(a *Alarm, from, to int, queueOn bool, health func(step int) Health) []Notice {
	var all []Notice
	for step := from; step < to; step++ {
		all = append(all, a.Observe(step, health(step), queueOn)...)
	}
	return all
}

func signs(notices []Notice) []Sign {
	var s []Sign
	for _, n := range notices {
		s = append(s, n.Sign)
	}
	return s
}

func TestAlarmIsSilentOnAHealthyRun(t *testing.T) {
	a := newAlarm()
	rng := rand.New(rand.NewPCG(1, 1))
	notices := feed(a, 0, 3000, false, func(step int) Health {
		if step < 100 {
			return collapsed() // an untrained network may show anything
		}
		h := well(0.5 + 0.45*math.Exp(-float64(step-100)/400) + 0.05*rng.NormFloat64())
		h.UsedPrototypes = 20 + rng.IntN(60)
		return h
	})
	if len(notices) != 0 {
		t.Errorf("%v", notices)
	}
}

func TestAlarmSeesCollapse(t *testing.T) {
	a := newAlarm()
	notices := feed(a, 0, 500, false, func(step int) Health {
		if step < 200 {
			return well(0.8)
		}
		return collapsed()
	})
	got := signs(notices)
	slices.Sort(got)
	want := []Sign{AlikeEmbeddings, UniformCodes, FewDimensions, FewPrototypes, StuckAtChance}
	slices.Sort(want)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	for _, n := range notices {
		if n.Over || n.Step < 209 || n.Step > 300 || len(n.Try) == 0 || n.Saw == "" {
			t.Errorf("%+v", n)
		}
	}
	if raised := a.Raised(); len(raised) != len(want) || raised[0] != StuckAtChance {
		t.Errorf("raised %v", raised)
	}
}

func TestAlarmSeesARunThatNeverStarts(t *testing.T) {
	notices := feed(newAlarm(), 0, 150, false, func(int) Health { return collapsed() })
	for _, n := range notices {
		if n.Step != 109 { // ten observations from step 100 on
			t.Errorf("%v at step %d", n.Sign, n.Step)
		}
	}
	if !slices.Contains(signs(notices), StuckAtChance) {
		t.Errorf("%v", notices)
	}
}

// Each sign by itself: raised once, over once it is gone by a margin.
func TestAlarmSigns(t *testing.T) {
	for _, c := range []struct {
		sign         Sign
		bad, between func(h *Health)
	}{
		{StuckAtChance, func(h *Health) { h.LossRatio = 0.995 }, func(h *Health) { h.LossRatio = 0.975 }},
		{LossAboveChance, func(h *Health) { h.LossRatio = 1.3 }, func(h *Health) { h.LossRatio = 1.1 }},
		{AlikeEmbeddings, func(h *Health) { h.EmbeddingStd = 0.01 / math.Sqrt(32) }, func(h *Health) { h.EmbeddingStd = 0.07 / math.Sqrt(32) }},
		{FewDimensions, func(h *Health) { h.EffectiveRank = 1.5 }, func(h *Health) { h.EffectiveRank = 2.5 }},
		{FewPrototypes, func(h *Health) { h.UsedPrototypes = 4 }, func(h *Health) { h.UsedPrototypes = 9 }},
		{UniformCodes, func(h *Health) { h.CodeEntropy = 0.995 * math.Log(alarmK) }, func(h *Health) { h.CodeEntropy = 0.98 * math.Log(alarmK) }},
		{UnbalancedCodes, func(h *Health) { h.MarginalError = 0.9 }, func(h *Health) { h.MarginalError = 0.5 }},
	} {
		t.Run(string(c.sign), func(t *testing.T) {
			a := newAlarm()
			health := func(change func(*Health)) func(int) Health {
				return func(int) Health {
					h := well(0.6)
					change(&h)
					return h
				}
			}
			only := func(notices []Notice) (own []Notice) {
				for _, n := range notices {
					if n.Sign == c.sign {
						own = append(own, n)
					}
				}
				return own
			}
			if n := only(feed(a, 100, 200, false, health(c.between))); len(n) != 0 {
				t.Errorf("raised between the limits: %v", n)
			}
			raised := only(feed(a, 200, 400, false, health(c.bad)))
			if len(raised) != 1 || raised[0].Over || len(raised[0].Try) == 0 {
				t.Fatalf("raised %v, want it once", raised)
			}
			if n := only(feed(a, 400, 600, false, health(c.between))); len(n) != 0 {
				t.Errorf("over between the limits: %v", n)
			}
			over := only(feed(a, 600, 800, false, health(func(*Health) {})))
			if len(over) != 1 || !over[0].Over || len(over[0].Try) != 0 {
				t.Errorf("over %v, want it once", over)
			}
			if r := a.Raised(); slices.Contains(r, c.sign) {
				t.Errorf("still raised: %v", r)
			}
		})
	}
}

// A sign that comes and goes faster than the patience is noise.
func TestAlarmIgnoresNoise(t *testing.T) {
	a := newAlarm()
	notices := feed(a, 100, 2000, false, func(step int) Health {
		h := well(0.6)
		if step%10 != 0 { // nine bad ones in a row
			h.UsedPrototypes, h.EffectiveRank = 1, 1
		}
		return h
	})
	if len(notices) != 0 {
		t.Errorf("%v", notices)
	}
}

func TestAlarmSeesTheQueueHurt(t *testing.T) {
	for name, c := range map[string]struct {
		after float64
		want  []Sign
	}{"rises": {0.8, []Sign{LossRoseWithQueue}}, "falls": {0.6, nil}} {
		a := newAlarm()
		first := feed(a, 100, 300, false, func(int) Health { return well(0.7) })
		then := feed(a, 300, 500, true, func(int) Health { return well(c.after) })
		if got := signs(append(first, then...)); !slices.Equal(got, c.want) {
			t.Errorf("loss %s: %v, want %v", name, got, c.want)
		}
	}
}

// What a batch cannot show is not held against it.
func TestAlarmKnowsSmallBatches(t *testing.T) {
	small := Health{Prototypes: 3000, Dim: 128, Samples: 8, LossRatio: 0.7, Perplexity: 8, MarginalError: 1.99,
		UsedPrototypes: 1, EffectiveRank: 1.5, EmbeddingStd: 0.5 / math.Sqrt(128)}
	if n := feed(newAlarm(), 100, 400, false, func(int) Health { return small }); len(n) != 0 {
		t.Errorf("%v", n)
	}
}

func TestAlarmPassesOverLossesThatAreNotFinite(t *testing.T) {
	a := newAlarm()
	feed(a, 100, 200, false, func(int) Health { return well(0.6) })
	for _, x := range []float64{math.NaN(), math.Inf(1)} {
		if n := feed(a, 200, 300, false, func(int) Health { return well(x) }); len(n) != 0 {
			t.Errorf("%v", n)
		}
	}
	if math.Abs(a.State.LossRatio-0.6) > 1e-9 {
		t.Errorf("moving average %v", a.State.LossRatio)
	}
}

// Advice names what is set and leaves out what is so already.
func TestAlarmAdvice(t *testing.T) {
	advice := func(s Setting) string {
		a := newAlarm()
		a.Setting = s
		for _, n := range feed(a, 100, 150, false, func(int) Health { return collapsed() }) {
			if n.Sign == StuckAtChance {
				return n.Advice()
			}
		}
		t.Fatal("no alarm")
		return ""
	}
	all := advice(Setting{Epsilon: 0.05, Hidden: true, Queue: 3840, FreezeSteps: 313, Batch: 256})
	for _, want := range []string{"epsilon 0.03 (is 0.05)", "313 steps", "hard assignment", "without batch norm", "softer augmentation", "learning rate", "queue later", "10 prototypes"} {
		if !strings.Contains(all, want) {
			t.Errorf("%q lacks %q", all, want)
		}
	}
	clusters := advice(Setting{Epsilon: 0.05, Hidden: true, FreezeSteps: 313, Batch: 256, Clustering: true})
	for _, without := range []string{"epsilon", "hard assignment", "freezing", "queue"} {
		if strings.Contains(clusters, without) {
			t.Errorf("DeepCluster-v2: %q suggests %s", clusters, without)
		}
	}
	few := advice(Setting{Epsilon: 0.03, Hard: true})
	for _, without := range []string{"epsilon", "hard assignment", "batch norm", "queue"} {
		if strings.Contains(few, without) {
			t.Errorf("%q suggests %s", few, without)
		}
	}
}

// An alarm goes on from its state, written and read, as if nothing had been.
func TestAlarmResumes(t *testing.T) {
	health := func(step int) Health {
		if step < 205 {
			return well(0.7)
		}
		return collapsed()
	}
	whole := newAlarm()
	want := feed(whole, 0, 400, false, health)
	for _, at := range []int{50, 210, 214, 300} {
		first, second := newAlarm(), newAlarm()
		got := feed(first, 0, at, false, health)
		data, err := json.Marshal(first.State)
		if err == nil {
			err = json.Unmarshal(data, &second.State)
		}
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, feed(second, at, 400, false, health)...)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("resumed at step %d: %s", at, diff)
		}
	}
}

func TestNoticeIsOneLine(t *testing.T) {
	notices := feed(newAlarm(), 100, 150, false, func(int) Health { return collapsed() })
	if len(notices) == 0 {
		t.Fatal("no notices")
	}
	for _, n := range notices {
		if s := n.String(); !strings.HasPrefix(s, "step 1") || strings.Contains(s, "\n") || strings.Contains(s, "%!") {
			t.Errorf("%q", s)
		}
		t.Log(n, "|", n.Advice())
	}
	over := Notice{Sign: StuckAtChance, Step: 7, Over: true, Saw: "loss 4"}
	if got := over.String(); got != "step 7: loss at chance: over (loss 4)" || over.Advice() != "" {
		t.Errorf("%q, %q", got, over.Advice())
	}
}

// Clusters of k-means are as uneven as the data: that alone is no alarm.
func TestAlarmLeavesUnevenClustersAlone(t *testing.T) {
	for _, clustering := range []bool{false, true} {
		a := newAlarm()
		a.Setting.Clustering = clustering
		uneven := func(int) Health {
			h := well(0.5)
			h.MarginalError, h.Samples = 1, 2*h.Prototypes
			return h
		}
		raised := slices.Contains(signs(feed(a, 100, 150, false, uneven)), UnbalancedCodes)
		if raised == clustering {
			t.Errorf("clustering %v: alarm %v", clustering, raised)
		}
	}
}
