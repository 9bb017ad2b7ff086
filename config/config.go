// Package config reads and writes recipes: typed, checked descriptions of a
// training run, in TOML. A recipe is a file anyone can write, or one of those
// that are built in (Names); package train turns it into a run.
//
// Everything about a key stands once, beside its struct field: name, range,
// and the line of documentation that Encode, Keys and the error messages show.
// Unknown keys, wrong types and values out of range are refused with the
// place in the file and with what to write instead.
//
// What does not belong here: opening data, finding out about the machine, and
// the arithmetic of the run. Auto chooses a recipe from facts that its caller
// has gathered.
package config

// Recipe is a training run in full. The zero value is not usable: start from
// Default, Load or Auto.
type Recipe struct {
	// Name is the name it was loaded under, for messages; not part of the file.
	Name string `toml:"-"`

	Data    Data    `toml:"data" doc:"what is read, and how"`
	Crops   []Crop  `toml:"crops" doc:"views of an image, in groups of equal size; the first views are the large ones"`
	Augment Augment `toml:"augment" doc:"what happens to a crop, in the order of the original"`
	Model   Model   `toml:"model" doc:"the network"`
	SwAV    SwAV    `toml:"swav" doc:"the method swav: codes by Sinkhorn-Knopp, swapped prediction, queue"`

	DeepCluster DeepCluster `toml:"deepcluster" doc:"the method deepclusterv2: clusters of the whole data by k-means once an epoch, predicted by all views"`

	Optim Optim `toml:"optim" doc:"the optimizer and its schedule"`
	Train Train `toml:"train" doc:"the run"`
	Eval  Eval  `toml:"eval" doc:"what the features are worth, where the data has labels"`
	Log   Log   `toml:"log" doc:"where curves and pictures go, besides metrics.jsonl and report.html"`
}

// Data says what is read of the source given by --data.
type Data struct {
	Channels  int     `toml:"channels" range:"[0,1024]" doc:"channels of the views: 1 gray, 3 RGB, or as many as all images have; 0: 3, or that many"`
	Depth     int     `toml:"depth" range:"[8,16]" doc:"bits kept of images that store 16: 8, as the original, or 16; auto measures it"`
	Exif      string  `toml:"exif" oneof:"apply ignore" doc:"orientation written by cameras: apply or ignore"`
	MaxPixels int     `toml:"max_pixels" range:"[1,4294967296]" doc:"larger images are skipped before they are decoded"`
	MaxSkip   float64 `toml:"max_skip" range:"[0,1]" doc:"share of unreadable images at which the run stops"`
	Workers   int     `toml:"workers" range:"[0,4096]" doc:"goroutines that decode and augment; 0: one per core. Results do not depend on it"`
	Split     string  `toml:"split" doc:"part trained on, where the source has named parts (idx files, CIFAR batches)"`
	EvalSplit string  `toml:"eval_split" doc:"part whose images are classified at the end; sources without it give up eval.holdout of their images"`
	CacheGB   float64 `toml:"cache_gb" range:"[0.001,1000000]" doc:"disk space for shards that are fetched or unpacked, in the user's cache folder"`
	Lanes     int     `toml:"lanes" range:"[0,1048576]" doc:"shards that are visited by turns, shared out to the ranks: each reads its share alone. 0: as many as data.cache_gb has room for, up to 64. The order of images depends on it, not on the number of ranks"`

	Temporal string  `toml:"temporal" doc:"frames of clips, a folder or shard each: the large views come from frames at most this far from the first one's, such as 2s or 50 frames; empty: all views come from one image"`
	FPS      float64 `toml:"fps" range:"[0.001,100000]" doc:"frames a second, where temporal is in seconds"`

	Shuffle     int  `toml:"shuffle_buffer" range:"[1,16777216]" doc:"streams: images that are read ahead and shuffled together"`
	EpochImages int  `toml:"epoch_images" range:"[0,1000000000000]" doc:"streams: images that count as an epoch; 0: the whole run, whose length train.steps says"`
	Replay      bool `toml:"replay" doc:"standard input: a resumed run is given the stream from its beginning again and reads past what it has seen; false: it goes on with what comes"`
}

// Crop is a group of views of equal size.
type Crop struct {
	Count    int     `toml:"count" range:"[1,64]" doc:"views of this group"`
	Size     int     `toml:"size" range:"[1,4096]" doc:"side in pixels"`
	MinScale float64 `toml:"min_scale" range:"(0,1]" doc:"smallest share of the image's area that a view shows"`
	MaxScale float64 `toml:"max_scale" range:"(0,1]" doc:"largest share"`
}

