package config

import (
	"embed"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"sort"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
)

//go:embed recipes/*.toml
var embedded embed.FS

// Error is a mistake in a recipe: where it stands, and what to write instead.
type Error struct {
	File         string // empty where the recipe is no file
	Line, Column int    // counted from 1; 0 where the key is not in the file
	Key          string
	Msg          string
}

func (e *Error) Error() string {
	switch {
	case e.File == "":
		return e.Msg
	case e.Line == 0:
		return e.File + ": " + e.Msg
	}
	return fmt.Sprintf("%s:%d:%d: %s", e.File, e.Line, e.Column, e.Msg)
}

// maxFile bounds a recipe file; the longest built-in one has 4 kB.
const maxFile = 1 << 16

// Load reads a built-in recipe by name, or a file. Names may be written in any
// case, with - for _. Anything with a path separator or ending in .toml is a
// file. The recipe has been validated.
func Load(nameOrPath string) (*Recipe, error) {
	isPath := strings.ContainsRune(nameOrPath, os.PathSeparator) || strings.HasSuffix(strings.ToLower(nameOrPath), ".toml")
	if !isPath {
		if name := findName(nameOrPath); name != "" {
			data, err := embedded.ReadFile("recipes/" + name + ".toml")
			if err != nil {
				return nil, fmt.Errorf("recipe %s: %w", name, err)
			}
			return Parse(data, name)
		}
	}
	f, err := os.Open(nameOrPath)
	if err != nil {
		if !isPath && errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("no recipe is called %q, and no file: the nearest is %s; `swav recipes` lists all", nameOrPath, nearest(nameOrPath, Names()))
		}
		return nil, fmt.Errorf("recipe: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("recipe: %w", err)
	}
	return Parse(data, nameOrPath)
}

// Names lists the built-in recipes.
func Names() []string {
	files, err := embedded.ReadDir("recipes")
	if err != nil {
		panic(err) // the folder is compiled in
	}
	var names []string
	for _, f := range files {
		names = append(names, strings.TrimSuffix(f.Name(), ".toml"))
	}
	sort.Strings(names)
	return names
}

// findName is the spelling of a built-in recipe's name, "" where there is none.
func findName(name string) string {
	canonical := func(s string) string { return strings.ReplaceAll(strings.ToLower(s), "-", "_") }
	for _, n := range Names() {
		if canonical(n) == canonical(name) {
			return n
		}
	}
	return ""
}

// Description is the header of a built-in recipe.
type Description struct {
	Name    string
	Summary string
	Command string // to copy
	Time    string // expected
	Result  string // expected
}

// Describe reads the header of a built-in recipe.
func Describe(name string) (Description, error) {
	n := findName(name)
	if n == "" {
		return Description{}, fmt.Errorf("no recipe is called %q: the nearest is %s; `swav recipes` lists all", name, nearest(name, Names()))
	}
	data, err := embedded.ReadFile("recipes/" + n + ".toml")
	if err != nil {
		return Description{}, fmt.Errorf("recipe %s: %w", n, err)
	}
	d := Description{Name: n}
	into := &d.Summary
	for line := range strings.Lines(string(data)) {
		text, ok := strings.CutPrefix(strings.TrimSpace(line), "#")
		if !ok {
			break
		}
		text = strings.TrimSpace(text)
		word, rest, _ := strings.Cut(text, " ")
		switch word {
		case "command:":
			into, text = &d.Command, rest
		case "time:":
			into, text = &d.Time, rest
		case "result:":
			into, text = &d.Result, rest
		}
		*into = strings.TrimSpace(*into + " " + strings.TrimSpace(text))
	}
	return d, nil
}

// Parse reads a recipe from TOML. Keys that it leaves out keep the values of
// Default. name stands in messages. Every mistake is reported, not the first
func Parse(data []byte, name string) (*Recipe, error) {
	if len(data) > maxFile {
		return nil, &Error{File: name, Msg: fmt.Sprintf("more than %d bytes: not a recipe", maxFile)}
	}
	var tree map[string]any
	if err := toml.Unmarshal(data, &tree); err != nil {
		e := &Error{File: name, Msg: strings.TrimPrefix(err.Error(), "toml: ")}
		var d *toml.DecodeError
		if errors.As(err, &d) {
			e.Line, e.Column = d.Position()
		}
		return nil, e
	}
	p := &parser{name: name, at: positions(data), recipe: Default()}
	p.recipe.Name = name
	p.tree(tree)
	p.recipe.resolveAlternatives(func(key string) bool { _, ok := p.at[key]; return ok })
	if len(p.errs) == 0 {
		p.report(p.recipe.Validate())
	}
	if len(p.errs) > 0 {
		sort.SliceStable(p.errs, func(i, j int) bool { return p.errs[i].Line < p.errs[j].Line })
		all := make([]error, len(p.errs))
		for i, e := range p.errs {
			all[i] = e
		}
		return nil, errors.Join(all...)
	}
	return p.recipe, nil
}

