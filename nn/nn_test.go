package nn

import (
	"math"
	"testing"
)

// The counts are the original's (ResNet-50 with its head: 28,354,752 parameters
// of which 23,508,032 are the backbone's) and torchvision's.
func TestParameterCounts(t *testing.T) {
	for _, tc := range []struct {
		name     string
		backbone int
		total    int
	}{
		{"resnet18", 11176512, 0},
		{"resnet34", 21284672, 0},
		{"resnet50", 23508032, 28354752},
		{"resnet101", 42500160, 0},
	} {
		a, err := ResNet(tc.name)
		if err != nil {
			t.Fatal(err)
		}
		n, err := Build(a)
		if err != nil {
			t.Fatal(err)
		}
		backbone := 0
		for _, p := range n.Params {
			if p.Offset < n.Params[n.Param("projection_head.0.weight")].Offset {
				backbone += p.Len
			}
		}
		if backbone != tc.backbone {
			t.Errorf("%s: backbone has %d parameters, want %d", tc.name, backbone, tc.backbone)
		}
		if tc.total != 0 && n.NumParams != tc.total {
			t.Errorf("%s: %d parameters, want %d", tc.name, n.NumParams, tc.total)
		}
	}
}

// One 224 crop of ResNet-50 is 4.09 GMAC, one 96 crop 0.751.
func TestMACs(t *testing.T) {
	a, _ := ResNet("resnet50")
	n, err := Build(a)
	if err != nil {
		t.Fatal(err)
	}
	for size, want := range map[int]float64{224: 4.087e9, 96: 0.751e9} {
		if got := float64(n.MACs(size)); math.Abs(got/want-1) > 0.01 {
			t.Errorf("size %d: %.4g MACs, want about %.4g", size, got, want)
		}
	}
}

func TestEveryValueIsComputedOnceBeforeItIsUsed(t *testing.T) {
	for name := range named {
		for _, stem := range []Stem{ImageNetStem, SmallStem} {
			for _, hidden := range []int{0, 32} {
				a, _ := ResNet(name)
				a.Stem, a.Hidden, a.Width = stem, hidden, 0.125
				n, err := Build(a)
				if err != nil {
					t.Fatal(err)
				}
				for _, part := range []struct {
					layers []Layer
					values int
				}{{n.Backbone, n.Values}, {n.Head, n.HeadVals}} {
					known := map[Value]bool{0: true}
					for _, l := range part.layers {
						if !known[l.In] || l.Residual != None && !known[l.Residual] {
							t.Errorf("%s: layer %s reads a value before it is computed", name, l.Name)
						}
						if known[l.Out] {
							t.Errorf("%s: layer %s computes value %d a second time", name, l.Name, l.Out)
						}
						known[l.Out] = true
					}
					if len(known) != part.values {
						t.Errorf("%s: %d values computed, %d counted", name, len(known), part.values)
					}
				}
			}
		}
	}
}

func TestParamsTileTheFlatBuffer(t *testing.T) {
	a, _ := ResNet("resnet50w2")
	n, err := Build(a)
	if err != nil {
		t.Fatal(err)
	}
	for _, ps := range [][]Param{n.Params, n.Buffers} {
		end := 0
		seen := map[string]bool{}
		for _, p := range ps {
			if p.Offset != end || p.Len != product(p.Shape) || seen[p.Name] {
				t.Fatalf("parameter %+v after element %d", p, end)
			}
			end += p.Len
			seen[p.Name] = true
		}
	}
}

func TestInit(t *testing.T) {
	a, _ := ResNet("resnet18")
	n, err := Build(a)
	if err != nil {
		t.Fatal(err)
	}
	w, b := n.Init(7)
	again, _ := n.Init(7)
	other, _ := n.Init(8)
	same, differ := true, false
	for i := range w {
		same = same && w[i] == again[i]
		differ = differ || w[i] != other[i]
	}
	if !same || !differ {
		t.Errorf("same seed same weights: %v; another seed other weights: %v", same, differ)
	}
	p := n.Params[n.Param("layer4.0.conv1.weight")]
	var sum2 float64
	for _, x := range w[p.Offset : p.Offset+p.Len] {
		sum2 += float64(x) * float64(x)
	}
	if std, want := math.Sqrt(sum2/float64(p.Len)), math.Sqrt(2.0/(512*9)); math.Abs(std/want-1) > 0.01 {
		t.Errorf("layer4.0.conv1: standard deviation %g, want %g", std, want)
	}
	v := n.Buffers[n.Buffer("bn1.running_var")]
	if b[v.Offset] != 1 || b[n.Buffers[n.Buffer("bn1.running_mean")].Offset] != 0 {
		t.Error("running statistics do not start at mean 0, variance 1")
	}
}

func TestValidateRefuses(t *testing.T) {
	ok, _ := ResNet("resnet18")
	for name, change := range map[string]func(*Arch){
		"block":      func(a *Arch) { a.Block = "x" },
		"stem":       func(a *Arch) { a.Stem = "x" },
		"no stage":   func(a *Arch) { a.Layers = nil },
		"no block":   func(a *Arch) { a.Layers = []int{2, 0} },
		"width":      func(a *Arch) { a.Width = math.NaN() },
		"channels":   func(a *Arch) { a.InChannels = 0 },
		"features":   func(a *Arch) { a.FeatureDim = -1 },
		"prototypes": func(a *Arch) { a.Prototypes = 1 },
		"hidden":     func(a *Arch) { a.Hidden = -1 },
		"classes":    func(a *Arch) { *a = a.Classifier(-1) },
		"both heads": func(a *Arch) { a.Classes = 10 },
	} {
		a := ok
		change(&a)
		if _, err := Build(a); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if _, err := ResNet("resnet19"); err == nil {
		t.Error("resnet19: no error")
	}
}

// A classifier has the backbone of the network that it came from, and torchvision's fc.
func TestClassifier(t *testing.T) {
	a, _ := ResNet("resnet18")
	n, err := Build(a)
	if err != nil {
		t.Fatal(err)
	}
	c, err := Build(a.Classifier(1000))
	if err != nil {
		t.Fatal(err)
	}
	if c.NumParams != 11689512 { // torchvision's resnet18
		t.Errorf("%d parameters", c.NumParams)
	}
	head := len(c.Params) - 2
	for i, p := range c.Params[:head] {
		if q := n.Params[i]; p.Name != q.Name || p.Offset != q.Offset || p.Len != q.Len {
			t.Errorf("parameter %+v, of the whole network %+v", p, q)
		}
	}
	if w, b := c.Params[head], c.Params[head+1]; w.Name != "fc.weight" || w.Len != 512000 || b.Name != "fc.bias" || b.Len != 1000 {
		t.Errorf("head %+v, %+v", w, b)
	}
	if c.Outputs() != 1000 || n.Outputs() != a.Prototypes || c.Embedding != None || len(c.Head) != 1 {
		t.Errorf("%d and %d outputs, embedding %d, %d layers in the head", c.Outputs(), n.Outputs(), c.Embedding, len(c.Head))
	}
}
