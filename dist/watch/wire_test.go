package watch

import (
	"bytes"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

var messages = []message{
	{Kind: kindHello, Version: version, Key: strings.Repeat("a", maxKey), Rank: 3, Size: 4, Host: "node3", PID: 4711},
	{Kind: kindWelcome, Key: "ab", Host: "node0", PID: 1},
	{Kind: kindRefuse, Reason: "there is a rank 3 already"},
	{Kind: kindBeat, Step: 1 << 40},
	{Kind: kindFail, Rank: -1, Reason: strings.Repeat("<", maxReason)},
	{Kind: kindFail, Rank: 2, Host: strings.Repeat("&", maxHost), PID: 1 << 31, Aborted: true, Reason: strings.Repeat("é\"\\", maxReason/4)},
	{Kind: kindBye}, {Kind: kindAck}, {Kind: kindGo}, {Kind: kindJoin},
}

func TestMessages(t *testing.T) {
	for _, m := range messages {
		line := m.encode()
		back, err := parse(bytes.TrimSuffix(line, []byte("\n")))
		if err != nil || len(line) > maxLine {
			t.Errorf("%s: %d bytes, %v", m.Kind, len(line), err)
		}
		if d := cmp.Diff(m, back); d != "" {
			t.Errorf("%s: %s", m.Kind, d)
		}
	}
	for _, line := range []string{
		"", "{}", "[]", "null", `{"kind":"stop"}`, `{"kind":"fail","rank":-2}`, `{"kind":"beat","step":-1}`, `{"kind":"beat","step":1e30}`,
		`{"kind":"hello","size":9999999}`, `{"kind":"ack"} {"kind":"ack"}`, `{"kind":"hello","key":"` + strings.Repeat("a", 65) + `"}`,
		`{"kind":"fail","reason":"` + strings.Repeat("a", maxLine) + `"}`,
	} {
		if m, err := parse([]byte(line)); err == nil {
			t.Errorf("%.60s is read as %+v", line, m)
		}
	}
}

func TestClean(t *testing.T) {
	for in, want := range map[string]string{
		"disk full":             "disk full",
		" a\nb\tc\r\n":          "a b c",
		"\x1b[31mred\x00\u202e": "[31mred",
		"bad \xff byte":         "bad ? byte",
		"0123456789abcdef":      "0123456789abcdef",
		"0123456789abcdefg":     "0123456789abc…",
		"0123456789abéééé":      "0123456789ab…",
	} {
		if got := clean(in, 16); got != want {
			t.Errorf("%q: %q instead of %q", in, got, want)
		}
	}
}

// Whatever comes, a message is fit for a log and for being passed on.
func FuzzParse(f *testing.F) {
	for _, m := range messages {
		f.Add(bytes.TrimSuffix(m.encode(), []byte("\n")))
	}
	f.Add([]byte(`{"kind":"fail","rank":1,"reason":"\u0000\ud800<\u2028>"}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		m, err := parse(line)
		if err != nil {
			return
		}
		for _, s := range []string{m.Reason, m.Host} {
			if !utf8.ValidString(s) || strings.ContainsAny(s, "\n\r\x00\x1b") || len(s) > maxReason {
				t.Fatalf("text %q", s)
			}
		}
		again := m.encode()
		if len(again) > maxLine {
			t.Fatalf("%d bytes", len(again))
		}
		back, err := parse(bytes.TrimSuffix(again, []byte("\n")))
		if err != nil || back != m {
			t.Fatalf("%+v comes back as %+v, %v", m, back, err)
		}
	})
}