// Augment are the random changes of a view. Strengths and probabilities of 0
// switch a change off.
type Augment struct {
	Flip       float64   `toml:"flip" range:"[0,1]" doc:"probability of a horizontal flip"`
	Jitter     float64   `toml:"jitter" range:"[0,1]" doc:"probability of colour jitter"`
	Brightness float64   `toml:"brightness" range:"[0,1]" doc:"jitter: factor within 1 -/+ this"`
	Contrast   float64   `toml:"contrast" range:"[0,1]" doc:"jitter: factor within 1 -/+ this"`
	Saturation float64   `toml:"saturation" range:"[0,1]" doc:"jitter: factor within 1 -/+ this; colour images only"`
	Hue        float64   `toml:"hue" range:"[0,0.5]" doc:"jitter: shift within -/+ this, of a full circle; colour images only"`
	Grayscale  float64   `toml:"grayscale" range:"[0,1]" doc:"probability of dropping the colour"`
	Blur       float64   `toml:"blur" range:"[0,1]" doc:"probability of a Gaussian blur"`
	BlurMin    float64   `toml:"blur_min" range:"[0,100]" doc:"smallest sigma in pixels"`
	BlurMax    float64   `toml:"blur_max" range:"[0,100]" doc:"largest sigma in pixels"`
	Mean       []float64 `toml:"mean" range:"[-10,10]" doc:"subtracted from each channel (pixels are 0 to 1); one number serves all channels"`
	Std        []float64 `toml:"std" range:"[1e-6,100]" doc:"divides each channel; one number serves all channels"`
}

// Model is the network. Either Arch names it, or Block and Layers spell it out.
type Model struct {
	Arch       string  `toml:"arch" oneof:"resnet18 resnet34 resnet50 resnet101 resnet50w2 resnet50w4 resnet50w5" doc:"a named depth; empty: block and layers say it"`
	Block      string  `toml:"block" oneof:"basic bottleneck" doc:"residual block, where arch is empty"`
	Layers     []int   `toml:"layers" range:"[1,200]" doc:"blocks per stage, where arch is empty; every stage after the first halves the resolution"`
	Width      float64 `toml:"width" range:"[0.125,5]" doc:"multiplies the channels of every stage"`
	Stem       string  `toml:"stem" oneof:"imagenet small" doc:"imagenet: 7x7 stride 2 and pooling; small: 3x3 stride 1, for images of about 32 pixels"`
	InChannels int     `toml:"in_channels" range:"[0,1024]" doc:"channels of the input; 0: as many as the data has"`
	Hidden     int     `toml:"hidden" range:"[0,65536]" doc:"hidden units of the projection head; 0: the head is one linear layer"`
	FeatureDim int     `toml:"feature_dim" range:"[1,16384]" doc:"dimension of the embedding that is compared with the prototypes"`
	Prototypes int     `toml:"prototypes" range:"[2,1048576]" doc:"number of prototypes K; about 10 times the classes you expect"`
}

// SwAV are the settings of the method (Caron et al. 2020, section 3).
type SwAV struct {
	Temperature      float64  `toml:"temperature" range:"[0.001,10]" doc:"of the predictions (the paper's tau)"`
	Epsilon          float64  `toml:"epsilon" range:"[0.001,10]" doc:"smoothness of the codes; lower is sharper and helps against collapse"`
	Iterations       int      `toml:"iterations" range:"[0,1000]" doc:"of Sinkhorn-Knopp"`
	Tolerance        float64  `toml:"tolerance" range:"[0,1]" doc:"stop Sinkhorn-Knopp early below this marginal error; 0: never"`
	Hard             bool     `toml:"hard" doc:"round codes to one prototype"`
	Assign           []int    `toml:"assign" range:"[0,4095]" doc:"views whose codes the others predict, counted from 0 over all groups"`
	FreezePrototypes Duration `toml:"freeze_prototypes" doc:"prototypes stay as they are for this long"`
	Queue            int      `toml:"queue" range:"[0,16777216]" doc:"embeddings of earlier batches that take part in the assignment, all ranks together; 0: none"`
	QueueStart       Duration `toml:"queue_start" doc:"when the queue begins to fill; it is used once full"`
}

