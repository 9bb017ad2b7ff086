package train

import (
	"errors"
	"fmt"
	"runtime"

	"golang.org/x/sys/cpu"

	"swav/augment"
	"swav/config"
	"swav/dataset"
	"swav/dist"
	"swav/engine"
	"swav/imgcodec"
	"swav/internal/hostmem"
	"swav/nn"
	"swav/op"
	"swav/optim"
)

// storesDeep tells whether the first file has samples of 16 bits.
func storesDeep(src dataset.Source) bool {
	files, ok := src.(dataset.Encoded)
	if !ok || src.Len() == 0 {
		return false
	}
	var buf []byte
	if files.Encoded(0, &buf) != nil {
		return false
	}
	info, err := imgcodec.ReadInfo(buf)
	return err == nil && info.Depth == 16
}

// Views is a recipe's augmentation for images of the given channels.
func Views(r *config.Recipe, channels int) (augment.Recipe, error) {
	a := r.Augment
	mean, err := perChannel("augment.mean", a.Mean, channels)
	if err != nil {
		return augment.Recipe{}, err
	}
	std, err := perChannel("augment.std", a.Std, channels)
	if err != nil {
		return augment.Recipe{}, err
	}
	v := augment.Recipe{
		FlipP: a.Flip, JitterP: a.Jitter,
		Brightness: a.Brightness, Contrast: a.Contrast, Saturation: a.Saturation, Hue: a.Hue,
		GrayscaleP: a.Grayscale, BlurP: a.Blur, BlurMin: a.BlurMin, BlurMax: a.BlurMax,
		Mean: mean, Std: std,
	}
	for _, c := range r.Crops {
		v.Groups = append(v.Groups, augment.Group{Size: c.Size, Count: c.Count, MinScale: c.MinScale, MaxScale: c.MaxScale})
	}
	return v, v.Validate()
}

// perChannel is one number a channel: given as such, as one for all, or, for
// gray images under a colour recipe, the channels' mean.
func perChannel(key string, x []float64, channels int) ([]float32, error) {
	out := make([]float32, channels)
	switch {
	case len(x) == channels:
		for i := range out {
			out[i] = float32(x[i])
		}
	case len(x) == 1:
		for i := range out {
			out[i] = float32(x[0])
		}
	case channels == 1 && len(x) > 1:
		var sum float64
		for _, v := range x {
			sum += v
		}
		out[0] = float32(sum / float64(len(x)))
	default:
		return nil, fmt.Errorf("%s has %d numbers, the images have %d channels: give one number, or one a channel (--set %s=…; `swav data stats` measures them)", key, len(x), channels, key)
	}
	return out, nil
}

// Precision is the type of activations that a recipe asks for; auto takes
// bfloat16 where the processor multiplies it.
func Precision(r *config.Recipe, backend string) op.DType {
	switch r.Train.Precision {
	case "bf16":
		return op.BFloat16
	case "fp64":
		return op.Float64
	case "auto":
		if backend == "cpu" && (cpu.X86.HasAVX512BF16 || cpu.X86.HasAMXBF16) {
			return op.BFloat16
		}
	}
	return op.Float32
}

// method is what a recipe learns by, for one of some ranks.
func method(r *config.Recipe, arch nn.Arch, res config.Resolved, ranks int) Method {
	if d := r.DeepCluster; r.Clustering() {
		return &DeepCluster{Heads: arch.HeadSizes(), Views: d.BankViews, Temperature: d.Temperature, Iterations: d.Iterations,
			Images: res.Images, Rows: res.BankRows, Parts: r.Train.Accumulate, Seed: r.Train.Seed}
	}
	s := r.SwAV
	return &SwAV{Assign: s.Assign, Temperature: s.Temperature, Epsilon: s.Epsilon, Iterations: s.Iterations,
		Tolerance: s.Tolerance, Hard: s.Hard, FreezeSteps: res.FreezePrototypes,
		QueueLength: res.QueueLength / ranks, QueueStart: res.QueueStart}
}

func optimizer(r *config.Recipe) optim.Optimizer {
	o := r.Optim
	return optim.Optimizer{Kind: optim.Kind(o.Kind), Momentum: o.Momentum, Trust: o.Trust, LARCEps: o.Eps, Clip: o.Clip,
		Beta1: o.Beta1, Beta2: o.Beta2, AdamEps: o.Eps, WeightDecay: o.WeightDecay, ExcludeNormBias: o.ExcludeNormAndBias}
}

func schedule(r *config.Recipe, res config.Resolved) optim.Schedule {
	return optim.Schedule{Base: r.Optim.LR, Final: r.Optim.FinalLR, Start: r.Optim.StartLR, Warmup: res.Warmup, Total: res.Steps}
}

// newStepper builds network, model, plan and stepper of one rank, with fresh
// weights.
func newStepper(b op.Backend, r *config.Recipe, arch nn.Arch, res config.Resolved, comm dist.Comm) (*Stepper, error) {
	net, err := nn.Build(arch)
	if err != nil {
		return nil, err
	}
	m, err := engine.NewModel(b, net, true)
	if err != nil {
		return nil, err
	}
	m.Set(net.Init(r.Train.Seed))
	cfg := engine.Config{Batch: res.RankBatch, Precision: Precision(r, b.Name()), Direct: !r.Train.Winograd, Comm: comm, Train: true}
	for _, c := range r.Crops {
		cfg.Groups = append(cfg.Groups, engine.Group{Count: c.Count, Size: c.Size})
	}
	if cfg.Norm, err = normGroup(comm, res.NormRanks); err != nil {
		return nil, err
	}
	plan, err := engine.Compile(m, cfg)
	if err != nil {
		return nil, fmt.Errorf("%w (%s)", err, fitting(err, r))
	}
	s, err := NewStepper(plan, method(r, arch, res, comm.Size()), optimizer(r))
	if err != nil {
		return nil, err
	}
	s.Parts = r.Train.Accumulate
	if r.Train.Wire == "bf16" && comm.Size() > 1 {
		half, err := dist.Half(comm)
		if err != nil {
			s.Close()
			return nil, err
		}
		s.wire = half
	}
	return s, nil
}

// normGroup is the group of neighbouring ranks that share batch-norm statistics.
func normGroup(comm dist.Comm, n int) (dist.Comm, error) {
	switch n {
	case comm.Size():
		return comm, nil
	case 1:
		return dist.Solo(), nil
	}
	return comm.Split(comm.Rank() / n)
}

// fitting says what to do about a plan that could not be compiled. Nearly all
// of a plan's memory grows with the batch.
func fitting(err error, r *config.Recipe) string {
	var short *hostmem.Shortage
	if !errors.As(err, &short) {
		return "lower train.batch_size, or raise train.accumulate"
	}
	most := int(float64(r.Train.Batch/r.Train.Accumulate) * 0.9 * float64(short.Have) / float64(short.Need))
	if most < 2 {
		return "not even a batch of 2 fits: use smaller crops, a narrower network, or --set train.precision=bf16"
	}
	parts := (r.Train.Batch + most - 1) / most
	for r.Train.Batch%parts != 0 && parts < r.Train.Batch {
		parts++
	}
	return fmt.Sprintf("about %d images fit at a time: --set train.batch_size=%d, or --set train.accumulate=%d", most, most, parts)
}

// workers is the number of loader goroutines that a recipe asks for.
func workers(r *config.Recipe) int {
	if r.Data.Workers > 0 {
		return r.Data.Workers
	}
	return runtime.NumCPU()
}
