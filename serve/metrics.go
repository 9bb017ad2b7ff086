package serve

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// metrics are what /metrics shows. Labels have few values, whatever clients send.
type metrics struct {
	registry       *prometheus.Registry
	requests       *prometheus.CounterVec   // by path and status
	seconds        *prometheus.HistogramVec // by path
	inFlight       prometheus.Gauge
	images         *prometheus.CounterVec // by outcome
	batchImages    prometheus.Histogram
	computeSeconds prometheus.Histogram
}

func newMetrics() *metrics {
	r := prometheus.NewRegistry()
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	f := promauto.With(r)
	return &metrics{
		registry: r,
		requests: f.NewCounterVec(prometheus.CounterOpts{Name: "swav_requests_total", Help: "Requests answered."}, []string{"path", "status"}),
		seconds: f.NewHistogramVec(prometheus.HistogramOpts{Name: "swav_request_seconds", Help: "Time from a request's header to the end of its answer.",
			Buckets: prometheus.ExponentialBuckets(0.002, 2, 14)}, []string{"path"}),
		inFlight: f.NewGauge(prometheus.GaugeOpts{Name: "swav_requests_in_flight", Help: "Requests under way that the limit counts."}),
		images:   f.NewCounterVec(prometheus.CounterOpts{Name: "swav_images_total", Help: "Images of requests, by outcome."}, []string{"outcome"}),
		batchImages: f.NewHistogram(prometheus.HistogramOpts{Name: "swav_batch_images", Help: "Images that one batch of the network held.",
			Buckets: prometheus.ExponentialBuckets(1, 2, 8)}),
		computeSeconds: f.NewHistogram(prometheus.HistogramOpts{Name: "swav_compute_seconds", Help: "Time of the network for one batch.",
			Buckets: prometheus.ExponentialBuckets(0.001, 2, 14)}),
	}
}