// DeepCluster are the settings of DeepCluster-v2 (Caron et al. 2020, section 4.1).
type DeepCluster struct {
	Prototypes  []int   `toml:"prototypes" range:"[2,1048576]" doc:"clusters of each head, such as [3000, 3000, 3000]; each head is clustered on its own; empty: one head of model.prototypes"`
	BankViews   []int   `toml:"bank_views" range:"[0,4095]" doc:"views whose embeddings are kept for k-means, a memory bank each; heads take the banks in turn"`
	Iterations  int     `toml:"iterations" range:"[1,1000]" doc:"of k-means at the start of each epoch"`
	Temperature float64 `toml:"temperature" range:"[0.001,10]" doc:"of the predictions"`
}

// The methods of Train.Method.
const (
	MethodSwAV        = "swav"
	MethodDeepCluster = "deepclusterv2"
)

// Optim is the optimizer and the schedule of its learning rate.
type Optim struct {
	Kind               string   `toml:"kind" oneof:"larc sgd adamw" doc:"larc (the paper's, for large batches), sgd or adamw (small data)"`
	LR                 float64  `toml:"lr" range:"(0,1000]" doc:"learning rate after warm-up; not scaled by the batch"`
	FinalLR            float64  `toml:"final_lr" range:"[0,1000]" doc:"learning rate at the end of the cosine"`
	StartLR            float64  `toml:"start_lr" range:"[0,1000]" doc:"learning rate at the first step of warm-up"`
	Warmup             Duration `toml:"warmup" doc:"linear warm-up from start_lr to lr"`
	Momentum           float64  `toml:"momentum" range:"[0,1)" doc:"larc, sgd"`
	WeightDecay        float64  `toml:"weight_decay" range:"[0,10]" doc:"on every weight, unless exclude_norm_and_bias"`
	Trust              float64  `toml:"trust" range:"(0,10]" doc:"larc: trust coefficient"`
	Clip               bool     `toml:"clip" doc:"larc: never scale the learning rate up"`
	Eps                float64  `toml:"eps" range:"[0,1]" doc:"larc, adamw: keeps divisions finite"`
	Beta1              float64  `toml:"beta1" range:"[0,1)" doc:"adamw: decay of the first moment"`
	Beta2              float64  `toml:"beta2" range:"[0,1)" doc:"adamw: decay of the second moment"`
	ExcludeNormAndBias bool     `toml:"exclude_norm_and_bias" doc:"no weight decay and no trust ratio for batch norm and biases"`
}

// Train is the run itself. One of Epochs and Steps is set, the other 0.
type Train struct {
	Method          string   `toml:"method" oneof:"swav deepclusterv2" doc:"what is learnt from: swav or deepclusterv2; the other's section is not used"`
	Epochs          float64  `toml:"epochs" range:"[0,1000000]" doc:"length in passes over the data; 0: steps says it"`
	Steps           int      `toml:"steps" range:"[0,1000000000]" doc:"length in steps; 0: epochs says it"`
	Batch           int      `toml:"batch_size" range:"[1,1048576]" doc:"images per step, all ranks together"`
	Accumulate      int      `toml:"accumulate" range:"[1,65536]" doc:"a step's batch is worked off in this many parts, to save memory; each part has its own codes"`
	Precision       string   `toml:"precision" oneof:"auto fp32 bf16 fp64" doc:"least precision of activations and products: auto takes bf16 where the machine is faster with it; a step too small to be slow computes in fp64"`
	Winograd        bool     `toml:"winograd" doc:"3x3 convolutions by Winograd's method where it is faster; false: by plain products, which round less"`
	SyncBN          string   `toml:"sync_bn" doc:"ranks over which batch norm takes its statistics: global (all), off (each its own), or a number, the size of groups of neighbouring ranks; a checkpoint holds the running statistics of rank 0"`
	Wire            string   `toml:"wire" oneof:"fp32 bf16" doc:"what ranks send each other of gradients: bf16 rounds and is half as much, for slow networks"`
	Backend         string   `toml:"backend" oneof:"auto cpu ref" doc:"auto takes the fastest there is; ref is plain Go, slow"`
	Seed            uint64   `toml:"seed" range:"[0,9223372036854775807]" doc:"of everything random"`
	CheckpointEvery Duration `toml:"checkpoint_every" doc:"a checkpoint this often, and at the end"`
	Keep            int      `toml:"keep" range:"[1,1000000]" doc:"newest checkpoints that are kept"`
	LogEvery        int      `toml:"log_every" range:"[1,1000000000]" doc:"steps between lines on the screen; metrics.jsonl has every step"`
}

