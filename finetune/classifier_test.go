package finetune

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"swav/config"
	"swav/interop"
	"swav/nn"
)

// small is a classifier with weights as initialised.
func small(t testing.TB) *Classifier {
	t.Helper()
	r, err := config.Parse([]byte(tiny), "tiny")
	if err != nil {
		t.Fatal(err)
	}
	a := nn.Arch{Block: nn.Basic, Layers: []int{1}, Width: 1.0 / 64, Stem: nn.SmallStem, InChannels: 1, Classes: 2}
	net, err := nn.Build(a)
	if err != nil {
		t.Fatal(err)
	}
	c := &Classifier{Recipe: r, Arch: a, Classes: []string{"cat", "dog, \"big\""}}
	c.weights, c.buffers = net.Init(1)
	return c
}

func saved(t testing.TB, c *Classifier) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "c.safetensors")
	if err := c.Save(path); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestClassifierFile(t *testing.T) {
	c := small(t)
	b := saved(t, c)
	path := filepath.Join(t.TempDir(), "c.safetensors")
	if err := os.WriteFile(path, b, 0o644); err != nil {
		t.Fatal(err)
	}
	got, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	got.Recipe.Name = c.Recipe.Name
	var recipes [2]strings.Builder // an empty list and none read the same
	for i, r := range []*config.Recipe{got.Recipe, c.Recipe} {
		if err := r.Encode(&recipes[i]); err != nil {
			t.Fatal(err)
		}
	}
	if g, w := recipes[0].String(), recipes[1].String(); g != w {
		t.Errorf("recipe\n%s\nwant\n%s", g, w)
	}
	if got.Recipe = c.Recipe; !reflect.DeepEqual(got, c) {
		t.Errorf("%+v, want %+v", got, c)
	}
	s, err := interop.OpenSafetensors(path)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if info, ok := s.Info("fc.weight"); !ok || !reflect.DeepEqual(info.Shape, []int{2, 1}) {
		t.Errorf("fc.weight %v", info)
	}
	inf := small(t)
	inf.weights[0] /= 0
	if err := inf.Save(path); err == nil || !strings.Contains(err.Error(), "not finite") {
		t.Errorf("error %v", err)
	}
	if after, err := os.ReadFile(path); err != nil || !bytes.Equal(after, b) {
		t.Error("a classifier that was not written replaced another")
	}
}

func TestOpenRefuses(t *testing.T) {
	whole := saved(t, small(t))
	for what, c := range map[string]struct{ old, new, want string }{
		"no metadata":      {headKey, "swav.classifies", "metadata does not say"},
		"another version":  {`version\":1`, `version\":2`, "version 2"},
		"a missing name":   {`\"cat\",`, `        `, "1 names for 2"},
		"another width":    {`\"Width\":0.015625`, `\"Width\":0.031250`, "want F32"},
		"an unknown key":   {`\"arch\"`, `\"arck\"`, "metadata"},
		"a hostile arch":   {`\"Layers\":[1]`, `\"Layers\":[9]`, "want F32"},
		"a broken recipe":  {`[[crops]]`, `[[crepe]]`, "recipe"},
		"a renamed tensor": {`"fc.bias"`, `"fc.bies"`, "fc.bias"},
	} {
		if !bytes.Contains(whole, []byte(c.old)) {
			t.Fatalf("%s: the file has no %s", what, c.old)
		}
		path := filepath.Join(t.TempDir(), "c.safetensors")
		if err := os.WriteFile(path, bytes.ReplaceAll(whole, []byte(c.old), []byte(c.new)), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(path); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want %q", what, err, c.want)
		}
	}
}

// A classifier's file may come from anywhere: it is read or refused.
func FuzzOpen(f *testing.F) {
	whole := saved(f, small(f))
	f.Add(whole)
	f.Add(whole[:len(whole)/2])
	f.Add(bytes.ReplaceAll(whole, []byte(`\"Layers\":[1]`), []byte(`\"Layers\":[200,200,200]`)))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := interop.ReadSafetensors(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			return
		}
		c, err := decode(s, "fuzz")
		if err != nil {
			return
		}
		if len(c.Classes) != c.Arch.Classes || 4*(len(c.weights)+len(c.buffers)) > len(b) {
			t.Fatalf("%d classes, %d weights of %d bytes", len(c.Classes), len(c.weights), len(b))
		}
	})
}
