package config

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// DataFacts are what Auto knows of the images.
type DataFacts struct {
	Images        int
	Width, Height int // median, in pixels
	Channels      int
	Depth         int       // 16 where images store so many bits of a sample
	Mean, Std     []float64 // of the channels, as shares of the largest sample; may be empty
	Classes       int
	Labeled       bool // the classes are known
}

// Machine is what Auto knows of the computer.
type Machine struct {
	Cores       int
	MemoryBytes int64   // free; 0: unknown
	BF16        bool    // the machine is faster with it
	GFLOPS      float64 // of whole training steps of a small network; 0: unknown
}

// Choice is one key that Auto set, and why.
type Choice struct{ Key, Value, Reason string }

// The limits within which Auto finds a recipe at all.
const (
	minImages = 32  // fewer than this say nothing about clusters
	minSteps  = 100 // in fewer steps the loss hardly leaves its start
	maxPasses = 1000
)

// smallImage is the side up to which images keep their size and the network its
// resolution.
const smallImage = 48

// imagenetStem is the side from which views bear the stem that reduces fourfold at
// once, as on the ladder.
const imagenetStem = 64

// Auto chooses a recipe for data, a time budget and a machine, and says why. Keys
// in fixed ("model.width=1", as for Set) are taken as given, and the rest is
// chosen around them. The recipe is valid, its batch is no larger than the data,
// and its steps fit the budget by a model of their cost.
func Auto(d DataFacts, budget time.Duration, m Machine, fixed ...string) (*Recipe, []Choice, error) {
	switch {
	case d.Images < minImages:
		return nil, nil, fmt.Errorf("%d images are too few to find clusters in: give at least %d, better some thousands", max(0, d.Images), minImages)
	case d.Width < 1 || d.Height < 1 || d.Channels < 1:
		return nil, nil, fmt.Errorf("images of %dx%d pixels and %d channels: nothing to learn from", d.Width, d.Height, d.Channels)
	case budget <= 0:
		return nil, nil, errors.New("no time to train in: give some by --time, such as --time 30m")
	}
	m.Cores = max(1, m.Cores)
	if !(m.GFLOPS > 0) {
		m.GFLOPS = 40 * float64(m.Cores) // a current core, products and everything between them
		if m.BF16 {
			m.GFLOPS *= 2
		}
	}
	a := &chooser{data: d, machine: m, budget: budget, fixed: fixed}
	return a.run()
}

// chooser collects choices on a recipe.
type chooser struct {
	data    DataFacts
	machine Machine
	budget  time.Duration
	fixed   []string

	recipe  *Recipe
	cost    cost
	choices []Choice
	err     error
}

// given tells whether the caller has fixed a key, or one that says the same.
func (a *chooser) given(key string) bool {
	for _, s := range a.fixed {
		k, _, _ := strings.Cut(s, "=")
		k = strings.TrimSpace(k)
		if k == key {
			return true
		}
		spelt := func(k string) bool { return k == "model.arch" || k == "model.block" || k == "model.layers" }
		length := func(k string) bool { return k == "train.epochs" || k == "train.steps" }
		if spelt(k) && spelt(key) || length(k) && length(key) {
			return true
		}
	}
	return false
}

// pick sets a key unless the caller has, and notes the reason.
func (a *chooser) pick(key, value, reason string, args ...any) {
	if a.given(key) {
		return
	}
	err := a.recipe.Set(key + "=" + value)
	if err == nil && key == "crops" {
		err = a.fix(a.recipe) // single keys of groups may be given
		value = FormatCrops(a.recipe.Crops)
	}
	if err != nil && a.err == nil {
		a.err = err
	}
	if reason != "" {
		a.choices = append(a.choices, Choice{key, value, fmt.Sprintf(reason, args...)})
	}
}

// base is the ground of auto with what the caller has fixed.
func (a *chooser) base() (*Recipe, error) {
	r, err := Load("auto")
	if err != nil {
		return nil, err
	}
	channels := a.data.Channels
	r.Model.InChannels = channels
	if a.given("data.channels") {
		r.Model.InChannels = 0 // follows from it
	}
	if channels == 3 {
		r.Augment.Mean, r.Augment.Std = []float64{0.485, 0.456, 0.406}, []float64{0.229, 0.224, 0.225}
	} else {
		r.Augment.Mean, r.Augment.Std = []float64{0.5}, []float64{0.25}
		r.Augment.Saturation, r.Augment.Hue, r.Augment.Grayscale = 0, 0, 0
	}
	if a.unusual() {
		r.Augment.Mean, r.Augment.Std = a.data.Mean, a.data.Std
	}
	return r, a.fix(r)
}

