package serve

import (
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
)

// schema is the part of OpenAPI's schemas that the description uses.
type schema struct {
	Ref        string `json:"$ref"`
	Type       string
	Properties map[string]*schema
	Required   []string
	Items      *schema
	AllOf      []*schema
}

type media struct{ Schema *schema }

type operation struct {
	Responses map[string]struct {
		Content map[string]media
		Headers map[string]any
	}
}

type description struct {
	Paths      map[string]map[string]operation
	Components struct{ Schemas map[string]*schema }
}

var openapi = sync.OnceValue(func() *description {
	data, err := files.ReadFile("openapi.json")
	if err != nil {
		panic(err)
	}
	d := &description{}
	if err := json.Unmarshal(data, d); err != nil {
		panic(err)
	}
	return d
})

// find is the operation of a request, if it is described.
func (d *description) find(method, path string) (operation, bool) {
	for pattern, methods := range d.Paths {
		like := regexp.MustCompile("^" + regexp.MustCompile(`\{[a-z]+\}`).ReplaceAllString(pattern, "[^/]+") + "$")
		if like.MatchString(path) {
			op, ok := methods[strings.ToLower(method)]
			return op, ok
		}
	}
	return operation{}, false
}

// resolve follows references and joins all parts.
func (d *description) resolve(s *schema) *schema {
	if s.Ref != "" {
		return d.resolve(d.Components.Schemas[strings.TrimPrefix(s.Ref, "#/components/schemas/")])
	}
	if s.AllOf == nil {
		return s
	}
	all := &schema{Type: "object", Properties: map[string]*schema{}}
	for _, part := range s.AllOf {
		part = d.resolve(part)
		for name, p := range part.Properties {
			all.Properties[name] = p
		}
		all.Required = append(all.Required, part.Required...)
	}
	return all
}

// check says where a value does not fit a schema. Every field must be described.
func (d *description) check(at string, v any, s *schema) error {
	s = d.resolve(s)
	wrong := func() error { return fmt.Errorf("%s is %T, described as %s", at, v, s.Type) }
	switch v := v.(type) {
	case map[string]any:
		if s.Type != "object" {
			return wrong()
		}
		for _, name := range s.Required {
			if _, ok := v[name]; !ok {
				return fmt.Errorf("%s lacks %s", at, name)
			}
		}
		if s.Properties == nil {
			return nil // any object
		}
		for name, field := range v {
			p, ok := s.Properties[name]
			if !ok {
				return fmt.Errorf("%s.%s is not described", at, name)
			}
			if err := d.check(at+"."+name, field, p); err != nil {
				return err
			}
		}
	case []any:
		if s.Type != "array" {
			return wrong()
		}
		for i, item := range v {
			if err := d.check(fmt.Sprintf("%s[%d]", at, i), item, s.Items); err != nil {
				return err
			}
		}
	case string:
		if s.Type != "string" {
			return wrong()
		}
	case bool:
		if s.Type != "boolean" {
			return wrong()
		}
	case float64:
		if s.Type != "number" && !(s.Type == "integer" && v == float64(int64(v))) {
			return wrong()
		}
	default:
		return wrong()
	}
	return nil
}

// described fails where an answer is not as the description says.
func described(t testing.TB, method, path string, r reply) {
	t.Helper()
	op, ok := openapi().find(method, path)
	if !ok {
		if r.status != http.StatusNotFound && r.status != http.StatusMethodNotAllowed && !strings.HasPrefix(path, "/page.") {
			t.Errorf("%s %s answers %d, but is not described", method, path, r.status)
		}
		return
	}
	as, ok := op.Responses[fmt.Sprint(r.status)]
	if !ok {
		t.Errorf("%s %s: status %d is not described (%s)", method, path, r.status, r.body)
		return
	}
	kind, _, _ := strings.Cut(r.header.Get("Content-Type"), ";")
	m, ok := as.Content[kind]
	if !ok {
		t.Errorf("%s %s: status %d is not described as %s", method, path, r.status, kind)
		return
	}
	for name := range as.Headers {
		if r.header.Get(name) == "" {
			t.Errorf("%s %s: status %d has no %s", method, path, r.status, name)
		}
	}
	if kind != typeJSON || path == "/openapi.json" {
		return
	}
	var v any
	if err := json.Unmarshal(r.body, &v); err != nil {
		t.Errorf("%s %s: %v: %s", method, path, err, r.body)
		return
	}
	if err := openapi().check("answer", v, m.Schema); err != nil {
		t.Errorf("%s %s, status %d: %v\n%s", method, path, r.status, err, r.body)
	}
}

// Routes and description name each other.
func TestOpenAPIHasAllRoutes(t *testing.T) {
	s, err := New(&colours{batch: 1}, Config{Log: quiet})
	if err != nil {
		t.Fatal(err)
	}
	var routes, described []string
	for pattern := range s.patterns() {
		if !strings.Contains(pattern, "/page.") { // parts of the page
			routes = append(routes, strings.TrimSuffix(pattern, "{$}"))
		}
	}
	for path, methods := range openapi().Paths {
		for method := range methods {
			described = append(described, strings.ToUpper(method)+" "+path)
		}
	}
	slices.Sort(routes)
	slices.Sort(described)
	if !slices.Equal(routes, described) {
		t.Errorf("routes %v\ndescribed %v", routes, described)
	}
	f := start(t, nil, Config{})
	for pattern := range s.patterns() {
		method, path, _ := strings.Cut(strings.TrimSuffix(pattern, "{$}"), " ")
		r := f.call(t, "DELETE", strings.ReplaceAll(path, "{number}", "3"), nil)
		if r.status != http.StatusMethodNotAllowed || !strings.Contains(r.header.Get("Allow"), method) {
			t.Errorf("DELETE %s: status %d, Allow %q", path, r.status, r.header.Get("Allow"))
		}
	}
}

// Every field that handlers can give is described, though no test may give it.
func TestOpenAPIHasAllFields(t *testing.T) {
	d := openapi()
	for path, a := range map[string]answer{
		"/embed":   {Name: "n", Error: "e", features: &features{[]float32{1}, []float32{1}}},
		"/cluster": {Name: "n", Error: "e", cluster: &cluster{1, 1, []score{{1, 1}}}},
		"/search":  {Name: "n", Error: "e", found: &found{[]hit{{"i", 1, "l", 1, "p"}}}},
		"/predict": {Name: "n", Error: "e", classes: &classes{[]Class{{"l", 1}}, "m"}},
	} {
		data, err := json.Marshal(map[string]any{"images": []answer{a}})
		if err != nil {
			t.Fatal(err)
		}
		var v any
		if err := json.Unmarshal(data, &v); err != nil {
			t.Fatal(err)
		}
		s := d.Paths[path]["post"].Responses["200"].Content[typeJSON].Schema
		if err := d.check("answer", v, s); err != nil {
			t.Errorf("%s: %v", path, err)
		}
		// And every field that is described can be given.
		given := v.(map[string]any)["images"].([]any)[0].(map[string]any)
		for name := range d.resolve(d.resolve(s).Properties["images"].Items).Properties {
			if _, ok := given[name]; !ok {
				t.Errorf("%s: no answer has the described field %s", path, name)
			}
		}
	}
}
