package config

import (
	"fmt"
	"io"
	"reflect"
	"strconv"
	"strings"
)

// Encode writes the whole recipe as TOML, each key with its documentation. What
// it writes loads back as the same recipe.
func (r *Recipe) Encode(w io.Writer) error {
	var b strings.Builder
	if r.Name != "" {
		fmt.Fprintf(&b, "# The whole recipe of a run, started from %s. Keys are explained beside them.\n", strings.Map(printable, r.Name))
	}
	root := reflect.ValueOf(r).Elem()
	for i := range schema {
		s := &schema[i]
		v := root.Field(s.index)
		if !s.repeated {
			fmt.Fprintf(&b, "\n# %s\n[%s]\n", s.doc, s.name)
			s.encode(&b, v, true)
			continue
		}
		fmt.Fprintf(&b, "\n# %s", s.doc)
		for j := range v.Len() {
			fmt.Fprintf(&b, "\n[[%s]]\n", s.name)
			s.encode(&b, v.Index(j), j == 0)
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// encode writes the keys of a section, values and comments aligned.
func (s *section) encode(b *strings.Builder, v reflect.Value, comments bool) {
	nameWidth, valueWidth := 0, 0
	for _, f := range s.fields {
		nameWidth = max(nameWidth, len(f.name))
		valueWidth = max(valueWidth, min(24, len(format(v.Field(f.index)))))
	}
	for _, f := range s.fields {
		value := format(v.Field(f.index))
		if comments {
			fmt.Fprintf(b, "%-*s = %-*s  # %s\n", nameWidth, f.name, valueWidth, value, f.doc)
		} else {
			fmt.Fprintf(b, "%-*s = %s\n", nameWidth, f.name, value)
		}
	}
}

// printable keeps a name within its comment line.
func printable(c rune) rune {
	if c < ' ' || c == 0x7f {
		return '?'
	}
	return c
}

// format writes a value as TOML.
func format(v reflect.Value) string {
	if v.Type() == durationType {
		return quote(v.Interface().(Duration).String())
	}
	switch v.Kind() {
	case reflect.Bool:
		return strconv.FormatBool(v.Bool())
	case reflect.String:
		return quote(v.String())
	case reflect.Float64:
		return formatFloat(v.Float())
	case reflect.Uint64:
		return strconv.FormatUint(v.Uint(), 10)
	case reflect.Slice:
		parts := make([]string, v.Len())
		for i := range parts {
			parts[i] = format(v.Index(i))
		}
		return "[" + strings.Join(parts, ", ") + "]"
	}
	return strconv.FormatInt(v.Int(), 10)
}

// formatFloat is the shortest text that reads back as the same number: 1e-6
// rather than Go's 1e-06.
func formatFloat(x float64) string {
	s := strconv.FormatFloat(x, 'g', -1, 64)
	if mantissa, exponent, ok := strings.Cut(s, "e"); ok {
		sign := strings.TrimLeft(exponent[:1], "+")
		return mantissa + "e" + sign + strings.TrimLeft(exponent[1:], "0")
	}
	return s
}

// quote writes a TOML basic string.
func quote(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, c := range s {
		switch {
		case c == '"' || c == '\\':
			b.WriteByte('\\')
			b.WriteRune(c)
		case c < ' ' || c == 0x7f:
			fmt.Fprintf(&b, "\\u%04X", c)
		default:
			b.WriteRune(c)
		}
	}
	b.WriteByte('"')
	return b.String()
}
