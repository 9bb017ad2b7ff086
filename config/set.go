package config

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2"
)

// Set changes one key: "optim.lr=0.1", "swav.assign=0,1", "optim.warmup=10 epochs",
// "crops[1].count=4", or all crop groups at once, "crops=2x224@0.14-1,6x96@0.05-0.14".
// Keys that say the same thing in two ways replace each other: train.steps and
// train.epochs, model.arch and model.block with model.layers. Call Validate after the
// last Set.
func (r *Recipe) Set(assignment string) error {
	key, text, ok := strings.Cut(assignment, "=")
	key, text = strings.TrimSpace(key), strings.TrimSpace(text)
	if !ok || key == "" {
		return fmt.Errorf("%q: want KEY=VALUE, such as optim.lr=0.1", assignment)
	}
	if key == "crops" {
		crops, err := ParseCrops(unquote(text))
		if err != nil {
			return fmt.Errorf("crops: %w", err)
		}
		for i := range crops {
			if err := checkFields(findSection("crops"), fmt.Sprintf("crops[%d]", i), reflect.ValueOf(&crops[i]).Elem()); err != nil {
				return err
			}
		}
		r.Crops = crops
		return nil
	}
	f, v, err := r.lookup(key)
	if err != nil {
		return err
	}
	value, err := f.parse(text)
	if err == nil {
		err = f.assign(key, v, value)
	}
	if err != nil {
		return err
	}
	r.resolveAlternatives(func(k string) bool { return k == key })
	return nil
}

// lookup finds the field of a key such as "optim.lr" or "crops[1].size".
func (r *Recipe) lookup(key string) (*field, reflect.Value, error) {
	unknown := func() error {
		return &Error{Key: key, Msg: fmt.Sprintf("unknown key %q: the nearest is %s; `swav recipes --keys` lists all", key, nearestKey(key))}
	}
	sec, leaf, ok := strings.Cut(key, ".")
	if !ok {
		return nil, reflect.Value{}, unknown()
	}
	name, index, indexed := strings.Cut(sec, "[")
	s := findSection(name)
	if s == nil || indexed != s.repeated {
		if s != nil && s.repeated {
			return nil, reflect.Value{}, &Error{Key: key, Msg: fmt.Sprintf("%s: say which group, %s[0].%s for the first, or set them all: %s=%s", key, name, leaf, name, FormatCrops(r.Crops))}
		}
		return nil, reflect.Value{}, unknown()
	}
	f := s.find(leaf)
	if f == nil {
		return nil, reflect.Value{}, unknown()
	}
	v := reflect.ValueOf(r).Elem().Field(s.index)
	if s.repeated {
		i, err := strconv.Atoi(strings.TrimSuffix(index, "]"))
		if err != nil || i < 0 || i >= v.Len() {
			return nil, reflect.Value{}, &Error{Key: key, Msg: fmt.Sprintf("%s: there are groups 0 to %d", key, v.Len()-1)}
		}
		v = v.Index(i)
	}
	return f, v.Field(f.index), nil
}

// parse reads a value as it is typed after --set, where quotes and brackets may be
// left out.
func (f *field) parse(text string) (any, error) {
	switch {
	case f.typ == durationType || f.typ.Kind() == reflect.String:
		return unquote(text), nil
	case f.typ.Kind() == reflect.Float64:
		if x, err := strconv.ParseFloat(text, 64); err == nil {
			return x, nil
		}
		return text, nil
	case f.typ.Kind() == reflect.Slice && !strings.HasPrefix(text, "["):
		text = "[" + text + "]"
	}
	var doc struct{ X any }
	if strings.ContainsAny(text, "\r\n#") || toml.Unmarshal([]byte("x = "+text), &doc) != nil {
		return text, nil // as text: of the wrong type, which assign explains
	}
	return doc.X, nil
}

func unquote(s string) string {
	if n := len(s); n >= 2 && (s[0] == '"' || s[0] == '\'') && s[n-1] == s[0] {
		return s[1 : n-1]
	}
	return s
}

// assign stores a value that came out of TOML, checked for type and range.
func (f *field) assign(key string, dst reflect.Value, value any) error {
	if n, whole := value.(int64); whole && f.orNumber() {
		value = strconv.FormatInt(n, 10)
	}
	v := reflect.New(f.typ).Elem()
	ok := convert(v, value)
	if ok && f.check(v) {
		dst.Set(v)
		return nil
	}
	shown := fmt.Sprint(value)
	if s, isText := value.(string); isText {
		shown = strconv.Quote(s)
	}
	if len(shown) > 60 {
		shown = shown[:60] + "…"
	}
	msg := fmt.Sprintf("%s = %s: want %s (%s)", key, shown, f.want(), f.doc)
	if s, isText := value.(string); isText && f.oneOf != nil {
		msg += "; the nearest is " + nearest(s, f.oneOf)
	}
	return &Error{Key: key, Msg: msg}
}

// convert stores a TOML value if its type fits: whole numbers are numbers too,
// and whole numbers are durations in steps.
func convert(dst reflect.Value, value any) bool {
	if dst.Type() == durationType {
		var text string
		switch x := value.(type) {
		case string:
			text = x
		case int64:
			text = strconv.FormatInt(x, 10)
		default:
			return false
		}
		d, err := ParseDuration(text)
		dst.Set(reflect.ValueOf(d))
		return err == nil
	}
	switch x := value.(type) {
	case bool:
		if dst.Kind() != reflect.Bool {
			return false
		}
		dst.SetBool(x)
	case string:
		if dst.Kind() != reflect.String {
			return false
		}
		dst.SetString(x)
	case int64:
		switch dst.Kind() {
		case reflect.Float64:
			dst.SetFloat(float64(x))
		case reflect.Int:
			if int64(int(x)) != x {
				return false
			}
			dst.SetInt(x)
		case reflect.Uint64:
			if x < 0 {
				return false
			}
			dst.SetUint(uint64(x))
		default:
			return false
		}
	case float64:
		if dst.Kind() != reflect.Float64 {
			return false
		}
		dst.SetFloat(x + 0)
	case []any:
		if dst.Kind() != reflect.Slice {
			return false
		}
		s := reflect.MakeSlice(dst.Type(), len(x), len(x))
		for i, e := range x {
			if !convert(s.Index(i), e) {
				return false
			}
		}
		dst.Set(s)
	default:
		return false
	}
	return true
}

// resolveAlternatives clears the other way of saying what the given keys say.
func (r *Recipe) resolveAlternatives(given func(key string) bool) {
	switch steps, epochs := given("train.steps"), given("train.epochs"); {
	case steps && !epochs && r.Train.Steps > 0:
		r.Train.Epochs = 0
	case epochs && !steps && r.Train.Epochs > 0:
		r.Train.Steps = 0
	}
	switch arch, spelt := given("model.arch"), given("model.block") || given("model.layers"); {
	case arch && !spelt && r.Model.Arch != "":
		r.Model.Block, r.Model.Layers = "", nil
	case spelt && !arch:
		r.Model.Arch = ""
	}
}
