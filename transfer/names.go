package transfer

import (
	"regexp"
	"strings"
)

// known are the names of nn.Network's parameters and buffers.
var known = regexp.MustCompile(`^(conv1|bn1|layer\d+\.\d+\.(conv\d|bn\d|downsample\.[01])|projection_head(\.\d)?|prototypes)\.(weight|bias|running_mean|running_var)$`)

// headName are those of them that are not the backbone's.
var headName = regexp.MustCompile(`^(projection_head|prototypes)`)

// wrappers are modules that others put around a network; any number of them may
// stand before a name.
var wrappers = []string{"module.", "model.", "backbone.", "encoder.", "trunk.", "base_model.", "_feature_blocks.", "resnet.", "network."}

// renames turn other tools' names into ours. They are tried in order, all of
// them.
var renames = []struct {
	from *regexp.Regexp
	to   string
}{
	// VISSL: the head's number within heads; the original and VISSL: several sets of
	// prototypes, of which the first is taken.
	{regexp.MustCompile(`^(heads\.)?0\.(projection_head|prototypes)`), "$2"},
	{regexp.MustCompile(`^prototypes(\.prototypes|\.heads\.|)0\.`), "prototypes."},
	// lightly: a list of layers within the head. solo-learn: another word.
	{regexp.MustCompile(`^projection_head\.layers\.`), "projection_head."},
	{regexp.MustCompile(`^projector\.`), "projection_head."},
	// lightly's own ResNet for small images.
	{regexp.MustCompile(`^(layer\d+\.\d+)\.shortcut\.`), "$1.downsample."},
	// Hugging Face; layers are counted from 1 here, see plusOne.
	{regexp.MustCompile(`^embedder\.embedder\.convolution\.`), "conv1."},
	{regexp.MustCompile(`^embedder\.embedder\.normalization\.`), "bn1."},
	{regexp.MustCompile(`^stages\.(\d+)\.layers\.(\d+)\.layer\.(\d+)\.convolution\.`), "layer+$1.$2.conv+$3."},
	{regexp.MustCompile(`^stages\.(\d+)\.layers\.(\d+)\.layer\.(\d+)\.normalization\.`), "layer+$1.$2.bn+$3."},
	{regexp.MustCompile(`^stages\.(\d+)\.layers\.(\d+)\.shortcut\.convolution\.`), "layer+$1.$2.downsample.0."},
	{regexp.MustCompile(`^stages\.(\d+)\.layers\.(\d+)\.shortcut\.normalization\.`), "layer+$1.$2.downsample.1."},
}

// plus stands before a single digit that is one too low.
var plus = regexp.MustCompile(`\+[0-8]\b`)

// sequence are the places of a torchvision ResNet's children in an
// nn.Sequential, as lightly's examples build backbones; places 2 and 3 are ReLU
// and pooling. lightly's own ResNet has neither, so its stages begin at 2.
var sequence = regexp.MustCompile(`^([0-9])\.(.+)$`)

// canonical is the name here of what another tool calls name; ok is false for
// what has no place here. shortSequence tells that stages begin at 2.
func canonical(name string, shortSequence bool) (string, bool) {
	s := unwrap(name)
	if m := sequence.FindStringSubmatch(s); m != nil && !headName.MatchString(m[2]) {
		s = place(int(m[1][0]-'0'), m[2], shortSequence)
	}
	for _, r := range renames {
		s = r.from.ReplaceAllString(s, r.to)
	}
	s = plus.ReplaceAllStringFunc(s, func(d string) string { return string(d[1] + 1) })
	return s, known.MatchString(s)
}

// unwrap takes off the path within the file and the wrapping modules.
func unwrap(name string) string {
	s := name[strings.LastIndexByte(name, '/')+1:]
	for again := true; again; {
		again = false
		for _, w := range wrappers {
			if rest, ok := strings.CutPrefix(s, w); ok {
				s, again = rest, true
			}
		}
	}
	return s
}

// place names the child at a place of a sequence.
func place(at int, rest string, short bool) string {
	first := 4
	if short {
		first = 2
	}
	switch {
	case at == 0:
		return "conv1." + rest
	case at == 1:
		return "bn1." + rest
	case at >= first:
		return "layer" + string(rune('1'+at-first)) + "." + rest
	}
	return ""
}

// isShort tells whether a stage stands at place 2 of a sequence.
func isShort(names []string) bool {
	for _, n := range names {
		if strings.HasPrefix(unwrap(n), "2.0.conv") {
			return true
		}
	}
	return false
}