// unusual tells whether the usual mean and deviation are far from those of the
// images: samples of 16 bits often use a part of their range, and the channels
// beyond colour are anything.
func (a *chooser) unusual() bool {
	d := a.data
	return len(d.Mean) == d.Channels && len(d.Std) == d.Channels && (d.Depth == 16 || d.Channels != 1 && d.Channels != 3) &&
		!a.given("data.channels") && !a.given("model.in_channels")
}

// pixels chooses what follows from how the images are stored.
func (a *chooser) pixels() {
	if a.data.Depth == 16 {
		a.pick("data.depth", "16", "the images store 16 bits of a sample")
	}
	if a.unusual() {
		list := func(x []float64) string {
			var words []string
			for _, v := range x {
				words = append(words, strconv.FormatFloat(v, 'g', 4, 64))
			}
			return strings.Join(words, ",")
		}
		a.pick("augment.mean", list(a.data.Mean), "measured on some images of %d channels", a.data.Channels)
		a.pick("augment.std", list(a.data.Std), "measured too")
	}
}

func (a *chooser) fix(r *Recipe) error {
	for _, s := range a.fixed {
		if err := r.Set(s); err != nil {
			return err
		}
	}
	return nil
}

// rung is a network with the views that suit it, on a ladder from cheap to dear.
type rung struct {
	global, local, locals int // view sizes, and the number of small ones
	stem                  string
	arch                  string // or
	layers                string
	width                 float64
}

// ladder lists what can be trained on images of a side, the cheapest first.
func ladder(side int) []rung {
	if side <= smallImage {
		s := max(side, 12)
		l := max(8, (s*3+2)/5)
		layers := "1,1,1,1"
		deep := "2,2,2,2"
		if s < 24 {
			layers, deep = "1,1,1", "2,2,2" // a fourth stage would see one or two pixels
		}
		return []rung{
			{s, l, 2, "small", "", layers, 0.25},
			{s, l, 2, "small", "", layers, 0.5},
			{s, l, 4, "small", "", deep, 0.5},
			{s, l, 4, "small", "", deep, 1},
		}
	}
	all := []rung{
		{32, 20, 2, "small", "", "1,1,1,1", 0.25},
		{48, 32, 2, "small", "", "1,1,1,1", 0.25},
		{64, 32, 4, "imagenet", "", "1,1,1,1", 0.5},
		{96, 48, 4, "imagenet", "resnet18", "", 0.5},
		{128, 64, 6, "imagenet", "resnet18", "", 1},
		{160, 96, 6, "imagenet", "resnet18", "", 1},
		{224, 96, 6, "imagenet", "resnet50", "", 1},
	}
	n := len(all)
	for n > 1 && all[n-1].global > side {
		n--
	}
	return all[:n]
}

func (a *chooser) run() (*Recipe, []Choice, error) {
	if err := a.climb(); err != nil {
		return nil, nil, err
	}
	a.pixels()
	a.batchAndPrototypes()
	if err := a.length(); err != nil {
		return nil, nil, err
	}
	if a.err != nil {
		return nil, nil, a.err
	}
	if _, err := a.recipe.Resolve(a.data.Images, 1); err != nil {
		return nil, nil, fmt.Errorf("auto, around what is given: %w", err)
	}
	for _, s := range a.fixed {
		key, value, _ := strings.Cut(s, "=")
		a.choices = append(a.choices, Choice{strings.TrimSpace(key), strings.TrimSpace(value), "given"})
	}
	return a.recipe, a.choices, nil
}

// worth is how many images a network should see before a larger one is worth its
// time: some passes over the data, within bounds that trials on small data
// suggest.
func (a *chooser) worth() int {
	return min(2_000_000, max(100_000, 20*a.data.Images))
}

// training is the part of the budget left for steps, with some in reserve for
// what the model of the cost misses.
func (a *chooser) training(r *Recipe, c cost) time.Duration {
	rest := a.budget - 5*time.Second - evaluation(r, a.data, a.machine, c)
	return time.Duration(0.85 * float64(rest))
}

