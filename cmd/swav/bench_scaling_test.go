package main

import (
	"bytes"
	"regexp"
	"strings"
	"testing"
)

func TestBenchScaling(t *testing.T) {
	tiny := []string{"bench", "scaling", "--threads", "1", "--layers", "1", "--width", "0.125", "--stem", "small", "--crops", "2x8", "--batch-size", "4",
		"--hidden", "8", "--feature-dim", "4", "--prototypes", "5", "--warmup", "0", "--steps", "1"}
	var out, errs bytes.Buffer
	if code := run(append(tiny, "--at", "64", "--networks", "10:30us", "--compute", "1s"), &out, &errs); code != exitOK {
		t.Fatalf("status %d: %s", code, errs.String())
	}
	for _, want := range []string{
		`ranks: 2, in this process`,
		`\d+ x 40 B +all-reduce`, // Sinkhorn's sums of 5 prototypes in float64
		`all-reduce: 8 B \S+ [mu]s, `,
		`(?m)^ +whole +\S+ \S+ +\S+ \S+ *$`,
		`own work 1 s a step`,
		`(?m)^ +64 +1\S* s, \d+% *$`,
		`(?m)^BenchmarkScaling/\S+/ranks2 \t1\t\d+ ns/op\t\S+ img/s\t\S+ %alone$`,
	} {
		if !regexp.MustCompile(want).MatchString(out.String()) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
	for flag, want := range map[string]string{
		"--ranks=1": "nobody to talk to", "--at=0": "numbers of ranks", "--networks=10": "GBIT_PER_SECOND:LATENCY", "--networks=-1:5us": "GBIT", "--compute=-1s": "--compute",
	} {
		errs.Reset()
		if code := run(append(tiny, flag), &out, &errs); code != exitUsage || !strings.Contains(errs.String(), want) {
			t.Errorf("%s: status %d, %s", flag, code, errs.String())
		}
	}
}
