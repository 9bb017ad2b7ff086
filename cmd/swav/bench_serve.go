package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"swav/serve/load"
)

func newBenchServe() *cobra.Command {
	var o load.Options
	var mixed, asJSON bool
	var maxMB int64
	c := &cobra.Command{
		Use:   "serve URL IMAGE...",
		Short: "Put a server of swav serve under load",
		Long: `Sends images to a running server, many requests at once, and prints how many it
answers per second and how long they wait. --mixed puts bad requests between them:
damaged and huge images, wrong types, slow and cut connections, too many bytes. It
fails if a good request is not answered, or a bad one not refused as it should be.`,
		Example: `  swav bench serve http://127.0.0.1:8080/embed ~/photos/*.jpg --requests 1000 --concurrent 16
  swav bench serve http://127.0.0.1:8080/search photo.jpg --mixed`,
		Args: withUsage(cobra.MinimumNArgs(2)),
		RunE: func(c *cobra.Command, args []string) error {
			if o.Requests < 1 || o.Concurrency < 1 || o.Concurrency > 10000 {
				return usageError{fmt.Errorf("--requests %d, --concurrent %d: want 1 or more, at most 10000 at once", o.Requests, o.Concurrency)}
			}
			for _, path := range args[1:min(len(args), 1+maxQueries)] {
				data, err := os.ReadFile(path)
				if err != nil {
					return err
				}
				o.Images = append(o.Images, data)
			}
			o.URL, o.Token = args[0], cmp.Or(o.Token, os.Getenv(tokenVariable))
			if mixed {
				o.Bad, o.TooLarge = 0.5, maxMB*1e6+1
			}
			return benchServe(c.Context(), c.OutOrStdout(), o, asJSON)
		},
	}
	c.Flags().IntVar(&o.Requests, "requests", 500, "good requests")
	c.Flags().IntVar(&o.Concurrency, "concurrent", 16, "requests at once")
	c.Flags().BoolVar(&mixed, "mixed", false, "also one bad request for every two good ones")
	c.Flags().Int64Var(&maxMB, "max-mb", 32, "the server's --max-mb")
	c.Flags().StringVar(&o.Token, "token", "", "bearer token (default: "+tokenVariable+" of the environment)")
	c.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return c
}

func benchServe(ctx context.Context, w io.Writer, o load.Options, asJSON bool) error {
	r, err := load.Run(ctx, o)
	if err != nil {
		return err
	}
	if asJSON {
		return errors.Join(writeLoad(w, r, o), wrongAnswers(r))
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	round := func(d time.Duration) time.Duration { return d.Round(10 * time.Microsecond) }
	fmt.Fprintf(t, "answered\t%d of %d\n", r.Good, o.Requests)
	fmt.Fprintf(t, "requests/s\t%.1f\n", r.Rate())
	fmt.Fprintf(t, "p50\t%v\np99\t%v\n", round(r.Quantile(0.5)), round(r.Quantile(0.99)))
	fmt.Fprintf(t, "sent again\t%d, as the server was busy\n", r.Retried)
	var kinds []string
	for kind := range r.Bad {
		kinds = append(kinds, kind)
	}
	slices.Sort(kinds)
	for _, kind := range kinds {
		fmt.Fprintf(t, "bad: %s\t%d\n", kind, r.Bad[kind])
	}
	for _, wrong := range slices.Concat(r.Failed, r.Odd)[:min(10, len(r.Failed)+len(r.Odd))] {
		fmt.Fprintf(t, "wrong\t%s\n", wrong)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	return wrongAnswers(r)
}

// wrongAnswers is the failure that a report holds, if it does.
func wrongAnswers(r *load.Report) error {
	if n := len(r.Failed) + len(r.Odd); n > 0 {
		return fmt.Errorf("%d requests were not answered as they should be", n)
	}
	return nil
}

// writeLoad writes the report as one JSON object; times are in milliseconds.
func writeLoad(w io.Writer, r *load.Report, o load.Options) error {
	ms := func(share float64) float64 { return float64(r.Quantile(share).Microseconds()) / 1e3 }
	return json.NewEncoder(w).Encode(struct {
		URL        string         `json:"url"`
		Concurrent int            `json:"concurrent"`
		Requests   int            `json:"requests"`
		Answered   int            `json:"answered"`
		Rate       float64        `json:"requests_per_second"`
		P50        float64        `json:"p50_ms"`
		P99        float64        `json:"p99_ms"`
		Retried    int            `json:"sent_again"`
		Bad        map[string]int `json:"bad,omitempty"`
		Wrong      []string       `json:"wrong,omitempty"`
	}{o.URL, o.Concurrency, o.Requests, r.Good, r.Rate(), ms(0.5), ms(0.99), r.Retried, r.Bad, slices.Concat(r.Failed, r.Odd)})
}
