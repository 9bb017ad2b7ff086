package train

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"time"

	"swav"
	"swav/checkpoint"
	"swav/dist"
	"swav/loader"
	"swav/op"
)

// DeepCluster is the method of DeepCluster-v2: embeddings of all images of an
// epoch are kept in memory banks; before each epoch every head clusters them by
// spherical k-means, takes the centroids as prototypes, which gradients leave
// alone, and all views of an image then predict its cluster. Several heads differ
// by the rows that k-means starts from, and by the bank.
type DeepCluster struct {
	Heads       []int   // clusters of each head: the network's (nn.Arch.HeadSizes)
	Views       []int   // whose embeddings are kept, one bank each; heads take the banks in turn
	Temperature float64 // of the predictions; 0.1 in the original
	Iterations  int     // of k-means; 10 in the original
	Images      int     // of the data set
	Rows        int     // of a bank: this rank's images of an epoch
	Parts       int     // batches of a step
	Seed        uint64

	s          *Stepper
	prototypes []op.Tensor // of each head
	embeds     []op.Tensor // of each view of Views, within Plan.Embeddings
	scores     []op.Tensor // of each view of Views, within Plan.Scores
	block      op.Tensor   // rows of a bank on their way to k-means [KMeansBlock, FeatureDim]
	products   []op.Tensor // of each head, with its centroids [KMeansBlock, clusters]
	labels     op.Tensor   // of the batch [heads, Batch]
	hostLabels []float32   // the same

	banks    [][]float32 // of each view of Views, [Rows, FeatureDim]
	images   []int       // whose embeddings the rows are; -1 where there are none
	assigned [][]int32   // of each head, the cluster of every image; -1: it has none
	// before are the assignments before those of step clustered, until that step
	// is done: a checkpoint within it must lead to the same clustering again.
	before    [][]int32
	clustered int
	row       int   // of the banks, where the batch's embeddings go
	now       []int // images of the batch
	scratch   watched
}

var _ Method = (*DeepCluster)(nil)

func (m *DeepCluster) attach(s *Stepper, alloc func(d op.DType, shape ...int) op.Tensor) error {
	plan, arch := s.Plan, s.Model.Net.Arch
	views, batch, dim := plan.Views(), plan.Config.Batch, arch.FeatureDim
	if len(m.Views) == 0 {
		return fmt.Errorf("no views for the memory bank")
	}
	for _, v := range m.Views {
		if v < 0 || v >= views {
			return fmt.Errorf("memory bank of view %d: the views are 0 to %d", v, views-1)
		}
	}
	m.Parts = max(1, m.Parts)
	if m.Rows < batch*m.Parts || m.Images < 1 {
		return fmt.Errorf("memory bank of %d rows for batches of %d in %d part(s), of %d images", m.Rows, batch, m.Parts, m.Images)
	}
	m.s = s
	m.block = alloc(op.Float32, swav.KMeansBlock, dim)
	m.labels, m.hostLabels = alloc(op.Float32, len(m.Heads), batch), make([]float32, len(m.Heads)*batch)
	at := 0
	for h, k := range m.Heads {
		if k < 1 || at+k > arch.Prototypes || k > m.Rows {
			return fmt.Errorf("head %d of %d clusters: the network has %d prototypes in all, and a rank %d images in an epoch", h, k, arch.Prototypes, m.Rows)
		}
		m.prototypes = append(m.prototypes, s.Model.Prototypes().Slice(at, k))
		m.products = append(m.products, alloc(op.Float32, swav.KMeansBlock, k))
		m.assigned = append(m.assigned, none(m.Images))
		at += k
	}
	for _, v := range m.Views {
		m.embeds = append(m.embeds, plan.Embeddings.Slice(v*batch, batch))
		m.scores = append(m.scores, plan.Scores.Slice(v*batch, batch))
		m.banks = append(m.banks, make([]float32, m.Rows*dim))
	}
	m.images, m.now = make([]int, m.Rows), make([]int, batch)
	for i := range m.images {
		m.images[i] = -1
	}
	m.clustered = -1
	s.hostBytes = 4*int64(len(m.banks)*m.Rows*dim+len(m.Heads)*m.Images) + 8*int64(m.Rows)
	return nil
}

// none is no cluster for n images.
func none(n int) []int32 {
	x := make([]int32, n)
	for i := range x {
		x[i] = -1
	}
	return x
}

func (m *DeepCluster) begin() {} // k-means leaves unit vectors

func (m *DeepCluster) thaw() int { return math.MaxInt }

// batch looks up the clusters of the images that come next.
func (m *DeepCluster) batch(epochStep, part int, images []int) {
	m.row = (epochStep*m.Parts + part) * len(m.now)
	copy(m.now, images)
	for h, of := range m.assigned {
		for i, n := range m.now {
			m.hostLabels[h*len(m.now)+i] = float32(of[n])
		}
	}
	m.s.b.Write(m.labels, m.hostLabels)
}

