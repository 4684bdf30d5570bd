package cfn

import (
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"sort"
	"strings"
)

// Where the templates of a test are deployed to.
const (
	Partition = "aws"
	Region    = "eu-west-1"
	Account   = "123456789012"
)

// Template is a synthesised stack with its intrinsic functions resolved. What
// only a deploy can know is left as text in angle brackets: <Table.Arn>,
// <import:…>.
type Template struct {
	Name      string
	Resources map[string]Resource
	Outputs   map[string]any
}

// Resource is one resource.
type Resource struct {
	Type       string
	Properties map[string]any
	DependsOn  any
	// DeletionPolicy is what becomes of it with the stack.
	DeletionPolicy string
}

// Read reads a template file.
func Read(file string) (*Template, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	t, err := Parse(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return t, nil
}

// Parse reads a template.
func Parse(text []byte) (*Template, error) {
	var raw struct {
		Resources map[string]Resource
		Outputs   map[string]any
	}
	if err := json.Unmarshal(text, &raw); err != nil {
		return nil, err
	}
	t := &Template{Resources: map[string]Resource{}, Outputs: map[string]any{}}
	for id, r := range raw.Resources {
		if p, ok := resolve(r.Properties).(map[string]any); ok {
			r.Properties = p
		}
		t.Resources[id] = r
	}
	for id, o := range raw.Outputs {
		t.Outputs[id] = resolve(o)
	}
	return t, nil
}

var pseudo = map[string]string{
	"AWS::Partition": Partition, "AWS::Region": Region, "AWS::AccountId": Account, "AWS::URLSuffix": "amazonaws.com",
}

var substitution = regexp.MustCompile(`\$\{([A-Za-z0-9:.]+)\}`)

// resolve replaces the intrinsic functions below v.
func resolve(v any) any {
	switch x := v.(type) {
	case []any:
		out := make([]any, len(x))
		for i := range x {
			out[i] = resolve(x[i])
		}
		return out
	case map[string]any:
		if len(x) == 1 {
			for f, arg := range x {
				if r, ok := intrinsic(f, arg); ok {
					return r
				}
			}
		}
		out := make(map[string]any, len(x))
		for k, e := range x {
			out[k] = resolve(e)
		}
		return out
	}
	return v
}

func intrinsic(f string, arg any) (any, bool) {
	switch f {
	case "Ref":
		name := fmt.Sprint(arg)
		if p, ok := pseudo[name]; ok {
			return p, true
		}
		return "<" + name + ">", true
	case "Fn::GetAtt":
		if l, ok := arg.([]any); ok && len(l) == 2 {
			return fmt.Sprintf("<%v.%v>", l[0], l[1]), true
		}
	case "Fn::ImportValue":
		return fmt.Sprintf("<import:%v>", resolve(arg)), true
	case "Fn::Join":
		if l, ok := arg.([]any); ok && len(l) == 2 {
			parts, ok := resolve(l[1]).([]any)
			if !ok {
				return nil, false
			}
			var texts []string
			for _, p := range parts {
				texts = append(texts, fmt.Sprint(p))
			}
			return strings.Join(texts, fmt.Sprint(l[0])), true
		}
	case "Fn::Sub":
		if s, ok := arg.(string); ok {
			return substitution.ReplaceAllStringFunc(s, func(m string) string {
				name := m[2 : len(m)-1]
				if p, ok := pseudo[name]; ok {
					return p
				}
				return "<" + name + ">"
			}), true
		}
	}
	return nil, false
}

// OfType returns the resources of a type, by logical id in order.
func (t *Template) OfType(typ string) []Resource {
	var ids []string
	for id, r := range t.Resources {
		if r.Type == typ {
			ids = append(ids, id)
		}
	}
	sort.Strings(ids)
	out := make([]Resource, len(ids))
	for i, id := range ids {
		out[i] = t.Resources[id]
	}
	return out
}

// Get follows a path of property names and list indexes; nil where it ends early.
func (r Resource) Get(path ...any) any {
	var v any = r.Properties
	for _, p := range path {
		switch k := p.(type) {
		case string:
			m, _ := v.(map[string]any)
			v = m[k]
		case int:
			l, _ := v.([]any)
			if k >= len(l) {
				return nil
			}
			v = l[k]
		}
	}
	return v
}

// Text is Get as a text, "" if it is none.
func (r Resource) Text(path ...any) string {
	s, _ := r.Get(path...).(string)
	return s
}

// Number is Get as a number, 0 if it is none.
func (r Resource) Number(path ...any) float64 {
	n, _ := r.Get(path...).(float64)
	return n
}

// list makes a list of a value that IAM lets stand alone.
func list(v any) []string {
	switch x := v.(type) {
	case nil:
		return nil
	case []any:
		out := make([]string, len(x))
		for i := range x {
			out[i] = fmt.Sprint(x[i])
		}
		return out
	}
	return []string{fmt.Sprint(v)}
}

// Resource is Get as something to look further into.
func (r Resource) Resource(path ...any) Resource {
	m, _ := r.Get(path...).(map[string]any)
	return Resource{Properties: m}
}