// climb takes the dearest network and views with which enough images are seen
// and that fit into memory, or else the cheapest.
func (a *chooser) climb() error {
	d, m := a.data, a.machine
	rungs := ladder(min(d.Width, d.Height))
	taken := -1
	var recipe *Recipe
	var c cost
	var invalid error
	for i := len(rungs) - 1; i >= 0; i-- {
		r, err := a.base()
		if err != nil {
			return err
		}
		a.recipe = r
		a.network(rungs[i])
		if a.err != nil {
			return a.err
		}
		if invalid = r.Validate(); invalid != nil {
			continue // what is given goes with other rungs, perhaps
		}
		taken, recipe = i, r
		if c, err = estimate(r, d, m); err != nil {
			return err
		}
		a.evaluate(r, c)
		fits := m.MemoryBytes <= 0 || a.least(r, c) <= m.MemoryBytes/2
		if fits && c.steps(a.training(r, c), 1) >= a.worth() {
			break
		}
	}
	if taken < 0 {
		return fmt.Errorf("auto, around what is given: %w", invalid)
	}
	if least := a.least(recipe, c); m.MemoryBytes > 0 && least > m.MemoryBytes/2 {
		what, cure := "the smallest network wants", "free some"
		if len(a.fixed) > 0 {
			what, cure = "the smallest network around what is given wants", "free some, or give less by --set"
		}
		return fmt.Errorf("%d MB of memory are free, and %s %d MB: %s", m.MemoryBytes>>20, what, 2*least>>20, cure)
	}
	a.recipe, a.cost, a.choices = recipe, c, nil

	g := rungs[taken]
	seen := c.steps(a.training(recipe, c), 1)
	why := fmt.Sprintf("the largest of %d that sees about %s images in the time", len(rungs), round(seen))
	if taken == 0 && seen < a.worth() {
		why = fmt.Sprintf("the cheapest there is: it sees about %s images in the time, and %s would be good", round(seen), round(a.worth()))
	}
	if g.arch != "" {
		a.pick("model.arch", g.arch, "%s", why)
	} else {
		a.pick("model.layers", g.layers, "%s", why)
	}
	a.pick("model.width", formatFloat(g.width), "goes with it")
	side := 0
	for _, c := range recipe.Crops {
		side = max(side, c.Size)
	}
	if a.stem(g) == "small" {
		a.pick("model.stem", "small", "views of %d pixels are too small to be reduced fourfold at once", side)
	} else {
		a.pick("model.stem", "imagenet", "views of %d pixels bear a fourfold reduction, which saves time", side)
	}
	a.views(g, seen)
	return nil
}

// least is the memory without which nothing goes: with the smallest batch, or the
// given one.
func (a *chooser) least(r *Recipe, c cost) int64 {
	batch := minBatch
	if a.given("train.batch_size") {
		batch = r.Train.Batch
	}
	return c.fixed + int64(batch)*c.memory
}

// network sets what a rung says, without reasons: to be weighed.
func (a *chooser) network(g rung) {
	if g.arch != "" {
		a.pick("model.arch", g.arch, "")
	} else {
		a.pick("model.block", "basic", "")
		a.pick("model.layers", g.layers, "")
	}
	a.pick("model.width", formatFloat(g.width), "")
	a.pick("crops", FormatCrops(g.crops(0.4, 1, 0.25, 0.6)), "")
	a.pick("model.stem", a.stem(g), "")
}

// stem is the rung's, unless the given views are of another size: then theirs. A
// small stem on large views costs sixteen times the time and memory of the other.
func (a *chooser) stem(g rung) string {
	side := 0
	for _, c := range a.recipe.Crops {
		side = max(side, c.Size)
	}
	switch {
	case side == g.global:
		return g.stem
	case side >= imagenetStem:
		return "imagenet"
	default:
		return "small"
	}
}

func (g rung) crops(gMin, gMax, lMin, lMax float64) []Crop {
	return []Crop{{2, g.global, gMin, gMax}, {g.locals, g.local, lMin, lMax}}
}

// evaluate keeps the evaluation within a fifth of the budget.
func (a *chooser) evaluate(r *Recipe, c cost) {
	if !a.data.Labeled {
		return
	}
	for _, n := range []int{20000, 10000, 5000, 2000, 1000, 500} {
		q := min(n, 10000)
		if !a.given("eval.references") {
			r.Eval.References = n
		}
		if !a.given("eval.queries") {
			r.Eval.Queries = q
		}
		if evaluation(r, a.data, a.machine, c) <= a.budget/5 {
			return
		}
	}
}