// targets keeps the batch's embeddings for the next clustering; what is predicted
// now is known since the last.
func (m *DeepCluster) targets() {
	dim := m.s.Model.Net.Arch.FeatureDim
	for i, e := range m.embeds {
		m.s.b.Read(m.banks[i][m.row*dim:][:len(m.now)*dim], e)
	}
	copy(m.images[m.row:], m.now)
}

func (m *DeepCluster) loss() {
	p := m.s.Plan
	m.s.b.ClusterLoss(m.s.lossValue, p.ScoreGrads, p.Scores, m.labels, op.ClusterLossParams{
		Views: p.Views(), Batch: p.Config.Batch, Heads: m.Heads, Temperature: m.Temperature})
}

// Clusters are what an epoch begins with.
type Clusters struct {
	Heads   []swav.Clustering
	Elapsed time.Duration
}

// prepare clusters at the start of each epoch.
func (m *DeepCluster) prepare(ctx context.Context, t *run) (*Clusters, error) {
	if t.state.EpochStep != 0 {
		return nil, nil
	}
	if t.state.Step == 0 {
		if err := m.fill(ctx, t); err != nil {
			return nil, err
		}
	}
	if m.s.comm.Size() > 1 {
		ctx = context.WithoutCancel(ctx) // it may end for each rank at another time
	}
	begin := time.Now()
	epoch := t.state.Epoch
	heads, err := m.cluster(ctx, t.state.Step, func(head int) []int { return m.starts(epoch, head) })
	if err != nil {
		return nil, fmt.Errorf("clusters of epoch %d: %w", epoch, err)
	}
	return &Clusters{heads, time.Since(begin)}, nil
}

// fill puts the untrained network's embeddings of the first epoch's views into
// the banks, by a pass over the data that leaves no other trace.
func (m *DeepCluster) fill(ctx context.Context, t *run) error {
	s := m.s
	t.opts.Log.Note(fmt.Sprintf("a first pass over %d images fills the memory bank", m.Rows*s.comm.Size()))
	if s.comm.Size() > 1 {
		ctx = context.WithoutCancel(ctx)
	}
	statistics := download(s.b, s.Model.Buffers)
	defer s.b.Write(s.Model.Buffers, statistics)
	for step := range t.res.StepsPerEpoch {
		for part := range m.Parts {
			batch, err := t.loader.Next(ctx)
			if err != nil {
				return dataError{err}
			}
			t.show(batch, step, part)
			batch.Release()
			s.Plan.Forward()
			m.targets()
			if err := s.b.Sync(); err != nil {
				return fmt.Errorf("memory bank: %w", err)
			}
		}
	}
	t.loader.Close()
	t.loader.Start(loader.Position{})
	return nil
}

// starts are the rows of rank 0's bank that a head's clusters begin as.
func (m *DeepCluster) starts(epoch, head int) []int {
	return rand.New(rand.NewPCG(m.Seed, uint64(epoch)<<8|uint64(head))).Perm(m.Rows)[:m.Heads[head]]
}

// cluster clusters the banks, before a step, for each head from the rows that
// start names on rank 0.
func (m *DeepCluster) cluster(ctx context.Context, step int, start func(head int) []int) ([]swav.Clustering, error) {
	b, comm, dim := m.s.b, m.s.comm, m.s.Model.Net.Arch.FeatureDim
	m.clustered, m.before = step, append([][]int32(nil), m.assigned...)
	labels := make([]int32, m.Rows)
	var out []swav.Clustering
	for h, k := range m.Heads {
		bank, centroids := m.banks[h%len(m.banks)], make([]float32, k*dim)
		if comm.Rank() == 0 {
			for j, r := range start(h) {
				copy(centroids[j*dim:][:dim], bank[r*dim:][:dim])
			}
		}
		if err := comm.Broadcast(centroids, 0); err != nil {
			return nil, err
		}
		err := swav.KMeans(labels, centroids, bank, m.Rows, k, dim, swav.KMeansOptions{Iterations: m.Iterations, Product: m.product(ctx, h)}, comm)
		if err != nil {
			return nil, err
		}
		b.Write(m.prototypes[h], centroids)
		if m.assigned[h], err = m.share(labels); err != nil {
			return nil, err
		}
		out = append(out, swav.DescribeClusters(m.assigned[h], m.before[h], k))
	}
	return out, b.Sync()
}

// product lends the backend to a head's k-means; it ends with ctx.
func (m *DeepCluster) product(ctx context.Context, head int) func(dst, x, centroids []float32, rows, k, dim int) error {
	b := m.s.b
	return func(dst, x, centroids []float32, rows, k, dim int) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		in, out := m.block.Slice(0, rows), m.products[head].Slice(0, rows)
		b.Write(in, x)
		b.Write(m.prototypes[head], centroids)
		b.Linear(out, in, m.prototypes[head], op.Tensor{})
		b.Read(dst, out)
		return b.Sync()
	}
}

