package config

import (
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"
)

// Key describes one key of a recipe.
type Key struct {
	Name    string // "optim.lr"; keys of crop groups are "crops.size"
	Type    string // "number", "whole number", "text", "yes or no", "duration", …
	Default string // as TOML
	Range   string // "above 0, at most 1000"; empty where anything of the type will do
	Doc     string // one line
}

// Keys lists every key in the order in which Encode writes them.
func Keys() []Key {
	def := reflect.ValueOf(Default()).Elem()
	var out []Key
	for _, s := range schema {
		v := def.Field(s.index)
		if s.repeated {
			v = v.Index(0)
		}
		for _, f := range s.fields {
			out = append(out, Key{Name: s.name + "." + f.name, Type: f.kind(), Default: format(v.Field(f.index)), Range: f.allowed(), Doc: f.doc})
		}
	}
	return out
}

// Values lists every key of the recipe with its value as TOML, text without quotes:
// "optim.lr", "0.6". Keys of crop groups are numbered: "crops.0.size".
func (r *Recipe) Values() [][2]string {
	var out [][2]string
	root := reflect.ValueOf(r).Elem()
	add := func(s *section, prefix string, v reflect.Value) {
		for _, f := range s.fields {
			value := v.Field(f.index)
			text := format(value)
			switch {
			case f.typ == durationType:
				text = value.Interface().(Duration).String()
			case value.Kind() == reflect.String:
				text = value.String()
			}
			out = append(out, [2]string{prefix + "." + f.name, text})
		}
	}
	for i := range schema {
		s := &schema[i]
		v := root.Field(s.index)
		if !s.repeated {
			add(s, s.name, v)
			continue
		}
		for j := range v.Len() {
			add(s, s.name+"."+strconv.Itoa(j), v.Index(j))
		}
	}
	return out
}

// schema is what the struct tags of Recipe say, read once.
var schema = readSchema(reflect.TypeFor[Recipe]())

var durationType = reflect.TypeFor[Duration]()

// section is a TOML table, or an array of tables where repeated.
type section struct {
	name, doc string
	index     int // of the field of Recipe
	repeated  bool
	fields    []field
}

// field is a key of a section.
type field struct {
	section, name, doc string
	index              int // within the section's struct
	typ                reflect.Type
	limits             *interval
	oneOf              []string
}

func readSchema(t reflect.Type) []section {
	var out []section
	for i := range t.NumField() {
		sf := t.Field(i)
		s := section{name: sf.Tag.Get("toml"), doc: sf.Tag.Get("doc"), index: i}
		if s.name == "-" {
			continue
		}
		st := sf.Type
		if st.Kind() == reflect.Slice {
			s.repeated, st = true, st.Elem()
		}
		for j := range st.NumField() {
			ff := st.Field(j)
			f := field{section: s.name, name: ff.Tag.Get("toml"), doc: ff.Tag.Get("doc"), index: j, typ: ff.Type}
			if r := ff.Tag.Get("range"); r != "" {
				limits := parseInterval(r)
				f.limits = &limits
			}
			if o := ff.Tag.Get("oneof"); o != "" {
				f.oneOf = strings.Split(o, " ")
			}
			s.fields = append(s.fields, f)
		}
		out = append(out, s)
	}
	return out
}

func findSection(name string) *section {
	for i := range schema {
		if schema[i].name == name {
			return &schema[i]
		}
	}
	return nil
}

func (s *section) find(name string) *field {
	for i := range s.fields {
		if s.fields[i].name == name {
			return &s.fields[i]
		}
	}
	return nil
}

// optional tells whether a text may be empty although it is one of a list.
func (f *field) optional() bool {
	return f.section == "model" && (f.name == "arch" || f.name == "block")
}

// orNumber tells whether a text may be written as a whole number too: the size of groups
// of ranks.
func (f *field) orNumber() bool { return f.section == "train" && f.name == "sync_bn" }

func (f *field) kind() string {
	switch {
	case f.typ == durationType:
		return "duration"
	case f.typ.Kind() == reflect.Bool:
		return "true or false"
	case f.typ.Kind() == reflect.String:
		return "text"
	case f.typ.Kind() == reflect.Float64:
		return "number"
	case f.typ.Kind() == reflect.Slice && f.typ.Elem().Kind() == reflect.Float64:
		return "list of numbers"
	case f.typ.Kind() == reflect.Slice:
		return "list of whole numbers"
	}
	return "whole number"
}

// allowed says in words which values of its type a key takes.
func (f *field) allowed() string {
	switch {
	case f.limits != nil:
		return f.limits.String()
	case f.oneOf != nil && f.optional():
		return strings.Join(f.oneOf, ", ") + " or empty"
	case f.oneOf != nil:
		return strings.Join(f.oneOf[:len(f.oneOf)-1], ", ") + " or " + f.oneOf[len(f.oneOf)-1]
	case f.typ == durationType:
		return `such as "10 epochs" or "313 steps"`
	}
	return ""
}

// want says in words what a key takes.
func (f *field) want() string {
	switch {
	case f.oneOf != nil:
		return f.allowed()
	case f.allowed() == "":
		return "a " + f.kind()
	}
	return "a " + f.kind() + " " + f.allowed()
}

// check compares a value with its range.
func (f *field) check(v reflect.Value) bool {
	switch {
	case f.typ == durationType:
		return true // bounded by its parser
	case v.Kind() == reflect.String:
		s := v.String()
		if strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f || r == '\uFFFD' }) {
			return false
		}
		if f.oneOf == nil || s == "" && f.optional() {
			return true
		}
		for _, o := range f.oneOf {
			if s == o {
				return true
			}
		}
		return false
	case v.Kind() == reflect.Slice:
		for i := range v.Len() {
			if !f.limits.holds(number(v.Index(i))) {
				return false
			}
		}
		return v.Len() <= 4096
	case f.limits != nil:
		return f.limits.holds(number(v))
	}
	return true
}

func number(v reflect.Value) float64 {
	switch v.Kind() {
	case reflect.Float64:
		return v.Float()
	case reflect.Uint64:
		return float64(v.Uint())
	}
	return float64(v.Int())
}

// interval is a range of numbers in the notation of mathematics: "(0,1]".
type interval struct {
	lo, hi         float64
	openLo, openHi bool
	text           [2]string
}

func parseInterval(s string) interval {
	lo, hi, ok := strings.Cut(s[1:len(s)-1], ",")
	iv := interval{openLo: s[0] == '(', openHi: s[len(s)-1] == ')', text: [2]string{lo, hi}}
	var err1, err2 error
	iv.lo, err1 = strconv.ParseFloat(lo, 64)
	iv.hi, err2 = strconv.ParseFloat(hi, 64)
	if !ok || err1 != nil || err2 != nil {
		panic(fmt.Sprintf("config: range tag %q", s))
	}
	return iv
}

func (iv interval) holds(x float64) bool {
	if math.IsNaN(x) || x < iv.lo || x > iv.hi {
		return false
	}
	return !(iv.openLo && x == iv.lo) && !(iv.openHi && x == iv.hi)
}

func (iv interval) String() string {
	switch {
	case iv.openLo:
		return "above " + iv.text[0] + ", at most " + iv.text[1]
	case iv.openHi:
		return "from " + iv.text[0] + " to below " + iv.text[1]
	}
	return "from " + iv.text[0] + " to " + iv.text[1]
}
