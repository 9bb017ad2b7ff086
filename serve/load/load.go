// Package load puts a server under load: many good requests at once, and between
// them all kinds of bad ones. It counts whether every good request was answered and
// how fast, and whether every bad one was refused as it should be.
//
// It knows the server by HTTP alone; package serve's tests and `swav bench serve`
// use it.
package load

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"
)

// Options say what is asked for, and how.
type Options struct {
	URL         string   // of the path, such as http://127.0.0.1:8080/embed
	Token       string   // bearer token; "": none
	Images      [][]byte // files that are sent, by turns
	Requests    int      // good ones
	Concurrency int      // requests under way at once
	// Bad is how many bad requests there are for each good one; 0: none.
	Bad float64
	// TooLarge is a length in bytes that the server refuses; 0: no such request.
	TooLarge int64
	// Check, if not nil, says what is wrong with the answer to image i.
	Check func(i int, body []byte) error
	Seed  uint64 // of the order
	// Client, if not nil, is used instead of one of its own.
	Client *http.Client
}

// Report is what came of it.
type Report struct {
	Good    int            // requests that got the right answer
	Retried int            // times that the server was busy and a good request came again
	Failed  []string       // why good requests were not answered, or wrong
	Bad     map[string]int // bad requests by kind
	Odd     []string       // bad requests that were answered in another way than they should
	Elapsed time.Duration
	Waits   []time.Duration // of the good requests, in ascending order
}

// Rate is the number of good requests per second.
func (r *Report) Rate() float64 { return float64(r.Good) / r.Elapsed.Seconds() }

// Quantile is the time within which a share of the good requests was answered.
func (r *Report) Quantile(share float64) time.Duration {
	if len(r.Waits) == 0 {
		return 0
	}
	return r.Waits[min(len(r.Waits)-1, int(share*float64(len(r.Waits))))]
}

// maxAnswer bounds an answer in memory.
const maxAnswer = 64 << 20

// tries bounds how often a good request comes again while the server is busy.
const tries = 100

// job is a request to be made: image i, or a bad one.
type job struct {
	image int
	bad   *bad
}

// Run makes the requests and waits for all answers. Its error is that ctx ended.
func Run(ctx context.Context, o Options) (*Report, error) {
	if len(o.Images) == 0 || o.Requests < 1 || o.Concurrency < 1 {
		return nil, fmt.Errorf("load: %d requests of %d images, %d at once: want at least 1 of each", o.Requests, len(o.Images), o.Concurrency)
	}
	client := o.Client
	if client == nil {
		client = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: o.Concurrency, MaxConnsPerHost: 0}}
		defer client.CloseIdleConnections()
	}
	jobs := make([]job, o.Requests)
	for i := range jobs {
		jobs[i].image = i % len(o.Images)
	}
	kinds := badKinds(o)
	for i := range int(o.Bad * float64(o.Requests)) {
		jobs = append(jobs, job{bad: &kinds[i%len(kinds)]})
	}
	rand.New(rand.NewPCG(o.Seed, 0x10ad)).Shuffle(len(jobs), func(i, j int) { jobs[i], jobs[j] = jobs[j], jobs[i] })

	r := &Report{Bad: map[string]int{}}
	var mu sync.Mutex
	next := make(chan job)
	var wg sync.WaitGroup
	began := time.Now()
	for range o.Concurrency {
		wg.Go(func() {
			for j := range next {
				if j.bad != nil {
					odd := j.bad.ask(ctx, client, o)
					mu.Lock()
					r.Bad[j.bad.name]++
					if odd != nil {
						r.Odd = append(r.Odd, fmt.Sprintf("%s: %v", j.bad.name, odd))
					}
					mu.Unlock()
					continue
				}
				asked := time.Now()
				retried, err := good(ctx, client, o, j.image)
				took := time.Since(asked)
				mu.Lock()
				r.Retried += retried
				if err != nil {
					r.Failed = append(r.Failed, fmt.Sprintf("image %d: %v", j.image, err))
				} else {
					r.Good++
					r.Waits = append(r.Waits, took)
				}
				mu.Unlock()
			}
		})
	}
	for _, j := range jobs {
		if ctx.Err() != nil {
			break
		}
		next <- j
	}
	close(next)
	wg.Wait()
	r.Elapsed = time.Since(began)
	slices.Sort(r.Waits)
	return r, ctx.Err()
}

// good sends an image until the server is not too busy for it.
func good(ctx context.Context, client *http.Client, o Options, image int) (retried int, err error) {
	for {
		status, wait, body, err := post(ctx, client, o, o.URL, bytes.NewReader(o.Images[image]), nil)
		switch {
		case err != nil:
			return retried, err
		case status == http.StatusOK && o.Check != nil:
			return retried, o.Check(image, body)
		case status == http.StatusOK:
			return retried, nil
		case (status == http.StatusTooManyRequests || status == http.StatusServiceUnavailable) && retried < tries:
			retried++
			// Sooner than told: this is a test of load.
			select {
			case <-time.After(min(wait, 50*time.Millisecond)):
			case <-ctx.Done():
				return retried, ctx.Err()
			}
		default:
			return retried, fmt.Errorf("status %d: %.200s", status, body)
		}
	}
}

// post makes a request and reads its answer; change, if not nil, alters the request.
func post(ctx context.Context, client *http.Client, o Options, url string, body io.Reader, change func(*http.Request)) (status int, retry time.Duration, answer []byte, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, body)
	if err != nil {
		return 0, 0, nil, err
	}
	req.Header.Set("Content-Type", "application/octet-stream")
	if o.Token != "" {
		req.Header.Set("Authorization", "Bearer "+o.Token)
	}
	if change != nil {
		change(req)
	}
	resp, err := client.Do(req)
	if err != nil {
		return 0, 0, nil, err
	}
	defer resp.Body.Close()
	answer, err = io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err == nil && len(answer) > maxAnswer {
		err = errors.New("the answer does not end")
	}
	seconds, _ := strconv.Atoi(resp.Header.Get("Retry-After"))
	return resp.StatusCode, time.Duration(seconds) * time.Second, answer, err
}