// share makes one table of the clusters of all ranks' rows, by image. An image
// that stands in several rows, in the place of unreadable ones, gets the one of
// the highest number.
func (m *DeepCluster) share(labels []int32) ([]int32, error) {
	table := make([]float32, m.Images) // cluster + 1: whole numbers far below 2^24
	for i, n := range m.images {
		if n >= 0 {
			table[n] = max(table[n], float32(labels[i]+1))
		}
	}
	if err := m.s.comm.AllReduce32(table, dist.Max); err != nil {
		return nil, err
	}
	out := make([]int32, m.Images)
	for i, v := range table {
		out[i] = int32(v) - 1
	}
	return out, nil
}

// watch keeps the first head's clusters as codes, with scores and embeddings, of
// the views in the banks of images that have a cluster.
func (m *DeepCluster) watch(w *watched) {
	k, all, dim := m.Heads[0], m.s.Model.Net.Arch.Prototypes, m.s.Model.Net.Arch.FeatureDim
	w.clusters, w.chance = k, 0
	for _, n := range m.Heads {
		w.chance += math.Log(float64(n)) / float64(len(m.Heads))
	}
	for i := range m.Views {
		m.scratch.clear()
		scores := download32(m.scratch.scores, m.s.b, m.scores[i])
		embeddings := download32(m.scratch.embeddings, m.s.b, m.embeds[i])
		m.scratch.scores, m.scratch.embeddings = scores, embeddings
		for r := range m.now {
			label := int(m.hostLabels[r])
			if label < 0 {
				continue
			}
			at := len(w.codes)
			w.codes = append(w.codes, scores[r*all:][:k]...)
			clear(w.codes[at:])
			w.codes[at+label] = 1
			w.scores = append(w.scores, scores[r*all:][:k]...)
			w.embeddings = append(w.embeddings, embeddings[r*dim:][:dim]...)
		}
	}
}

// Names in optimizer.safetensors, by view of the bank and by head.
const (
	bankName     = "bank.%d"
	imagesName   = "bank.images"
	clustersName = "clusters.%d"
)

// save writes whole numbers so that float32 holds them: an image as two numbers
// below 2^20, a cluster from 1, 0 where there is none.
// Rows stand as one rank would have them: batch by batch of an epoch, and of each batch
// the ranks' parts in their order.
func (m *DeepCluster) save(st *State) ([]checkpoint.Tensor, error) {
	comm, dim, unit := m.s.comm, m.s.Model.Net.Arch.FeatureDim, len(m.now)
	total := m.Rows * comm.Size()
	var ts []checkpoint.Tensor
	for i, bank := range m.banks {
		all, err := gatherRows(comm, bank, unit, dim)
		if err != nil {
			return nil, err
		}
		ts = append(ts, checkpoint.Tensor{Name: fmt.Sprintf(bankName, i), Shape: []int{total, dim}, Data: all})
	}
	images := make([]float32, 0, 2*m.Rows)
	for _, n := range m.images {
		images = append(images, float32((n+1)>>20), float32((n+1)&(1<<20-1)))
	}
	all, err := gatherRows(comm, images, unit, 2)
	if err != nil {
		return nil, err
	}
	ts = append(ts, checkpoint.Tensor{Name: imagesName, Shape: []int{total, 2}, Data: all})
	assigned := m.assigned
	if m.clustered == st.Step {
		assigned = m.before // the step that they are for is not done
	}
	for h, of := range assigned {
		data := make([]float32, len(of))
		for i, c := range of {
			data[i] = float32(c + 1)
		}
		ts = append(ts, checkpoint.Tensor{Name: fmt.Sprintf(clustersName, h), Shape: []int{m.Images}, Data: data})
	}
	return ts, nil
}

func (m *DeepCluster) load(ts []checkpoint.Tensor, _ *State) error {
	comm, unit := m.s.comm, len(m.now)
	for i := range m.banks {
		copy(m.banks[i], ownRows(comm, ts[i].Data, unit, m.s.Model.Net.Arch.FeatureDim))
	}
	ts = ts[len(m.banks):]
	images := ownRows(comm, ts[0].Data, unit, 2)
	for i := range m.images {
		high, low := images[2*i], images[2*i+1]
		if !(high >= 0 && high < 1<<20 && low >= 0 && low < 1<<20) || int(high)<<20+int(low) > m.Images {
			return fmt.Errorf("%s: row %d is (%v, %v), which is none of %d images", imagesName, i, high, low, m.Images)
		}
		m.images[i] = int(high)<<20 + int(low) - 1
	}
	for h, of := range m.assigned {
		for i, c := range ts[1+h].Data {
			if !(c >= 0 && c <= float32(m.Heads[h])) {
				return fmt.Errorf(clustersName+": image %d has %v, which is none of %d clusters", h, i, c, m.Heads[h])
			}
			of[i] = int32(c) - 1
		}
	}
	return nil
}
