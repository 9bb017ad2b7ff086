package config

import (
	"strings"
	"testing"
)

func TestDeepClusterSaysWhatIsWrong(t *testing.T) {
	for name, c := range map[string]struct {
		set  []string
		want string // in the error of Validate or Resolve for 1,000 images; "": none
	}{
		"one head of model.prototypes": {[]string{"model.prototypes=50"}, ""},
		"several heads":                {[]string{"deepcluster.prototypes=50,60"}, ""},
		"one view":                     {[]string{"crops=1x32@0.2-1", "deepcluster.bank_views=0", "model.prototypes=50"}, ""},
		"a queue longer than nothing":  {[]string{"model.prototypes=50", "swav.queue=1"}, ""},
		"no bank":                      {[]string{"deepcluster.bank_views=[]"}, "deepcluster.bank_views: no views"},
		"bank of a view that is not":   {[]string{"deepcluster.bank_views=0,9"}, "deepcluster.bank_views: view 9: the crops give views 0 to 7"},
		"two banks of one view":        {[]string{"deepcluster.bank_views=1,1"}, "view 1 stands there twice"},
		"too many clusters":            {[]string{"deepcluster.prototypes=100,1001"}, "deepcluster.prototypes: 1001 clusters begin as so many images, and a rank sees 960 in an epoch"},
		"too many by model.prototypes": {nil, "3000 clusters"},
		"too many heads":               {[]string{"deepcluster.prototypes=" + strings.Repeat("2,", 64) + "2"}, "deepcluster.prototypes: network: 65 heads"},
		"more than a network's in all": {[]string{"deepcluster.prototypes=1048576,1048576"}, "deepcluster.prototypes"},
	} {
		r := Default()
		for _, s := range append([]string{"train.method=deepclusterv2", "train.batch_size=64"}, c.set...) {
			if err := r.Set(s); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
		}
		_, err := r.Resolve(1000, 1)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

// A recipe says in its file which method it is for; the words of others are
// named.
func TestMethodKey(t *testing.T) {
	_, err := Parse([]byte("[train]\nmethod = \"deepcluster\"\n"), "my.toml")
	if err == nil || !strings.Contains(err.Error(), "want swav or deepclusterv2") || !strings.Contains(err.Error(), "the nearest is deepclusterv2") {
		t.Error(err)
	}
}

// Streams do not bring the same images again.
func TestDeepClusterRefusesStreams(t *testing.T) {
	r := Default()
	r.Train.Method = MethodDeepCluster
	if _, err := r.StreamImages(); err == nil || !strings.Contains(err.Error(), "train.method=swav") {
		t.Error(err)
	}
}
