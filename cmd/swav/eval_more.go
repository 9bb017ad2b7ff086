package main

import (
	"context"

	"github.com/spf13/cobra"

	"swav/eval"
	"swav/train"
)

func newEvalCluster() *cobra.Command {
	p := &protocol{}
	o := eval.DefaultCluster()
	c := p.command(&cobra.Command{
		Use:   "cluster",
		Short: "Compare clusters with labels: NMI, ARI, Hungarian accuracy, silhouette",
		Long: `Compares clusters of the queries with their labels: the run's prototypes, and
k-means on the features. NMI and ARI are those of scikit-learn. Hungarian accuracy
lets each cluster stand for at most one class; with more clusters than classes it is low
whatever they are worth.`,
		Example: `  swav eval cluster runs/photos
  swav eval cluster train.npy test.npy --k 50`,
	}, func(ctx context.Context, d *train.EvalData, e eval.Options) (eval.Tabular, error) {
		return eval.Clustering(ctx, d.Queries, d.Assigned, d.Prototypes, o, e)
	})
	c.Flags().IntVar(&o.K, "k", 0, "clusters of k-means; 0: as many as classes")
	c.Flags().IntVar(&o.Sample, "silhouette", o.Sample, "images whose silhouette is computed; 0: none")
	c.Flags().Uint64Var(&o.Seed, "seed", 0, "of k-means and of the silhouette's sample")
	return c
}

func newEvalRetrieval() *cobra.Command {
	p := &protocol{}
	return p.command(&cobra.Command{
		Use:   "retrieval",
		Short: "Find images of the same class: mAP, recall@1, 5, 10",
		Long: `Ranks all references by their similarity to each query (cosine). mAP is the mean
over queries of the average precision; recall@k the share of queries with an image of
their class among the first k.`,
		Example: `  swav eval retrieval runs/photos --queries 2000`,
	}, func(ctx context.Context, d *train.EvalData, o eval.Options) (eval.Tabular, error) {
		return eval.Retrieval(ctx, d.Refs, d.Queries, o)
	})
}

func newEvalProbe() *cobra.Command {
	p := &protocol{}
	o := eval.DefaultProbe()
	c := p.command(&cobra.Command{
		Use:   "probe",
		Short: "Learn classes from 1, 5, 10 images each",
		Long: `Learns the classes from a few labelled images each, drawn at random several times,
and classifies the queries: by logistic regression and by the nearest class mean. Mean
and standard deviation over the draws.`,
		Example: `  swav eval probe runs/photos --shots 1,5,10 --draws 20`,
	}, func(ctx context.Context, d *train.EvalData, e eval.Options) (eval.Tabular, error) {
		return eval.Probe(ctx, d.Refs, d.Queries, o, e)
	})
	f := c.Flags()
	f.IntSliceVar(&o.Shots, "shots", o.Shots, "images a class")
	f.IntVar(&o.Draws, "draws", o.Draws, "for each number of images")
	f.Float64Var(&o.C, "c", o.C, "inverse strength of the regression's penalty")
	f.Uint64Var(&o.Seed, "seed", 0, "of the draws")
	return c
}