// views chooses how much of an image a view shows and how it is changed: the
// less is seen, the gentler.
func (a *chooser) views(g rung, seen int) {
	gray := a.data.Channels == 1
	switch long := seen >= 500_000 && g.global >= 96; {
	case long:
		a.pick("crops", FormatCrops(g.crops(0.14, 1, 0.05, 0.14)), "photos and a long run: the original's strong multi-crop")
		a.jitter(0.8, "the original's, for a long run")
		a.pick("augment.blur", "0.5", "the original's")
	case gray:
		a.pick("crops", FormatCrops(g.crops(0.4, 1, 0.2, 0.5)), "gentle views of %d and %d pixels: short runs learn little from views that share little", g.global, g.local)
		a.jitter(0.6, "strong: shade alone must not give an image away")
	default:
		a.pick("crops", FormatCrops(g.crops(0.4, 1, 0.25, 0.6)), "gentle views of %d and %d pixels: short runs learn little from views that share little", g.global, g.local)
		a.jitter(0.4, "half the original's, for a short run; weaker ones let colour give an image away")
	}
	if a.data.Channels == 3 {
		a.pick("augment.grayscale", "0.2", "the original's: colour alone must not give an image away")
	}
}

func (a *chooser) jitter(strength float64, reason string) {
	a.pick("augment.brightness", formatFloat(strength), "%s", reason)
	a.pick("augment.contrast", formatFloat(strength), "%s", reason)
	if a.data.Channels == 3 {
		a.pick("augment.saturation", formatFloat(strength), "%s", reason)
		a.pick("augment.hue", formatFloat(strength/4), "%s", reason)
	}
}

// batchAndPrototypes chooses K, the batch, the queue and the sharpness of codes.
func (a *chooser) batchAndPrototypes() {
	d, r := a.data, a.recipe
	seen := a.cost.steps(a.training(r, a.cost), 1)

	batch, why := 64, "many small steps do better than few large ones in a short run"
	for _, b := range []int{128, 256} {
		if seen/b >= 4000 {
			batch, why = b, fmt.Sprintf("there is time for %s steps of %d", round(seen/b), b)
		}
	}
	for batch > minBatch && batch > d.Images/4 {
		batch, why = batch/2, fmt.Sprintf("a quarter of %d images at most, so that an epoch has some steps", d.Images)
	}
	for limit := a.machine.MemoryBytes / 2; limit > 0 && batch > minBatch && a.cost.fixed+int64(batch)*a.cost.memory > limit; {
		batch, why = batch/2, fmt.Sprintf("what fits into half of the %d MB of free memory", a.machine.MemoryBytes>>20)
	}
	a.pick("train.batch_size", strconv.Itoa(batch), "%s", why)
	batch = r.Train.Batch

	var k int
	if d.Labeled && d.Classes > 1 {
		k, why = 10*d.Classes, fmt.Sprintf("about 10 for each of %d classes", d.Classes)
	} else {
		k, why = d.Images/50, fmt.Sprintf("one for about 50 of %d images; without labels the number of kinds is not known", d.Images)
	}
	k = (k + 31) / 32 * 32
	if most := max(8, d.Images/4/8*8); k > most {
		k, why = most, fmt.Sprintf("one for at least 4 of %d images", d.Images)
	}
	if k > 3000 {
		k, why = 3000, "the original's number for a thousand classes; more bring little"
	}
	k = max(k, 16)
	a.pick("model.prototypes", strconv.Itoa(k), "%s", why)
	k = r.Model.Prototypes

	// Half a prototype's worth of rows is enough, as the usage evens out over steps.
	if queue := queueFor(k, batch, d.Images); queue > 0 {
		a.pick("swav.queue", strconv.Itoa(queue), "a batch of %d is small beside %d prototypes: with the queue %d embeddings share them", batch, k, batch+queue)
	} else {
		a.pick("swav.queue", "0", "a batch of %d is enough for %d prototypes", batch, k)
	}

	if d.Channels == 1 {
		a.pick("swav.epsilon", "0.05", "the original's; it did well on gray images")
	} else {
		a.pick("swav.epsilon", "0.03", "sharper codes than the original's 0.05 keep short runs on colour images from collapse")
	}
}

// queueFor is the length of a queue that brings the rows up to the prototypes,
// 0 where the batch does alone. It never holds more than a quarter of the images.
func queueFor(k, batch, images int) int {
	if 2*batch >= k {
		return 0
	}
	queue := (k - batch + batch - 1) / batch * batch
	return min(queue, images/4/batch*batch)
}