// Eval is the evaluation at the end of a run (Wu et al. 2018, weighted kNN) and
// those during it.
type Eval struct {
	K           int     `toml:"k" range:"[1,100000]" doc:"nearest neighbours that vote"`
	Temperature float64 `toml:"temperature" range:"[0.001,10]" doc:"of the votes: exp(cosine / temperature)"`
	References  int     `toml:"references" range:"[0,1000000000]" doc:"at most this many labelled training images; 0: all"`
	Queries     int     `toml:"queries" range:"[0,1000000000]" doc:"at most this many images to classify; 0: all"`
	Holdout     float64 `toml:"holdout" range:"[0,0.9]" doc:"share of the images kept as queries, where the source has no eval_split"`
	Baselines   bool    `toml:"baselines" doc:"also classify by raw pixels and by the untrained network"`

	Every    Duration `toml:"every" doc:"also evaluate this often during training, by protocol, and keep the best checkpoint as RUN/best; 0: at the end only"`
	Protocol string   `toml:"protocol" oneof:"knn linear cluster" doc:"of the evaluations during training: knn and linear (logistic regression) by accuracy, cluster by the prototypes' NMI"`
}

// Log says who is told of the run.
type Log struct {
	TensorBoard bool   `toml:"tensorboard" doc:"write TensorBoard's files into the run directory"`
	Projector   int    `toml:"projector" range:"[0,16384]" doc:"images in TensorBoard's projector, which is written at the end; 0: none"`
	MLflow      string `toml:"mlflow" doc:"address of an MLflow server, with scheme and port; empty: what MLFLOW_TRACKING_URI says; off: none"`
	Experiment  string `toml:"mlflow_experiment" doc:"MLflow experiment that the run belongs to; empty: what MLFLOW_EXPERIMENT_NAME says, or swav"`
}

// Default is the original's main recipe on one machine: ResNet-50 on ImageNet,
// 2x224 + 6x96 views, batch 256 with a queue (its script swav_200ep_bs256). Keys
// that a recipe file leaves out have these values.
func Default() *Recipe {
	return &Recipe{
		Data: Data{Depth: 8, Exif: "apply", MaxPixels: 64 << 20, MaxSkip: 0.01, Split: "train", EvalSplit: "test", CacheGB: 32,
			FPS: 25, Shuffle: 1024, Replay: true},
		Crops: []Crop{
			{Count: 2, Size: 224, MinScale: 0.14, MaxScale: 1},
			{Count: 6, Size: 96, MinScale: 0.05, MaxScale: 0.14},
		},
		Augment: Augment{
			Flip: 0.5, Jitter: 0.8, Brightness: 0.8, Contrast: 0.8, Saturation: 0.8, Hue: 0.2,
			Grayscale: 0.2, Blur: 0.5, BlurMin: 0.1, BlurMax: 2,
			Mean: []float64{0.485, 0.456, 0.406}, Std: []float64{0.228, 0.224, 0.225},
		},
		Model: Model{Arch: "resnet50", Width: 1, Stem: "imagenet", Hidden: 2048, FeatureDim: 128, Prototypes: 3000},
		SwAV: SwAV{
			Temperature: 0.1, Epsilon: 0.05, Iterations: 3, Assign: []int{0, 1},
			FreezePrototypes: Steps(5005), Queue: 3840, QueueStart: Epochs(15),
		},
		DeepCluster: DeepCluster{BankViews: []int{0, 1}, Iterations: 10, Temperature: 0.1},
		Optim: Optim{
			Kind: "larc", LR: 0.6, FinalLR: 0.0006, Momentum: 0.9, WeightDecay: 1e-6,
			Trust: 0.001, Eps: 1e-8, Beta1: 0.9, Beta2: 0.999,
		},
		Train: Train{
			Method: MethodSwAV,
			Epochs: 200, Batch: 256, Accumulate: 1, Precision: "auto", Winograd: true, SyncBN: SyncGlobal, Wire: "fp32", Backend: "auto", Seed: 31,
			CheckpointEvery: Epochs(1), Keep: 3, LogEvery: 50,
		},
		Eval: Eval{K: 20, Temperature: 0.07, References: 20000, Queries: 10000, Holdout: 0.1, Baselines: true, Every: Steps(0), Protocol: "knn"},
		Log:  Log{TensorBoard: true, Projector: 1000},
	}
}

// Clustering tells whether the method is DeepCluster-v2.
func (r *Recipe) Clustering() bool { return r.Train.Method == MethodDeepCluster }

// MethodName is the method's name for people.
func (r *Recipe) MethodName() string {
	if r.Clustering() {
		return "DeepCluster-v2"
	}
	return "SwAV"
}

// Views is the number of views of an image.
func (r *Recipe) Views() int {
	n := 0
	for _, c := range r.Crops {
		n += c.Count
	}
	return n
}
