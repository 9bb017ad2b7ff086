package main

import (
	"bytes"
	"slices"
	"strings"
	"testing"
)

func TestCompletion(t *testing.T) {
	for _, c := range []struct {
		args []string
		want []string // all must be offered
		not  []string
	}{
		{[]string{"train", "--recipe", ""}, []string{"auto", "cifar10", "swav_100ep"}, nil},
		{[]string{"train", "--recipe", "ci"}, []string{"cifar10"}, []string{"auto"}},
		{[]string{"data", "preview", "x", "--recipe", "fash"}, []string{"fashion-mnist"}, nil},
		{[]string{"recipes", "deep"}, []string{"deepclusterv2_400ep"}, []string{"cifar10"}},
		{[]string{"recipes", "cifar10", ""}, nil, []string{"auto"}},
		{[]string{"train", "--set", "optim.l"}, []string{"optim.lr="}, []string{"optim.kind="}},
		{[]string{"embed", "RUN", "--set", "train.prec"}, []string{"train.precision="}, nil},
		{[]string{"train", "--set", "train.precision="}, []string{"_activeHelp_ train.precision"}, []string{"optim.lr="}},
		{[]string{"export", "RUN", "--format", ""}, []string{"onnx", "timm", "hf"}, nil},
		{[]string{"bench", "step", "--arch", ""}, []string{"resnet50", "resnet18"}, nil},
		{[]string{"verify", "--backend", ""}, []string{"cpu", "ref"}, nil},
	} {
		t.Run(strings.Join(c.args, " "), func(t *testing.T) {
			var out, errs bytes.Buffer
			if code := run(append([]string{"__complete"}, c.args...), &out, &errs); code != exitOK {
				t.Fatalf("exit code %d: %s", code, errs.String())
			}
			offers := strings.Split(out.String(), "\n")
			offered := func(s string) bool {
				return slices.ContainsFunc(offers, func(line string) bool {
					word, _, _ := strings.Cut(line, "\t")
					return word == s || strings.HasPrefix(s, "_activeHelp_") && strings.HasPrefix(line, s)
				})
			}
			for _, w := range c.want {
				if !offered(w) {
					t.Errorf("%s is not offered, but\n%s", w, out.String())
				}
			}
			for _, w := range c.not {
				if offered(w) {
					t.Errorf("%s is offered", w)
				}
			}
		})
	}
}