// length turns the time into steps, and chooses what depends on their number.
func (a *chooser) length() error {
	r, d := a.recipe, a.data
	c, err := estimate(r, d, a.machine) // the prototypes are known now
	if err != nil {
		return err
	}
	a.cost = c
	a.evaluate(r, c)
	batch := r.Train.Batch
	steps := c.steps(a.training(r, c), batch)
	if steps < minSteps && !a.given("train.steps") {
		need := time.Duration(minSteps*batch)*c.image*100/85 + evaluation(r, d, a.machine, c) + 10*time.Second
		return fmt.Errorf("in %v this machine does about %d steps, and a result takes at least %d: give it --time %v", a.budget, max(0, steps), minSteps, need.Round(time.Second)+time.Second)
	}
	perEpoch := max(1, d.Images/batch)
	why := fmt.Sprintf("what fits into %v with the evaluation: %s passes over the data, about %v for 1000 images", a.budget, passes(steps, perEpoch), (1000 * c.image).Round(100*time.Millisecond))
	if most := max(2000, maxPasses*perEpoch); steps > most {
		steps, why = most, fmt.Sprintf("%s passes over the data; more teach nothing new, so %v are not all used", passes(most, perEpoch), a.budget)
	}
	a.pick("train.steps", strconv.Itoa(steps), "%s", why)
	if r.Train.Steps > 0 {
		steps = r.Train.Steps
	} else {
		steps = max(1, Epochs(r.Train.Epochs).Resolve(perEpoch))
	}

	a.rate(steps, perEpoch)
	freeze := min(max(100, steps/50), max(1, steps/10))
	a.pick("swav.freeze_prototypes", strconv.Itoa(freeze), "the network finds its feet first, as collapse begins early")
	if r.SwAV.Queue > 0 {
		start := min(steps/4, max(15*perEpoch, steps/10))
		a.pick("swav.queue_start", strconv.Itoa(start), "embeddings must have settled before old ones are of use")
	}
	every := max(1, min(steps, int(2*time.Minute/max(1, c.image*time.Duration(batch)))))
	a.pick("train.checkpoint_every", strconv.Itoa(every), "about every two minutes")
	a.pick("train.log_every", strconv.Itoa(max(1, min(50, steps/20))), "")
	if d.Labeled {
		references, queries := evalImages(r, d)
		a.pick("eval.references", strconv.Itoa(r.Eval.References), "%d labelled images to compare with, within a fifth of the time", references)
		a.pick("eval.queries", strconv.Itoa(r.Eval.Queries), "at most %d images to classify", queries)
	}
	return nil
}

// rate chooses the learning rate and its warm-up.
func (a *chooser) rate(steps, perEpoch int) {
	r := a.recipe
	lr, why := 1e-3, "AdamW's usual rate; 2e-3 did worse in short runs"
	if r.Crops[0].Size >= 96 {
		lr = 1e-3 * float64(r.Train.Batch) / 256
		why = fmt.Sprintf("1e-3 for 256 images, scaled to %d", r.Train.Batch)
	}
	if r.Optim.Kind != "adamw" {
		lr = 0.3 * float64(r.Train.Batch) / 256
		why = fmt.Sprintf("the original's 0.3 for 256 images, scaled to %d", r.Train.Batch)
	}
	a.pick("optim.lr", formatFloat(lr), "%s", why)
	a.pick("optim.final_lr", formatFloat(r.Optim.LR/1000), "the cosine falls to a thousandth")
	warmup := min(perEpoch, steps/50)
	a.pick("optim.warmup", strconv.Itoa(warmup), "a fiftieth of the run, an epoch at most")
}

// round is a number with two digits that count, for people.
func round(n int) string {
	if n < 1000 {
		return strconv.Itoa(n)
	}
	unit := math.Pow(10, math.Floor(math.Log10(float64(n)))-1)
	n = int(math.Round(float64(n)/unit) * unit)
	switch {
	case n >= 1_000_000:
		return strconv.FormatFloat(float64(n)/1e6, 'f', -1, 64) + " million"
	case n >= 10_000:
		return strconv.Itoa(n/1000) + ",000"
	}
	return fmt.Sprintf("%d,%03d", n/1000, n%1000)
}

func passes(steps, perEpoch int) string {
	return strconv.FormatFloat(float64(steps)/float64(perEpoch), 'f', 1, 64)
}