type position struct{ line, column int }

// parser carries a TOML tree into a recipe and collects what is wrong with it.
type parser struct {
	name   string
	at     map[string]position
	recipe *Recipe
	errs   []*Error
}

// report adds an error, with the place of its key where the file has it.
func (p *parser) report(err error) {
	if err == nil {
		return
	}
	if many, ok := err.(interface{ Unwrap() []error }); ok {
		for _, e := range many.Unwrap() {
			p.report(e)
		}
		return
	}
	e := &Error{Msg: err.Error()}
	errors.As(err, &e)
	e.File = p.name
	at := p.at[e.Key]
	e.Line, e.Column = at.line, at.column
	p.errs = append(p.errs, e)
}

func (p *parser) unknown(key string) {
	p.report(&Error{Key: key, Msg: fmt.Sprintf("unknown key %q: the nearest is %s", key, nearestKey(key))})
}

func (p *parser) tree(tree map[string]any) {
	for name, value := range tree {
		s := findSection(name)
		if s == nil {
			if table, ok := value.(map[string]any); ok {
				var names []string
				for _, s := range schema {
					names = append(names, s.name)
				}
				right := nearest(name, names)
				p.report(&Error{Key: name, Msg: fmt.Sprintf("unknown section [%s]: the nearest is [%s]", name, right)})
				for leaf := range table {
					p.report(&Error{Key: name + "." + leaf, Msg: fmt.Sprintf("unknown key %q: the nearest is %s", name+"."+leaf, nearestKey(right+"."+leaf))})
				}
				continue
			}
			p.unknown(name)
			continue
		}
		dst := reflect.ValueOf(p.recipe).Elem().Field(s.index)
		if !s.repeated {
			p.table(s, name, dst, value)
			continue
		}
		list, ok := value.([]any)
		if !ok || len(list) > 64 {
			p.report(&Error{Key: name, Msg: fmt.Sprintf("%s: write each group under [[%s]], at most 64 of them", name, name)})
			continue
		}
		dst.Set(reflect.MakeSlice(dst.Type(), len(list), len(list)))
		for i, element := range list {
			p.table(s, fmt.Sprintf("%s[%d]", name, i), dst.Index(i), element)
		}
	}
}

func (p *parser) table(s *section, path string, dst reflect.Value, value any) {
	table, ok := value.(map[string]any)
	if !ok {
		p.report(&Error{Key: path, Msg: fmt.Sprintf("%s is a section: write [%s] and its keys below", path, path)})
		return
	}
	for leaf, x := range table {
		key := path + "." + leaf
		if f := s.find(leaf); f == nil {
			p.unknown(key)
		} else if err := f.assign(key, dst.Field(f.index), x); err != nil {
			p.report(err)
		}
	}
	if s.repeated {
		for _, f := range s.fields {
			if _, ok := table[f.name]; !ok {
				p.report(&Error{Key: path, Msg: fmt.Sprintf("%s lacks %s (%s)", path, f.name, f.doc)})
			}
		}
	}
}

// positions finds where every key of a valid TOML document stands. Keys of
// array tables are numbered: "crops[1].size".
func positions(data []byte) map[string]position {
	at := map[string]position{}
	count := map[string]int{}
	var p unstable.Parser
	p.Reset(data)
	prefix := ""
	note := func(prefix string, keys unstable.Iterator) string {
		for keys.Next() {
			n := keys.Node()
			if prefix != "" {
				prefix += "."
			}
			prefix += string(n.Data)
			if _, ok := at[prefix]; !ok {
				start := p.Shape(n.Raw).Start
				at[prefix] = position{start.Line, start.Column}
			}
		}
		return prefix
	}
	var inline func(prefix string, n *unstable.Node)
	inline = func(prefix string, n *unstable.Node) {
		path := note(prefix, n.Key())
		if v := n.Value(); v.Kind == unstable.InlineTable {
			for it := v.Children(); it.Next(); {
				inline(path, it.Node())
			}
		}
	}
	for p.NextExpression() {
		switch n := p.Expression(); n.Kind {
		case unstable.Table:
			prefix = note("", n.Key())
		case unstable.ArrayTable:
			base := note("", n.Key())
			prefix = fmt.Sprintf("%s[%d]", base, count[base])
			count[base]++
			it := n.Key()
			for it.Next() {
				start := p.Shape(it.Node().Raw).Start
				at[prefix] = position{start.Line, start.Column}
			}
		case unstable.KeyValue:
			inline(prefix, n)
		}
	}
	return at
}
