package hostmem

import (
	"os"
	"path/filepath"
	"testing"
)

func TestLeftInGroup(t *testing.T) {
	for name, c := range map[string]struct {
		max, current, stat string
		left               int64
		limited            bool
	}{
		"no limit":          {max: "max\n", current: "500\n"},
		"no group":          {},
		"cache is not used": {max: "1000\n", current: "900\n", stat: "anon 300\nactive_file 200\ninactive_file 400\n", left: 700, limited: true},
		"no statistics":     {max: "1000\n", current: "900\n", left: 100, limited: true},
		"over the limit":    {max: "1000\n", current: "1100\n", left: 0, limited: true},
	} {
		dir := t.TempDir()
		for file, text := range map[string]string{"memory.max": c.max, "memory.current": c.current, "memory.stat": c.stat} {
			if text == "" {
				continue
			}
			if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if left, limited := leftInGroup(dir); left != c.left || limited != c.limited {
			t.Errorf("%s: %d %v, want %d %v", name, left, limited, c.left, c.limited)
		}
	}
}
